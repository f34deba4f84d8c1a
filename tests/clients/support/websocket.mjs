// The raw WebSocket doors byte by byte: the upgrade request, frames of every kind and length, and how a connection ends.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { frame, gone, somebody, Wire } from './engineio.mjs';
import { tcp } from './raw.mjs';
import { jwt } from './server.mjs';

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 };
/** Bits in the first byte of a frame, above its opcode, that have no meaning here. */
export const RESERVED = { first: 0x40, second: 0x20, third: 0x10 };

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
export const ACCEPT = createHash('sha1').update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');

const RIDER = { sub: 'rider', role: 'driver' };
const DROPOFF = { dropoff_lat: 45.2271, dropoff_lng: 13.5947 };

/** A tracking session for that order, which is created if it does not exist. */
export const startTracking = (server, order, rider = RIDER.sub) => (
  server.ok('POST', '/tracking/start', { order_id: order, rider_id: rider, ...DROPOFF }));

/** The doors of a server: their path, their first message, and whether they need a token. */
export async function doorsOf(server) {
  const { tracking_id: id } = await startTracking(server, 'parcel');
  return [
    { name: '/orders/track', path: '/orders/track', hello: 'connected', closed: true },
    { name: '/ws', path: '/ws', hello: null, closed: true },
    { name: '/ws/tracking', path: `/ws/tracking/${id}`, hello: 'initial_state', closed: false },
  ];
}

/** The request that opens a door. `headers` replace those of a correct request; undefined leaves one out. */
export function request({ port }, path, { method = 'GET', token, ...headers } = {}) {
  const all = {
    Host: `127.0.0.1:${port}`, Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': KEY, ...headers,
  };
  const lines = Object.entries(all).filter(([, value]) => value !== undefined).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path}${token === undefined ? '' : `?token=${token}`} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

/** The HTTP answer to a request: its status, and its headers with lower-case names. */
export async function answer(server, path, options) {
  const text = await tcp(server, request(server, path, options), { reply: true });
  const [head] = text.split('\r\n\r\n');
  return {
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]),
    headers: Object.fromEntries(head.split('\r\n').slice(1).map((line) => [line.split(':')[0].toLowerCase(), line.slice(line.indexOf(':') + 1).trim()])),
  };
}

/** A connection at a door before its greeting. `after` is sent in the same write as the request. */
export const knock = (server, { path }, { dribble, after = '', ...options } = {}) => (
  Wire.open(server, { dribble, head: Buffer.concat([request(server, path, options), after].map((part) => Buffer.from(part))) }));

/** The next message. */
export const said = async (wire) => JSON.parse(await wire.next());

/** Awaits the greeting. */
async function greeted(wire, door) {
  assert.equal(wire.status, 101, door.name);
  if (door.hello) assert.equal((await said(wire)).type, door.hello);
  return wire;
}

/** A connection at a door after its greeting. */
export const enter = async (server, door, { user = somebody(), ...options } = {}) => (
  greeted(await knock(server, door, { token: jwt(user), ...options }), door));

/**
 * Makes a test at each door of a server. `open` connects a user of that test alone. Afterwards open connections are cut, and no session of
 * that user may be left.
 */
export const atEach = (server, doors) => (what, check) => describe(what, { concurrency: doors.length }, () => {
  for (const door of doors) {
    test(door.name, { timeout: 60_000 }, async (t) => {
      const user = somebody();
      const wires = [];
      t.after(async () => {
        for (const wire of wires) wire.cut();
        await gone(server, user, what);
      });
      const knocks = async (options) => {
        wires.push(await knock(server, door, options));
        return wires.at(-1);
      };
      const open = async (options) => greeted(await knocks({ token: jwt(user), ...options }), door);
      await check({ door, user, knocks, open });
    });
  }
});

/** A frame of any length. `reserved` are bits that it must not have. */
export function framed(payload, { opcode = OPCODE.text, reserved = 0, ...more } = {}) {
  const bytes = Buffer.from(payload);
  const first = opcode | reserved;
  if (bytes.length <= 0xffff) return frame(bytes, { opcode: first, ...more });
  return Buffer.concat([headOf(bytes.length, { opcode: first, ...more }), bytes]);
}

/** The head of a frame that promises so many bytes. None follow. Its mask changes nothing. */
export function headOf(length, options) {
  const [first] = frame('', options);
  const head = Buffer.alloc(14);
  head[0] = first;
  head[1] = 0xff;
  head.writeBigUInt64BE(BigInt(length), 2);
  return head;
}

/** A message in fragments, one frame each, with `between` before each but the first. */
export const inPieces = (pieces, { opcode = OPCODE.text, between = () => '' } = {}) => Buffer.concat(pieces.flatMap((piece, i) => [
  Buffer.from(i ? between(i) : ''),
  framed(piece, { opcode: i ? OPCODE.continuation : opcode, fin: i === pieces.length - 1 }),
]));

/** The bytes of a text in pieces of that size, at least one. */
export function cut(text, size) {
  const bytes = Buffer.from(text);
  return Array.from({ length: Math.ceil(bytes.length / size) || 1 }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}

/** The body of a close frame. */
export function closing(code, reason = '') {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(code);
  return Buffer.concat([head, Buffer.from(reason)]);
}

/** A request of that length that every door answers with `pong`. */
export const asking = (length = 0) => '{"type":"ping"}'.padEnd(length);

/** Checks that the connection still gets answers. */
export async function answers(wire, what) {
  await wire.write(framed(asking()));
  assert.deepEqual(await said(wire), { type: 'pong' }, what);
}

/** Awaits a close frame and the end after it: its code (null: none in it; undefined: no close frame), its reason, and the messages before. */
export async function closed(wire, what = '', answered = () => {}) {
  const before = [];
  for (;;) {
    const got = await wire.frame(`a close frame, ${what}`);
    if (!got) return { before };
    const { opcode, payload } = got;
    if (opcode === OPCODE.close) {
      await answered(payload);
      assert.equal(await wire.frame(`the end, ${what}`), undefined, 'nothing comes after a close frame');
      return { code: payload.length ? payload.readUInt16BE() : null, reason: payload.subarray(2).toString(), before };
    }
    before.push(opcode === OPCODE.text ? JSON.parse(payload) : got);
  }
}

/** The same when the server closes: the client returns the close frame. */
export const dismissed = (wire, what) => closed(wire, what, (payload) => wire.write(framed(payload, { opcode: OPCODE.close })));
