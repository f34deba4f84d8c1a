// Broken and hostile connections. Each affects nobody else: a witness on its own socket is checked after each.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { joined, pollingUrl, tcp, within } from '../support/raw.mjs';
import { jwt, people, SERVICE, Server } from '../support/server.mjs';

const server = await Server.start();
const strict = await Server.start({ env: { FLOOD_GRACE_MS: '1000' } });
after(() => Promise.all([server.close(), strict.close()]));

const USER = { sub: 'abuser', role: 'customer' };
let witness;
before(async () => { witness = await connect(server, { client: '3', user: { sub: 'witness', role: 'customer' } }); });
afterEach(async () => {
  assert.equal((await witness.ask('ping:latency', { t: 1 })).t, 1);
  const fresh = await connect(server, { transport: 'polling', user: USER });
  await fresh.ask('ping:latency', { t: 2 });
  fresh.close();
  assert.deepEqual(witness.of('(disconnect)'), []);
});
after(closeAll);

const DEEP = 30_000;
const PACKETS = ['', '9', '4', '7x', '42', '42/realtime', '42/realtime,', '42/realtime,[', '42/realtime,{"a":1}',
  '42/realtime,[]', '42/realtime,[1]', '42/realtime,["ping:latency"', '42/realtime,99999999999999999999999["ping:latency",{}]',
  '42/realtime,1["ping:latency",{"t":1}]trailing', '43/realtime,7[]', '43/realtime,99999999999999999999[]', '44/realtime,"no"',
  '451-/realtime,["driver:location",{"_placeholder":true,"num":0}]', '45999999999999999-/realtime,["x"]', '45-/realtime,["x"]',
  '461-/realtime,5["driver:location",{"_placeholder":true,"num":7}]', '40/realtime,{bad', '40/nowhere,{}', '41/nowhere,',
  '4é', '42/réal,["x"]', '2probe', '5', '6', '3', '0{"sid":"x"}', 'b4AAAA', '\u0000', '42/realtime,["ping:latency",{"t":1e999}]',
  `42/realtime,["ping:latency",${'['.repeat(DEEP)}${']'.repeat(DEEP)}]`, `42/realtime,["${'\\u0000'.repeat(500)}"]`];

for (const version of [4, 3]) {
  test(`Malformed packets do no harm, Engine.IO ${version}`, async () => {
    for (const packet of [...PACKETS, Buffer.from([4, 0xff, 0xfe, 0]), Buffer.alloc(0)]) {
      const ws = await joined(server, USER, version);
      ws.send(packet);
      // This socket may survive or not. An answer or a close shows that the packet was handled.
      ws.send(`42/realtime,1["ping:latency",{"t":5}]`);
      const answered = new Promise((resolve) => {
        ws.on('message', (data) => { if (data.toString().startsWith('43/realtime,1[')) resolve(); });
      });
      await within(Promise.race([ws.closed, answered]), `an answer or a close after ${JSON.stringify(packet).slice(0, 60)}`);
      ws.terminate();
      await witness.ask('ping:latency', { t: 1 });
      // the witness may send 50 requests a second
      await new Promise((resolve) => { setTimeout(resolve, 20); });
    }
  });
}

test('A text frame that is not UTF-8 closes that socket', async () => {
  const ws = await joined(server, USER);
  ws.send(Buffer.from([0x34, 0xc3, 0x28]), { binary: false });
  await within(ws.closed, 'the close');
});

for (const combo of combos) {
  test(`${label(combo)}: a message of 20 MB closes the sender's connection, and nobody else notices`, async () => {
    const client = await connect(server, { ...combo, user: USER, options: { reconnection: false } });
    client.send('ping:latency', { t: 'x'.repeat(20_000_000) });
    assert.notEqual(await client.next('(disconnect)'), 'io server disconnect');
    client.close();
  });
}

test('A message of just under 64 KiB is read', async () => {
  for (const transport of ['websocket', 'polling']) {
    const client = await connect(server, { transport, user: USER });
    const { error } = await client.request('order:tracking', { orderId: 'x'.repeat(60_000) });
    assert.equal(error.code, 'invalid_payload');
  }
});

for (const combo of combos) {
  test(`${label(combo)}: a client that floods on is cut, and comes back by itself, while others are served`, { timeout: 60_000 }, async () => {
    const flood = await connect(strict, { ...combo, user: { sub: 'flood', role: 'customer' } });
    const onlooker = await connect(strict, { user: { sub: 'onlooker', role: 'customer' } });
    const more = setInterval(() => { for (let i = 0; i < 100; i += 1) flood.send('ping:latency', { t: i }); }, 20);
    const why = await flood.next('(disconnect)', () => true, 30_000);
    clearInterval(more);
    assert.match(why, /^transport (close|error)$/);
    await flood.count('connected', 2);
    const asked = Date.now();
    await onlooker.ask('ping:latency', { t: 3 });
    assert.ok(Date.now() - asked < 1000, `the onlooker waited ${Date.now() - asked} ms`);
    assert.deepEqual(onlooker.of('(disconnect)'), []);
    await witness.ask('ping:latency', { t: 3 });
    assert.ok(Date.now() - asked < 1000, `the witness waited ${Date.now() - asked} ms`);
  });
}

test('A handshake cut at any point leaves nothing behind', async () => {
  const user = { sub: 'cutter', role: 'customer' };
  const upgrade = `GET /socket.io/?EIO=4&transport=websocket&token=${jwt(user)} HTTP/1.1\r\nHost: x\r\n`
    + 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
  for (let cut = 1; cut <= upgrade.length; cut += 16) await tcp(server, upgrade.slice(0, cut));
  await tcp(server, upgrade);
  await tcp(server, Buffer.concat([Buffer.from(upgrade), Buffer.from([0x81, 0xfe, 0x40])])); // with half a frame
  for (let i = 0; i < 20; i += 1) {
    const ws = await joined(server, user);
    if (i % 2) ws.terminate(); else ws.close();
  }
  const join = `40/realtime,${JSON.stringify({ token: jwt(user) })}`;
  for (let i = 0; i < 20; i += 1) {
    const url = await pollingUrl(server);
    await fetch(url, { method: 'POST', body: join }); // joined, and it never polls
    await fetch(url, { method: 'POST', body: '1' }); // it closes all the same
  }
  // No event tells when the server has noticed a lost connection, so the test asks for presence until it has.
  const deadline = Date.now() + 10_000;
  let presence;
  do {
    presence = await server.ok('GET', '/users/cutter/presence');
  } while (presence.online && Date.now() < deadline);
  assert.deepEqual(presence, { userId: 'cutter', online: false, connections: 0 });
});

test('Garbage instead of HTTP and malformed HTTP are refused', async () => {
  for (const bytes of ['\u0000\u00ff GARBAGE\r\n\r\n', 'GET\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', 'POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n']) {
    const got = await tcp(server, Buffer.from(bytes, 'latin1'), { reply: true });
    assert.match(got, /^($|HTTP\/1\.[01] 4\d\d)/, JSON.stringify(bytes));
  }
  const longHeader = `GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(1_000_000)}`;
  await tcp(server, longHeader);
});

test('Malformed polling requests are refused with 4xx', async () => {
  const at = (query) => `${server.base}/socket.io/?${query}`;
  for (const query of ['', 'EIO=4', 'EIO=4&transport=carrier-pigeon',
    'EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA', 'EIO=4&transport=polling&sid=%00', 'EIO=4&transport=websocket']) {
    const { status } = await fetch(at(query));
    assert.ok(status >= 400 && status < 500, `${query}: ${status}`);
  }
  for (const body of ['', '\u001e', '4', '42/realtime,[', 'b', 'bAAA!', Buffer.from([0xff, 0xfe]), '4'.repeat(70_000)]) {
    const { status } = await fetch(await pollingUrl(server), { method: 'POST', body });
    assert.ok(status < 500, `a body of ${JSON.stringify(body).slice(0, 30)}: ${status}`);
  }
  const { status } = await fetch(await pollingUrl(server), { method: 'POST', body: '4'.repeat(20_000_000) });
  assert.equal(status, 413);
  assert.equal((await server.call('GET', `/orders/${people().customer.id}`, undefined, SERVICE)).status, 404);
});
