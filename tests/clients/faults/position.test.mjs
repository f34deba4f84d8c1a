// `auth.position`, for clients without connection state recovery, such as socket.io-client 2 and 3. Events of the user's orders after
// that position are replayed, and live events follow.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, combos, connect, label, open } from '../support/client.mjs';
import { away, start } from '../support/recovery.mjs';
import { ADMIN, as, jwt, people, SERVICE, Server } from '../support/server.mjs';
import { gapless } from '../support/shapes.mjs';
import { Story } from '../support/story.mjs';

const LIMIT = 20;
const server = await Server.start({ env: { REPLAY_LIMIT: `${LIMIT}` } });
after(() => server.close());
afterEach(closeAll);

/** Connects with a position: version 2 in the query, others in the auth payload. */
function from(position, user, { client, transport }, base = server) {
  const auth = { token: jwt(user), position };
  return connect(base, { client, transport, options: client === '2' ? { query: auth } : { auth } });
}

/** The end of the log, as a socket without a position is told. */
async function present(user, base = server) {
  const client = await connect(base, { user });
  client.close();
  return client.of('connected')[0].position;
}

const updates = (client) => client.of('order:status_update');

for (const combo of combos) {
  test(`${label(combo)}: events after the position are replayed in the order of the log`, async () => {
    const who = people();
    const begin = await present(as(who.customer, 'customer'));
    // two orders of the same people, changed in turns, and an order of others
    const [one, two, other] = [await Story.begin(server, who), await Story.begin(server, who), await Story.begin(server, people())];
    await one.status('ready_for_pickup');
    await two.status('accepted');
    await other.status('accepted');
    await one.assign(who.driver);
    await two.status('ready_for_pickup');
    await two.assign(who.driver);
    await one.unassign();
    const end = await present(as(who.customer, 'customer'));

    const clients = {
      customer: [as(who.customer, 'customer'), who.customer.id],
      chef: [as(who.chef, 'chef'), who.chef.id],
      driver: [as(who.driver, 'driver'), who.driver.id, 'drivers'],
      admin: [ADMIN, 'admin'],
    };
    for (const [role, [user, ...rooms]] of Object.entries(clients)) {
      const client = await from(begin, user, combo);
      for (const story of [one, two]) await story.check(client, rooms, role);
      assert.equal(client.of('connected')[0].position, begin, `${role}: the position it begins at`);
      assert.equal(client.of('connected')[0].recovered, false, role);
      assert.equal(client.events.findIndex(({ name }) => name === 'connected') < client.events.findIndex(({ name }) => name.startsWith('order:')), true, role);
      const positions = updates(client).map((update) => update.position);
      assert.deepEqual(positions, positions.toSorted((a, b) => a - b), `${role}: the order of the log`);
      assert.ok(updates(client).every((update) => update.replayed === true && !update.snapshot), `${role}: they say that they are replayed`);
      assert.deepEqual(other.heard(client), other.told(...rooms), `${role}: somebody else's order`);
      client.close();
    }

    // from the middle and from the end; live events are not marked
    const [, , { position: middle }] = await (await from(begin, clients.customer[0], combo)).count('order:status_update', 3);
    for (const [position, wanted] of [[middle, 3], [end, 1]]) {
      const client = await from(position, clients.customer[0], combo);
      const { seq } = await server.status(two.id, position === middle ? 'picked_up' : 'in_transit');
      await client.next('order:status_update', (update) => update.orderId === two.id && update.seq === seq);
      const seen = updates(client);
      assert.ok(seen.every((update) => update.position > position), `${position}: nothing before it`);
      assert.equal(seen.length, wanted + 1, `${position}: how many`);
      assert.equal(seen.at(-1).replayed, undefined, `${position}: live`);
    }
  });
}

test('Live events follow a replay without a gap or a repeat', async (t) => {
  const { server: own } = await start(t);
  const who = people();
  const drivers = [people().driver, people().driver];
  const { id, seq } = await own.assigned(who);
  const user = as(who.customer, 'customer');
  const log = [{ seq, position: await present(user, own) }];
  let running = true;
  const writing = (async () => {
    for (let i = 0; running; i += 1) {
      await own.assign(id, drivers[i % 2]);
      log.push(...(await own.events(id, log.at(-1).seq)).events);
    }
  })();
  const clients = [];
  for (let round = 0; round < 3; round += 1) {
    for (const combo of combos) {
      // a little behind, so that events come while the replay is under way
      const { position, seq: after } = log.at(-Math.min(log.length, 6));
      clients.push({ after, what: `${label(combo)}, round ${round}`, client: await from(position, user, combo, own) });
    }
  }
  running = false;
  await writing;
  const end = log.at(-1).seq;
  for (const { client, after, what } of clients) {
    await client.until(() => updates(client).some((update) => update.seq === end), `${what}: the end`);
    gapless(updates(client), after + 1, what);
    assert.equal(updates(client).at(-1).seq, end, what);
    const marks = updates(client).map((update) => update.replayed ?? false);
    assert.deepEqual(marks, marks.toSorted((a, b) => b - a), `${what}: replayed ones first`);
  }
});

for (const combo of combos) {
  test(`${label(combo)}: a position too far back or in the future gets resync, then live events`, async () => {
    const who = people();
    const drivers = [people().driver, people().driver];
    const user = as(who.customer, 'customer');
    const { id } = await server.assigned(who);
    const begin = await present(user);
    for (let i = 0; i < LIMIT; i += 1) await server.assign(id, drivers[i % 2]);
    const all = await from(begin, user, combo);
    gapless(await all.count('order:status_update', LIMIT), 4, 'as many as may be');
    assert.deepEqual(all.of('resync'), []);

    await server.assign(id, drivers[0]);
    for (const reason of ['too_many_events', 'unknown_position']) {
      const end = await present(user);
      const client = await from(reason === 'unknown_position' ? end + 1 : begin, user, combo);
      assert.deepEqual(await client.next('resync'), { reason });
      assert.equal(client.of('connected')[0].position, end, `${reason}: it begins now`);
      // a fetch brings the client up to date, and later events come live
      const { items } = await server.ok('GET', '/orders', undefined, user);
      await server.assign(id, people().driver);
      await client.next('order:status_update');
      assert.deepEqual(updates(client).map((update) => [update.seq, update.replayed]), [[items[0].seq + 1, undefined]], reason);
    }
  });
}

for (const { client, transport } of combos) {
  const bad = client === '2' ? ['-1', '1.5', 'abc', '1e400', '9'.repeat(30)]
    : [-1, 1.5, 'abc', true, {}, [], [1]];
  test(`${label({ client, transport })}: a position that is no whole number is refused by name`, async () => {
    const user = as(people().customer, 'customer');
    await Promise.all(bad.map(async (position) => {
      const auth = { token: jwt(user), position };
      const visitor = open(server, { client, transport, options: client === '2' ? { query: auth } : { auth } });
      const why = await visitor.refusal();
      assert.ok(why.startsWith('invalid_payload: ') && why.includes('position'), `${JSON.stringify(position)}: ${why}`);
      assert.deepEqual(visitor.of('connected'), []);
    }));
  });
}

test('A client with connection state recovery that sends its first position again is recovered, and replayed what came after it', async (t) => {
  const { server: own, proxy } = await start(t);
  const who = people();
  const story = await Story.begin(own, who);
  await story.status('accepted');
  const user = as(who.customer, 'customer');
  const clients = await Promise.all(['websocket', 'polling'].map(async (transport) => {
    const client = await from(1, user, { client: '4', transport }, proxy);
    client.pid = client.socket._pid;
    await story.check(client, [who.customer.id], transport);
    return { client, what: transport };
  }));
  await away(proxy, clients, () => proxy.cut(), () => story.status('preparing'));
  const { seq } = await own.status(story.id, 'ready_for_pickup');
  for (const { client, what } of clients) {
    await client.next('order:status_update', (update) => update.seq === seq);
    assert.deepEqual(updates(client).map((update) => [update.seq, update.replayed ?? false]), [[2, true], [2, true], [3, true], [4, false]], what);
  }
});

test('A service gets no replay, because it has only the orders it follows, and can follow on from a seq', async () => {
  const story = await Story.begin(server, people());
  const client = await from(0, SERVICE, { client: '4', transport: 'websocket' });
  await client.ask('subscribe:order', { orderId: story.id, since: story.seq });
  await story.status('accepted');
  await story.check(client, ['order'], 'the service');
  assert.deepEqual(updates(client).map((update) => update.orderId), [story.id]);
});
