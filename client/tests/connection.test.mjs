// Tokens that end, are refused or cannot be had; servers that are not there.
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { Server, as, atSeq, connected, follow, join, jwt, live, people, proxyTo, start, until } from './support.mjs';

const exp = (seconds) => Math.floor(Date.now() / 1000) + seconds;
let server;
before(async () => { server = await Server.start({ env: { TOKEN_WARNING_MS: '3600000', TOKEN_GRACE_MS: '200' } }); });
after(() => server.close());

test('a token that is about to end is replaced on the live socket', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  let asked = 0;
  const lines = [];
  const client = join(t, server, null, {
    // The server warns an hour before the end.
    token: async () => jwt({ ...as(who.customer, 'customer'), exp: exp(asked++ === 0 ? 60 : 7200) }),
    trace: (line) => lines.push(line),
  });
  const { order } = follow(t, client, id);
  await live(order);
  await until(client.connection, ({ tokenEndsAt }) => tokenEndsAt === null && asked === 2);
  const refresh = await new Promise((resolve) => {
    const look = () => (lines.some(({ event, direction }) => event === 'token:refresh' && direction === 'ack') ? resolve(lines.filter(({ event }) => event === 'token:refresh')) : setImmediate(look));
    look();
  });
  assert.deepEqual(refresh[0].payload, {}, 'a trace has no token');
  assert.equal(refresh[1].payload.ok, true);
  await server.status(id, 'accepted');
  await atSeq(order, 2);
  assert.equal(client.socket.connected && asked, 2);
});

test('a token that ends without another one is refused with a clear error; another token brings everything that was missed', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  const claims = as(who.customer, 'customer');
  const ending = join(t, server, null, { token: jwt({ ...claims, exp: exp(2) }) });
  const client = join(t, server, null, { token: jwt(claims) });
  const { order, updates } = follow(t, client, id);
  await live(order);
  client.setToken(jwt({ ...claims, exp: exp(-600) }));
  const failed = await until(client.connection, (state) => state.error);
  assert.deepEqual([failed.phase, failed.error.code], ['connected', 'token_expired'], 'the old one is still good');
  client.socket.io.engine.close();
  const { error } = await until(client.connection, ({ phase }) => phase === 'refused');
  assert.equal(error.code, 'token_expired');
  assert.match(error.message, /let `token` be a function that gets a fresh one, or call `setToken`/);
  assert.deepEqual([order.get().phase, order.get().error.code, order.get().tracking.status], ['error', 'token_expired', 'pending']);
  await assert.rejects(client.request('order:tracking', { orderId: id }), { code: 'token_expired' });
  await server.status(id, 'accepted');
  client.setToken(jwt(claims));
  await atSeq(order, 2);
  await live(order);
  assert.deepEqual(updates.map(({ seq }) => seq), [2]);
  assert.equal((await until(ending.connection, ({ phase }) => phase === 'refused')).error.code, 'token_expired', 'one that ends on the live socket');
});

test('a refused token is not given again, but a new one of the same function is', async (t) => {
  const who = people();
  const tokens = ['not.a.token', jwt(as(who.customer, 'customer'))];
  let asked = 0;
  const client = join(t, server, null, { token: () => tokens[asked++] });
  await connected(client);
  assert.equal(asked, 2);

  let again = 0;
  const stubborn = join(t, server, null, { token: () => { again += 1; return 'not.a.token'; } });
  const { error } = await until(stubborn.connection, ({ phase }) => phase === 'refused');
  assert.equal(again, 2);
  assert.match(error.message, /^unauthorized: .*sign in again, then call `setToken`/);
  stubborn.setToken(jwt(as(who.customer, 'customer')));
  await connected(stubborn);
});

test('a token function that fails is asked again', async (t) => {
  const who = people();
  let asked = 0;
  const client = join(t, server, null, { token: async () => {
    if (asked++ === 0) throw new Error('the login server is down');
    return jwt(as(who.customer, 'customer'));
  } });
  const { error } = await until(client.connection, (state) => state.error);
  assert.deepEqual([error.code, error.message], ['no_token', 'The token function failed: the login server is down. It is asked again in a while.']);
  await connected(client);
  assert.equal(client.connection.get().error, null);
});

test('who is signed out is told so, and comes back with a new token only', async (t) => {
  const who = people();
  const claims = as(who.driver, 'driver');
  let token = jwt({ ...claims, iat: exp(-30) });
  const client = join(t, server, null, { token: () => token });
  await connected(client);
  await server.ok('DELETE', `/users/${who.driver.id}/sessions`);
  const { error } = await until(client.connection, ({ phase }) => phase === 'refused');
  assert.match(`${error.code} ${error.message}`, /session_ended .*signed out/);
  token = jwt({ ...claims, iat: exp(-10) }); // issued within the last three seconds, it may be older than the end
  client.retry();
  await connected(client);
});

test('a server that is not there is said to be so, and found when it is', async (t) => {
  const parking = createServer().listen(0, '127.0.0.1');
  await once(parking, 'listening');
  const { port } = parking.address();
  await new Promise((resolve) => { parking.close(resolve); });
  const who = people();
  const client = join(t, { base: `http://127.0.0.1:${port}` }, as(who.customer, 'customer'));
  const states = [];
  client.connection.subscribe(({ phase, error }) => states.push([phase, error?.code]));
  const { error } = await until(client.connection, (state) => state.error);
  assert.match(error.message, new RegExp(`^No connection to http://127.0.0.1:${port} \\(.*CORS_ORIGIN.*goes on trying`));
  const asked = client.request('ping:latency', {});
  await start(t, { port });
  await connected(client);
  assert.ok((await asked).serverTime, 'a request waits for the connection');
  assert.deepEqual(states[0], ['connecting', undefined]);
  assert.deepEqual(states[1], ['connecting', 'unreachable']);
  assert.deepEqual(states.at(-1), ['connected', undefined]);
});

test('a request whose answer does not come fails in time, one whose connection is lost says so', async (t) => {
  const who = people();
  const proxy = await proxyTo(t, server);
  const client = join(t, proxy, as(who.customer, 'customer'), { requestTimeoutMs: 300 });
  await connected(client);
  proxy.pause();
  await assert.rejects(client.request('ping:latency', {}), { code: 'timeout', message: /^No answer within 300 ms: whether ping:latency was carried out is not known/ });
  const lost = assert.rejects(client.request('ping:latency', {}), { code: 'disconnected' });
  proxy.block();
  proxy.cut();
  await lost;
  await client.close();
  await assert.rejects(client.request('ping:latency', {}), { code: 'closed' });
});
