// The REST routes of /orders/track (000_f33b149f406dd698.txt): PUT /api/orders/{id}/status and GET /api/orders/{id}, in that system's words.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { MESSAGES, WORDS } from '../support/doors.mjs';
import { ADMIN, as, jwt, people, Server } from '../support/server.mjs';
import { check } from '../support/shapes.mjs';

const server = await Server.start();
after(() => server.close());

const put = (id, status, user = ADMIN) => server.call('PUT', `/api/orders/${id}/status`, { status }, user);
const get = async (id, user = ADMIN) => (await server.ok('GET', `/api/orders/${id}`, undefined, user)).order;
const PUT = { success: 'boolean', order_id: 'string', status: 'string', updated_at: 'time' };

/** Problem details, with the members that older clients read. */
function problem({ status, headers, body }, wanted, what) {
  assert.equal(status, wanted, `${what}: ${JSON.stringify(body)}`);
  assert.match(headers.get('content-type'), /^application\/problem\+json/, what);
  assert.deepEqual([body.status, body.statusCode, body.message, body.error], [wanted, wanted, body.detail, body.title], what);
  return body;
}

/** Every member name of a value, at any depth. */
const names = (value) => (value && typeof value === 'object' ? Object.entries(value).flatMap(([name, inner]) => [...(Array.isArray(value) ? [] : [name]), ...names(inner)]) : []);

test('Every status word is accepted, in any case', async () => {
  const asks = { confirmed: 'accepted', preparing: 'preparing', ready: 'ready_for_pickup', out_for_delivery: 'in_transit', delivered: 'delivered', cancelled: 'cancelled' };
  assert.deepEqual(['pending', ...Object.keys(asks)], Object.keys(MESSAGES), 'these are all words there are');
  for (const [word, status] of [...Object.entries(asks), ['canceled', 'cancelled'], ['CONFIRMED', 'accepted'], ['Out_For_Delivery', 'in_transit']]) {
    const { id } = await server.create(people());
    const { status: code, body } = await put(id, word);
    assert.equal(code, 200, JSON.stringify(body));
    check(body, PUT, 'the answer');
    const order = await server.order(id);
    assert.deepEqual(body, { success: true, order_id: id, status: WORDS[status].track, updated_at: order.updatedAt }, word);
    assert.deepEqual([order.status, order.seq], [status, 2], word);
  }
});

test('Setting the present word again succeeds and changes nothing, except that out_for_delivery moves a picked_up order on', async () => {
  const who = people();
  const { id } = await server.create(who);
  let seq = 1;
  for (const status of ['pending', 'payment_confirmed', 'accepted', 'preparing', 'ready_for_pickup', 'assigned_to_driver', 'in_transit', 'delivered']) {
    if (status === 'payment_confirmed') ({ seq } = await server.pay(id));
    else if (status === 'assigned_to_driver') ({ seq } = await server.assign(id, who.driver));
    else if (status !== 'pending') ({ seq } = await server.status(id, status));
    const { status: code, body } = await put(id, WORDS[status].track);
    assert.deepEqual([code, body.success, body.status], [200, true, WORDS[status].track], status);
    const after = await server.order(id);
    assert.deepEqual([after.status, after.seq], [status, seq], 'it stays');
  }
  const other = await server.create(who);
  await server.status(other.id, 'picked_up');
  assert.equal((await put(other.id, 'out_for_delivery')).body.status, 'out_for_delivery');
  const moved = await server.order(other.id);
  assert.deepEqual([moved.status, moved.seq], ['in_transit', 3]);
});

test('An illegal move gets 409 and the allowed words, and no status goes back', async () => {
  const who = people();
  const { id } = await server.create(who);
  await put(id, 'ready');
  for (const [user, word] of [[ADMIN, 'pending'], [ADMIN, 'confirmed'], [ADMIN, 'preparing'], [as(who.chef, 'chef'), 'delivered'],
    [as(who.chef, 'chef'), 'preparing'], [as(who.customer, 'customer'), 'cancelled'], [as(who.customer, 'customer'), 'delivered']]) {
    const { allowed } = problem(await put(id, word, user), 409, `${user.role}: ${word}`);
    assert.ok(Array.isArray(allowed) && allowed.every((one) => one in MESSAGES), `${user.role}: allowed is ${JSON.stringify(allowed)}`);
    assert.equal(allowed.length, new Set(allowed).size, 'each once');
    assert.equal(allowed.includes('cancelled'), user.role !== 'customer', user.role);
  }
  await put(id, 'delivered');
  for (const word of ['cancelled', 'ready', 'out_for_delivery']) assert.deepEqual(problem(await put(id, word), 409, word).allowed, []);
  const order = await server.order(id);
  assert.deepEqual([order.status, order.seq], ['delivered', 3]);
});

test('Chef, driver and customer may each do their own part', async () => {
  const who = people();
  const { id } = await server.create(who);
  const [customer, chef, driver] = ['customer', 'chef', 'driver'].map((role) => as(who[role], role));
  for (const word of ['confirmed', 'preparing', 'ready']) assert.equal((await put(id, word, chef)).status, 200, word);
  assert.equal((await put(id, 'out_for_delivery', driver)).status, 404, 'not theirs yet');
  await server.assign(id, who.driver);
  for (const word of ['out_for_delivery', 'delivered']) assert.equal((await put(id, word, driver)).status, 200, word);
  const other = await server.create(who);
  assert.equal((await put(other.id, 'cancelled', customer)).body.status, 'cancelled');
});

test('Unknown words and wrong bodies are refused', async () => {
  const { id } = await server.create(people());
  for (const word of ['', 'cooked', 'accepted', 'ready_for_pickup', 'assigned_to_driver', 'picked_up', 'in_transit', 'payment_confirmed', 7, null, ['ready'], { word: 'ready' }]) {
    const { detail } = problem(await put(id, word), 422, JSON.stringify(word));
    assert.match(detail, /status/, 'it names the member');
  }
  const raw = async (body, type = 'application/json') => {
    const response = await fetch(`${server.base}/api/orders/${id}/status`, {
      method: 'PUT', body, headers: { 'content-type': type, authorization: `Bearer ${jwt(ADMIN)}` },
    });
    return { status: response.status, headers: response.headers, body: await response.json() };
  };
  problem(await raw('{}'), 422, 'no status');
  problem(await raw('{"status":'), 400, 'no JSON');
  problem(await raw('status=ready', 'text/plain'), 415, 'no JSON type');
  problem(await raw(JSON.stringify({ status: 'ready', x: 'x'.repeat(70_000) })), 413, 'too much');
  assert.equal((await raw(JSON.stringify({ status: 'confirmed', note: 'and a member nobody knows', x: [1] }))).status, 200);
});

test('A foreign order, an unknown order and a missing token are refused', async () => {
  const [who, other] = [people(), people()];
  const { id } = await server.assigned(who);
  for (const role of ['customer', 'chef', 'driver']) {
    const stranger = as(other[role], role);
    problem(await put(id, 'delivered', stranger), 404, `PUT as ${role}`);
    problem(await server.call('GET', `/api/orders/${id}`, undefined, stranger), 404, `GET as ${role}`);
  }
  problem(await put('no-such-order', 'ready'), 404, 'PUT unknown');
  problem(await server.call('GET', '/api/orders/no-such-order', undefined, ADMIN), 404, 'GET unknown');
  problem(await put(id, 'delivered', null), 401, 'PUT without a token');
  problem(await server.call('GET', `/api/orders/${id}`, undefined, null), 401, 'GET without a token');
  assert.equal((await server.order(id)).seq, 3, 'nothing has changed');
});

test('GET /api/orders/{id} shows the order in snake_case and these words', async () => {
  const who = people();
  const created = await server.create(who, { items: [{ name: 'Fuži', quantity: 2, unitPrice: 9.5 }], total: 19, currency: 'EUR', notes: 'Ring twice', trackingNumber: 'TN-1' });
  await server.pay(created.id);
  await server.status(created.id, 'ready_for_pickup');
  await server.assign(created.id, who.driver);
  const canonical = await server.order(created.id);
  for (const user of [ADMIN, as(who.customer, 'customer'), as(who.chef, 'chef'), as(who.driver, 'driver')]) {
    const order = await get(created.id, user);
    assert.deepEqual(names(order).filter((name) => !/^[a-z]+(_[a-z]+)*$/.test(name)), [], 'snake_case');
    const { id, order_number: number, tracking_number: tracking, status, payment_status: payment, seq, created_at: from, updated_at: to, total, notes } = order;
    assert.deepEqual(
      { id, number, tracking, status, payment, seq, from, to, total, notes },
      { id: created.id, number: created.orderNumber, tracking: 'TN-1', status: 'ready', payment: 'completed', seq: canonical.seq, from: created.createdAt, to: canonical.updatedAt, total: 19, notes: 'Ring twice' },
      user.role,
    );
    assert.deepEqual([order.customer.name, order.store.business_name, order.driver.id, order.delivery_address, order.items[0].unit_price],
      [who.customer.name, who.chef.businessName, who.driver.id, who.delivery.address, 9.5], user.role);
  }
  for (const status of ['picked_up', 'in_transit', 'delivered']) {
    await server.status(created.id, status);
    assert.equal((await get(created.id)).status, WORDS[status].track);
  }
  // the token may also come as ?token=
  const response = await fetch(`${server.base}/api/orders/${created.id}?token=${jwt(as(who.customer, 'customer'))}`);
  assert.deepEqual([response.status, (await response.json()).success], [200, true]);
});
