// /orders/track (000_f33b149f406dd698.txt): the functions and the checklist of that description, with `ws`, the client it was written for.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, connect } from '../support/client.mjs';
import { dial, hangUpAll, install, MESSAGES, ring, track, WORDS } from '../support/doors.mjs';
import { ADMIN, as, jwt, people, Server } from '../support/server.mjs';
import { check, gapless } from '../support/shapes.mjs';

const AT = { latitude: 45.25, longitude: 13.61 };
const ORDER_UPDATE = {
  type: 'string', order_id: 'string', order_number: 'string', status: 'string', message: 'string', timestamp: 'time', seq: 'count',
};
const DRIVER_LOCATION = {
  type: 'string', order_id: 'string', lat: 'number', lng: 'number', timestamp: 'time', eta_seconds: 'count', 'conflated?': 'count',
};

const server = await Server.start({ env: { LOCATION_RATE_PER_SECOND: '0' } });
after(() => server.close());
afterEach(closeAll);
afterEach(hangUpAll);

const put = (id, status, user = ADMIN, on = server) => on.ok('PUT', `/api/orders/${id}/status`, { status }, user);

test('A client connects, subscribes and gets the present state', async () => {
  const who = people();
  const { id, orderNumber, seq, updatedAt } = await server.create(who);
  const line = await dial(server, '/orders/track', as(who.customer, 'customer'));
  assert.deepEqual(await line.next('connected'), { type: 'connected', message: 'Order tracking connected' });
  line.send({ type: 'subscribe', order_id: id });
  const state = await line.next('order_update');
  check(state, ORDER_UPDATE, 'order_update');
  assert.deepEqual(state, {
    type: 'order_update', order_id: id, order_number: orderNumber, status: 'pending', message: MESSAGES.pending, timestamp: updatedAt, seq,
  });
  assert.deepEqual(line.messages[1], { type: 'subscribed', order_id: id });
  assert.deepEqual(await line.ask({ type: 'ping' }, 'pong'), { type: 'pong' });
  assert.equal(line.messages.length, 4);
});

test('The dashboard hears each status change at once, with its message', async () => {
  const who = people();
  const { id, orderNumber } = await server.create(who);
  const line = await track(server, as(who.customer, 'customer'), id);
  const words = ['confirmed', 'preparing', 'ready', 'out_for_delivery', 'delivered'];
  for (const word of words) await put(id, word);
  await line.next('order_update', ({ status }) => status === 'delivered');
  const updates = line.of('order_update');
  assert.deepEqual(updates.map(({ status }) => status), ['pending', ...words]);
  gapless(updates, 1, 'the progression');
  for (const update of updates) {
    check(update, ORDER_UPDATE, 'order_update');
    assert.deepEqual([update.message, update.order_number], [MESSAGES[update.status], orderNumber]);
  }
});

test('Every change is told with its own seq, also when the word stays', async () => {
  const who = people();
  const { id } = await server.create(who);
  const line = await track(server, as(who.customer, 'customer'), id);
  await server.pay(id);
  const steps = ['pending', 'payment_confirmed', 'accepted', 'preparing', 'ready_for_pickup', 'assigned_to_driver', 'picked_up', 'in_transit', 'delivered'];
  for (const status of steps.slice(2)) {
    if (status === 'assigned_to_driver') await server.assign(id, who.driver);
    else await server.status(id, status);
  }
  await line.next('order_update', ({ status }) => status === 'delivered');
  const updates = line.of('order_update');
  assert.deepEqual(updates.map(({ status }) => status), steps.map((status) => WORDS[status].track));
  for (const { status, message } of updates) assert.equal(message, MESSAGES[status]);
  gapless(updates, 1, 'all changes');

  const cancelled = await server.create(who);
  const other = await track(server, as(who.chef, 'chef'), cancelled.id);
  await put(cancelled.id, 'Canceled', as(who.chef, 'chef'));
  assert.equal((await other.next('order_update', ({ seq }) => seq === 2)).message, MESSAGES.cancelled);
});

test('Several clients follow one order, one client follows several orders, and unsubscribing ends it', async () => {
  const who = people();
  const [first, second] = [await server.create(who), await server.create(who)];
  const users = [as(who.customer, 'customer'), as(who.customer, 'customer'), as(who.chef, 'chef'), ADMIN];
  const lines = await Promise.all(users.map((user) => track(server, user, first.id)));
  const [both, ...only] = lines;
  await both.ask({ type: 'subscribe', order_id: second.id }, 'subscribed', ({ order_id: id }) => id === second.id);
  await put(first.id, 'confirmed');
  await put(second.id, 'preparing');
  for (const line of only) await line.next('order_update', ({ order_id: id, seq }) => id === first.id && seq === 2);
  await both.next('order_update', ({ order_id: id, seq }) => id === second.id && seq === 2);
  const told = (line) => line.of('order_update').map(({ order_id: id, seq }) => [id, seq]);
  assert.deepEqual(told(both), [[first.id, 1], [second.id, 1], [first.id, 2], [second.id, 2]]);

  assert.deepEqual(await both.ask({ type: 'unsubscribe', order_id: first.id }, 'unsubscribed'), { type: 'unsubscribed', order_id: first.id });
  const unknown = `never-${first.id}`;
  assert.deepEqual(await both.ask({ type: 'unsubscribe', order_id: unknown }, 'unsubscribed'), { type: 'unsubscribed', order_id: unknown });
  await put(first.id, 'preparing');
  await put(second.id, 'ready');
  await both.next('order_update', ({ seq }) => seq === 3);
  await both.flush();
  assert.deepEqual(told(both).slice(4), [[second.id, 3]]);
  for (const line of only) {
    await line.next('order_update', ({ seq }) => seq === 3);
    assert.deepEqual(told(line), [[first.id, 1], [first.id, 2], [first.id, 3]]);
  }
  // the others stay when one leaves
  only[0].hangUp();
  await put(first.id, 'ready');
  for (const line of only.slice(1)) await line.next('order_update', ({ seq }) => seq === 4);
});

test('A second subscription shows the state again, and later events come once', async () => {
  const who = people();
  const { id } = await server.create(who);
  const line = await track(server, as(who.customer, 'customer'), id);
  await line.ask({ type: 'subscribe', order_id: id }, 'subscribed');
  await put(id, 'confirmed');
  await line.next('order_update', ({ seq }) => seq === 2);
  await line.flush();
  assert.deepEqual(line.of('order_update').map(({ seq }) => seq), [1, 1, 2]);
});

test('A subscription with `since` gets all later events in order, instead of the state', async () => {
  const who = people();
  const { id } = await server.create(who);
  const words = ['confirmed', 'preparing', 'ready', 'out_for_delivery'];
  for (const word of words) await put(id, word);
  for (const since of [0, 1, 3, 5]) {
    const line = await track(server, as(who.customer, 'customer'), id, since);
    await line.flush();
    const updates = line.of('order_update');
    assert.deepEqual(updates.map(({ status }) => status), ['pending', ...words].slice(since), `since ${since}`);
    gapless(updates, since + 1, `since ${since}`);
    for (const update of updates) {
      check(update, ORDER_UPDATE, 'order_update');
      assert.equal(update.message, MESSAGES[update.status]);
    }
  }
});

test('The driver\'s position is shown while the order is out for delivery, and only then', async () => {
  const who = people();
  const { id } = await server.assigned(who);
  const lines = await Promise.all([as(who.customer, 'customer'), ADMIN].map((user) => track(server, user, id)));
  const phone = await connect(server, { user: as(who.driver, 'driver') });
  const drive = (latitude) => phone.request('driver:location', { ...AT, latitude, orderId: id });
  await drive(45.1);
  await put(id, 'ready'); // it is ready already, so nothing changes
  await server.status(id, 'picked_up');
  await drive(45.21);
  await server.status(id, 'in_transit');
  await drive(45.22);
  await put(id, 'delivered');
  await drive(45.3);
  for (const line of lines) {
    await line.next('order_update', ({ status }) => status === 'delivered');
    await line.flush();
    const places = line.of('driver_location');
    assert.deepEqual(places.map(({ lat, lng }) => [lat, lng]), [[45.21, 13.61], [45.22, 13.61]]);
    for (const place of places) {
      check(place, DRIVER_LOCATION, 'driver_location');
      assert.deepEqual([place.type, place.order_id], ['driver_location', id]);
      assert.ok(place.eta_seconds >= 60, `${place.eta_seconds} s`);
    }
    const order = line.messages.filter(({ type }) => type !== 'pong').map(({ status, type }) => status ?? type);
    assert.deepEqual(order, ['connected', 'subscribed', 'ready', 'out_for_delivery', 'driver_location', 'out_for_delivery', 'driver_location', 'delivered']);
  }
});

test('Clients may follow only orders that they have a right to see', async () => {
  const [who, other] = [people(), people()];
  const { id } = await server.assigned(who);
  const strangers = [[as(other.customer, 'customer'), 'picked_up'], [as(other.chef, 'chef'), 'in_transit'], [as(other.driver, 'driver'), 'delivered']];
  for (const [user, next] of strangers) {
    const line = await dial(server, '/orders/track', user);
    for (const order of [id, `no-such-${id}`]) {
      const error = await line.ask({ type: 'subscribe', order_id: order }, 'error');
      assert.deepEqual(Object.keys(error).toSorted(), ['code', 'message', 'type']);
      assert.equal(error.code, 'not_found', `${user.role}, ${order}`);
    }
    await server.status(id, next);
    await line.flush();
    assert.deepEqual([...line.of('subscribed'), ...line.of('order_update')], []);
  }
  for (const user of [as(who.driver, 'driver'), as(who.chef, 'chef')]) await track(server, user, id);
  const dashboard = await dial(server, '/orders/track', undefined, { headers: { authorization: `Bearer ${jwt(ADMIN)}` } });
  await dashboard.ask({ type: 'subscribe', order_id: id }, 'order_update');
});

test('A bad token is refused with 1008, and a GET without an upgrade with 426', async () => {
  for (const token of ['not.a.token', jwt(ADMIN, { alg: 'none' }), jwt({ ...ADMIN, exp: 1 }), jwt(ADMIN, { secret: 'another-secret-of-more-than-thirty-two-bytes' })]) {
    const line = ring(server, '/orders/track', token);
    assert.deepEqual(await line.closed, { code: 1008, reason: 'Invalid token' });
    assert.deepEqual(line.messages, []);
  }
  assert.equal((await server.call('GET', '/orders/track', undefined, null)).status, 426);
});

test('After kill -9 and restart, the app comes back within seconds, subscribes with `since` and has missed nothing', { timeout: 60_000 }, async () => {
  const own = await Server.start();
  try {
    const who = people();
    const orders = [await own.create(who), await own.create(who)].map(({ id }) => id);
    const app = await install(own, '/orders/track', as(who.customer, 'customer'), (one) => {
      for (const id of orders) {
        const last = one.of('order_update').findLast(({ order_id: order }) => order === id);
        one.send({ type: 'subscribe', order_id: id, since: last?.seq });
      }
    });
    const updates = (id) => app.of('order_update').filter(({ order_id: order }) => order === id);
    await app.until(() => orders.every((id) => updates(id).length === 1), 'the state of both');
    for (const id of orders) await put(id, 'confirmed', ADMIN, own);
    await app.until(() => orders.every((id) => updates(id).length === 2), 'a change of both');
    for (const round of [1, 2]) {
      const closes = app.of('(close)').length;
      await own.kill9();
      await app.count('(close)', closes + round); // in round two its first retry fails, and it waits longer
      await own.run();
      const [first, second] = round === 1 ? ['preparing', 'ready'] : ['out_for_delivery', 'delivered'];
      for (const id of orders) await put(id, first, ADMIN, own);
      await app.count('(open)', round + 1, 20_000);
      for (const id of orders) await put(id, second, ADMIN, own);
    }
    await app.until(() => orders.every((id) => updates(id).at(-1).status === 'delivered'), 'the end of both');
    for (const id of orders) {
      assert.deepEqual(updates(id).map(({ status }) => status), ['pending', 'confirmed', 'preparing', 'ready', 'out_for_delivery', 'delivered']);
      gapless(updates(id), 1, id);
    }
    assert.equal(app.of('connected').length, 3);
  } finally {
    await own.close();
  }
});

test('A client whose token expires gets token_expired, then 1008', { timeout: 60_000 }, async () => {
  const who = people();
  const { id } = await server.create(who);
  const end = Date.now() + 1200;
  const line = await track(server, jwt({ ...as(who.customer, 'customer'), exp: end / 1000 }), id);
  assert.deepEqual(await line.closed, { code: 1008, reason: 'Token expired' });
  assert.ok(Date.now() >= end - 50, 'not before its end');
  assert.equal(line.messages.at(-1).code, 'token_expired');
  assert.equal(line.of('order_update').length, 1);
});
