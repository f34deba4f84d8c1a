// What the tests of connection state recovery share: clients behind a proxy that go away and must come back as who they were.
import assert from 'node:assert/strict';
import { connect } from './client.mjs';
import { Proxy } from './proxy.mjs';
import { Server } from './server.mjs';

export const TRANSPORTS = ['websocket', 'upgrade', 'polling'];
// Small pauses between tries, for a test returns often. And a time limit: a stock client whose WebSocket is cut between the 101
// and the first packet does not notice before that.
const EAGER = { reconnectionDelay: 20, reconnectionDelayMax: 60, timeout: 2000 };

/**
 * For tests that cut connections in the middle of an upgrade: a stock client whose WebSocket is cut when it has just stopped
 * polling does nothing until it misses a heartbeat, which is to be soon.
 */
export const LIVELY = { PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '1000' };

/** A server and a proxy to it, for one test. */
export async function start(t, options) {
  const server = await Server.start(options);
  t.after(() => server.close());
  return { server, proxy: await proxyTo(t, server) };
}

/** One more proxy: a client that has one to itself loses its connection alone. */
export async function proxyTo(t, server) {
  const proxy = await Proxy.start(server);
  t.after(() => proxy.close());
  return proxy;
}

/** A stock client on the transport it is to stay on; it knows its pid. */
export async function join(base, transport, user, options = {}) {
  const client = await connect(base, { transport, user, options: { ...EAGER, ...options } });
  if (transport === 'upgrade') await client.upgraded();
  client.pid = client.socket._pid;
  return client;
}

/** Awaits the return number `n`, and checks that each so far was a recovery. */
export async function recovered(client, what, n = 1) {
  const greetings = await client.count('connected', n + 1, 20_000);
  assert.deepEqual(greetings.map((greeting) => greeting.recovered), [false, ...Array(greetings.length - 1).fill(true)], `${what}: recovered`);
  assert.equal(client.socket.recovered, true, `${what}: socket.recovered`);
  assert.ok(client.pid, `${what}: it has a pid`);
  assert.equal(client.socket._pid, client.pid, `${what}: the pid stays`);
}

/** The client loses its connection and may come back. One that polls may be between two polls: then it loses the next one. */
export function lose(proxy, { socket }, way = 'cut') {
  proxy.fatal = socket.connected;
  socket.once('disconnect', () => { proxy.fatal = false; });
  proxy[way]();
}

/** The clients, each a `{client, what}`, lose their connections by `how`; `meanwhile` happens; then they may come back. */
export async function gone(proxy, clients, how, meanwhile) {
  const before = clients.map(({ client }) => client.of('(disconnect)').length);
  proxy.block();
  await how();
  await Promise.all(clients.map(({ client }, i) => client.count('(disconnect)', before[i] + 1)));
  await meanwhile();
  proxy.unblock();
}

/** The same, and they are recovered, their upgrades done. */
export async function away(proxy, clients, how, meanwhile) {
  const returns = clients.map(({ client }) => client.of('connected').length);
  await gone(proxy, clients, how, meanwhile);
  await Promise.all(clients.map(async ({ client, what }, i) => {
    await recovered(client, what, returns[i]);
    if (client.socket.io.opts.transports.length > 1) await client.upgraded();
  }));
}
