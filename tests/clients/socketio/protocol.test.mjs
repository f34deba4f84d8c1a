// Engine.IO packet by packet: how a session opens, lives and ends on either transport. For the upgrade from polling to a WebSocket
// see upgrade.test.mjs, for the packets of Socket.IO packets.test.mjs.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { ask, connections, frame, gone, join, named, nextTwo, opened, Polling, read, somebody, TRANSPORTS, Wire } from '../support/engineio.mjs';
import { eventually, jwt, Server } from '../support/server.mjs';

// So long that a session has begun before its first ping, also on a busy machine.
const INTERVAL_MS = 1000;
const TIMEOUT_MS = 1500;

const server = await Server.start({ env: { SOCKET_REQUESTS_PER_SECOND: '0' } });
const quick = await Server.start({ env: { PING_INTERVAL_MS: `${INTERVAL_MS}`, PING_TIMEOUT_MS: `${TIMEOUT_MS}` } });
after(() => Promise.all([server.close(), quick.close()]));

const PING = 9;
const PONG = 10;
const CONTINUED = 0;

// --- the handshake

for (const version of [4, 3]) {
  test(`Engine.IO ${version}: the first packet opens a session`, async () => {
    const polling = await Polling.open(server, version);
    const wire = await Wire.open(server, { version });
    const packet = await wire.next();
    assert.equal(packet[0], '0');
    const hellos = { polling: polling.hello, websocket: JSON.parse(packet.slice(1)) };
    for (const [transport, { sid, maxPayload, ...hello }] of Object.entries(hellos)) {
      assert.match(sid, /^[\w-]{16,}(\.[0-9a-z]+)?$/);
      assert.ok(maxPayload >= 65_536, `maxPayload is ${maxPayload}`);
      assert.deepEqual(hello, { upgrades: transport === 'polling' ? ['websocket'] : [], pingInterval: 25_000, pingTimeout: 20_000 }, transport);
    }
    assert.notEqual(hellos.polling.sid, hellos.websocket.sid);
    wire.cut();
  });
}

test('A malformed handshake is refused: 400 in polling, no session on a WebSocket', async () => {
  const { sid } = await Polling.open(server);
  const at = (query) => `${server.base}/socket.io/?${query}`;
  for (const [method, query] of [
    ['GET', ''], ['GET', 'EIO=4'], ['GET', 'EIO=4&transport='], ['GET', 'EIO=4&transport=pigeon'],
    ['POST', 'EIO=4&transport=polling'], ['PUT', 'EIO=4&transport=polling'], ['DELETE', 'EIO=4&transport=polling'],
    ['GET', 'EIO=4&transport=polling&sid='], ['GET', 'EIO=4&transport=polling&sid=nobody'], ['GET', 'EIO=4&transport=polling&sid=AAAAAAAAAAAAAAHs'],
    ['POST', 'EIO=4&transport=polling&sid=AAAAAAAAAAAAAAHs'], ['PUT', `EIO=4&transport=polling&sid=${sid}`],
  ]) {
    const { status } = await fetch(at(query), { method, ...(method === 'POST' && { body: '2' }) });
    assert.equal(status, 400, `${method} ${query}`);
  }
  const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' };
  for (const [query, missing] of [['EIO=4'], ['EIO=4&transport=pigeon'],
    ['EIO=4&transport=websocket&sid=nobody'], ['EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAHs'], ['EIO=4&transport=websocket', 'sec-websocket-key']]) {
    const headers = Object.entries(upgrade).filter(([name]) => name !== missing).map(([name, value]) => `${name}: ${value}\r\n`).join('');
    const wire = await Wire.open(server, { head: `GET /socket.io/?${query} HTTP/1.1\r\nhost: x\r\n${headers}\r\n` });
    assert.ok(wire.status >= 400 && wire.status < 500, `${query}: ${wire.status}`);
    wire.cut();
  }
});

test('What does not say EIO=4 speaks version 3', async () => {
  for (const says of ['', 'b64=1&', 'EIO=&', 'EIO=abc&', 'EIO=2&', 'EIO=5&', 'EIO=3&', 'EIO=4&EIO=3&']) {
    const url = `${server.base}/socket.io/?${says}transport=polling`;
    const response = await fetch(url);
    const text = await response.text();
    assert.equal(response.status, 200, url);
    const [, length, packet] = /^(\d+):(0\{.*\})$/.exec(text);
    assert.equal(packet.length, Number(length), url);
    const again = `${url}&sid=${JSON.parse(packet.slice(1)).sid}`;
    assert.match(await (await fetch(again)).text(), /^\d+:44/, `${url}: it is in the default namespace at once`);
    assert.equal((await fetch(`${again}&EIO=4`)).status, 400, 'a session keeps its version');
    const wire = await Wire.open(server, { head: `GET /socket.io/?${says}transport=websocket HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n`
      + 'sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' });
    assert.equal(wire.status, 101, url);
    assert.match(await wire.next(), /^0\{/);
    await wire.send('2');
    const packets = [await wire.next(), await wire.next()];
    assert.ok(packets.includes('3'), `${url}: it answers the client's ping: ${packets}`);
    wire.cut();
  }
});

test('The client library is served, as Socket.IO’s own server does', async () => {
  for (const name of ['socket.io.js', 'socket.io.min.js', 'socket.io.esm.min.js']) {
    const url = `${server.base}/socket.io/${name}`;
    const response = await fetch(url);
    assert.equal(response.status, 200, name);
    assert.match(response.headers.get('content-type'), /javascript; charset=utf-8/);
    assert.match(await response.text(), /Socket\.IO v4\./);
    const tag = response.headers.get('etag');
    for (const known of [tag, `W/${tag}`, `"x", ${tag}`]) assert.equal((await fetch(url, { headers: { 'if-none-match': known } })).status, 304, known);
    assert.equal((await fetch(url, { headers: { 'if-none-match': '"x"' } })).status, 200);
  }
  assert.equal((await fetch(`${server.base}/socket.io/socket.io.php`)).status, 404);
  // It is the library, and it works.
  const source = await (await fetch(`${server.base}/socket.io/socket.io.js`)).text();
  const scope = {};
  new Function('exports', 'module', 'define', source).call(scope, undefined, undefined, undefined); // eslint-disable-line no-new-func
  assert.equal(typeof (scope.io ?? globalThis.io), 'function');
});

// --- heartbeats

describe('Heartbeats', { concurrency: true }, () => {
  for (const transport of Object.keys(TRANSPORTS)) {
    for (const joins of [true, false]) {
      test(`${transport}, ${joins ? 'joined' : 'not joined'}: pings come after the interval and not before, and silence ends the session`, async () => {
        const user = somebody();
        // Several sessions, because the first ping is the one that may come too early. The server's clock for each starts after ours.
        await Promise.all(Array.from({ length: 10 }, async (_, i) => {
          const began = Date.now();
          const session = await opened(quick, transport, joins && user);
          const rounds = i === 0 && joins ? 3 : 1;
          for (let round = 1; round <= rounds; round += 1) {
            assert.equal(await session.next(), '2');
            assert.ok(Date.now() - began >= round * INTERVAL_MS, `ping ${round} came after ${Date.now() - began} ms`);
            if (round < rounds) await session.send('3');
          }
          if (!joins) return; // a session that does not join is ended for that
          const pinged = Date.now();
          if (transport === 'websocket') assert.deepEqual(await session.rest(), []);
          else assert.ok([503, 400].includes((await session.poll()).status));
          assert.ok(Date.now() - began >= rounds * INTERVAL_MS + TIMEOUT_MS, `given up ${Date.now() - began} ms after the beginning`);
          assert.ok(Date.now() - pinged < TIMEOUT_MS + 3000, `given up after ${Date.now() - pinged} ms of silence`);
        }));
        await gone(quick, user, transport);
      });
    }

    test(`${transport}, Engine.IO 3: the client pings, and its silence ends the session`, async () => {
      const session = await TRANSPORTS[transport].open(quick, transport === 'polling' ? 3 : { version: 3 });
      if (transport === 'websocket') await session.next();
      assert.match(await session.next(), /^44.*unauthorized/, 'the default namespace is entered at once, and has its rules');
      const user = somebody();
      await session.send(`40/realtime?token=${jwt(user)},`);
      assert.deepEqual((await nextTwo(session)).map(named), ['40/realtime,', 'connected'], 'its reply says nothing');
      let pinged;
      for (let i = 0; i < 3; i += 1) {
        pinged = Date.now();
        await session.send('2');
        assert.equal(await session.next(), '3');
      }
      await gone(quick, user, transport);
      const silence = Date.now() - pinged;
      assert.ok(silence >= INTERVAL_MS + TIMEOUT_MS && silence < INTERVAL_MS + TIMEOUT_MS + 3000, `given up after ${silence} ms`);
    });
  }

  test('A client that answers pings stays, on both transports', async () => {
    const user = somebody();
    const wire = await opened(quick, 'websocket', user);
    const polling = await opened(quick, 'polling', user);
    const until = Date.now() + INTERVAL_MS + 2 * TIMEOUT_MS;
    await Promise.all([wire, polling].map(async (session) => {
      while (Date.now() < until) {
        assert.equal(await session.next(), '2');
        await session.send('3');
      }
    }));
    assert.equal(await connections(quick, user), 2);
    wire.cut();
  });
});

// --- polling

test('An aborted poll ends the session', async () => {
  // No signal tells that the server has the poll, and aborting a poll that it never saw changes nothing. So this tries again with another session.
  const session = await eventually(async () => {
    const user = somebody();
    const one = await opened(server, 'polling', user);
    const giveUp = new AbortController();
    const poll = one.poll({ signal: giveUp.signal });
    await one.send('3');
    await server.call('GET', '/health', undefined, null);
    giveUp.abort();
    await assert.rejects(poll, { name: 'AbortError' });
    return gone(server, user, 'after the abort', 2000).then(() => one, () => false);
  }, 'a poll given up to end its session');
  assert.equal((await session.poll()).status, 400);
});

test('Two polls at once end the session', async () => {
  const user = somebody();
  const session = await opened(server, 'polling', user);
  const polls = await Promise.all([session.poll(), session.poll()]);
  // No close packet: python-socketio would stay away after one.
  assert.deepEqual(polls.map(({ status }) => status).sort(), [400, 503]);
  assert.equal((await session.poll()).status, 400);
  await gone(server, user, 'after two polls');
});

test('Many packets fit into one body', async () => {
  const session = await opened(server, 'polling', somebody());
  const many = Array.from({ length: 200 }, (_, t) => ask('ping:latency', { t }, t));
  assert.equal(await session.send('3', ...many, '3'), 200);
  for (let t = 0; t < many.length; t += 1) assert.equal(read(await session.next()).data[0].t, t);
  // a request in one body with its CONNECT comes too early
  const hasty = await opened(server, 'polling');
  await hasty.send(join(somebody()), ask('ping:latency', { t: 1 }, 1));
  await eventually(async () => (await hasty.poll()).status === 400, 'the end');
});

// --- WebSocket

test('Bytes may come one by one, from the handshake on', async () => {
  const wire = await Wire.open(server, { dribble: true });
  assert.equal((await wire.next())[0], '0');
  await wire.send(join(somebody()));
  assert.deepEqual((await nextTwo(wire)).map((packet) => named(packet).slice(0, 12)), ['40/realtime,', 'connected']);
  await wire.send(ask('ping:latency', { t: 1 }, 1), ask('ping:latency', { t: 2 }, 2));
  assert.deepEqual((await nextTwo(wire)).map((packet) => read(packet).ack), ['1', '2']);
  wire.cut();
});

test('Messages may come in one write, or in many frames', async () => {
  const user = somebody();
  const wire = await opened(server, 'websocket', user);
  await wire.send(...Array.from({ length: 100 }, (_, t) => ask('ping:latency', { t }, t)));
  for (let t = 0; t < 100; t += 1) assert.equal(read(await wire.next()).ack, `${t}`);
  for (const size of [1, 7, 125, 126, 5000]) {
    const message = ask('ping:latency', { t: 'x'.repeat(10_000) }, size);
    const pieces = message.match(new RegExp(`.{1,${size}}`, 'g'));
    await wire.write(Buffer.concat(pieces.flatMap((piece, i) => [
      frame(piece, { opcode: i ? CONTINUED : 1, fin: i === pieces.length - 1 }),
      ...(i === 0 ? [frame('between', { opcode: PING })] : []),
    ])));
    const pong = await wire.frame();
    assert.deepEqual([pong.opcode, `${pong.payload}`], [PONG, 'between'], `pieces of ${size}`);
    const { ack, data: [answer] } = read(await wire.next());
    assert.deepEqual([ack, answer.t.length], [`${size}`, 10_000]);
  }
  wire.cut();
});

test('A ping is answered, a pong is ignored, a close frame is returned', async () => {
  const user = somebody();
  const wire = await opened(server, 'websocket', user);
  for (const payload of ['', 'x'.repeat(125)]) {
    await wire.write(Buffer.concat([frame('nobody asked', { opcode: PONG }), frame(payload, { opcode: PING })]));
    const pong = await wire.frame();
    assert.deepEqual([pong.opcode, pong.masked, `${pong.payload}`], [PONG, false, payload]);
  }
  await wire.write(frame(Buffer.from([0x03, 0xe8, 0x62, 0x79, 0x65]), { opcode: 8 }));
  const close = await wire.frame();
  assert.deepEqual([close.opcode, close.payload.readUInt16BE()], [8, 1000]);
  assert.equal(await wire.frame('the end'), undefined);
  await gone(server, user, 'after a close frame');
});

test('A malformed frame ends the session', async () => {
  const user = somebody();
  for (const [what, bytes] of [
    ['not masked', frame(ask('ping:latency', {}), { masked: false })], ['a reserved opcode', frame('x', { opcode: 3 })],
    ['a reserved bit', Buffer.from([0xc1, 0x80, 0, 0, 0, 0])], ['a control frame in pieces', frame('x', { opcode: PING, fin: false })],
    ['a control frame too long', frame('x'.repeat(126), { opcode: PING })], ['a continuation of nothing', frame('x', { opcode: CONTINUED })],
    ['a message begun within another', Buffer.concat([frame('4', { fin: false }), frame('4')])],
    ['a frame of 2^62 bytes', Buffer.from([0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
  ]) {
    const wire = await opened(server, 'websocket', user);
    await wire.write(bytes);
    assert.deepEqual((await wire.rest()).filter((packet) => packet !== '1'), [], what);
    await gone(server, user, what);
  }
});
