// The whole life of an order, watched by everybody: each event reaches exactly its audience, once per socket.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { ADMIN, as, people, SERVICE, Server } from '../support/server.mjs';
import * as shapes from '../support/shapes.mjs';

const server = await Server.start();
after(() => server.close());
afterEach(closeAll);

const AT_DOOR = { latitude: 45.2302, longitude: 13.6001 };

/** The parties of one order, each on a socket, and three strangers. */
async function everybody(combo, who, stranger) {
  const on = (user) => connect(server, { ...combo, user });
  const sockets = {
    customer: await on(as(who.customer, 'customer')),
    phone: await on(as(who.customer, 'customer')), // the customer's second device, without a subscription
    chef: await on(as(who.chef, 'chef')),
    driver: await on(as(who.driver, 'driver')),
    admin: await on(ADMIN),
    strangeCustomer: await on(as(stranger.customer, 'customer')),
    strangeChef: await on(as(stranger.chef, 'chef')),
    strangeDriver: await on(as(stranger.driver, 'driver')),
  };
  return sockets;
}

/** Events come in the order of the log: after an event of a later order, nothing earlier is still on its way. */
async function settle(sockets, ...groups) {
  for (const who of groups) {
    const order = await server.create(who);
    await server.status(order.id, 'accepted');
    const { seq } = await server.assign(order.id, who.driver);
    const ids = [who.customer.id, who.chef.id, who.driver.id];
    const theirs = Object.values(sockets).filter((socket) => ids.includes(socket.of('connected')[0].userId));
    await Promise.all([...theirs, sockets.admin].map((socket) => socket.until(
      () => socket.of('order:status_update').some((update) => update.orderId === order.id && update.seq === seq),
      'the last event of a later order',
    )));
  }
}

for (const combo of combos) {
  test(`${label(combo)}: each event of an order's life reaches its audience`, async () => {
    const [who, stranger] = [people(), people()];
    const sockets = await everybody(combo, who, stranger);
    const order = await server.create(who, { items: [{ name: 'Fuži', quantity: 2, unitPrice: 11.5 }], total: 23, currency: 'EUR' });
    const { id: orderId, orderNumber } = order;
    assert.match(orderNumber, /^RND-\d{8}-\d{4,}$/);
    shapes.check(order, shapes.ORDER, 'the order');

    const subscribed = await sockets.customer.ask('subscribe:order', { orderId });
    assert.deepEqual([subscribed.orderId, subscribed.seq, subscribed.status], [orderId, order.seq, 'pending']);
    shapes.check(subscribed.tracking, shapes.TRACKING, 'tracking in the ack');
    await sockets.customer.next('order:status_update', (update) => update.snapshot);

    await server.pay(orderId);
    for (const status of ['accepted', 'preparing', 'ready_for_pickup']) {
      const answer = await sockets.chef.ask('order:status_update', { orderId, status });
      assert.deepEqual([answer.orderId, answer.status], [orderId, status]);
    }
    await server.assign(orderId, who.driver);
    await sockets.driver.next('driver:new_assignment');
    await sockets.driver.ask('order:status_update', { orderId, status: 'picked_up' });
    await sockets.driver.ask('driver:location', { ...AT_DOOR, orderId, heading: 90, speed: 8.5, accuracy: 4 });
    await sockets.customer.next('driver:location_update');
    for (const status of ['in_transit', 'delivered']) {
      await sockets.driver.ask('order:status_update', { orderId, status });
    }
    await settle(sockets, who, stranger);

    const mine = (socket, name) => sockets[socket].of(name).filter((p) => (p.orderId ?? p.id) === orderId);
    const reached = (name) => Object.fromEntries(Object.keys(sockets)
      .map((socket) => [socket, mine(socket, name).length]).filter(([, n]) => n > 0));
    // Eight changes come after the creation. The subscriber has the snapshot too, the driver hears only those since the assignment.
    assert.deepEqual(reached('order:status_update'), { customer: 9, phone: 8, chef: 8, driver: 4, admin: 8 });
    assert.deepEqual(reached('order:new'), { chef: 1, admin: 1 });
    assert.deepEqual(reached('order:available'), { driver: 1, strangeDriver: 1 });
    assert.deepEqual(reached('order:withdrawn'), { driver: 1, strangeDriver: 1 });
    shapes.check(mine('strangeDriver', 'order:withdrawn')[0], shapes.WITHDRAWN, 'order:withdrawn');
    assert.deepEqual(reached('driver:new_assignment'), { driver: 1 });
    assert.deepEqual(reached('driver:location_update'), { customer: 1 });
    assert.equal(sockets.driver.of('driver:location_acknowledged').length, 1);
    for (const name of ['driver:unassigned', 'error', 'resync']) assert.deepEqual(reached(name), {}, name);

    const seen = mine('phone', 'order:status_update');
    for (const update of seen) shapes.check(update, shapes.STATUS_UPDATE, 'order:status_update');
    shapes.gapless(seen, order.seq + 1, 'the phone');
    assert.deepEqual(seen.map((update) => update.status), ['payment_confirmed', 'accepted', 'preparing', 'ready_for_pickup',
      'assigned_to_driver', 'picked_up', 'in_transit', 'delivered']);
    seen.reduce((before, update) => {
      assert.equal(update.previousStatus, before.status);
      assert.ok(update.position > before.position, 'positions rise');
      assert.equal(update.paymentStatus, 'completed');
      return update;
    }, { status: 'pending', position: 0 });
    for (const socket of ['chef', 'admin']) {
      assert.deepEqual(mine(socket, 'order:status_update').map(({ seq, position }) => [seq, position]),
        seen.map(({ seq, position }) => [seq, position]), `${socket} and the phone see the same`);
    }
    shapes.gapless(mine('customer', 'order:status_update'), order.seq, 'the subscriber');
    shapes.gapless(mine('driver', 'order:status_update'), order.seq + 5, 'the driver');
    assert.equal(seen[4].driver.id, who.driver.id);

    shapes.check(mine('chef', 'order:new')[0], shapes.ORDER, 'order:new');
    shapes.check(mine('driver', 'order:available')[0], shapes.AVAILABLE, 'order:available');
    assert.deepEqual(mine('driver', 'order:available')[0].pickup,
      { address: who.chef.address, latitude: who.chef.latitude, longitude: who.chef.longitude });
    shapes.check(mine('driver', 'driver:new_assignment')[0], shapes.ORDER, 'driver:new_assignment');
    const [fix] = mine('customer', 'driver:location_update');
    shapes.check(fix, shapes.LOCATION_UPDATE, 'driver:location_update');
    assert.deepEqual([fix.driverId, fix.latitude, fix.longitude, fix.heading, fix.speed, fix.accuracy],
      [who.driver.id, AT_DOOR.latitude, AT_DOOR.longitude, 90, 8.5, 4]);
    const [noted] = sockets.driver.of('driver:location_acknowledged');
    shapes.check(noted, shapes.ACKNOWLEDGED, 'driver:location_acknowledged');
    assert.deepEqual(noted.orderIds, [orderId]);

    const tracking = await server.tracking(orderId, as(who.customer, 'customer'));
    assert.deepEqual(tracking.statusHistory.map((row) => row.status), ['pending', ...seen.map((update) => update.status)]);
    assert.ok(tracking.statusHistory.every((row) => /Z$/.test(row.timestamp)));
  });
}

test('A customer sees neither phone nor position of a driver before the status is assigned_to_driver', async () => {
  const who = people();
  const customer = await connect(server, { user: as(who.customer, 'customer') });
  const driver = await connect(server, { client: '3', user: as(who.driver, 'driver') });
  const { id: orderId } = await server.create(who);
  await customer.ask('subscribe:order', { orderId });
  await server.status(orderId, 'accepted');
  const early = await server.assign(orderId, who.driver);
  assert.equal(early.status, 'accepted', 'an early assignment leaves the status as it is');
  await driver.next('driver:new_assignment');
  await driver.ask('driver:location', { ...AT_DOOR, orderId });
  await customer.next('order:status_update', (update) => update.seq === early.seq);
  const hidden = [...customer.events, await customer.ask('order:tracking', { orderId }),
    await server.tracking(orderId, as(who.customer, 'customer')), await server.order(orderId, as(who.customer, 'customer'))];
  for (const secret of [who.driver.phone, `${AT_DOOR.latitude}`]) {
    assert.ok(!JSON.stringify(hidden).includes(secret), `${secret} reached the customer`);
  }

  const ready = await server.status(orderId, 'ready_for_pickup');
  assert.equal(ready.status, 'assigned_to_driver', 'a ready order that has a driver goes on by itself');
  await driver.ask('driver:location', { ...AT_DOOR, orderId });
  await customer.next('driver:location_update');
  const shown = await server.tracking(orderId, as(who.customer, 'customer'));
  assert.deepEqual([shown.driverPhone, shown.driverLatitude], [who.driver.phone, AT_DOOR.latitude]);
});

test('A driver who loses an order is told so and sees no more of it', async () => {
  const [who, next] = [people(), people()];
  const [former, later] = await Promise.all([who, next].map(({ driver }) => connect(server, { user: as(driver, 'driver') })));
  const { id: orderId } = await server.assigned(who);
  await former.ask('subscribe:order', { orderId });

  const back = await server.unassign(orderId);
  assert.deepEqual([back.status, back.driver], ['ready_for_pickup', null]);
  const told = await former.next('driver:unassigned');
  shapes.check(told, shapes.UNASSIGNED, 'driver:unassigned');
  assert.equal(told.orderId, orderId);
  await later.next('order:available', (available) => available.orderId === orderId);

  await server.assign(orderId, who.driver);
  await former.next('driver:new_assignment');
  const { seq } = await server.assign(orderId, next.driver);
  await former.next('driver:unassigned');
  await later.next('driver:new_assignment');
  await server.status(orderId, 'picked_up');
  await later.next('order:status_update', (update) => update.status === 'picked_up');
  const refused = await former.request('order:tracking', { orderId });
  assert.equal(refused.error.code, 'not_found');
  assert.ok(former.of('order:status_update').every((update) => update.seq <= seq), 'the former driver saw a later change');
});

test('An ETA set by hand reaches the subscriber and the customer', async () => {
  const who = people();
  const customer = await connect(server, { user: as(who.customer, 'customer') });
  const watcher = await connect(server, { client: '2', user: SERVICE });
  const { id: orderId } = await server.create(who);
  await watcher.ask('subscribe:order', { orderId });
  await server.ok('POST', `/orders/${orderId}/eta`, { etaMinutes: 25 });
  for (const socket of [customer, watcher]) {
    const eta = await socket.next('order:eta_update');
    shapes.check(eta, shapes.ETA_UPDATE, 'order:eta_update');
    assert.deepEqual([eta.orderId, eta.etaMinutes], [orderId, 25]);
    assert.ok(Math.abs(Date.parse(eta.estimatedDeliveryTime) - Date.now() - 25 * 60_000) < 60_000);
  }
});

test('A customer cancels, a second request changes nothing, and an announcement finds its readers', async () => {
  const who = people();
  const chef = await connect(server, { client: '3', transport: 'polling', user: as(who.chef, 'chef') });
  const other = await connect(server, { user: as(people().chef, 'chef') });
  const { id: orderId } = await server.create(who, {}, as(who.customer, 'customer'));
  await chef.next('order:new');
  const cancel = () => server.ok('POST', `/orders/${orderId}/cancel`, { reason: 'changed my mind' }, as(who.customer, 'customer'));
  const { status, seq } = await cancel();
  assert.equal(status, 'cancelled');
  assert.equal((await cancel()).seq, seq, 'cancelling twice is one change');
  assert.equal((await chef.next('order:status_update')).status, 'cancelled');

  await server.announce({ userId: who.chef.id, event: 'kitchen:hint', data: { text: 'only you' } });
  await server.announce({ role: 'chef', event: 'kitchen:news', data: { text: 'all of you' } });
  for (const socket of [chef, other]) assert.deepEqual(await socket.next('kitchen:news'), { text: 'all of you' });
  assert.deepEqual([chef, other].map((socket) => socket.of('kitchen:hint').length), [1, 0]);
  const reserved = await server.call('POST', '/announcements', { role: 'chef', event: 'order:new', data: {} });
  assert.equal(reserved.status, 422);
});
