// Connection state recovery as the stock client has it since socket.io-client 4.6.0 (February 2023; 4.8 here). Whatever broke the
// connection, the client comes back with the same pid (`recovered`), the same order subscriptions, and every durable event it missed,
// in order, once.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { closeAll } from '../support/client.mjs';
import { away, join, start, TRANSPORTS } from '../support/recovery.mjs';
import { ADMIN, as, eventually, people, postgresDatabase, SERVICE } from '../support/server.mjs';
import { DURABLE, rising, Story } from '../support/story.mjs';

const NO_POSTGRES = !process.env.ORDERCAST_TEST_POSTGRES && 'ORDERCAST_TEST_POSTGRES is not set (tests/run sets it)';

afterEach(closeAll);

/** An order, its parties and others who hear of it, each on a socket through the proxy. Two of them follow the order. */
async function cast(server, proxy, transport) {
  const who = people();
  const rival = people().driver;
  const on = (user) => join(proxy, transport, user);
  const driver = await on(as(who.driver, 'driver'));
  const sockets = [
    { name: 'the driver', client: driver, rooms: [who.driver.id, 'drivers'] },
    { name: 'the rival', client: await on(as(rival, 'driver')), rooms: [rival.id, 'drivers'] },
    { name: 'the chef', client: await on(as(who.chef, 'chef')), rooms: [who.chef.id] },
    { name: 'the admin', client: await on(ADMIN), rooms: ['admin'] },
    { name: 'the customer', client: await on(as(who.customer, 'customer')), rooms: [who.customer.id], follows: true },
    // a service hears only the orders it follows
    { name: 'the watcher', client: await on(SERVICE), rooms: ['order'], follows: true },
  ];
  for (const socket of sockets) socket.what = `${transport}, ${socket.name}`;
  const story = await Story.begin(server, who);
  for (const { client, follows } of sockets) if (follows) await client.ask('subscribe:order', { orderId: story.id });
  return { story, sockets, driver, who, rival };
}

const WAYS = {
  'a cut of the network': ({ proxy }) => proxy.cut(),
  'a line that dies in silence': ({ proxy }) => proxy.sever(),
  'a close by the client\'s engine': ({ sockets }) => { for (const { client } of sockets) client.socket.io.engine.close(); },
  'a kill -9 of the server': async ({ server }) => { await server.kill9(); await server.run(); },
};

for (const [way, lose] of Object.entries(WAYS)) {
  for (const database of way.includes('kill') ? ['SQLite', 'PostgreSQL'] : ['SQLite']) {
    test(`After ${way}, twice, every client has recovered and missed nothing, ${database}`, {
      timeout: 120_000, skip: database === 'PostgreSQL' && NO_POSTGRES,
    }, async (t) => {
      const { server, proxy } = await start(t, { database: database === 'PostgreSQL' ? postgresDatabase() : undefined });
      const casts = await Promise.all(TRANSPORTS.map((transport) => cast(server, proxy, transport)));
      const sockets = casts.flatMap((one) => one.sockets);
      const all = (change) => Promise.all(casts.map(change));
      const everybodyKnows = () => all(({ story, sockets: these }) => Promise.all(
        these.map(({ client, rooms, what }) => story.check(client, rooms, what))));
      const lost = () => lose({ server, proxy, sockets });

      await all(async ({ story, who }) => {
        await story.pay();
        await story.status('ready_for_pickup');
        await story.assign(who.driver);
      });
      await everybodyKnows();

      // events of every kind while no client listens
      await away(proxy, sockets, lost, () => all(async ({ story, who, rival }) => {
        await story.assign(rival);
        await story.unassign();
        await story.assign(who.driver);
        await story.status('picked_up');
      }));
      await everybodyKnows();

      // subscriptions are restored without a request
      await all(async ({ story, driver, sockets: these }) => {
        await driver.ask('driver:location', { latitude: 45.25, longitude: 13.61, orderId: story.id });
        for (const { client, follows, what } of these) {
          if (follows) assert.equal((await client.next('driver:location_update')).orderId, story.id, what);
        }
      });

      await away(proxy, sockets, lost, () => all(({ story }) => story.status('in_transit')));
      await all(({ story }) => story.status('delivered'));
      await everybodyKnows();
      for (const { client, what } of sockets) rising(client, what);
      for (const { story, sockets: these } of casts) {
        for (const { client, follows, what } of these) {
          assert.equal(client.of('driver:location_update').length, follows ? 1 : 0, `${what}: what is live is not repeated`);
          const snapshots = client.of('order:status_update').filter((update) => update.snapshot && update.orderId === story.id);
          assert.equal(snapshots.length, follows ? 1 : 0, `${what}: a recovered subscription brings no snapshot`);
        }
      }
      // each client replaced its lost connection, so none counts twice
      for (const { client, what } of sockets.filter(({ name }) => name === 'the chef')) {
        const { userId } = client.of('connected')[0];
        await eventually(async () => (await server.ok('GET', `/users/${userId}/presence`)).connections === 1, `${what}: one connection`);
      }
      assert.ok(await server.metric('recoveries_total', 'outcome="recovered"') >= sockets.length);
    });
  }
}

test('Missed events come exactly as they would have come live', async (t) => {
  const { server, proxy } = await start(t);
  const who = people();
  const story = await Story.begin(server, who);
  const parties = [
    [as(who.chef, 'chef'), who.chef.id], [as(who.customer, 'customer'), who.customer.id],
    [as(who.driver, 'driver'), who.driver.id, 'drivers'], [ADMIN, 'admin'],
  ];
  const pairs = await Promise.all(parties.flatMap(([user, ...rooms]) => TRANSPORTS.map(async (transport) => ({
    what: `${transport}, ${user.role}`, rooms, isCustomer: user.role === 'customer',
    witness: await join(server, transport, user), client: await join(proxy, transport, user),
  }))));
  let more;
  await away(proxy, pairs, () => proxy.cut(), async () => {
    await story.status('ready_for_pickup');
    await story.assign(who.driver);
    await story.unassign();
    await server.announce({ role: 'driver', event: 'shift', data: { from: 8 } }); // not in the log, so only connected clients get it
    more = await Story.begin(server, who, { items: [{ name: 'Fuži', quantity: 2 }], notes: 'Ring twice – “Ćevapi” 🛵' });
    await more.status('accepted');
    await more.status('cancelled');
  });
  const durable = ({ events }) => events.filter(({ name }) => DURABLE.has(name));
  // the ETA depends on when it is told
  const told = (client) => durable(client).map(({ name, payload: { etaMinutes, estimatedDeliveryTime, ...facts }, rest }) => ({ name, facts, rest }));
  // the driver has lost the order since, so what the customer missed does not show the phone number
  const asOfNow = (events) => events.map(({ facts: { driver, ...facts }, ...event }) => {
    const { phone, ...shown } = driver ?? {};
    return { ...event, facts: driver ? { ...facts, driver: shown } : facts };
  });
  for (const { client, witness, rooms, what, isCustomer } of pairs) {
    // the witness came after the first order was created
    const wanted = [...story.told(...rooms), ...more.told(...rooms)].slice(story.told(...rooms)[0][0] === 'order:new' ? 1 : 0).length;
    for (const one of [client, witness]) await one.until(() => durable(one).length >= wanted, `${what}: ${wanted} events`);
    assert.equal(durable(witness).length, wanted, what);
    assert.deepEqual(told(client), isCustomer ? asOfNow(told(witness)) : told(witness), what);
    assert.deepEqual([witness.of('shift').length, client.of('shift').length], [rooms.includes('drivers') ? 1 : 0, 0], what);
    // `connected` comes first after the return, then the events
    const names = client.events.map(({ name }) => name);
    const back = names.lastIndexOf('(connect)');
    assert.equal(names[back + 1], 'connected', what);
    assert.ok(names.slice(0, back).every((name) => !DURABLE.has(name)), `${what}: everything came after the return`);
    assert.ok(client.of('connected')[1].position < client.of('order:status_update')[0].position, `${what}: the position it begins at`);
  }
});

test('A socket that has heard nothing yet recovers', async (t) => {
  const { server, proxy } = await start(t);
  await Story.begin(server, people()); // so the log does not start with the missed events
  const casts = await Promise.all(TRANSPORTS.map(async (transport) => {
    const who = people();
    const followed = await Story.begin(server, people());
    const watcher = await join(proxy, transport, SERVICE);
    await watcher.ask('subscribe:order', { orderId: followed.id, since: followed.seq }); // nothing is after that seq, so no event comes
    return { transport, who, followed, sockets: [
      { client: watcher, rooms: [], what: `${transport}, the watcher` },
      { client: await join(proxy, transport, as(who.chef, 'chef')), rooms: [who.chef.id], what: `${transport}, the chef` },
      { client: await join(proxy, transport, as(who.customer, 'customer')), rooms: [who.customer.id], what: `${transport}, the customer` },
      { client: await join(proxy, transport, as(who.driver, 'driver')), rooms: [who.driver.id, 'drivers'], what: `${transport}, the driver` },
    ] };
  }));
  const sockets = casts.flatMap((one) => one.sockets);
  // first a return without any event, then a return with missed events
  for (const round of [1, 2]) {
    await away(proxy, sockets, () => proxy.cut(), async () => {
      for (const { client, what } of sockets) assert.equal(client.socket._lastOffset, undefined, `${what}: no offset`);
      if (round === 1) return;
      await Promise.all(casts.map(async (one) => {
        one.story = await Story.begin(server, one.who);
        await one.story.status('ready_for_pickup');
        await one.story.assign(one.who.driver);
        await one.followed.status('accepted');
      }));
    });
  }
  for (const { story, followed, transport, sockets: these } of casts) {
    for (const { client, rooms, what } of these) await story.check(client, rooms, what);
    await followed.check(these[0].client, ['order'], `${transport}, the watcher`);
    for (const { client, what } of these) rising(client, what);
  }
});

test('A client\'s subscriptions are restored as they were last acknowledged, even right before a kill -9', async (t) => {
  const { server, proxy } = await start(t);
  const clients = await Promise.all(TRANSPORTS.map(async (transport) => {
    const [kept, left, late] = await Promise.all([1, 2, 3].map(() => Story.begin(server, people())));
    const client = await join(proxy, transport, SERVICE);
    for (const { id: orderId } of [kept, left]) await client.ask('subscribe:order', { orderId });
    return { client, kept, left, late, what: transport };
  }));
  const change = (status) => Promise.all(clients.flatMap(({ kept, left, late }) => [left, late, kept].map((story) => story.status(status))));
  await Promise.all(clients.map(async ({ client, left, late }) => {
    await client.ask('unsubscribe:order', { orderId: left.id });
    await client.ask('subscribe:order', { orderId: late.id });
  }));
  const die = async () => { await server.kill9(); await server.run(); };
  await away(proxy, clients, die, () => change('accepted'));
  await change('preparing');
  for (const { client, kept, left, late, what } of clients) {
    await kept.check(client, ['order'], what);
    await late.check(client, ['order'], what);
    assert.deepEqual(left.heard(client), [], `${what}: an order it follows no more`);
  }
});

test('An announcement whose payload is a string is not taken for an offset', async (t) => {
  const { server, proxy } = await start(t);
  const who = people();
  const story = await Story.begin(server, who);
  const clients = await Promise.all(TRANSPORTS.map(async (transport) => (
    { client: await join(proxy, transport, as(who.customer, 'customer')), what: transport })));
  await story.status('accepted');
  for (const { client, what } of clients) await story.check(client, [who.customer.id], what);
  for (const data of ['Closed today', '1', { text: 'no string' }]) {
    await server.announce({ userId: who.customer.id, event: 'news', data });
    for (const { client, what } of clients) assert.deepEqual(await client.next('news'), data, what);
  }
  await away(proxy, clients, () => proxy.cut(), () => story.status('preparing'));
  await story.status('ready_for_pickup');
  for (const { client, what } of clients) await story.check(client, [who.customer.id], what);
});
