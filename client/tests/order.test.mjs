// An order as the package shows it, against the real server.
import assert from 'node:assert/strict';
import { before, after, test } from 'node:test';
import { Server, STATUSES, as, atSeq, connected, fix, follow, join, live, people, proxyTo, sent, sleep, start, until } from './support.mjs';

let server;
before(async () => { server = await Server.start(); });
after(() => server.close());

/** The statuses up to the one named, one at a time. */
async function walk(order, from, to) {
  for (const status of STATUSES.slice(STATUSES.indexOf(from) + 1, STATUSES.indexOf(to) + 1)) {
    if (status !== 'payment_confirmed' && status !== 'assigned_to_driver') await server.status(order.id, status);
    else if (status === 'payment_confirmed') await server.pay(order.id);
    else await server.assign(order.id, order.driver);
  }
}

test('the life of an order: each event once and in order, position, ETA, and what the server says at the end', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  const client = join(t, server, as(who.customer, 'customer'));
  const { order, updates, states } = follow(t, client, id);
  assert.equal(order.get().phase, 'loading');
  await live(order);
  assert.equal(client.order(id), order, 'the same id is the same store');
  assert.deepEqual([order.get().seq, order.get().tracking.status, order.get().tracking.statusHistory.length], [1, 'pending', 1]);
  await until(order, ({ update }) => update?.snapshot, 'what the server says of it');
  assert.equal(updates.length, 0, 'a snapshot is no event');

  await walk({ id, driver: who.driver }, 'pending', 'picked_up');
  const driver = join(t, server, as(who.driver, 'driver'));
  await connected(driver);
  assert.deepEqual((await driver.driver().report(fix({ accuracy: null, recordedAt: null }))).state, 'taken');
  const { location, tracking } = await until(order, (state) => state.location && state.tracking.etaLow, 'a position and an ETA');
  assert.deepEqual([location.latitude, location.driverId, typeof tracking.etaMinutes], [45.25, who.driver.id, 'number']);
  assert.equal((await driver.request('order:status_update', { orderId: id, status: 'in_transit' })).seq, 8);
  await walk({ id }, 'in_transit', 'delivered');
  await atSeq(order, 9);

  assert.deepEqual(updates.map(({ seq }) => seq), [2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(updates.map(({ status }) => status), STATUSES.slice(1));
  const told = await server.tracking(id, as(who.customer, 'customer'));
  const mine = JSON.parse(JSON.stringify(order.get().tracking)); // undefined is absent
  assert.deepEqual(mine, told, 'events lead to the same state as a fresh look');
  assert.equal(order.get().location, null, 'a delivered order has no driver on the map');
  assert.equal(order.get().update.message, 'Your order has been delivered');
  assert.ok(states.every((state, i) => i === 0 || state !== states[i - 1]), 'a new state is a new object');
});

test('a driver who is taken off or replaced leaves the map', async (t) => {
  const who = people();
  const { id } = await server.assigned(who);
  const customer = join(t, server, as(who.customer, 'customer'));
  const driver = join(t, server, as(who.driver, 'driver'));
  const { order } = follow(t, customer, id);
  const own = follow(t, driver, id).order;
  await Promise.all([live(order), live(own), connected(driver)]);
  await driver.driver().report(fix({ accuracy: null, recordedAt: null }));
  await until(order, ({ location }) => location);
  const { driverName } = order.get().tracking;
  await server.unassign(id);
  await until(order, ({ tracking, location }) => tracking.status === 'ready_for_pickup' && !tracking.driverAssigned && location === null);
  assert.deepEqual([driverName, order.get().tracking.driverName], ['Dino Driver', undefined]);
  const lost = await until(own, ({ phase }) => phase === 'error');
  assert.deepEqual([lost.error.code, lost.tracking], ['unassigned', null]);
  await server.assign(id, who.driver);
  await live(own);
  assert.equal(own.get().tracking.status, 'assigned_to_driver', 'given again, it is followed again');
});

test('what an event does not bring is fetched: a changed order, a corrected status', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  const { order } = follow(t, join(t, server, as(who.customer, 'customer')), id);
  await live(order);
  await server.ok('PATCH', `/orders/${id}`, { delivery: { address: 'Elsewhere 9', latitude: 45.2, longitude: 13.6 } });
  await until(order, ({ tracking }) => tracking.deliveryAddress === 'Elsewhere 9');
  await server.status(id, 'accepted');
  await server.ok('POST', `/orders/${id}/correct`, { status: 'pending', note: 'too early' }, { sub: 'root', role: 'admin' });
  await until(order, ({ tracking }) => tracking.status === 'pending' && tracking.acceptedAt === undefined && tracking.statusHistory.at(-1).corrected);
});

test('the last one who unsubscribes leaves; who comes back in the same moment never left', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  const client = join(t, server, { sub: 'root', role: 'admin' });
  await connected(client);
  const requests = sent(client);
  const order = client.order(id);
  const ends = [order.subscribe(() => {}), order.subscribe(() => {}), order.onUpdate(() => {})];
  await live(order);
  ends[0]();
  ends[0]();
  ends[1]();
  await server.status(id, 'accepted');
  await atSeq(order, 2);
  assert.deepEqual(requests.map(([name]) => name), ['subscribe:order'], 'one request for all, and nobody has left');
  ends[2]();
  ends.push(order.subscribe(() => {}));
  await server.status(id, 'preparing');
  await atSeq(order, 3);
  assert.equal(requests.length, 1);
  ends[3]();
  await until(order, ({ phase }) => phase === 'live'); // subscribes, and ends again
  await sleep(0);
  assert.deepEqual(requests.map(([name]) => name), ['subscribe:order', 'unsubscribe:order']);
  assert.equal(order.get().phase, 'idle');
  await server.status(id, 'ready_for_pickup');
  await atSeq(order, 4);
  assert.deepEqual(requests.at(-1)?.[0] === 'unsubscribe:order' ? requests.at(-2)[1] : requests.at(-1)[1], { orderId: id, since: 3 }, 'it goes on where it was');
});

test('an order of somebody else is a clear error, and so is a wrong request', async (t) => {
  const [who, other] = [people(), people()];
  const { id } = await server.create(other);
  const client = join(t, server, as(who.customer, 'customer'));
  const { order } = follow(t, client, id);
  const { error, tracking } = await until(order, ({ phase }) => phase === 'error');
  assert.deepEqual([error.code, tracking], ['not_found', null]);
  assert.match(error.message, new RegExp(`no order ${id}, or the user of this token may not see it`));
  await assert.rejects(client.request('subscribe:order', { orderId: '' }), { name: 'OrdercastError', code: 'invalid_payload', member: 'orderId' });
  const own = await server.create(who);
  const illegal = await client.request('order:status_update', { orderId: own.id, status: 'delivered' }).catch((problem) => problem);
  assert.deepEqual([illegal.code, illegal.details.status], ['illegal_transition', 'pending']);
});

test('two clients of one server are two users with two connections', async (t) => {
  const [one, two] = [people(), people()];
  const orders = await Promise.all([server.create(one), server.create(two)]);
  const clients = [join(t, server, as(one.customer, 'customer')), join(t, server, as(two.customer, 'customer'))];
  const followed = clients.map((client, i) => follow(t, client, orders[i].id));
  await Promise.all(followed.map(({ order }) => live(order)));
  assert.deepEqual(clients.map((client) => client.connection.get().userId), [one.customer.id, two.customer.id]);
  await clients[0].close();
  assert.equal(followed[0].order.get().phase, 'error');
  await server.status(orders[1].id, 'accepted');
  await atSeq(followed[1].order, 2);
  assert.equal(followed[1].updates.length, 1);
});

test('a UUID in capitals is the same order', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  const { order } = follow(t, join(t, server, as(who.customer, 'customer')), id.toUpperCase());
  await live(order);
  await server.status(id, 'accepted');
  await atSeq(order, 2);
});

test('a listener that throws costs nobody else an event', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  const client = join(t, server, as(who.customer, 'customer'));
  const thrown = [];
  const catcher = (error) => thrown.push(error.message);
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException').on('uncaughtException', catcher);
  t.after(() => {
    process.off('uncaughtException', catcher);
    for (const other of others) process.on('uncaughtException', other);
  });
  const order = client.order(id);
  t.after(order.onUpdate(() => { throw new Error('a fault of the app'); }));
  const { updates } = follow(t, client, id);
  await live(order);
  await server.status(id, 'accepted');
  await atSeq(order, 2);
  await sleep(0);
  assert.deepEqual([updates.length, thrown], [1, ['a fault of the app']]);
});

test('typed events reach listeners until they end, announcements too', async (t) => {
  const who = people();
  const client = join(t, server, as(who.chef, 'chef'));
  await connected(client);
  const heard = [];
  const end = client.on('order:new', (...args) => heard.push(args));
  const told = new Promise((resolve) => { client.onAnnouncement('kitchen:closing', resolve); });
  const { id } = await server.create(who);
  await server.announce({ userId: who.chef.id, event: 'kitchen:closing', data: { at: '22:00' } });
  assert.deepEqual(await told, { at: '22:00' });
  assert.deepEqual([heard.length, heard[0].length, heard[0][0].id], [1, 1, id], 'without the offset of the wire');
  end();
  await server.create(who);
  await client.request('ping:latency', {});
  assert.equal(heard.length, 1);
});

test('a client that is cut off again and again hears every event once and in order, recovered or not', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  const proxy = await proxyTo(t, server);
  const client = join(t, proxy, { sub: 'root', role: 'admin' });
  const { order, updates } = follow(t, client, id);
  await live(order);
  const recoveries = [];
  const back = async (meanwhile) => {
    proxy.block();
    proxy.cut();
    await until(order, ({ phase }) => phase === 'reconnecting');
    await meanwhile();
    proxy.unblock();
    await live(order);
    recoveries.push(client.socket.recovered);
  };
  await back(() => walk({ id, driver: who.driver }, 'pending', 'accepted'));
  await atSeq(order, 3);
  await back(async () => {
    client.socket._pid = undefined; // as if the server did not know the session any more
    await walk({ id }, 'accepted', 'ready_for_pickup');
  });
  await atSeq(order, 5);
  await back(() => server.assign(id, who.driver));
  await atSeq(order, 6);
  assert.deepEqual(recoveries, [true, false, true]);
  assert.deepEqual(updates.map(({ seq }) => seq), [2, 3, 4, 5, 6]);
  assert.deepEqual(order.get().tracking.statusHistory.map(({ status }) => status), STATUSES.slice(0, 6));
});

test('cuts at any moment, also between two events of a replay: forty changes, once and in order', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  await server.status(id, 'ready_for_pickup');
  const proxy = await proxyTo(t, server);
  const client = join(t, proxy, { sub: 'root', role: 'admin' }, {});
  const { order, updates, states } = follow(t, client, id);
  await live(order);
  const ways = [() => proxy.cut(), () => proxy.sever(), () => { client.socket._pid = undefined; proxy.cut(); }];
  let cuts = 0;
  for (let i = 0; i < 20; i += 1) {
    await server.assign(id, who.driver);
    if (i % 3 === 0) ways[cuts++ % ways.length]();
    if (i % 5 === 4) proxy.cutAfter('order:status_update');
    await server.unassign(id);
  }
  const { tracking } = await atSeq(order, 42);
  assert.deepEqual(updates.map(({ seq }) => seq), Array.from({ length: 40 }, (_, i) => i + 3));
  assert.deepEqual([tracking.status, tracking.driverAssigned, order.get().skipped], ['ready_for_pickup', false, 0]);
  assert.ok(states.some(({ phase }) => phase === 'reconnecting'));
});

test('an order that was left while the connection was lost is not followed after it', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  const proxy = await proxyTo(t, server);
  const client = join(t, proxy, as(who.driver, 'driver'), {});
  const admin = join(t, proxy, { sub: 'root', role: 'admin' });
  const { order, end } = follow(t, admin, id);
  await Promise.all([live(order), connected(client)]);
  const requests = sent(admin);
  proxy.block();
  proxy.cut();
  await until(admin.connection, ({ phase }) => phase === 'reconnecting');
  end();
  await sleep(0);
  proxy.unblock();
  await connected(admin);
  await admin.request('ping:latency', {});
  assert.deepEqual(requests.slice(0, 1), [['unsubscribe:order', { orderId: id }]]);
  assert.equal(admin.socket.recovered, true);
});

test('events that get lost are noticed by their numbers and asked for; if they are gone, the order is taken as it is', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  const client = join(t, server, as(who.customer, 'customer'));
  const { order, updates } = follow(t, client, id);
  await live(order);
  const { onevent } = client.socket;
  let loses = (update) => update.seq === 3 && !update.replayed;
  client.socket.onevent = (packet) => {
    if (packet.data[0] === 'order:status_update' && loses(packet.data[1])) return;
    onevent.call(client.socket, packet);
  };
  await walk({ id, driver: who.driver }, 'pending', 'preparing');
  await atSeq(order, 4);
  assert.deepEqual(updates.map(({ seq, replayed }) => [seq, replayed ?? false]), [[2, false], [3, true], [4, true]]);
  loses = (update) => update.seq === 5;
  await server.status(id, 'ready_for_pickup');
  await server.assign(id, who.driver);
  const { tracking, skipped } = await until(order, ({ seq }) => seq === 6);
  assert.deepEqual([tracking.status, tracking.statusHistory.length, skipped], ['assigned_to_driver', 6, 2]);
  loses = () => false;
  await server.status(id, 'picked_up');
  await atSeq(order, 7);
  assert.deepEqual(updates.map(({ seq }) => seq), [2, 3, 4, 7]);
});

test('a kill -9 and a new start of the server: nothing is missed; a server with another database begins anew', async (t) => {
  const own = await start(t);
  const who = people();
  const { id } = await own.create(who, { id: `kept-${who.customer.id}` });
  const client = join(t, own, as(who.customer, 'customer'));
  const { order, updates } = follow(t, client, id);
  await live(order);
  await own.status(id, 'accepted');
  await atSeq(order, 2);
  await own.kill9();
  await until(order, ({ phase }) => phase === 'reconnecting');
  await own.run();
  await own.status(id, 'preparing');
  await atSeq(order, 3);
  await live(order);
  assert.equal(client.socket.recovered, true);
  assert.deepEqual(updates.map(({ seq }) => seq), [2, 3]);

  await own.kill9();
  own.database = `sqlite://${own.dir}/other.db?mode=rwc`;
  await own.run();
  await until(order, ({ phase }) => phase === 'error');
  assert.equal(order.get().error.code, 'not_found', 'it does not know the order');
  await own.create(who, { id });
  client.socket.io.engine.close();
  const { seq, tracking } = await until(order, (state) => state.phase === 'live' && state.seq === 1);
  assert.deepEqual([seq, tracking.status], [1, 'pending'], 'numbers that go back are a new beginning');
});

test('a delivery that is played again moves no dot of now', async (t) => {
  const who = people();
  const { id } = await server.assigned(who);
  const driver = join(t, server, as(who.driver, 'driver'));
  const staff = join(t, server, as({ id: 'root' }, 'admin'));
  const { order, states } = follow(t, staff, id);
  await Promise.all([live(order), connected(driver)]);
  for (const latitude of [45.25, 45.251]) await driver.driver().report(fix({ latitude, accuracy: null, recordedAt: null }));
  await until(order, ({ location }) => location?.latitude === 45.251);
  const heard = [];
  staff.on('driver:location_update', (location) => heard.push(location));
  let begun;
  // The trail is written in the background.
  do {
    const ended = new Promise((resolve) => { const end = staff.on('replay:end', () => { end(); resolve(); }); });
    begun = await staff.request('replay:order', { orderId: id, speed: 600 });
    await ended;
  } while (begun.fixes === 0 && await sleep(100).then(() => true));
  const played = heard.filter(({ replayed }) => replayed);
  assert.equal(played[0]?.latitude, 45.25, 'where the driver was at first');
  assert.equal(order.get().location.latitude, 45.251);
  assert.ok(states.at(-1).location.replayed === undefined && order.get().phase === 'live', 'nothing of it is in the store');
});
