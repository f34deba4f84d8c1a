// Tracking sessions over HTTP (003_63c82b99cdd90de3.txt): the numbered scenarios of its "HTTP Endpoints", each with what must be refused.
// For expiry and the calls to the order service see tracking-end.test.mjs.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { begin, etaSeconds, hangUpAll, PLACE, PUBLIC_SESSION, ring, SESSION, trace } from '../support/doors.mjs';
import { ADMIN, as, eventually, jwt, people, SERVICE, Server } from '../support/server.mjs';
import { check } from '../support/shapes.mjs';

const server = await Server.start({ env: { LOCATION_RATE_PER_SECOND: '0' } });
after(() => server.close());
afterEach(hangUpAll);

const AT = { lat: 45.25, lng: 13.61 };
const rider = () => as(people().driver, 'driver');
let count = 0;
/** The id of an order that does not exist yet. */
const unheard = () => `ORD-${count += 1}`;
const start = (body, user) => server.call('POST', '/tracking/start', { dropoff_lat: 45.2, dropoff_lng: 13.6, ...body }, user);
const update = (id, body, user) => server.call('POST', `/tracking/update/${id}`, body, user);
const get = (id) => server.call('GET', `/tracking/${id}`, undefined, null);
const of = (sub, user) => server.call('GET', `/tracking/rider/${sub}`, undefined, user);

test('1. Tracking starts for a known order and for an unknown one', async () => {
  const who = people();
  const { id } = await server.assigned(who);
  const user = as(who.driver, 'driver');
  const { body: session } = await start({ order_id: id, dropoff_lat: undefined, dropoff_lng: undefined }, user);
  check(session, SESSION, 'the session');
  assert.deepEqual([session.order_id, session.rider_id, session.status, session.dropoff],
    [id, who.driver.id, 'ASSIGNED', { lat: who.delivery.latitude, lng: who.delivery.longitude }]);
  assert.equal((await server.order(id)).seq, 3, 'the order is what it was');

  for (const starter of [user, ADMIN, SERVICE]) {
    const order = unheard();
    const answer = await start({ order_id: order, rider_id: user.sub }, starter);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    check(answer.body, SESSION, 'the session');
    assert.deepEqual([answer.body.rider_id, answer.body.status, answer.body.dropoff], [user.sub, 'ASSIGNED', { lat: 45.2, lng: 13.6 }]);
    const made = await server.order(order);
    assert.deepEqual([made.status, made.seq, made.driver.id, made.delivery.latitude, made.delivery.longitude], ['assigned_to_driver', 2, user.sub, 45.2, 13.6]);
  }
});

test('The same rider who starts again gets the same session, and ids are distinct and cannot be guessed', async () => {
  const user = rider();
  const ids = [];
  for (let i = 0; i < 20; i += 1) {
    const order = unheard();
    const { tracking_id: id } = await begin(server, user, order);
    assert.match(id, /^TRK-[0-9A-Za-z]{22}$/);
    assert.equal((await begin(server, user, order)).tracking_id, id);
    ids.push(id);
  }
  assert.equal(new Set(ids).size, ids.length);
  // 20 ids of 22 random characters: a shared prefix or a constant character would not be random
  for (let at = 4; at < 26; at += 1) assert.ok(new Set(ids.map((id) => id[at])).size > 4, `character ${at} of ${ids}`);
  for (const guess of ['TRK-001', 'TRK-', `TRK-${'0'.repeat(22)}`, ids[0].toLowerCase(), `${ids[0]}0`, ids[0].slice(0, -1), '%00', '..%2forders']) {
    assert.equal((await get(guess)).status, 404, guess);
  }
});

test('2. A start is refused with an impossible position, by the wrong person and for the wrong order', async () => {
  const user = rider();
  for (const [more, member] of [[{ dropoff_lat: 90.1 }, 'dropoff_lat'], [{ dropoff_lat: -91 }, 'dropoff_lat'], [{ dropoff_lng: 180.5 }, 'dropoff_lng'],
    [{ dropoff_lng: 'east' }, 'dropoff_lng'], [{ dropoff_lat: null }, 'dropoff_lat'], [{ dropoff_lng: undefined }, 'dropoff_lng'],
    [{ order_id: 'no spaces' }, 'order_id'], [{ order_id: undefined }, 'order_id'], [{ order_id: 5.5 }, 'order_id'], [{ phone: {} }, 'phone']]) {
    const order = unheard();
    const { status, body } = await start({ order_id: order, ...more }, user);
    assert.equal(status, 422, JSON.stringify(more));
    assert.match(body.detail, new RegExp(member), JSON.stringify(more));
    assert.equal((await server.call('GET', `/orders/${order}`)).status, 404, 'nothing was made');
  }
  assert.equal((await start({ order_id: unheard() }, null)).status, 401);
  assert.equal((await start({ order_id: unheard(), rider_id: rider().sub }, user)).status, 403, 'for another rider');
  for (const role of ['customer', 'chef']) assert.equal((await start({ order_id: unheard(), rider_id: 'x' }, { sub: 'x', role })).status, 403, role);

  const who = people();
  const { id } = await server.assigned(who);
  assert.equal((await start({ order_id: id }, user)).status, 403, 'assigned to somebody else');
  assert.equal((await start({ order_id: id, rider_id: user.sub }, ADMIN)).status, 409, 'assigned to somebody else');
  await server.status(id, 'delivered');
  assert.equal((await start({ order_id: id }, as(who.driver, 'driver'))).status, 409, 'finished');
});

test('3. A position update is answered with the ETA at 30 km/h, at least a minute', async () => {
  const user = rider();
  const { tracking_id: id, dropoff } = await begin(server, user, unheard());
  for (const place of [AT, { lat: 45.8, lng: 15.97 }, { lat: -33.9, lng: 151.2 }, dropoff]) {
    const { status, body } = await update(id, place, user);
    assert.equal(status, 200, JSON.stringify(body));
    check(body, { tracking_id: 'string', status: 'string', current_location: 'object', eta_seconds: 'count', updated_at: 'count' }, 'the answer');
    check(body.current_location, PLACE, 'current_location');
    assert.deepEqual([body.tracking_id, body.status, body.current_location.lat, body.current_location.lng], [id, 'ASSIGNED', place.lat, place.lng]);
    const eta = etaSeconds(place, dropoff);
    assert.ok(Math.abs(body.eta_seconds - eta) <= 1, `${body.eta_seconds} s, not ${eta} s`);
    for (const seconds of [body.updated_at, body.current_location.timestamp]) assert.ok(Math.abs(seconds - Date.now() / 1000) < 60, `${seconds} is in seconds`);
  }
  for (const [body, member] of [[{ ...AT, lat: 91 }, 'lat'], [{ ...AT, lng: -180.1 }, 'lng'], [{ lat: 45 }, 'lng'], [{ ...AT, lat: '45' }, 'lat'], [{ ...AT, status: 'FLOWN' }, 'status'], [{ ...AT, status: 3 }, 'status']]) {
    const answer = await update(id, body, user);
    assert.equal(answer.status, 422, JSON.stringify(body));
    assert.match(answer.body.detail, new RegExp(member));
  }
  assert.equal((await update('TRK-0000000000000000000000', AT, user)).status, 404);
});

test('4. The status only moves forward, and the present status is no change', async () => {
  const user = rider();
  const order = unheard();
  const { tracking_id: id } = await begin(server, user, order);
  const move = async (status) => {
    const answer = await update(id, { ...AT, status }, user);
    return answer.status === 200 ? answer.body.status : answer.status;
  };
  const seq = async () => (await server.order(order)).seq;
  assert.equal(await move('ASSIGNED'), 'ASSIGNED');
  assert.equal(await seq(), 2);
  assert.equal(await move('picked_up'), 'PICKED_UP');
  assert.equal(await move('ASSIGNED'), 409);
  assert.equal(await move('PICKED_UP'), 'PICKED_UP');
  assert.equal(await seq(), 3);
  assert.equal(await move('IN_TRANSIT'), 'IN_TRANSIT');
  assert.deepEqual([await move('PICKED_UP'), await move('ASSIGNED')], [409, 409]);
  assert.equal(await move('DELIVERED'), 'DELIVERED');
  assert.equal(await move('IN_TRANSIT'), 409);
  assert.deepEqual([await seq(), (await server.order(order)).status], [5, 'delivered']);
  // statuses may be skipped
  const { tracking_id: quick } = await begin(server, user, unheard());
  assert.equal((await update(quick, { ...AT, status: 'DELIVERED' }, user)).body.status, 'DELIVERED');
});

test('5. Anybody reads a session by its id, without the rider and without names', async () => {
  const who = people();
  const { id: order } = await server.assigned(who);
  const user = as(who.driver, 'driver');
  const { tracking_id: id } = await begin(server, user, order);
  const first = (await get(id)).body;
  check(first, PUBLIC_SESSION, 'the session');
  assert.deepEqual([first.status, first.current_location, first.eta_seconds], ['ASSIGNED', null, null]);
  for (const status of ['PICKED_UP', 'IN_TRANSIT']) {
    const { body } = await update(id, { ...AT, status }, user);
    const seen = (await get(id)).body;
    assert.deepEqual(seen, { ...body, order_id: order, dropoff: first.dropoff });
    const text = JSON.stringify(seen);
    for (const secret of [who.customer.name, who.driver.name, who.driver.phone, who.delivery.address, who.driver.id]) assert.ok(!text.includes(secret), secret);
  }
  await update(id, { ...AT, status: 'DELIVERED' }, user);
  const last = (await get(id)).body;
  assert.deepEqual([last.status, last.current_location], ['DELIVERED', null], 'where the driver is now is nobody\'s business');
});

test('6. An unknown session is 404 over HTTP and closed on the WebSocket', async () => {
  const { status, headers, body } = await get('TRK-0000000000000000000000');
  assert.deepEqual([status, body.status, body.code], [404, 404, 'not_found']);
  assert.match(headers.get('content-type'), /^application\/problem\+json/);
  assert.deepEqual(await ring(server, '/ws/tracking/TRK-0000000000000000000000').closed, { code: 1008, reason: 'Tracking not found' });
});

test('7. Only the rider and staff update a session', async () => {
  const who = people();
  const { id: order } = await server.assigned(who);
  const { tracking_id: id } = await begin(server, as(who.driver, 'driver'), order);
  for (const [user, status] of [[null, 401], [rider(), 403], [as(who.customer, 'customer'), 403], [as(who.chef, 'chef'), 403], [as(people().customer, 'customer'), 403]]) {
    assert.equal((await update(id, { ...AT, status: 'PICKED_UP' }, user)).status, status, user?.role);
  }
  assert.deepEqual([(await server.order(order)).seq, (await get(id)).body.current_location], [3, null], 'nothing has changed');
  for (const user of [{ sub: 'boss', role: 'superadmin' }, SERVICE, as(who.driver, 'courier')]) assert.equal((await update(id, AT, user)).status, 200, user.role);
});

test('A rider\'s current session is the newest open one, for the rider and staff', async () => {
  const user = rider();
  assert.equal((await of(user.sub, user)).status, 404);
  const orders = [unheard(), unheard()];
  for (const order of orders) await begin(server, user, order);
  for (const reader of [user, ADMIN, SERVICE]) {
    const { status, body } = await of(user.sub, reader);
    check(body, SESSION, 'the session');
    assert.deepEqual([status, body.order_id, body.rider_id], [200, orders[1], user.sub]);
  }
  await server.status(orders[1], 'cancelled');
  assert.equal((await of(user.sub, user)).body.order_id, orders[0]);
  for (const [reader, status] of [[rider(), 403], [{ sub: 'c', role: 'customer' }, 403], [null, 401]]) assert.equal((await of(user.sub, reader)).status, status);
});

test('8. The statistics count sessions and sockets', async (t) => {
  const own = await Server.start();
  t.after(() => own.close());
  const stats = (user = ADMIN) => own.call('GET', '/stats/tracking', undefined, user);
  const none = { ASSIGNED: 0, PICKED_UP: 0, IN_TRANSIT: 0, DELIVERED: 0 };
  assert.deepEqual((await stats()).body, {
    total_active_sessions: 0, total_websocket_connections: 0, status_distribution: none, sessions_by_recency: { last_5_min: 0, last_hour: 0, older: 0 },
  });
  const ends = ['ASSIGNED', 'ASSIGNED', 'PICKED_UP', 'IN_TRANSIT', 'IN_TRANSIT', 'IN_TRANSIT', 'DELIVERED'];
  const ids = [];
  for (const status of ends) {
    const user = rider();
    const { tracking_id: id } = await begin(own, user, unheard());
    if (status !== 'ASSIGNED') await own.ok('POST', `/tracking/update/${id}`, { ...AT, status }, user);
    ids.push(id);
  }
  const lines = await Promise.all([ids[0], ids[0], ids[3]].map((id) => trace(own, id)));
  const counts = (await stats()).body;
  assert.deepEqual([counts.status_distribution, counts.total_websocket_connections, counts.sessions_by_recency.last_5_min],
    [{ ASSIGNED: 2, PICKED_UP: 1, IN_TRANSIT: 3, DELIVERED: 1 }, 3, 7]);
  assert.equal(counts.total_active_sessions, 7, 'one that is delivered can still be looked at');
  lines[0].hangUp();
  await eventually(async () => (await stats()).body.total_websocket_connections === 2, 'one to be gone');
  assert.deepEqual([(await stats(SERVICE)).status, (await stats(rider())).status, (await stats({ sub: 'c', role: 'customer' })).status, (await stats(null)).status], [200, 403, 403, 401]);
});

test('Sessions and their state survive a kill -9', async (t) => {
  const own = await Server.start();
  t.after(() => own.close());
  const user = rider();
  const { tracking_id: id } = await begin(own, user, unheard());
  await own.ok('POST', `/tracking/update/${id}`, { ...AT, status: 'PICKED_UP' }, user);
  await own.kill9();
  await own.run();
  const { status, order_id: order } = await own.ok('GET', `/tracking/${id}`, undefined, null);
  assert.equal(status, 'PICKED_UP');
  assert.equal((await begin(own, user, order)).tracking_id, id, 'it is still the session of that order');
  assert.equal((await fetch(`${own.base}/tracking/${id}`, { headers: { authorization: `Bearer ${jwt(ADMIN)}` } })).status, 200);
});
