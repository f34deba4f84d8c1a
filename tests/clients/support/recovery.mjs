// Shared by the tests of connection state recovery: clients behind a proxy that lose their connection and must recover.
import assert from 'node:assert/strict';
import { connect } from './client.mjs';
import { Proxy } from './proxy.mjs';
import { Server } from './server.mjs';

export const TRANSPORTS = ['websocket', 'upgrade', 'polling'];
// Short pauses between tries, because tests reconnect often. The timeout is for a stock client whose WebSocket is cut between the 101 and
// the first packet: it notices nothing before that.
const EAGER = { reconnectionDelay: 20, reconnectionDelayMax: 60, timeout: 2000 };

/**
 * For tests that cut connections during an upgrade. A stock client whose WebSocket is cut right after it stopped polling does nothing
 * until it misses a heartbeat, so heartbeats are frequent.
 */
export const LIVELY = { PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '1000' };

/** A server and a proxy to it, for one test. */
export async function start(t, options) {
  const server = await Server.start(options);
  t.after(() => server.close());
  return { server, proxy: await proxyTo(t, server) };
}

/** One more proxy: a client with its own proxy loses its connection alone. */
export async function proxyTo(t, server) {
  const proxy = await Proxy.start(server);
  t.after(() => proxy.close());
  return proxy;
}

/** A stock client on its final transport, with its pid. */
export async function join(base, transport, user, options = {}) {
  const client = await connect(base, { transport, user, options: { ...EAGER, ...options } });
  if (transport === 'upgrade') await client.upgraded();
  client.pid = client.socket._pid;
  return client;
}

/** Awaits return number `n`, and checks that every return so far was a recovery. */
export async function recovered(client, what, n = 1) {
  const greetings = await client.count('connected', n + 1, 20_000);
  assert.deepEqual(greetings.map((greeting) => greeting.recovered), [false, ...Array(greetings.length - 1).fill(true)], `${what}: recovered`);
  assert.equal(client.socket.recovered, true, `${what}: socket.recovered`);
  assert.ok(client.pid, `${what}: it has a pid`);
  assert.equal(client.socket._pid, client.pid, `${what}: the pid stays`);
}

/** The client loses its connection and may come back. A polling client may be between two polls; then it loses the next one. */
export function lose(proxy, { socket }, way = 'cut') {
  proxy.fatal = socket.connected;
  socket.once('disconnect', () => { proxy.fatal = false; });
  proxy[way]();
}

/** The clients, each a `{client, what}`, lose their connections through `how`. Then `meanwhile` happens, and they may come back. */
export async function gone(proxy, clients, how, meanwhile) {
  const before = clients.map(({ client }) => client.of('(disconnect)').length);
  proxy.block();
  await how();
  await Promise.all(clients.map(({ client }, i) => client.count('(disconnect)', before[i] + 1)));
  await meanwhile();
  proxy.unblock();
}

/** The same; afterwards they have recovered, and their upgrades are done. */
export async function away(proxy, clients, how, meanwhile) {
  const returns = clients.map(({ client }) => client.of('connected').length);
  await gone(proxy, clients, how, meanwhile);
  await Promise.all(clients.map(async ({ client, what }, i) => {
    await recovered(client, what, returns[i]);
    if (client.socket.io.opts.transports.length > 1) await client.upgraded();
  }));
}
