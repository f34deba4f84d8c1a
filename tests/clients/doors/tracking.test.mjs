// Tracking sessions on their WebSocket (003_63c82b99cdd90de3.txt): the numbered scenarios of its "WebSocket", each with what must be refused.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { begin, dial, etaSeconds, hangUpAll, install, PLACE, ring, SESSION, trace } from '../support/doors.mjs';
import { ADMIN, as, eventually, jwt, people, Server } from '../support/server.mjs';
import { check } from '../support/shapes.mjs';

const server = await Server.start({ env: { LOCATION_RATE_PER_SECOND: '0' } });
after(() => server.close());
afterEach(hangUpAll);

const AT = { lat: 45.25, lng: 13.61 };
const update = (id, body, user, on = server) => on.ok('POST', `/tracking/update/${id}`, body, user);
const report = (line, location) => line.send({ type: 'location_update', location });

/** An order that was created by POST /orders, on its way, with its session and its rider. */
async function session(on = server) {
  const who = people();
  const { id: order } = await on.assigned(who);
  const user = as(who.driver, 'driver');
  const { tracking_id: id } = await begin(on, user, order);
  return { id, order, who, user };
}

test('1., 2. Any client with a valid token gets the initial state', async () => {
  const { id, order, who, user } = await session();
  for (const one of [user, as(who.customer, 'customer'), as(who.chef, 'chef'), ADMIN, as(people().customer, 'customer')]) {
    const line = await dial(server, `/ws/tracking/${id}`, one);
    const { type, data } = await line.next('initial_state');
    assert.equal(type, 'initial_state');
    check(data, SESSION, 'the session');
    assert.deepEqual([data.tracking_id, data.order_id, data.rider_id, data.status, data.current_location, data.eta_seconds], [id, order, user.sub, 'ASSIGNED', null, null]);
    await line.flush();
    assert.deepEqual(line.messages.map((message) => message.type), ['initial_state', 'pong']);
  }
  await update(id, { ...AT, status: 'PICKED_UP' }, user);
  const late = await trace(server, id, user);
  const { status, current_location: place } = late.of('initial_state')[0].data;
  assert.deepEqual([status, place.lat, place.lng], ['PICKED_UP', AT.lat, AT.lng]);
});

test('A bad token or an unknown session is closed with 1008, and a GET without an upgrade gets 426', async () => {
  const { id } = await session();
  for (const token of ['not.a.token', jwt(ADMIN, { alg: 'none' }), jwt({ ...ADMIN, exp: 1 })]) {
    const line = ring(server, `/ws/tracking/${id}`, token);
    assert.deepEqual(await line.closed, { code: 1008, reason: 'Invalid token' });
    assert.deepEqual(line.messages, []);
  }
  for (const [guess, token] of [['TRK-001'], ['TRK-001', ADMIN], [id.slice(0, -1)], [`${id}x`]]) {
    assert.deepEqual(await ring(server, `/ws/tracking/${guess}`, token).closed, { code: 1008, reason: 'Tracking not found' });
  }
  assert.equal((await server.call('GET', `/ws/tracking/${id}`, undefined, null)).status, 426);
});

test('3., 4. A position and a status sent by WebSocket reach all sockets, also the sender\'s', async () => {
  const { id, order, who, user } = await session();
  const sender = await trace(server, id, user);
  const lines = [sender, await trace(server, id), await trace(server, id, as(who.customer, 'customer')), await trace(server, id, ADMIN)];
  report(sender, AT);
  for (const line of lines) {
    const { data } = await line.next('location_update');
    check(data, SESSION, 'the session');
    check(data.current_location, PLACE, 'current_location');
    assert.deepEqual([data.order_id, data.status, data.current_location.lat, data.current_location.lng], [order, 'ASSIGNED', AT.lat, AT.lng]);
    assert.ok(Math.abs(data.eta_seconds - etaSeconds(AT, data.dropoff)) <= 1, `${data.eta_seconds} s`);
  }
  for (const status of ['PICKED_UP', 'IN_TRANSIT', 'DELIVERED']) {
    const lat = AT.lat + lines[0].of('status_change').length / 100;
    report(status === 'IN_TRANSIT' ? lines[3] : sender, { ...AT, lat, status }); // an admin may report too
    for (const line of lines) {
      const change = await line.next('status_change', ({ data }) => data.status === status);
      // the same data came as a location_update just before
      const before = line.messages[line.messages.indexOf(change) - 1];
      assert.deepEqual(before, { type: 'location_update', data: change.data });
    }
  }
  for (const line of lines) {
    await line.flush();
    assert.deepEqual(line.of('status_change').map(({ data }) => data.status), ['PICKED_UP', 'IN_TRANSIT', 'DELIVERED'], 'each once');
    for (const { data } of [...line.of('location_update'), ...line.of('status_change')]) check(data, SESSION, 'the session');
  }
  assert.equal((await server.order(order)).status, 'delivered');
});

test('An update sent over HTTP reaches all sockets', async () => {
  const { id, user } = await session();
  const line = await trace(server, id);
  const first = await update(id, AT, user);
  const { data } = await line.next('location_update');
  for (const [name, value] of Object.entries(first)) assert.deepEqual(data[name], value, name);
  await update(id, { ...AT, lat: 45.26, status: 'IN_TRANSIT' }, user);
  await line.next('status_change', (change) => change.data.status === 'IN_TRANSIT');
  await line.until(() => line.of('location_update').at(-1).data.current_location.lat === 45.26, 'the place');
});

test('A client that may not report gets an error, and nothing is broadcast', async () => {
  const { id, order, who, user } = await session();
  const witness = await trace(server, id);
  for (const [one, code] of [[undefined, 'unauthorized'], [as(who.customer, 'customer'), 'forbidden'], [as(who.chef, 'chef'), 'forbidden'], [as(people().driver, 'driver'), 'forbidden']]) {
    const line = await trace(server, id, one);
    const error = await line.ask({ type: 'location_update', location: { ...AT, status: 'DELIVERED' } }, 'error');
    assert.equal(error.code, code, one?.role);
    assert.ok(error.message);
    await line.flush();
  }
  const line = await trace(server, id, user);
  for (const [location, code] of [[undefined, 'invalid_payload'], [{}, 'invalid_payload'], [{ ...AT, lat: 91 }, 'invalid_payload'], [{ ...AT, lng: '13' }, 'invalid_payload'], [{ ...AT, status: 'FLOWN' }, 'invalid_payload']]) {
    const error = await line.ask({ type: 'location_update', location }, 'error');
    assert.equal(error.code, code, JSON.stringify(location));
  }
  await update(id, { ...AT, status: 'IN_TRANSIT' }, user);
  assert.ok((await line.ask({ type: 'location_update', location: { ...AT, status: 'PICKED_UP' } }, 'error')).message, 'nobody goes back');
  await line.flush();
  await witness.next('status_change', ({ data }) => data.status === 'IN_TRANSIT');
  assert.equal(witness.of('status_change').length, 1);
  assert.equal((await server.order(order)).status, 'in_transit');
});

test('5. A ping gets a pong', async () => {
  const { id, user } = await session();
  for (const one of [undefined, user]) {
    const line = await trace(server, id, one);
    for (let i = 0; i < 3; i += 1) assert.deepEqual(await line.ask({ type: 'ping' }, 'pong'), { type: 'pong' });
  }
});

test('7. A client that leaves is gone, and nobody else notices', async () => {
  const { id, user } = await session();
  const sockets = async () => (await server.ok('GET', '/stats/tracking', undefined, ADMIN)).total_websocket_connections;
  const presence = async () => (await server.ok('GET', `/users/${user.sub}/presence`)).connections;
  const before = await sockets();
  const lines = await Promise.all([undefined, user, user].map((one) => trace(server, id, one)));
  assert.deepEqual([await sockets(), await presence()], [before + 3, 2]);
  lines[1].ws.close(1000);
  assert.equal((await lines[1].closed).code, 1000);
  lines[2].hangUp();
  await eventually(async () => await sockets() === before + 1 && await presence() === 0, 'two to be gone');
  await update(id, AT, user);
  await lines[0].next('location_update');
});

test('8. A client without a token sees everything but reports nothing, and sees the driver\'s position only on the way', async () => {
  const who = people();
  const { id: order } = await server.create(who);
  await server.status(order, 'accepted');
  await server.assign(order, who.driver); // before the order is ready
  const user = as(who.driver, 'driver');
  const { tracking_id: id } = await begin(server, user, order);
  const line = await trace(server, id);
  await update(id, { ...AT, lat: 61.1 }, user);
  await line.flush();
  assert.ok(!JSON.stringify(line.messages).includes('61.1'), 'not before it is with the driver');
  await server.status(order, 'ready_for_pickup');
  await update(id, { ...AT, lat: 61.2 }, user);
  await line.next('location_update', ({ data }) => data.current_location?.lat === 61.2);
  await update(id, { ...AT, lat: 61.3, status: 'DELIVERED' }, user);
  const { data } = await line.next('status_change', (change) => change.data.status === 'DELIVERED');
  assert.equal(data.current_location, null);
  assert.ok(!JSON.stringify(line.messages).includes(who.customer.name));
});

test('An app cut off by kill -9 comes back within seconds and shows the present state', { timeout: 60_000 }, async () => {
  const own = await Server.start();
  try {
    const { id, user } = await session(own);
    const app = await install(own, `/ws/tracking/${id}`, undefined, () => {});
    await app.next('initial_state');
    await own.kill9();
    await app.count('(close)', 2); // its first retry has failed
    await own.run();
    await update(id, { ...AT, status: 'PICKED_UP' }, user, own);
    const { data } = await app.next('initial_state', undefined, 20_000);
    assert.equal(data.status, 'PICKED_UP');
    await update(id, { ...AT, status: 'DELIVERED' }, user, own);
    await app.next('status_change', (change) => change.data.status === 'DELIVERED');
  } finally {
    await own.close();
  }
});

test('A rider\'s expired token reports nothing more', { timeout: 60_000 }, async () => {
  const { id, user } = await session();
  const end = Date.now() + 1200;
  const line = await trace(server, id, jwt({ ...user, exp: end / 1000 }));
  const witness = await trace(server, id);
  report(line, AT);
  await witness.next('location_update');
  // the socket may be closed or stay as a reader: either way its reports are not taken
  await Promise.race([line.closed, new Promise((resolve) => { setTimeout(resolve, end + 100 - Date.now()); })]);
  if (line.of('(close)').length === 0) await line.ask({ type: 'location_update', location: { ...AT, lat: 46 } }, 'error');
  else assert.equal(line.of('(close)')[0].code, 1008);
  await witness.flush();
  assert.equal(witness.of('location_update').length, 1);
});

test('A socket is closed when the order goes to another driver or the user\'s sessions are revoked', async () => {
  const { id, order, who, user } = await session();
  const token = jwt({ ...as(who.customer, 'customer'), iat: Math.floor(Date.now() / 1000) });
  const customer = await trace(server, id, token);
  await server.ok('DELETE', `/users/${who.customer.id}/sessions`);
  assert.deepEqual(await customer.closed, { code: 1008, reason: 'Session ended' });
  const lines = await Promise.all([user, undefined].map((one) => trace(server, id, one)));
  await server.assign(order, people().driver);
  for (const line of lines) {
    assert.deepEqual(await line.closed, { code: 1008, reason: 'Session expired' });
    assert.deepEqual(line.messages.at(-1), { type: 'error', ...line.messages.at(-1), message: 'Tracking session expired' });
  }
});
