// /ws (002_2917022c08c0c4bc.txt): that system's hooks and its "manual verification", with `ws`.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, connect } from '../support/client.mjs';
import { dial, hangUpAll, install, ring, watch, WORDS } from '../support/doors.mjs';
import { ADMIN, as, jwt, people, Server } from '../support/server.mjs';
import { check, ORDER } from '../support/shapes.mjs';

const server = await Server.start();
after(() => server.close());
afterEach(closeAll);
afterEach(hangUpAll);

const patch = (id, status, user = ADMIN, on = server) => on.call('PATCH', `/api/v1/orders/${id}/status`, { status }, user);
const cancel = (id, user, body) => server.call('POST', `/api/v1/orders/${id}/cancel`, body, user);
const verify = (id, user, body) => server.call('POST', `/api/v1/orders/${id}/payment/verify`, body, user);
const poll = async (path, user, on = server) => {
  const body = await on.ok('GET', `/api/v1/orders${path}`, undefined, user);
  assert.equal(body.success, true, path);
  return body;
};
/** What the list screen heard of that order: the status words. */
const hints = (line, id) => line.of('orders:changed').filter(({ orderId }) => orderId === id).map(({ status }) => status);
/** What the detail screen heard of that order: [status, seq]. */
const details = (line, id) => line.of('order:updated').filter(({ orderId }) => orderId === id).map(({ data }) => [data.status, data.seq]);
const hint = (line, id, n) => line.until(() => hints(line, id).length >= n, `${n} orders:changed`);
const detail = (line, id, seq) => line.next('order:updated', ({ orderId, data }) => orderId === id && data.seq === seq);

const LIFE = ['payment_confirmed', 'accepted', 'preparing', 'ready_for_pickup', 'assigned_to_driver', 'picked_up', 'in_transit', 'delivered'];
async function live(id, who) {
  for (const status of LIFE) {
    if (status === 'payment_confirmed') await server.pay(id);
    else if (status === 'assigned_to_driver') await server.assign(id, who.driver);
    else await server.status(id, status);
  }
}

test('A ping gets a pong, subscribing brings the order and nothing else, unsubscribing gets no answer', async () => {
  const who = people();
  const created = await server.create(who, { notes: 'Ring twice', items: [{ name: 'Fuži', quantity: 2, unitPrice: 9.5 }], total: 19 });
  const { id } = created;
  const line = await dial(server, '/ws', as(who.customer, 'customer'));
  assert.deepEqual(await line.ask({ type: 'ping' }, 'pong'), { type: 'pong' });
  line.send({ type: 'subscribe', orderId: id });
  const state = await line.next('order:updated');
  assert.deepEqual(Object.keys(state).toSorted(), ['data', 'orderId', 'type']);
  check(state.data, ORDER, 'the order');
  assert.deepEqual(state.data, { ...await server.order(id, as(who.customer, 'customer')), status: 'PENDING' });
  line.send({ type: 'unsubscribe', orderId: id });
  line.send({ type: 'unsubscribe', orderId: 'never-subscribed' });
  await line.flush();
  await patch(id, 'CONFIRMED');
  await hint(line, id, 1);
  await line.flush();
  assert.deepEqual(line.messages.map(({ type }) => type), ['pong', 'order:updated', 'pong', 'orders:changed', 'pong']);
});

test('Detail screens get order:updated; lists of customer, chef and admins get orders:changed', async () => {
  const [who, other] = [people(), people()];
  const [customer, chef, admin] = [as(who.customer, 'customer'), as(who.chef, 'chef'), ADMIN];
  const lists = await Promise.all([customer, chef, admin].map((user) => dial(server, '/ws', user)));
  const strangers = await Promise.all([as(other.customer, 'customer'), as(other.chef, 'chef'), as(other.driver, 'driver')].map((user) => dial(server, '/ws', user)));
  const { id } = await server.create(who);
  const screens = await Promise.all([customer, chef, admin].map((user) => watch(server, user, id)));
  await live(id, who);

  const words = LIFE.map((status) => WORDS[status].ws);
  for (const line of lists) {
    await hint(line, id, 1 + words.length);
    assert.deepEqual(hints(line, id), ['PENDING', ...words]);
    assert.deepEqual(line.of('order:updated'), []);
    for (const one of line.of('orders:changed')) assert.deepEqual(Object.keys(one).toSorted(), ['orderId', 'status', 'type']);
  }
  for (const line of screens) {
    await detail(line, id, 9);
    assert.deepEqual(details(line, id), ['PENDING', ...words].map((word, i) => [word, i + 1]));
    await hint(line, id, words.length);
    assert.deepEqual(hints(line, id), words);
    for (const { data } of line.of('order:updated')) check(data, ORDER, 'the order');
  }
  for (const line of strangers) {
    await line.flush();
    assert.deepEqual(line.messages, [{ type: 'pong' }], 'an order of others');
    const error = await line.ask({ type: 'subscribe', orderId: id }, 'error');
    assert.deepEqual([error.code, Object.keys(error).toSorted()], ['not_found', ['code', 'message', 'type']]);
  }
});

test('The order\'s driver may open it too, until it goes to another driver', async () => {
  const [who, next] = [people(), people()];
  const { id } = await server.assigned(who);
  const line = await watch(server, as(who.driver, 'driver'), id);
  await server.status(id, 'picked_up');
  await detail(line, id, 4);
  await server.assign(id, next.driver);
  await server.status(id, 'in_transit');
  await line.flush();
  assert.deepEqual(details(line, id), [['READY', 3], ['OUT_FOR_DELIVERY', 4]]);
  assert.deepEqual(line.of('orders:changed'), [], 'a driver has no list');
});

test('Of two admin tabs, one shows what the other changes', async () => {
  const who = people();
  const { id } = await server.create(who);
  const tabs = await Promise.all([1, 2].map(() => watch(server, ADMIN, id)));
  for (const [i, word] of ['CONFIRMED', 'PREPARING', 'READY', 'OUT_FOR_DELIVERY', 'DELIVERED'].entries()) {
    const { status, body } = await patch(id, word);
    assert.deepEqual([status, body.success, body.data.status, body.data.seq], [200, true, word, i + 2]);
    for (const tab of tabs) {
      assert.equal((await detail(tab, id, i + 2)).data.status, word);
      await hint(tab, id, i + 1);
      assert.equal(hints(tab, id).at(-1), word);
    }
  }
});

test('An app that was in the background during a change shows it as soon as it is back', async () => {
  const who = people();
  const { id } = await server.create(who);
  const user = as(who.customer, 'customer');
  let line = await watch(server, user, id);
  for (const [word, seq] of [['CONFIRMED', 2], ['READY', 3], ['DELIVERED', 4]]) {
    line.ws.close(1000);
    assert.equal((await line.closed).code, 1000);
    await patch(id, word);
    assert.equal((await poll(`/${id}`, user)).data.status, word, 'the fallback poll');
    line = await watch(server, user, id);
    assert.deepEqual(details(line, id), [[word, seq]]);
  }
});

test('After kill -9 and restart, the app comes back within seconds and shows the present state', { timeout: 60_000 }, async () => {
  const own = await Server.start();
  try {
    const who = people();
    const { id } = await own.create(who);
    const user = as(who.customer, 'customer');
    const apps = await Promise.all([user, ADMIN].map((one) => install(own, '/ws', one, (app) => app.send({ type: 'subscribe', orderId: id }))));
    for (const app of apps) await detail(app, id, 1);
    await own.kill9();
    for (const app of apps) await app.count('(close)', 2); // its first retry has failed
    await own.run();
    assert.equal((await patch(id, 'CONFIRMED', ADMIN, own)).status, 200);
    for (const app of apps) await app.count('(open)', 2, 20_000);
    assert.equal((await patch(id, 'PREPARING', ADMIN, own)).status, 200);
    for (const app of apps) {
      await detail(app, id, 3);
      await hint(app, id, 1);
      assert.equal(hints(app, id).at(-1), 'PREPARING');
    }
    assert.equal((await poll('', user, own)).data[0].status, 'PREPARING');
  } finally {
    await own.close();
  }
});

test('The fallback poll shows lists and details in these words', async () => {
  const who = people();
  const user = as(who.customer, 'customer');
  const ids = [];
  for (let i = 0; i < 3; i += 1) ids.unshift((await server.create(who)).id);
  await server.status(ids[0], 'in_transit');
  await server.status(ids[1], 'accepted');
  const list = await poll('', user);
  assert.deepEqual(list.data.map(({ id, status }) => [id, status]), [[ids[0], 'OUT_FOR_DELIVERY'], [ids[1], 'CONFIRMED'], [ids[2], 'PENDING']]);
  assert.equal(list.nextCursor, null);
  for (const order of list.data) {
    check(order, ORDER, 'an order');
    assert.deepEqual((await poll(`/${order.id}`, user)).data, order);
  }
  const page = await poll('?limit=2', user);
  assert.equal(page.data.length, 2);
  assert.deepEqual((await poll(`?limit=2&cursor=${encodeURIComponent(page.nextCursor)}`, user)).data.map(({ id }) => id), [ids[2]]);
  assert.deepEqual((await poll('?status=CONFIRMED', user)).data.map(({ id }) => id), [ids[1]]);
  assert.deepEqual((await poll('?status=out_for_delivery', user)).data.map(({ id }) => id), [ids[0]]);
  const stranger = as(people().customer, 'customer');
  assert.deepEqual((await poll('', stranger)).data, []);
  assert.equal((await server.call('GET', `/api/v1/orders/${ids[0]}`, undefined, stranger)).status, 404);
  assert.equal((await server.call('GET', '/api/v1/orders', undefined, null)).status, 401);
});

test('PATCH takes every word and refuses wrong words, illegal moves and foreign orders', async () => {
  const who = people();
  for (const [word, status] of [['CONFIRMED', 'accepted'], ['preparing', 'preparing'], ['READY', 'ready_for_pickup'],
    ['OUT_FOR_DELIVERY', 'in_transit'], ['DELIVERED', 'delivered'], ['CANCELLED', 'cancelled'], ['Canceled', 'cancelled']]) {
    const { id } = await server.create(who);
    const { status: code, body } = await patch(id, word);
    assert.deepEqual([code, body], [200, { success: true, data: { ...await server.order(id), status: WORDS[status].ws } }], word);
    assert.equal((await server.order(id)).status, status, word);
  }
  const { id } = await server.create(who);
  for (const word of ['', 'COOKED', 'READY_FOR_PICKUP', 3, null]) {
    const { status, body } = await patch(id, word);
    assert.equal(status, 422, word);
    assert.match(body.detail, /status/, word);
  }
  await patch(id, 'READY');
  for (const [word, user] of [['PENDING', ADMIN], ['CONFIRMED', ADMIN], ['DELIVERED', as(who.chef, 'chef')], ['CANCELLED', as(who.customer, 'customer')]]) {
    const { status, body } = await patch(id, word, user);
    assert.equal(status, 409, word);
    assert.ok(body.allowed.every((one) => Object.values(WORDS).some(({ ws }) => ws === one)), `allowed is ${body.allowed}`);
  }
  await server.assign(id, who.driver);
  for (const word of ['READY', 'ready']) assert.equal((await patch(id, word)).body.data.seq, 3, 'it is called that already');
  for (const user of [as(people().customer, 'customer'), as(people().driver, 'driver')]) assert.equal((await patch(id, 'CANCELLED', user)).status, 404);
  assert.equal((await patch(id, 'CANCELLED', null)).status, 401);
});

test('The customer cancels', async () => {
  const who = people();
  const user = as(who.customer, 'customer');
  const { id } = await server.create(who);
  const line = await watch(server, user, id);
  const chef = await dial(server, '/ws', as(who.chef, 'chef'));
  const { status, body } = await cancel(id, user, { reason: 'changed my mind' });
  assert.deepEqual([status, body.success, body.data.status], [200, true, 'CANCELLED']);
  assert.equal((await detail(line, id, 2)).data.status, 'CANCELLED');
  await hint(chef, id, 1);
  assert.deepEqual(hints(chef, id), ['CANCELLED']);
  assert.deepEqual([(await cancel(id, user)).status, (await server.order(id)).seq], [200, 2], 'asked again, nothing changes');
  const cooking = await server.create(who);
  await patch(cooking.id, 'PREPARING');
  assert.equal((await cancel(cooking.id, user, {})).status, 409, 'too late');
  assert.equal((await cancel(cooking.id, as(people().customer, 'customer'), {})).status, 404);
});

test('A verified payment accepts the order: the customer needs a reference, staff does not', async () => {
  const who = people();
  const user = as(who.customer, 'customer');
  for (const [verifier, body] of [[user, { reference: 'pay_123' }], [ADMIN, {}], [ADMIN, { reference: 'pay_124' }]]) {
    const { id } = await server.create(who);
    const line = await watch(server, user, id);
    const answer = await verify(id, verifier, body);
    assert.deepEqual([answer.status, answer.body.success, answer.body.data.status, answer.body.data.paymentStatus], [200, true, 'CONFIRMED', 'completed']);
    const { seq, status } = await server.order(id);
    assert.equal(status, 'accepted');
    await detail(line, id, seq);
    await hint(line, id, seq - 1);
    assert.deepEqual(details(line, id).map(([, n]) => n), Array.from({ length: seq }, (_, i) => i + 1), 'in order, once');
    assert.equal(hints(line, id).at(-1), 'CONFIRMED');
    assert.equal((await verify(id, verifier, body)).status, 200, 'a retry is safe');
    assert.equal((await server.order(id)).seq, seq);
  }
  const { id } = await server.create(who);
  for (const body of [undefined, {}, { reference: '' }, { reference: null }, { reference: 7 }]) {
    const answer = await verify(id, user, body ?? {});
    assert.equal(answer.status, 422, JSON.stringify(body));
    assert.match(answer.body.detail, /reference/);
  }
  assert.equal((await verify(id, as(who.chef, 'chef'), { reference: 'x' })).status, 403);
  assert.equal((await verify(id, as(people().customer, 'customer'), { reference: 'x' })).status, 404);
  assert.deepEqual([(await server.order(id)).status, (await server.order(id)).paymentStatus], ['pending', 'pending']);
});

test('A missing or bad token is refused with 1008, and a GET without an upgrade with 426', async () => {
  assert.deepEqual(await ring(server, '/ws').closed, { code: 1008, reason: 'Token required' });
  for (const token of ['not.a.token', jwt(ADMIN, { alg: 'none' }), jwt({ ...ADMIN, exp: 1 })]) {
    const line = ring(server, '/ws', token);
    assert.deepEqual(await line.closed, { code: 1008, reason: 'Invalid token' });
    assert.deepEqual(line.messages, []);
  }
  assert.equal((await server.call('GET', '/ws', undefined, ADMIN)).status, 426);
});

test('A token may expire during a connection, and is checked again at the next one', { timeout: 60_000 }, async () => {
  const who = people();
  const { id } = await server.create(who);
  const token = jwt({ ...as(who.customer, 'customer'), exp: Date.now() / 1000 + 1.2 });
  const line = await watch(server, token, id);
  const clock = await connect(server, { token }); // its token:expired tells when
  await clock.next('token:expired');
  assert.deepEqual(await line.ask({ type: 'ping' }, 'pong'), { type: 'pong' });
  await patch(id, 'CONFIRMED');
  await detail(line, id, 2);
  await hint(line, id, 1);
  await line.ask({ type: 'subscribe', orderId: id }, 'order:updated');
  assert.deepEqual(line.of('(close)'), []);
  assert.deepEqual(await ring(server, '/ws', token).closed, { code: 1008, reason: 'Invalid token' });
});

test('Revoked sessions are closed with 1008 and stay revoked', async () => {
  const who = people();
  const { id } = await server.create(who);
  const token = jwt({ ...as(who.customer, 'customer'), iat: Math.floor(Date.now() / 1000) });
  const lines = await Promise.all([1, 2].map(() => watch(server, token, id)));
  const bystander = await watch(server, as(who.chef, 'chef'), id);
  const { disconnected } = await server.ok('DELETE', `/users/${who.customer.id}/sessions`);
  assert.equal(disconnected, 2);
  for (const line of lines) assert.deepEqual(await line.closed, { code: 1008, reason: 'Session ended' });
  assert.deepEqual(await ring(server, '/ws', token).closed, { code: 1008, reason: 'Invalid token' });
  await patch(id, 'CONFIRMED');
  await detail(bystander, id, 2);
  for (const line of lines) assert.deepEqual(details(line, id), [['PENDING', 1]]);
});
