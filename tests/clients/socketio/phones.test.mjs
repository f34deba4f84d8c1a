// The bytes of clients for phones that are not run here: socket.io-client-swift 16.1.1, socket_io_client 3.1.6 (Dart) and
// socket.io-client-java 2.1.2. docs/clients.md says what comes of them in an app.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, test } from 'node:test';
import { Polling, Wire } from '../support/engineio.mjs';
import { within } from '../support/raw.mjs';
import { as, jwt, people, Server } from '../support/server.mjs';

const server = await Server.start();
after(() => server.close());

/** A customer with an order. */
async function somebody() {
  const who = people();
  const { id } = await server.create(who);
  return { id, token: jwt(as(who.customer, 'customer')) };
}

/** A WebSocket whose request has this query, as it stands. */
async function webSocket(query, { origin } = {}) {
  const head = `GET /socket.io/?${query} HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n`
    + `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n${origin ? `Origin: ${origin}\r\n` : ''}\r\n`;
  return Wire.open(server, { head });
}
/** What the Swift client says: Starscream names the WebSocket itself. */
const SWIFT_ORIGIN = () => `ws://127.0.0.1:${server.port}`;

const SWIFT_POST = { 'content-type': 'text/plain; charset=UTF-8' };
/** Polling as the Swift client does it: its parameters stand where it puts them, and `b64` is always there. */
class Swift {
  constructor(version, more = '') { this.query = `transport=polling&b64=1${more}&EIO=${version}`; this.version = version; }

  async poll() { return (await within(fetch(`${server.base}/socket.io/?${this.query}`), 'a poll')).text(); }

  async open() {
    const text = await this.poll();
    this.hello = JSON.parse(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1));
    this.query += `&sid=${this.hello.sid}`;
    return this;
  }

  async post(packet) {
    const body = this.version === 4 ? packet : `${packet.length}:${packet}`;
    const response = await within(fetch(`${server.base}/socket.io/?${this.query}`, { method: 'POST', headers: SWIFT_POST, body }), 'a post');
    assert.deepEqual([response.status, await response.text()], [200, 'ok']);
  }

  /** Polls until a packet is among what came. */
  async until(pattern) {
    for (;;) {
      const text = await this.poll();
      const found = pattern.exec(text);
      if (found) return found;
    }
  }
}

/** Reads a WebSocket until a packet matches. */
async function until(wire, pattern) {
  for (;;) {
    const packet = await wire.next();
    const found = pattern.exec(packet);
    if (found) return found;
    assert.doesNotMatch(packet, /^44/);
  }
}

test('Swift: polling, a request with an ack, and the upgrade while a poll waits', async () => {
  const { id, token } = await somebody();
  const swift = await new Swift(4).open();
  assert.deepEqual(swift.hello.upgrades, ['websocket']);
  await swift.post(`40/realtime,${JSON.stringify({ token })}`);
  await swift.until(/42\/realtime,\["connected"/);
  await swift.post(`42/realtime,0${JSON.stringify(['subscribe:order', { orderId: id }])}`);
  await swift.until(/43\/realtime,0\[\{"ok":true/);
  const wire = await webSocket(`transport=websocket&EIO=4&sid=${swift.hello.sid}`, { origin: SWIFT_ORIGIN() });
  const waiting = swift.poll();
  await wire.send('2probe');
  assert.equal(await wire.next(), '3probe');
  // The client posts nothing here: it waits until its poll is over.
  await waiting;
  await wire.send('5');
  await server.status(id, 'accepted');
  const [, update, offset] = await until(wire, /^42\/realtime,\["order:status_update",(\{.*"status":"accepted".*\}),"([^"]+)"\]$/);
  assert.equal(JSON.parse(update).seq, 2);
  assert.ok(offset);
  await wire.send('41/realtime,');
  wire.cut();
});

test('Swift: it names the default namespace, which others leave out', async () => {
  const { id, token } = await somebody();
  const swift = await new Swift(4).open();
  await swift.post(`40/,${JSON.stringify({ token })}`);
  await swift.until(/^40\{"sid"/);
  await server.status(id, 'accepted');
  await swift.until(/42\["orderStatusUpdate",\{.*"status":"accepted"/);
});

test('Swift: it changes to a WebSocket at once, and its request to join comes after that', async () => {
  const { token } = await somebody();
  const swift = await new Swift(4).open();
  const wire = await webSocket(`transport=websocket&EIO=4&sid=${swift.hello.sid}`, { origin: SWIFT_ORIGIN() });
  await wire.send('2probe');
  assert.equal(await wire.next(), '3probe');
  await wire.send('5');
  await swift.post(`40/realtime,${JSON.stringify({ token })}`);
  await until(wire, /^40\/realtime,\{"sid"/);
  await until(wire, /^42\/realtime,\["connected"/);
  wire.cut();
});

test('JavaScript with a token that takes its time: it joins on the WebSocket, in the same breath as the change', async () => {
  const { token } = await somebody();
  for (const more of ['', 'x'.repeat(5_000)]) {
    const { hello } = await Polling.open(server);
    const wire = await webSocket(`EIO=4&transport=websocket&sid=${hello.sid}`);
    await wire.send('2probe');
    assert.equal(await wire.next(), '3probe');
    await wire.send('5', `40/realtime,${JSON.stringify({ token, more })}`);
    await until(wire, /^40\/realtime,\{"sid"/);
    await until(wire, /^42\/realtime,\["connected"/);
    wire.cut();
  }
});

test('Swift as version 2: no event comes before the answer to its join, however early it asks', async () => {
  const { token } = await somebody();
  const orders = await Promise.all(Array.from({ length: 240 }, async () => {
    const wire = await webSocket(`transport=websocket&EIO=3&token=${token}`, { origin: SWIFT_ORIGIN() });
    assert.match(await wire.next(), /^0/);
    await wire.send('40/realtime,');
    const kinds = [];
    while (kinds.length < 2) {
      const [kind] = /^4[02]\/realtime,/.exec(await wire.next()) ?? [];
      if (kind) kinds.push(kind);
    }
    wire.cut();
    return kinds.join(' ');
  }));
  assert.deepEqual([...new Set(orders)], ['40/realtime, 42/realtime,']);
});

test('Swift as version 2: the token is a parameter of every request, and a change has one argument', async () => {
  const { id, token } = await somebody();
  const swift = await new Swift(3, `&token=${token}`).open();
  await swift.post('40/realtime,');
  await swift.until(/42\/realtime,\["connected"/);
  await server.status(id, 'accepted');
  await swift.until(/42\/realtime,\["order:status_update",\{[^[\]]*"status":"accepted"[^[\]]*\}\]/);
});

test('Dart: recovery with its pid, first without an offset, then with that of the last change', async () => {
  const { id, token } = await somebody();
  const connect = async (before) => {
    const wire = await webSocket('EIO=4&transport=websocket');
    await wire.send(`40/realtime,${JSON.stringify({ ...before, token })}`);
    const [, hello] = await until(wire, /^40\/realtime,(\{.*\})$/);
    return { wire, pid: JSON.parse(hello).pid };
  };
  const first = await connect();
  await until(first.wire, /"connected"/);
  first.wire.cut();
  await server.status(id, 'accepted');
  // It writes null where JavaScript leaves the member out.
  const second = await connect({ pid: first.pid, offset: null });
  assert.equal(second.pid, first.pid, 'recovered');
  const change = (status) => new RegExp(`^42/realtime,\\["order:status_update",\\{.*"status":"${status}".*\\},"([^"]+)"\\]$`);
  const [, offset] = await until(second.wire, change('accepted'));
  second.wire.cut();
  await server.status(id, 'preparing');
  const third = await connect({ pid: first.pid, offset });
  assert.equal(third.pid, first.pid, 'recovered');
  const [packet] = await until(third.wire, /^42\/realtime,\["order:status_update".*$/);
  assert.match(packet, change('preparing'), 'only what it has missed');
  third.wire.cut();
});

test('Dart on a phone that does not name its transport: no WebSocket, because it asks for polling on one', async () => {
  const wire = await webSocket('EIO=4&transport=polling');
  assert.equal(wire.status, 200);
  wire.cut();
});

test('Java: the token as a parameter, and a packet that joins without a payload', async () => {
  const { token } = await somebody();
  const wire = await webSocket(`EIO=4&transport=websocket&token=${token}`);
  await wire.send('40/realtime,');
  await until(wire, /^42\/realtime,\["connected"/);
  wire.cut();
});

test('Java: a position is taken as text and in a parameter; what is none is refused by name', async () => {
  const { token } = await somebody();
  const refused = await webSocket('EIO=4&transport=websocket');
  await refused.next();
  await refused.send(`40/realtime,${JSON.stringify({ token, position: 'four' })}`);
  assert.match(await refused.next(), /^44\/realtime,\{"message":"invalid_payload: position: must be a whole number/);
  refused.cut();
  for (const [query, auth] of [['', { token, position: '0' }], ['&position=0', { token }]]) {
    const taken = await webSocket(`EIO=4&transport=websocket${query}`);
    await taken.send(`40/realtime,${JSON.stringify(auth)}`);
    await until(taken, /^42\/realtime,\["connected"/);
    taken.cut();
  }
});
