// A server is told to stop, and all clients come back at once. Nobody misses an event, and no client is let in that cannot be served.
// CLIENTS is the number of clients, DRAIN_MS the time they get. The promise was measured with 2,000 and 10,000; a test run has time
// for 200 and 2,000.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { closeAll, connect, open } from '../support/client.mjs';
import { opened, Polling } from '../support/engineio.mjs';
import { tcp, upgradeStatus } from '../support/raw.mjs';
import { start } from '../support/recovery.mjs';
import { as, eventually, people, postgresDatabase, Server } from '../support/server.mjs';

const CLIENTS = Number(process.env.CLIENTS ?? 200);
const PER_ORDER = 10;
const DRAIN = Number(process.env.DRAIN_MS ?? 2000);
// All clients together make about 1,000 tries a second, whatever their number. This process cannot make more.
const PATIENT = { reconnectionDelay: CLIENTS / 2, reconnectionDelayMax: CLIENTS * 2 };
const ENV = { DRAIN_MS: `${DRAIN}` };

afterEach(closeAll);

/** The answer to a handshake: its status and Retry-After. An accepted one closes again, which frees its slot. */
async function handshake({ base }) {
  const url = `${base}/socket.io/?EIO=4&transport=polling`;
  const response = await fetch(url);
  const text = await response.text();
  if (response.ok) await fetch(`${url}&sid=${JSON.parse(text.slice(1)).sid}`, { method: 'POST', body: '1' });
  return { status: response.status, retryAfter: response.headers.get('retry-after') };
}

/** Eight at a time: this test is not about many writers. */
async function each(orders, act) {
  const rest = [...orders];
  await Promise.all(Array.from({ length: 8 }, async () => { while (rest.length) await act(rest.pop()); }));
}

/** Orders, each with sockets of its customer and of services that follow it, on all transports. */
async function crowd(server) {
  const orders = Array.from({ length: CLIENTS / PER_ORDER }, () => ({ who: people() }));
  await each(orders, async (order) => { order.id = (await server.create(order.who)).id; });
  const clients = [];
  for (const [n, { who, id }] of orders.entries()) {
    await Promise.all(Array.from({ length: PER_ORDER }, async (_, i) => {
      const transport = ['websocket', 'polling', 'websocket', 'upgrade', 'websocket'][i % 5];
      const service = i % 2 === 0 && { sub: `backend-${n}`, role: 'service' };
      const client = await connect(server, { transport, user: service || as(who.customer, 'customer'), options: PATIENT });
      if (service) await client.ask('subscribe:order', { orderId: id, since: 1 });
      if (transport === 'upgrade') await client.upgraded();
      const one = { client, id, transport, what: `${transport}, ${service ? 'following' : 'customer'}` };
      client.socket.on('disconnect', () => { one.lostAt ??= Date.now(); });
      clients.push(one);
    }));
  }
  return { orders, clients };
}

/** Changes every order. With `patient` it retries while the server refuses. */
async function change(server, orders, status, patient = false) {
  await each(orders, ({ id }) => server.status(id, status).catch((error) => { if (!patient) throw error; }));
}

/** All clients have recovered, and their records match the log. */
async function verify(server, { orders, clients }) {
  const log = new Map(await Promise.all(orders.map(async ({ id }) => [id, (await server.events(id)).events.slice(1).map(({ seq }) => seq)])));
  await Promise.all(clients.map(async ({ client, id, what }) => {
    const wanted = log.get(id);
    await client.until(() => client.of('order:status_update').length >= wanted.length, `${what}: ${wanted.length} updates`, 30_000);
    assert.deepEqual(client.of('order:status_update').map(({ seq }) => seq), wanted, what);
    const greetings = client.of('connected').map(({ recovered }) => recovered);
    assert.ok(greetings.length >= 2, `${what}: it has been away`);
    assert.deepEqual(greetings, [false, ...Array(greetings.length - 1).fill(true)], `${what}: recovered`);
  }));
}

test('proxies have time to notice: /ready says 503, and clients come in all the same until the delay is over', async (t) => {
  const { server } = await start(t, { env: { ...ENV, DRAIN_DELAY_MS: '3000' } });
  const told = Date.now();
  const { exited, child } = server;
  child.kill('SIGTERM');
  await eventually(async () => (await server.call('GET', '/ready', undefined, null)).status === 503, '/ready to say 503');
  assert.equal((await handshake(server)).status, 200);
  assert.ok((await server.create(people())).id, 'an order is made');
  await eventually(async () => (await handshake(server)).status === 503, 'handshakes to be refused');
  assert.ok(Date.now() - told >= 3000, 'not before the delay is over');
  assert.equal(await exited, 0);
});

test(`${CLIENTS} clients come back after SIGTERM and a restart on the same port`, { timeout: 120_000 + CLIENTS * 50 }, async (t) => {
  const { server } = await start(t, { env: ENV });
  const all = await crowd(server);
  await change(server, all.orders, 'accepted');

  const told = Date.now();
  const { exited, child } = server;
  child.kill('SIGTERM');
  await eventually(async () => (await server.call('GET', '/ready', undefined, null)).status === 503, '/ready to say 503');
  const refusal = await handshake(server);
  assert.equal(refusal.status, 503);
  assert.match(refusal.retryAfter, /^[1-9]\d*$/, 'Retry-After');
  assert.equal(await upgradeStatus(server), 503);
  assert.equal((await server.call('GET', '/health', undefined, null)).status, 200, 'alive it is');
  await change(server, all.orders, 'preparing', true);

  assert.equal(await exited, 0);
  const took = server.exitedAt - told;
  assert.ok(took < DRAIN + 3000, `the exit took ${took} ms`);
  await Promise.all(all.clients.map(({ client }) => client.count('(disconnect)', 1)));
  const waits = all.clients.map(({ lostAt }) => lostAt - told).sort((a, b) => a - b);
  const [early, late] = [0.1, 0.9].map((share) => waits[Math.floor(share * waits.length)]);
  assert.ok(late - early > DRAIN / 3, `spread over the drain time, not between ${early} and ${late} ms`);
  for (const { client, transport, what } of all.clients) {
    const [reason] = client.of('(disconnect)');
    assert.match(reason, transport === 'polling' ? /^transport (close|error)$/ : /^transport close$/, `${what}: such that it comes back`);
  }

  await server.run();
  await change(server, all.orders, 'ready_for_pickup');
  await verify(server, all);
});

test(`A second process takes over the port from one with ${CLIENTS} clients`, { timeout: 120_000 + CLIENTS * 50 }, async (t) => {
  const env = { ...ENV, REUSE_PORT: 'true' };
  const { server: old } = await start(t, { env, database: process.env.ORDERCAST_TEST_POSTGRES && postgresDatabase() });
  const all = await crowd(old);
  await change(old, all.orders, 'accepted');

  const server = await Server.start({ env, database: old.database, port: old.port });
  t.after(() => server.close());
  const told = Date.now();
  const stopped = old.stop();
  // either process may take a change, and its events go to the clients of both
  for (const status of ['preparing', 'ready_for_pickup', 'picked_up']) await change(server, all.orders, status, true);
  assert.equal(await stopped, 0);
  assert.ok(old.exitedAt - told < DRAIN + 3000, `the exit took ${old.exitedAt - told} ms`);
  await change(server, all.orders, 'in_transit');
  await verify(server, all);
  await eventually(async () => await server.metric('connections') === all.clients.length, 'one connection for each');
});

test('A handshake over the limit gets 503 and a time to retry, and in the end every client is in', { timeout: 60_000 }, async (t) => {
  const { server } = await start(t, { env: { MAX_HANDSHAKES: '1' } });
  // this handshake is not finished, so it holds the only slot
  const first = await Polling.open(server);
  const { status, retryAfter } = await handshake(server);
  assert.equal(status, 503);
  assert.match(retryAfter, /^[1-9]\d*$/, 'Retry-After');
  assert.equal(await upgradeStatus(server), 503);
  await first.send('1');
  assert.equal((await handshake(server)).status, 200, 'the place is given back');

  // most of them are refused at first and retry by themselves
  const crowdOf = (transport) => Array.from({ length: 20 }, async () => {
    const client = open(server, { transport, user: as(people().customer, 'customer') });
    await client.count('connected', 1, 30_000);
    if (transport === 'upgrade') await client.upgraded();
    return client;
  });
  const clients = await Promise.all(['websocket', 'polling', 'upgrade'].flatMap(crowdOf));
  await Promise.all(clients.map((client) => client.ask('ping:latency', { t: 1 })));
  assert.ok(clients.some((client) => client.of('(refused)').length > 0), 'there were more than may be');
});

test('A client that gives up its handshake at any point frees the slot', { timeout: 60_000 }, async (t) => {
  const { server } = await start(t, { env: { MAX_HANDSHAKES: '1' } });
  const upgrade = (version) => `GET /socket.io/?EIO=${version}&transport=websocket HTTP/1.1\r\nHost: x\r\n`
    + 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
  const ways = {
    'in the head of the request': () => tcp(server, upgrade(4).slice(0, 60)),
    'behind the head': () => tcp(server, upgrade(4)),
    'behind the head, Engine.IO 3': () => tcp(server, upgrade(3)),
    'on the WebSocket': async () => (await opened(server, 'websocket')).cut(),
    'on the WebSocket, by a close packet': async () => (await opened(server, 'websocket')).send('1'),
    'in polling, by a close packet': async () => (await opened(server, 'polling')).send('1'),
    'in polling, by a packet that is none': async () => (await opened(server, 'polling')).send('x'),
    'in polling, Engine.IO 3': async () => (await Polling.open(server, 3)).send('1'),
    'in polling, by two polls at once': async () => {
      const session = await opened(server, 'polling');
      await Promise.all([session.poll(), session.poll()]);
    },
    'in polling, by giving up a poll': async () => {
      const session = await opened(server, 'polling');
      // No signal tells that the server has the poll, and aborting a poll that it never saw changes nothing. So this tries again.
      await eventually(async () => {
        const giveUp = new AbortController();
        const poll = session.poll({ signal: giveUp.signal });
        await session.send('3');
        giveUp.abort();
        await poll.catch(() => {});
        return (await handshake(server)).status === 200;
      }, 'a free place', 5000);
    },
  };
  for (const [way, breakOff] of Object.entries(ways)) {
    await breakOff();
    // An idle handshake loses its slot after ten seconds. Five seconds here show that the disconnect frees it.
    await eventually(async () => await upgradeStatus(server) === 101, `${way}: a free place for a WebSocket`, 5000);
    await eventually(async () => (await handshake(server)).status === 200, `${way}: a free place`, 5000);
  }
});
