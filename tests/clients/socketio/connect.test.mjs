// Which clients get in, which are refused, and what each client version is told.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, combos, connect, label, open } from '../support/client.mjs';
import { eventually, jwt, Server } from '../support/server.mjs';
import { CONNECTED, check } from '../support/shapes.mjs';

const server = await Server.start();
after(() => server.close());
afterEach(closeAll);

const DRIVER = { sub: 'driver-7', role: 'driver' };
const HOUR = 3600;
const BAD_TOKENS = {
  'no token': [undefined, 'unauthorized: '],
  garbage: ['not.a.jwt', 'unauthorized: '],
  'expired an hour ago': [jwt({ ...DRIVER, exp: Math.floor(Date.now() / 1000) - HOUR }), 'token_expired: '],
  'without an expiry': [jwt({ ...DRIVER, exp: undefined }), 'unauthorized: '],
  'without a user': [jwt({ role: 'driver' }), 'unauthorized: '],
  'of algorithm none': [jwt(DRIVER, { alg: 'none' }), 'unauthorized: '],
  'of algorithm HS512': [jwt(DRIVER, { alg: 'HS512' }), 'unauthorized: '],
  'of another secret': [jwt(DRIVER, { secret: 'another-secret-of-more-than-32-bytes!' }), 'unauthorized: '],
};

for (const combo of combos) {
  test(`${label(combo)}: a client connects and is told who it is`, async () => {
    const client = await connect(server, { ...combo, user: { sub: 'driver-7', role: 'courier' } });
    const hello = client.of('connected')[0];
    check(hello, CONNECTED, 'connected');
    assert.equal(hello.userId, 'driver-7');
    assert.equal(hello.role, 'driver', 'the role in its canonical spelling');
    assert.equal(hello.recovered, false);
    if (combo.client !== '2') assert.equal(hello.socketId, client.socket.id);
    if (combo.transport === 'upgrade' && client.transport !== 'websocket') {
      await new Promise((resolve) => { client.socket.io.engine.once('upgrade', resolve); });
    }
    assert.equal(client.transport, combo.transport === 'polling' ? 'polling' : 'websocket');
    await client.ask('ping:latency', { t: 1 });
    assert.equal(client.of('connected').length, 1);
  });

  test(`${label(combo)}: a bad token is refused by name`, async () => {
    for (const [name, [token, message]] of Object.entries(BAD_TOKENS)) {
      const client = open(server, { ...combo, token });
      const refusal = await client.refusal();
      assert.ok(refusal?.startsWith(message), `${name}: ${JSON.stringify(refusal)} should begin with "${message}"`);
      assert.equal(client.of('connected').length, 0, name);
      client.close();
    }
    await connect(server, { ...combo, user: DRIVER });
  });
}

for (const [client, via] of [['4', 'auth'], ['4', 'query'], ['4', 'header'], ['3', 'auth'], ['3', 'query'],
  ['3', 'header'], ['2', 'query'], ['2', 'header']]) {
  for (const transport of ['websocket', 'polling']) {
    test(`socket.io-client ${client}, ${transport}: the token is taken from ${via}`, async () => {
      const socket = await connect(server, { client, transport, via, user: DRIVER });
      assert.equal(socket.of('connected')[0].userId, 'driver-7');
    });
  }
}

test('auth.token comes before the Authorization header, and the header before the query', async () => {
  const tokens = Object.fromEntries(['auth', 'header', 'query'].map((sub) => [sub, jwt({ sub, role: 'customer' })]));
  const extraHeaders = { authorization: `Bearer ${tokens.header}` };
  const query = { token: tokens.query };
  const all = await connect(server, { options: { auth: { token: tokens.auth }, extraHeaders, query } });
  assert.equal(all.of('connected')[0].userId, 'auth');
  const two = await connect(server, { options: { extraHeaders, query } });
  assert.equal(two.of('connected')[0].userId, 'header');
});

test('User id and role are also read from the claim names of other systems', async () => {
  const cases = [
    [{ sub: undefined, userId: 17, roles: ['nothing', 'merchant'] }, '17', 'chef'],
    [{ user_id: 'u-2', role: 'client' }, 'u-2', 'customer'],
    [{ id: 'u-3', role: 'superadmin' }, 'u-3', 'admin'],
    [{ sub: 'u-4', role: 'system' }, 'u-4', 'service'],
  ];
  for (const [user, userId, role] of cases) {
    const { 0: hello } = (await connect(server, { user })).of('connected');
    assert.deepEqual([hello.userId, hello.role], [userId, role]);
  }
});

test('REST refuses the same tokens with 401 problem+json', async () => {
  for (const [name, [token]] of Object.entries(BAD_TOKENS)) {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const { status, body, headers: got } = await server.call('GET', '/orders', undefined, null, headers);
    assert.equal(status, 401, name);
    assert.match(got.get('content-type'), /^application\/problem\+json/);
    for (const member of ['type', 'title', 'status', 'detail', 'code', 'message', 'error', 'statusCode']) {
      assert.ok(member in body, `${name}: no ${member} in ${JSON.stringify(body)}`);
    }
  }
});

test('Presence counts the live sockets of a user', async () => {
  const user = { sub: 'present', role: 'customer' };
  const presence = () => server.ok('GET', '/users/present/presence');
  assert.deepEqual(await presence(), { userId: 'present', online: false, connections: 0 });
  await connect(server, { user });
  await connect(server, { user, client: '3', transport: 'polling' });
  assert.deepEqual(await presence(), { userId: 'present', online: true, connections: 2 });
});

test('A version 2 client, which always joins the default namespace first, leaves no socket there', async () => {
  const clients = await Promise.all(Array.from({ length: 150 }, (_, i) => connect(server, {
    client: '2', transport: i % 3 ? 'websocket' : 'polling', user: { sub: `two-${i}`, role: 'customer' },
  })));
  for (const { userId } of clients.map((client) => client.of('connected')[0])) {
    await eventually(async () => {
      const { connections } = await server.ok('GET', `/users/${userId}/presence`);
      return connections === 1;
    }, `${userId} to be there once`, 2000);
  }
});
