// Each raw WebSocket door at the level of bytes: RFC 6455 on handshakes, frames, text and closing, as the Autobahn suite checks it.
// For clients that are silent, stall or disappear see websocket-peers.test.mjs.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, test } from 'node:test';
import { connections, somebody } from '../support/engineio.mjs';
import { jwt, Server } from '../support/server.mjs';
import {
  ACCEPT, answer, answers, asking, atEach, closed, closing, cut, dismissed, doorsOf, framed, headOf, inPieces, OPCODE, RESERVED, said,
} from '../support/websocket.mjs';

const LIMIT = 65_536;
const FRIEND = 'http://a.test';
const FOE = 'http://evil.test';

const server = await Server.start({ env: { SOCKET_REQUESTS_PER_SECOND: '0' } });
const listed = await Server.start({ args: ['--cors-origin', `${FRIEND},http://b.test`] });
after(() => Promise.all([server.close(), listed.close()]));
const [doors, listedDoors] = await Promise.all([server, listed].map(doorsOf));
const each = atEach(server, doors);

// --- the handshake

each('The handshake gets the right answer', async ({ door, user }) => {
  const token = jwt(user);
  for (const [what, options] of [
    ['plain', {}],
    ['as Firefox spells it', { Connection: 'keep-alive, Upgrade', Upgrade: 'WebSocket' }],
    ['compression offered', { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' }],
  ]) {
    const { status, headers } = await answer(server, door.path, { token, ...options });
    assert.equal(status, 101, what);
    assert.equal(headers['sec-websocket-accept'], ACCEPT, what);
    assert.deepEqual([headers.upgrade, headers.connection].map((value) => value.toLowerCase()), ['websocket', 'upgrade'], what);
    for (const unasked of ['sec-websocket-protocol', 'sec-websocket-extensions']) assert.equal(headers[unasked], undefined, what);
  }
});

each('A request that is no WebSocket upgrade is refused', async ({ door, user }) => {
  const token = jwt(user);
  const plain = await fetch(`${server.base}${door.path}?token=${token}`);
  await plain.text();
  assert.equal(plain.status, 426, 'a GET without an upgrade');
  for (const [what, options, allowed] of [
    ['no Upgrade', { Upgrade: undefined }, [426]],
    ['no Connection', { Connection: undefined }, [400, 426]],
    ['an upgrade to something else', { Upgrade: 'h2c' }, [400, 426]],
    ['no version', { 'Sec-WebSocket-Version': undefined }, [400, 426]],
    ['version 8', { 'Sec-WebSocket-Version': '8' }, [400, 426]],
    ['a version that is none', { 'Sec-WebSocket-Version': 'thirteen' }, [400, 426]],
    ['no key', { 'Sec-WebSocket-Key': undefined }, [400, 426]],
    ['POST', { method: 'POST' }, [405]],
    ['DELETE', { method: 'DELETE' }, [405]],
  ]) {
    const { status, headers } = await answer(server, door.path, { token, ...options });
    assert.ok(allowed.includes(status), `${what}: ${status}`);
    if (status === 426) assert.match(headers.upgrade ?? '', /websocket/i, `${what}: which upgrade is required`);
    if (what === 'version 8') assert.equal(headers['sec-websocket-version'], '13', 'which version it would take');
  }
});

const EXPIRED = 1_000_000_000;

each('The token may be in the query, in a header or missing, and a bad one is refused', async ({ door, user, knocks, open }) => {
  await answers(await open(), 'in the query');
  assert.equal(await connections(server, user), 1);
  const bad = {
    garbage: 'x', forged: jwt(user, { secret: 'another-secret-of-more-than-32-bytes' }), unsigned: jwt(user, { alg: 'none' }),
    expired: jwt({ ...user, exp: EXPIRED }),
  };
  const good = { Authorization: `Bearer ${jwt(user)}` };
  const refused = async (options, reason, what) => {
    const wire = await knocks(options);
    assert.equal(wire.status, 101, `${what}: what is wrong is said by the close code`);
    assert.deepEqual(await dismissed(wire, what), { code: 1008, reason, before: [] }, what);
  };
  const letIn = async (options, what) => {
    const wire = await knocks(options);
    if (door.hello) assert.equal((await said(wire)).type, door.hello, what);
    await answers(wire, what);
  };
  await letIn(good, 'in a header');
  await letIn({ ...good, token: bad.forged }, 'the header goes before the query');
  await refused({ Authorization: `Bearer ${bad.forged}`, token: jwt(user) }, 'Invalid token', 'a bad header goes before the query');
  if (door.closed) await refused({}, 'Token required', 'none');
  else await letIn({}, 'none');
  for (const [what, token] of Object.entries(bad)) await refused({ token }, 'Invalid token', what);
});

test('A foreign page is refused, because CORS would not stop it', async () => {
  for (const [at, all, origin, wanted] of [
    [server, doors, FOE, 403], [server, doors, 'null', 403], [server, doors, server.base, 101],
    [listed, listedDoors, FOE, 403], [listed, listedDoors, 'https://a.test', 403], [listed, listedDoors, FRIEND, 101],
  ]) {
    for (const { name, path } of all) {
      const { status } = await answer(at, path, { token: jwt(somebody()), Origin: origin });
      assert.equal(status, wanted, `${name} from ${origin}`);
    }
  }
});

// --- frames and messages

each('Text of every class of length arrives, in any number of fragments', async ({ open }) => {
  const wire = await open();
  for (const length of [0, 1, 125, 126, 127, 5000, LIMIT - 1, LIMIT]) {
    const short = length < asking().length;
    const text = short ? 'x'.repeat(length) : asking(length);
    const small = Math.ceil(length / 5000) || 1;
    for (const pieces of [[text], cut(text, Math.ceil(length / 2)), cut(text, small), ['', ...cut(text, 1000), '', '']]) {
      await wire.write(inPieces(pieces));
      const { type, code } = await said(wire);
      assert.deepEqual([type, code], short ? ['error', 'malformed'] : ['pong', undefined], `${length} bytes in ${pieces.length}`);
    }
  }
});

each('Control frames between the fragments of a message are answered at once', async ({ open }) => {
  const wire = await open();
  const pieces = cut(asking(300), 1);
  const between = (i) => Buffer.concat([framed(`${i}`, { opcode: OPCODE.ping }), framed('nobody asked', { opcode: OPCODE.pong })]);
  const bytes = inPieces(pieces, { between });
  const last = framed(pieces.at(-1), { opcode: OPCODE.continuation }).length;
  await wire.write(bytes.subarray(0, -last));
  for (let i = 1; i < pieces.length; i += 1) {
    const { opcode, payload } = await wire.frame('a pong');
    assert.deepEqual([opcode, `${payload}`], [OPCODE.pong, `${i}`]);
  }
  await wire.write(bytes.subarray(-last));
  assert.deepEqual(await said(wire), { type: 'pong' });
});

each('Pings of every length get their payload back, in order', async ({ open }) => {
  const wire = await open();
  const payloads = Array.from({ length: 126 }, (_, length) => randomBytes(length));
  await wire.write(Buffer.concat(payloads.map((payload) => framed(payload, { opcode: OPCODE.ping }))));
  for (const payload of payloads) {
    const got = await wire.frame('a pong');
    assert.deepEqual([got.opcode, got.fin, got.masked, got.payload.toString('hex')], [OPCODE.pong, true, false, payload.toString('hex')]);
  }
  await wire.write(Buffer.concat(payloads.map((payload) => framed(payload, { opcode: OPCODE.pong }))));
  await answers(wire, 'after pongs that nobody asked for');
});

const halfMessage = framed('{"type":', { fin: false });
const FAULTS = {
  'text that is not masked': framed(asking(), { masked: false }),
  'a ping that is not masked': framed('x', { opcode: OPCODE.ping, masked: false }),
  'a close frame that is not masked': framed(closing(1000), { opcode: OPCODE.close, masked: false }),
  ...Object.fromEntries(Object.entries(RESERVED).flatMap(([name, reserved]) => [
    [`text with the ${name} reserved bit`, framed(asking(), { reserved })],
    [`a ping with the ${name} reserved bit`, framed('', { opcode: OPCODE.ping, reserved })],
    [`a piece with the ${name} reserved bit`, Buffer.concat([halfMessage, framed('"ping"}', { opcode: OPCODE.continuation, reserved })])],
  ])),
  ...Object.fromEntries([3, 4, 5, 6, 7, 11, 12, 13, 14, 15].flatMap((opcode) => [
    [`opcode ${opcode}`, framed(asking(), { opcode })],
    [`opcode ${opcode}, empty, between pieces`, Buffer.concat([halfMessage, framed('', { opcode })])],
  ])),
  ...Object.fromEntries(['ping', 'pong', 'close'].flatMap((name) => [
    [`a ${name} in pieces`, framed('', { opcode: OPCODE[name], fin: false })],
    [`a ${name} of 126 bytes`, framed(closing(1000, 'x'.repeat(124)), { opcode: OPCODE[name] })],
    [`a ${name} of 64 KiB`, framed('x'.repeat(LIMIT), { opcode: OPCODE[name] })],
  ])),
  'a piece of nothing': framed(asking(), { opcode: OPCODE.continuation }),
  'a first piece of nothing': framed(asking(), { opcode: OPCODE.continuation, fin: false }),
  'a piece after the last one': Buffer.concat([halfMessage, framed('"ping"', { opcode: OPCODE.continuation, fin: false }),
    framed('}', { opcode: OPCODE.continuation }), framed('', { opcode: OPCODE.continuation })]),
  'a message within a message': Buffer.concat([halfMessage, framed(asking())]),
  'a binary message within a message': Buffer.concat([halfMessage, framed('', { opcode: OPCODE.binary })]),
  'a message in pieces within a message': Buffer.concat([halfMessage, halfMessage]),
};

each('A malformed frame closes the connection with 1002', async ({ open }) => {
  for (const [what, bytes] of Object.entries(FAULTS)) {
    const wire = await open();
    await answers(wire, what);
    await wire.write(bytes);
    const { code, before: told } = await dismissed(wire, what);
    assert.deepEqual([code, told], [1002, what === 'a piece after the last one' ? [{ type: 'pong' }] : []], what);
  }
});

const withinText = (bytes) => [Buffer.from('{"type":"ping","pad":"'), Buffer.from(bytes), Buffer.from('"}')];
const GOOD_TEXT = ['\u007f', '\u0080', '\u07ff', '\u0800', '\ud7ff', '\ue000', '\ufffd', '\ufffe', '\uffff', '\u{10000}', '\u{1fffe}', '\u{10ffff}',
  'κόσμε Višnjan ночь 東京 🛵'];
const BAD_TEXT = {
  'a continuation byte alone': [0x80], 'two of them': [0xbf, 0xbf], 'a start byte alone': [0xc3], 'a start byte before a space': [0xc3, 0x28],
  'three bytes without the last': [0xe6, 0x97], 'four bytes without the last': [0xf0, 0x9f, 0x9b],
  'overlong: two bytes': [0xc0, 0xaf], 'overlong: three bytes': [0xe0, 0x80, 0xaf], 'overlong: four bytes': [0xf0, 0x80, 0x80, 0xaf],
  'overlong: NUL': [0xc0, 0x80], 'a high surrogate': [0xed, 0xa0, 0x80], 'a low surrogate': [0xed, 0xbf, 0xbf],
  'a pair of surrogates': [0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80], 'beyond the last character': [0xf4, 0x90, 0x80, 0x80],
  'five bytes': [0xf8, 0x88, 0x80, 0x80, 0x80], 'FE': [0xfe], 'FF': [0xff],
};

each('Characters of every kind arrive, whole and cut anywhere', async ({ open }) => {
  const wire = await open();
  for (const text of GOOD_TEXT) {
    const message = Buffer.concat(withinText(text));
    for (const pieces of [[message], cut(message, 1), withinText(text)]) {
      await wire.write(inPieces(pieces, { between: () => framed('', { opcode: OPCODE.pong }) }));
      assert.deepEqual(await said(wire), { type: 'pong' }, `${JSON.stringify(text)} in ${pieces.length}`);
    }
  }
});

each('Text that is not UTF-8 closes the connection with 1007', async ({ open }) => {
  for (const [what, bytes] of Object.entries(BAD_TEXT)) {
    const whole = Buffer.concat(withinText(bytes));
    const unended = Buffer.concat(withinText(bytes).slice(0, 2));
    for (const [how, pieces] of [['whole', [whole]], ['byte by byte', cut(whole, 1)], ['in a piece of its own', withinText(bytes)], ['at the end', [unended]],
      ['at the end of the last piece', cut(unended, 5)]]) {
      const wire = await open();
      await wire.write(inPieces(pieces));
      const { code, before: told } = await dismissed(wire, what);
      assert.deepEqual([code, told], [1007, []], `${what}, ${how}`);
    }
  }
});

each('A message of over 256 KiB closes the connection with 1009 at once, without waiting for the rest', async ({ open }) => {
  const long = 'x'.repeat(4 * LIMIT + 1);
  const huge = 'x'.repeat(1_000_000);
  const witness = await open();
  for (const [what, bytes] of Object.entries({
    'one byte too many': framed(long), 'one byte too many, binary': framed(long, { opcode: OPCODE.binary }),
    'one byte too many, in two': inPieces([long.slice(1), 'x']), 'one byte too many, in many': inPieces(cut(long, 100)),
    'one byte too many, and more to come': framed(long, { fin: false }), '1 MB': framed(huge), '1 MB in pieces': inPieces(cut(huge, 10_000)),
    'a promise of one byte too many': headOf(4 * LIMIT + 1), 'a promise of 1 GiB': headOf(2 ** 30), 'a promise of 2^63 - 1 bytes': headOf(2n ** 63n - 1n),
  })) {
    const wire = await open();
    await answers(wire, what);
    await wire.write(bytes);
    const { code, before: [told, ...more] } = await dismissed(wire, what);
    assert.deepEqual([code, told.code, told.limit, more], [1009, 'too_large', LIMIT, []], what);
    await answers(witness, what);
  }
  // 2^63 is more than the protocol allows, so both codes are right.
  const wire = await open();
  await wire.write(headOf(2n ** 63n));
  assert.ok([1002, 1009].includes((await dismissed(wire)).code), 'a promise of 2^63 bytes');
});

each('Each binary message is refused, and the connection stays open', async ({ open }) => {
  const wire = await open();
  const binary = { opcode: OPCODE.binary };
  for (const bytes of [framed('', binary), framed(asking(), binary), framed(randomBytes(LIMIT), binary), inPieces(cut(randomBytes(500), 100), binary)]) {
    await wire.write(bytes);
    const { type, code } = await said(wire);
    assert.deepEqual([type, code], ['error', 'invalid_payload']);
    await answers(wire, 'it stays open');
  }
});

// --- closing

each('A close frame is returned, and then the connection ends', async ({ open }) => {
  const goodbye = async (body, first = '') => {
    const wire = await open();
    await wire.write(Buffer.concat([Buffer.from(first), framed(body, { opcode: OPCODE.close }), framed(asking())]));
    return closed(wire);
  };
  for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]) {
    for (const reason of ['', 'bye', `${'x'.repeat(121)}é`]) {
      const got = await goodbye(closing(code, reason));
      assert.deepEqual([got.code, got.before], [code, []], `${code} ${reason}`);
    }
  }
  const silent = await goodbye('');
  assert.ok([null, 1000].includes(silent.code), `nothing was said, and ${silent.code} returned`);
  assert.equal((await goodbye(closing(1000), halfMessage)).code, 1000, 'in the middle of a message');
});

each('A malformed close frame gets 1002, or 1007 when only its reason is not UTF-8', async ({ open }) => {
  const badCodes = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];
  for (const [what, body, wanted] of [
    ...badCodes.flatMap((code) => [[`${code}`, closing(code), 1002], [`${code} and a reason`, closing(code, 'bye'), 1002]]),
    ['half a code', Buffer.from([3]), 1002],
    ...Object.entries(BAD_TEXT).map(([what, bytes]) => [what, closing(1000, Buffer.from(bytes)), 1007]),
  ]) {
    const wire = await open();
    await wire.write(framed(body, { opcode: OPCODE.close }));
    assert.equal((await dismissed(wire, what)).code, wanted, what);
  }
});

// --- the same bytes in other TCP segments

each('Bytes may come one by one, from the handshake on', async ({ open }) => {
  const wire = await open({ dribble: true });
  await answers(wire, 'text');
  await wire.write(inPieces(cut(asking(130), 50), { between: (i) => framed(`${i}`, { opcode: OPCODE.ping }) }));
  for (const wanted of ['1', '2']) assert.equal(`${(await wire.frame('a pong')).payload}`, wanted);
  assert.deepEqual(await said(wire), { type: 'pong' });
  await wire.write(framed(closing(1000), { opcode: OPCODE.close }));
  assert.equal((await closed(wire)).code, 1000);
});

each('Everything may come in one write, with the handshake or after it', async ({ door, user, knocks, open }) => {
  const COUNT = 100;
  const all = Buffer.concat([
    ...Array.from({ length: COUNT }, () => framed(asking())), framed('ping', { opcode: OPCODE.ping }), inPieces(cut(asking(), 4)),
  ]);
  const pongs = Array(COUNT + 1).fill({ type: 'pong' });
  const check = async (wire, hello) => {
    // a pong may overtake answers; answers keep their order
    const frames = [];
    while (frames.length < COUNT + 2 + (hello ? 1 : 0)) frames.push(await wire.frame());
    const texts = frames.filter(({ opcode }) => opcode === OPCODE.text).map(({ payload }) => JSON.parse(payload));
    assert.deepEqual(frames.filter(({ opcode }) => opcode === OPCODE.pong).map(({ payload }) => `${payload}`), ['ping']);
    if (hello) assert.equal(texts.shift().type, hello);
    assert.deepEqual(texts, pongs);
    await answers(wire, 'afterwards');
  };
  await check(await knocks({ token: jwt(user), after: all }), door.hello);
  const wire = await open();
  await wire.write(all);
  await check(wire);
});
