// A server that is told to stop, and everybody who comes back at once: nobody misses an event, and nobody is let in who cannot be served.
// CLIENTS is how many there are; 2,000 is what the promise was measured with, 200 what a test has time for.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach, test } from 'node:test';
import { closeAll, connect, open } from './client.mjs';
import { tcp, upgradeStatus } from './raw.mjs';
import { start } from './recovery.mjs';
import { as, eventually, jwt, people, postgresDatabase, Server } from './server.mjs';

const CLIENTS = Number(process.env.CLIENTS ?? 200);
const PER_ORDER = 10;
const DRAIN = 2000;
const ENV = { DRAIN_MS: `${DRAIN}` };

afterEach(closeAll);

/** What a handshake is answered with: its status and when to try again. Who gets in says goodbye, which gives the place back. */
async function handshake({ base }) {
  const url = `${base}/socket.io/?EIO=4&transport=polling`;
  const response = await fetch(url);
  const text = await response.text();
  if (response.ok) await fetch(`${url}&sid=${JSON.parse(text.slice(1)).sid}`, { method: 'POST', body: '1' });
  return { status: response.status, retryAfter: response.headers.get('retry-after') };
}

/** Orders, each with some sockets of its customer and some of services that follow it, on all transports. */
async function crowd(server) {
  const orders = await Promise.all(Array.from({ length: CLIENTS / PER_ORDER }, async () => {
    const who = people();
    return { who, id: (await server.create(who)).id };
  }));
  const clients = [];
  for (const [n, { who, id }] of orders.entries()) {
    await Promise.all(Array.from({ length: PER_ORDER }, async (_, i) => {
      const transport = ['websocket', 'polling', 'websocket', 'upgrade', 'websocket'][i % 5];
      const service = i % 2 === 0 && { sub: `backend-${n}`, role: 'service' };
      const client = await connect(server, { transport, user: service || as(who.customer, 'customer') });
      if (service) await client.ask('subscribe:order', { orderId: id, since: 1 });
      if (transport === 'upgrade') await client.upgraded();
      const one = { client, id, transport, what: `${transport}, ${service ? 'following' : 'customer'}` };
      client.socket.on('disconnect', () => { one.lostAt ??= Date.now(); });
      clients.push(one);
    }));
  }
  return { orders, clients };
}

/** Changes every order; `patient` about a server that cannot take it just now. */
async function change(server, orders, status, patient = false) {
  await Promise.all(orders.map(({ id }) => server.status(id, status).catch((error) => { if (!patient) throw error; })));
}

/** Everybody is back as who they were, and their record is what the log says. */
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

test(`SIGTERM with ${CLIENTS} clients, and a restart on the same port`, { timeout: 120_000 + CLIENTS * 50 }, async (t) => {
  const { server } = await start(t, { env: ENV });
  const all = await crowd(server);
  await change(server, all.orders, 'accepted');

  const told = Date.now();
  const { exited, child } = server;
  child.kill('SIGTERM');
  await eventually(async () => (await server.call('GET', '/ready', undefined, null)).status === 503, '/ready to say 503', 1000);
  const refusal = await handshake(server);
  assert.equal(refusal.status, 503);
  assert.match(refusal.retryAfter, /^[1-9]\d*$/, 'Retry-After');
  assert.equal(await upgradeStatus(server), 503);
  assert.equal((await server.call('GET', '/health', undefined, null)).status, 200, 'alive it is');
  await change(server, all.orders, 'preparing', true);

  assert.equal(await exited, 0);
  const took = Date.now() - told;
  assert.ok(took < DRAIN + 3000, `the exit took ${took} ms`);
  await Promise.all(all.clients.map(({ client }) => client.count('(disconnect)', 1)));
  const waits = all.clients.map(({ lostAt }) => lostAt - told).sort((a, b) => a - b);
  const [early, late] = [0.1, 0.9].map((share) => waits[Math.floor(share * waits.length)]);
  assert.ok(late - early > DRAIN / 3, `spread over the drain time, not between ${early} and ${late} ms`);
  assert.ok(waits.at(-1) < DRAIN + 1000, `the last after ${waits.at(-1)} ms`);
  for (const { client, transport, what } of all.clients) {
    const [reason] = client.of('(disconnect)');
    assert.match(reason, transport === 'polling' ? /^transport (close|error)$/ : /^transport close$/, `${what}: such that it comes back`);
  }

  await server.run();
  await change(server, all.orders, 'ready_for_pickup');
  await verify(server, all);
});

test(`a second process takes over the port from one with ${CLIENTS} clients`, { timeout: 120_000 + CLIENTS * 50 }, async (t) => {
  const env = { ...ENV, REUSE_PORT: 'true' };
  const { server: old } = await start(t, { env, database: process.env.ORDERCAST_TEST_POSTGRES && postgresDatabase() });
  const all = await crowd(old);
  await change(old, all.orders, 'accepted');

  const server = await Server.start({ env, database: old.database, port: old.port });
  t.after(() => server.close());
  const told = Date.now();
  const stopped = old.stop();
  // whichever of the two takes them, and whoever hears them where
  for (const status of ['preparing', 'ready_for_pickup', 'picked_up']) await change(server, all.orders, status, true);
  assert.equal(await stopped, 0);
  assert.ok(Date.now() - told < DRAIN + 3000, `the exit took ${Date.now() - told} ms`);
  await change(server, all.orders, 'in_transit');
  await verify(server, all);
  await eventually(async () => await server.metric('connections') === all.clients.length, 'one connection for each');
});

test('more handshakes at once than may be: 503, try again, and in the end everybody is in', { timeout: 60_000 }, async (t) => {
  const { server } = await start(t, { env: { MAX_HANDSHAKES: '1' } });
  const answers = await Promise.all(Array.from({ length: 100 }, () => handshake(server)));
  const refused = answers.filter(({ status }) => status !== 200);
  assert.ok(refused.length > 0 && refused.length < answers.length, `${refused.length} of ${answers.length} were refused`);
  for (const { status, retryAfter } of refused) {
    assert.equal(status, 503);
    assert.match(retryAfter, /^[1-9]\d*$/, 'Retry-After');
  }
  // refused at first, most of them, they try again by themselves
  const crowdOf = (transport) => Array.from({ length: 20 }, async () => {
    const client = open(server, { transport, user: as(people().customer, 'customer') });
    await client.count('connected', 1, 30_000);
    return client;
  });
  const clients = await Promise.all(['websocket', 'polling', 'upgrade'].flatMap(crowdOf));
  await Promise.all(clients.map((client) => client.ask('ping:latency', { t: 1 })));

  // a place is given back by those who break off, wherever they do
  const upgrade = `GET /socket.io/?EIO=4&transport=websocket&token=${jwt({ sub: 'x', role: 'customer' })} HTTP/1.1\r\nHost: x\r\n`
    + 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
  for (const bytes of [upgrade.slice(0, 60), upgrade]) for (let i = 0; i < 5; i += 1) await tcp(server, bytes);
  await eventually(async () => (await handshake(server)).status === 200, 'a free place');
  await eventually(async () => await upgradeStatus(server) === 101, 'a free place');
});
