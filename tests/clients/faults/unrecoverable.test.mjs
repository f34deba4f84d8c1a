// A client that cannot be recovered is told so. It is connected as a new session that follows nothing, and a subscription shows it the
// present state. A bad pid or offset costs it only the recovery.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { closeAll, connect } from '../support/client.mjs';
import { joined } from '../support/raw.mjs';
import { gone, join, proxyTo, recovered, start } from '../support/recovery.mjs';
import { as, eventually, jwt, people, SERVICE, Server } from '../support/server.mjs';
import { gapless } from '../support/shapes.mjs';
import { Story } from '../support/story.mjs';

const TRANSPORTS = ['websocket', 'polling'];

afterEach(closeAll);

/** A watcher of one order behind its own proxy. It has heard an event, so it has an offset. */
async function watcher(t, server, { transport = 'websocket', user = SERVICE } = {}) {
  const proxy = await proxyTo(t, server);
  const story = await Story.begin(server, people());
  const client = await join(proxy, transport, user);
  await client.ask('subscribe:order', { orderId: story.id });
  await story.status('accepted');
  await story.check(client, ['order'], transport);
  assert.ok(client.pid, 'it has a pid');
  return { proxy, story, client };
}

/** The client goes away, its order changes, `meanwhile` happens, and the client comes back as a new session. */
async function returnsAnew({ proxy, story, client }, what, meanwhile) {
  let brought;
  await gone(proxy, [{ client }], () => proxy.cut(), async () => {
    await story.status('preparing');
    await meanwhile(client);
    brought = client.socket._pid;
  });
  const [, hello] = await client.count('connected', 2);
  assert.equal(hello.recovered, false, what);
  assert.equal(client.socket.recovered, false, `${what}: socket.recovered`);
  assert.equal(typeof client.socket._pid, 'string', `${what}: the new pid`);
  assert.ok(![client.pid, brought].includes(client.socket._pid), `${what}: a new pid`);
}

/** It follows nothing, and a new subscription starts with a snapshot. */
async function startsOver({ story, client }, what) {
  await story.status('ready_for_pickup'); // the client must not hear this
  assert.equal((await client.ask('subscribe:order', { orderId: story.id })).seq, 4, what);
  await story.assign(people().driver);
  await client.next('order:status_update', (update) => update.seq === 5);
  const updates = client.of('order:status_update').map(({ seq, snapshot }) => (snapshot ? `snapshot ${seq}` : seq));
  assert.deepEqual(updates, ['snapshot 1', 2, 'snapshot 4', 5], what);
}

const flipped = (pid, at) => pid.slice(0, at) + (pid[at] === 'A' ? 'B' : 'A') + pid.slice(at + 1);

/** What a client sends instead of its pid or offset. */
const BROUGHT = {
  'no pid that was ever given': { pid: () => 'AAAAAAAAAAAAAAAAAAAA' },
  'its own pid, its first character changed': { pid: (pid) => flipped(pid, 0) },
  'its own pid, its middle changed': { pid: (pid) => flipped(pid, pid.length >> 1) },
  'its own pid, its end cut off': { pid: (pid) => pid.slice(0, -1) },
  'its own pid and more': { pid: (pid) => `${pid}A` },
  'a pid of 20,000 characters': { pid: (pid) => pid.repeat(20_000 / pid.length) },
  'a pid that is a number': { pid: () => 7 },
  'a pid that is an object': { pid: (pid) => ({ pid }) },
  'a pid that is true': { pid: () => true },
  'an offset from the future': { offset: () => '999999999' },
  'an offset beyond all numbers': { offset: () => '9'.repeat(400) },
  'an offset that is below zero': { offset: () => '-1' },
  'an offset that is a fraction of a position nobody knows': { offset: (offset) => `${offset}.5.1` },
  'an offset that is a word': { offset: () => 'yesterday' },
  'an empty offset': { offset: () => '' },
  'an offset with a space': { offset: (offset) => ` ${offset}` },
  'an offset of 20,000 characters': { offset: () => 'x'.repeat(20_000) },
  'an offset that is a number': { offset: Number },
  'an offset that is an object': { offset: (offset) => ({ offset }) },
  'an offset that is a list': { offset: (offset) => [offset] },
};

test('A client with a forged pid or a malformed offset is connected as a new session', { timeout: 60_000 }, async (t) => {
  const { server } = await start(t);
  for (const transport of TRANSPORTS) {
    await Promise.all(Object.entries(BROUGHT).map(async ([name, { pid, offset }]) => {
      const what = `${transport}: ${name}`;
      const one = await watcher(t, server, { transport });
      await returnsAnew(one, what, ({ socket }) => {
        if (pid) socket._pid = pid(socket._pid);
        if (offset) socket._lastOffset = offset(socket._lastOffset);
      });
      await startsOver(one, what);
    }));
  }
  // values that are no strings may count as missing
  const brought = (kind) => Object.values(BROUGHT).filter((what) => typeof what[kind]?.('1'.repeat(30)) === 'string').length * TRANSPORTS.length;
  assert.ok(await server.metric('recoveries_total', 'outcome="forged"') >= brought('pid'), 'forged ones are counted');
  assert.ok(await server.metric('recoveries_total', 'outcome="unknown_offset"') >= brought('offset'), 'unknown offsets are counted');
  assert.equal(await server.metric('recoveries_total', 'outcome="recovered"'), 0);
});

test('A pid from a server with another database is refused, though both share the token key', async (t) => {
  const { server } = await start(t);
  const other = await Server.start();
  t.after(() => other.close());
  const stranger = await watcher(t, other);
  const one = await watcher(t, server);
  await returnsAnew(one, 'another database', ({ socket }) => { socket._pid = stranger.client.pid; });
  await startsOver(one, 'another database');
});

test('A client that was away too long is connected as a new session', async (t) => {
  const { server } = await start(t, { env: { RECOVERY_WINDOW_MS: '400' } });
  const one = await watcher(t, server);
  await returnsAnew(one, 'too old', () => new Promise((resolve) => { setTimeout(resolve, 1500); })); // the time away is what counts
  await startsOver(one, 'too old');
  assert.equal(await server.metric('recoveries_total', 'outcome="too_old"'), 1);
});

test('A client that returns as another user, or in another role, is connected as a new session', async (t) => {
  const { server } = await start(t);
  const who = people();
  const order = await server.assigned(who);
  const backend = { sub: people().customer.id, role: 'service' };
  const changes = {
    'another user': [as(who.customer, 'customer'), as(people().customer, 'customer')],
    'another role': [backend, { ...backend, role: 'customer' }], // in this role it is no party to the order
  };
  const clients = await Promise.all(Object.entries(changes).map(async ([what, [user, other]]) => {
    const proxy = await proxyTo(t, server);
    const client = await join(proxy, 'websocket', user);
    await client.ask('subscribe:order', { orderId: order.id });
    await client.next('order:status_update');
    await gone(proxy, [{ client }], () => proxy.cut(), () => { client.socket.auth = { token: jwt(other) }; });
    const [, hello] = await client.count('connected', 2);
    assert.deepEqual([hello.recovered, hello.userId, hello.role], [false, other.sub, other.role], what);
    assert.notEqual(client.socket._pid, client.pid, what);
    return { client, what, theirs: await server.create({ ...people(), customer: { id: other.sub, name: 'X' } }) };
  }));
  await server.status(order.id, 'picked_up');
  for (const { client, what, theirs } of clients) {
    await server.status(theirs.id, 'accepted'); // comes after the event that it must not hear
    await client.next('order:status_update', (update) => update.orderId === theirs.id);
    assert.equal(client.of('order:status_update').filter((update) => update.orderId === order.id).length, 1, `${what}: the snapshot of the first user`);
    assert.equal((await client.request('subscribe:order', { orderId: order.id })).error.code, 'not_found', what);
  }
  assert.equal(await server.metric('recoveries_total', 'outcome="forged"'), 2);
});

test('A driver who was taken off a followed order is connected as a new session', async (t) => {
  const { server } = await start(t);
  for (const transport of TRANSPORTS) {
    const proxy = await proxyTo(t, server);
    const who = people();
    const [lost, kept] = [await server.assigned(who), await server.assigned(who)];
    const client = await join(proxy, transport, as(who.driver, 'driver'));
    for (const { id: orderId } of [lost, kept]) await client.ask('subscribe:order', { orderId });
    await client.count('order:status_update', 2);
    await gone(proxy, [{ client }], () => proxy.cut(), async () => {
      await server.assign(lost.id, people().driver);
      await server.status(kept.id, 'picked_up');
    });
    const [, hello] = await client.count('connected', 2);
    assert.equal(hello.recovered, false, transport);
    assert.equal((await client.request('subscribe:order', { orderId: lost.id })).error.code, 'not_found', transport);
    const { seq } = await client.ask('subscribe:order', { orderId: kept.id });
    await server.status(lost.id, 'picked_up');
    await server.status(kept.id, 'in_transit');
    await client.next('order:status_update', (update) => update.orderId === kept.id && update.seq === seq + 1);
    const updates = client.of('order:status_update').slice(2);
    assert.deepEqual(updates.map(({ orderId, seq: at, snapshot = false }) => [orderId, at, snapshot]),
      [[kept.id, seq, true], [kept.id, seq + 1, false]], transport);
  }
  assert.equal(await server.metric('recoveries_total', 'outcome="right_lost"'), TRANSPORTS.length);
});

test('A client that missed too many events is connected as a new session, but the exact limit still recovers', async (t) => {
  const LIMIT = 5;
  const { server, proxy } = await start(t, { env: { RECOVERY_LIMIT: `${LIMIT}` } });
  const drivers = [people().driver, people().driver];
  const { id: orderId, seq } = await server.assigned(people());
  const client = await join(proxy, 'websocket', SERVICE);
  let turn = 0; // an assignment to the present driver would be no event
  const miss = (n) => gone(proxy, [{ client }], () => proxy.cut(), async () => {
    for (let i = 0; i < n; i += 1) await server.assign(orderId, drivers[(turn += 1) % 2]);
  });
  await client.ask('subscribe:order', { orderId });
  await client.next('order:status_update');
  await miss(LIMIT);
  await client.next('order:status_update', (update) => update.seq === seq + LIMIT);
  await recovered(client, 'as many as may be');
  await miss(LIMIT + 1);
  const greetings = await client.count('connected', 3);
  assert.equal(greetings[2].recovered, false);
  assert.equal(await server.metric('recoveries_total', 'outcome="too_many"'), 1);

  // A new session begins here. The stock client still holds the last offset of the old session and may send it with the new pid.
  await miss(1);
  await client.count('connected', 4);
  assert.equal(client.of('connected')[3].recovered, true, 'a session that has heard nothing, with the offset of the one before');
  assert.equal((await client.ask('subscribe:order', { orderId })).seq, seq + 2 * LIMIT + 2);
  await server.status(orderId, 'picked_up');
  await client.next('order:status_update', (update) => update.status === 'picked_up');
  const [, ...updates] = client.of('order:status_update');
  gapless(updates.slice(0, LIMIT), seq + 1, 'recovered');
  gapless(updates.slice(LIMIT), seq + 2 * LIMIT + 2, 'after the new subscription');
});

test('Clients that come back in a tight loop leave nothing behind', { timeout: 60_000 }, async (t) => {
  const { server, proxy } = await start(t);
  const ROUNDS = 60;
  const present = () => server.metric('connections');
  const before = await server.metric('http_connections');
  assert.equal(await present(), 0);
  const user = as(people().customer, 'customer');

  // a stock client that recovers every time
  for (const transport of TRANSPORTS) {
    const client = await join(proxy, transport, user, { reconnectionDelay: 1, reconnectionDelayMax: 1 });
    let left = ROUNDS;
    client.socket.on('connected', () => { if (left > 0) { left -= 1; setImmediate(() => client.socket.io.engine.close()); } });
    client.socket.io.engine.close();
    await client.until(() => left === 0 && client.socket.connected, `${transport}: ${ROUNDS} returns`, 30_000);
    await recovered(client, transport, ROUNDS);
    client.close();
  }
  // a new session every time, with a forged pid
  for (let i = 0; i < ROUNDS; i += 1) (await joined(server, user)).terminate();
  for (let i = 0; i < ROUNDS; i += 1) {
    const client = await connect(server, { user, options: { auth: { token: jwt(user), pid: `forged-${i}`, offset: '1' } } });
    client.close();
  }
  await eventually(async () => await present() === 0, 'all sockets gone');
  assert.deepEqual(await server.ok('GET', `/users/${user.sub}/presence`), { userId: user.sub, online: false, connections: 0 });
  assert.equal(await server.metric('sessions_behind'), 0);
  proxy.close();
  await eventually(async () => await server.metric('http_connections') <= before + 1, 'all connections closed');
});
