// --legacy-open: a client without a token reads orders in anonymous form, on the default namespace and on /orders/track, as those two
// systems allowed. Nothing else is open. Without the flag nothing is.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { anonymous, dial, enter, hangUpAll, heard, ring, track, visit } from '../support/doors.mjs';
import { ADMIN, as, people, Server } from '../support/server.mjs';

const AT = { latitude: 45.25, longitude: 13.61 };

const open = await Server.start({ args: ['--legacy-open'], env: { LOCATION_RATE_PER_SECOND: '0' } });
const closed = await Server.start();
after(() => Promise.all([open.close(), closed.close()]));
afterEach(closeAll);
afterEach(hangUpAll);

/** An order with everything about people that an order can hold. */
const MORE = { items: [{ name: 'Fuži', quantity: 2, unitPrice: 9.5 }], notes: 'Ring at Carla Customer\'s', total: 19 };

/** The whole life of an order, with three fixes: one too early, one on the way, one too late. */
async function life(server, who) {
  const { id } = await server.create(who, MORE);
  const phone = await connect(server, { user: as(who.driver, 'driver') });
  const drive = (latitude) => phone.request('driver:location', { ...AT, latitude, orderId: id });
  await server.status(id, 'accepted', ADMIN);
  await server.assign(id, who.driver);
  await drive(45.1);
  await server.status(id, 'ready_for_pickup', ADMIN);
  await server.status(id, 'in_transit', ADMIN);
  await drive(45.2);
  await server.status(id, 'delivered', ADMIN);
  await drive(45.3);
  return id;
}

test('A server started with --legacy-open logs a warning that names the flag', () => {
  const warning = open.output.split('\n').find((line) => /warn/i.test(line) && /legacy.open/i.test(line));
  assert.ok(warning, open.output);
  assert.match(open.output, /\/orders\/track/, 'it names what is open');
  assert.doesNotMatch(closed.output, /legacy.open/i);
});

for (const combo of combos) {
  test(`${label(combo)}: a page without a token hears of every order, without personal data`, { timeout: 60_000 }, async () => {
    const [one, two] = [people(), people()];
    const page = await visit(open, combo);
    const own = await visit(open, { ...combo, user: as(one.customer, 'customer') });
    const ids = [await life(open, one), await life(open, two)];
    const steps = ['accepted', 'ready_for_pickup', 'assigned_to_driver', 'in_transit', 'delivered'];
    for (const [id, who] of [[ids[0], one], [ids[1], two]]) {
      await page.next('trackingUpdate', ({ orderId, status }) => orderId === id && status === 'delivered');
      const events = heard(page, id);
      const updates = events.filter(({ name }) => name === 'orderStatusUpdate').map(({ payload }) => payload.status);
      assert.deepEqual(updates, steps);
      const tracking = events.filter(({ name }) => name === 'trackingUpdate').map(({ payload }) => payload);
      const { statusHistory } = await open.tracking(id);
      assert.deepEqual(tracking.at(-1).statusHistory, statusHistory.map(({ status, timestamp }) => ({ status, timestamp })));
      const shown = tracking.filter(({ location }) => location);
      assert.deepEqual([...new Set(shown.map(({ status }) => status))], ['assigned_to_driver', 'in_transit'], 'the driver\'s place, on the way only');
      assert.equal(shown.at(-1).location.latitude, 45.2);
      anonymous(events, who, 'what is open to everybody');
    }
    // a page with a token gets its own orders only, in full
    await own.next('trackingUpdate', ({ status }) => status === 'delivered');
    assert.deepEqual(heard(own, ids[1]), []);
    const { statusHistory } = heard(own, ids[0]).at(-1).payload;
    assert.ok(statusHistory.some(({ changedBy }) => changedBy), JSON.stringify(statusHistory));
  });
}

test('A page without a token that reconnects hears new events only', { timeout: 60_000 }, async () => {
  const who = people();
  const { id } = await open.create(who);
  const page = await visit(open, { options: { reconnectionDelay: 20 } });
  await open.status(id, 'accepted', ADMIN);
  await page.next('orderStatusUpdate', ({ orderId }) => orderId === id);
  page.socket.io.engine.close();
  await page.count('(connect)', 2);
  assert.notEqual(page.socket.recovered, true);
  await open.status(id, 'preparing', ADMIN);
  await page.next('orderStatusUpdate', ({ orderId, status }) => orderId === id && status === 'preparing');
  assert.equal(heard(page, id).filter(({ name }) => name === 'orderStatusUpdate').length, 2);
});

test('/orders/track without a token shows any order, without personal data', { timeout: 60_000 }, async () => {
  const who = people();
  const { id } = await open.create(who, MORE);
  const line = await track(open, null, id);
  const phone = await connect(open, { user: as(who.driver, 'driver') });
  await open.status(id, 'ready_for_pickup', ADMIN);
  await open.assign(id, who.driver);
  await open.status(id, 'picked_up', ADMIN);
  await phone.ask('driver:location', { ...AT, orderId: id });
  await line.next('driver_location', ({ lat }) => lat === AT.latitude);
  await open.status(id, 'delivered', ADMIN);
  await line.next('order_update', ({ status }) => status === 'delivered');
  assert.deepEqual(line.of('order_update').map(({ status }) => status), ['pending', 'ready', 'ready', 'out_for_delivery', 'delivered']);
  anonymous(line.events, who, 'what is open to everybody');

  const answer = await open.call('GET', `/api/orders/${id}`, undefined, null);
  assert.deepEqual([answer.status, answer.body.success, answer.body.order.status], [200, true, 'delivered']);
  anonymous(answer.body, who, 'GET /api/orders/{id}');
  for (const member of ['customer', 'store', 'driver', 'delivery_address', 'items', 'notes', 'total']) assert.ok(!(member in answer.body.order), member);
  const full = (await open.call('GET', `/api/orders/${id}`, undefined, as(who.customer, 'customer'))).body.order;
  assert.deepEqual([full.customer.name, full.notes], [who.customer.name, MORE.notes], 'with a token it is all there');
});

test('A bad token is refused, also where no token is needed', { timeout: 60_000 }, async () => {
  const page = enter(open, { token: 'not.a.token', options: { reconnection: false } });
  assert.match(await page.refusal(), /^unauthorized: /);
  const line = ring(open, '/orders/track', 'not.a.token');
  assert.deepEqual(await line.closed, { code: 1008, reason: 'Invalid token' });
  const { id } = await open.create(people());
  const { status } = await fetch(`${open.base}/api/orders/${id}?token=not.a.token`);
  assert.equal(status, 401);
  assert.equal((await fetch(`${open.base}/api/orders/${id}`, { headers: { authorization: 'Bearer not.a.token' } })).status, 401);
});

test('Nothing else is open, and an anonymous client changes nothing', { timeout: 60_000 }, async () => {
  const who = people();
  const { id } = await open.create(who);
  for (const [method, path, body] of [['GET', `/orders/${id}`], ['GET', '/orders'], ['GET', `/orders/${id}/events`], ['GET', '/api/v1/orders'],
    ['GET', `/api/v1/orders/${id}`], ['PUT', `/api/orders/${id}/status`, { status: 'confirmed' }], ['PATCH', `/orders/${id}/status`, { status: 'accepted' }],
    ['PATCH', `/api/v1/orders/${id}/status`, { status: 'CONFIRMED' }], ['POST', `/api/v1/orders/${id}/cancel`, {}],
    ['POST', `/api/v1/orders/${id}/payment/verify`, { reference: 'x' }], ['POST', '/tracking/start', { order_id: id }], ['GET', '/stats/tracking']]) {
    assert.equal((await open.call(method, path, body, null)).status, 401, `${method} ${path}`);
  }
  assert.deepEqual(await ring(open, '/ws').closed, { code: 1008, reason: 'Token required' });
  const page = await connect(open, {}).catch((error) => error);
  assert.match(page.message, /^unauthorized: /, '/realtime');
  assert.equal((await open.order(id)).status, 'pending');
});

test('Without the flag these doors are closed', async () => {
  const { id } = await closed.create(people());
  assert.deepEqual(await ring(closed, '/orders/track').closed, { code: 1008, reason: 'Token required' });
  assert.equal((await closed.call('GET', `/api/orders/${id}`, undefined, null)).status, 401);
  assert.match(await enter(closed, { options: { reconnection: false } }).refusal(), /^unauthorized: /);
  const line = await dial(closed, '/orders/track');
  await line.closed;
  assert.deepEqual(line.messages, [], 'nothing is said before it is shut');
});
