// Engine.IO without a library, packet by packet and, on a WebSocket, byte by byte: a client library hides the order and the form of
// packets.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { within } from './raw.mjs';
import { eventually, jwt } from './server.mjs';

const SEPARATOR = '\u001e';
const TEXT = 1;
const CLOSE = 8;
const HEADERS = { 'content-type': 'text/plain;charset=UTF-8' };

let counter = 0;
/** A user for one test. */
export const somebody = () => ({ sub: `somebody-${counter += 1}`, role: 'customer' });
/** How many connected sockets the user has. */
export const connections = async (server, { sub }) => (await server.ok('GET', `/users/${sub}/presence`)).connections;
/** Resolves when the user has none left. */
export const gone = (server, user, what, ms) => eventually(async () => await connections(server, user) === 0, `${what}: no connection left`, ms);

/** Repeats `step` while `act` runs. */
export async function meanwhile(step, act) {
  let over = false;
  const steps = (async () => { while (!over) await step(); })();
  try {
    await act();
  } finally {
    over = true;
    await steps;
  }
}

/** The packet that joins `/realtime`, with more members of the auth payload. */
export const join = (user, more) => `40/realtime,${JSON.stringify({ token: jwt(user), ...more })}`;
/** A request as a packet. With an ack id the answer is `43/realtime,<id>[…]`. */
export const ask = (event, payload, ack = '') => `42/realtime,${ack}${JSON.stringify([event, payload])}`;

/** Parses a Socket.IO packet: `{type, ack, data}`. */
export function read(packet) {
  const [, type, ack, json] = /^4(\d)\/realtime,(\d*)(.*)$/s.exec(packet) ?? [];
  if (!type) throw new Error(`not a packet of /realtime: ${JSON.stringify(packet)}`);
  return { type, ack, data: json && JSON.parse(json) };
}

/** The name of an event packet; any other packet itself. */
export const named = (packet) => (/^42\/realtime,\["([^"]+)"/.exec(packet)?.[1] ?? packet);

const lengths = (packets) => packets.map((packet) => `${packet.length}:${packet}`).join('');

/** The packets of a polling body. */
function split(body, version) {
  if (version === 4) return body === '' ? [] : body.split(SEPARATOR);
  const packets = [];
  for (let rest = body; rest;) {
    const [head, length] = /^(\d+):/.exec(rest);
    packets.push(rest.slice(head.length, head.length + Number(length)));
    rest = rest.slice(head.length + Number(length));
  }
  return packets;
}

/** A session over polling. */
export class Polling {
  /** Fetched packets that `next` has not returned yet. */
  waiting = [];

  static async open(server, version = 4) {
    const polling = new Polling();
    Object.assign(polling, { server, version });
    polling.url = `${server.base}/socket.io/?EIO=${version}&transport=polling`;
    const { packets: [packet] } = await polling.poll();
    polling.hello = JSON.parse(packet.slice(1));
    polling.sid = polling.hello.sid;
    polling.url += `&sid=${polling.sid}`;
    return polling;
  }

  /** One poll: `{status, packets}`. */
  async poll(options) {
    const response = await within(fetch(this.url, options), 'a poll');
    const text = await response.text();
    return { status: response.status, packets: response.status === 200 ? split(text, this.version) : [], text };
  }

  /** Posts packets in one body; returns the status. */
  async send(...packets) {
    const body = this.version === 4 ? packets.join(SEPARATOR) : lengths(packets);
    const response = await within(fetch(this.url, { method: 'POST', headers: HEADERS, body }), 'a post');
    await response.text();
    return response.status;
  }

  /** One poll that must succeed. Its packets wait for `next`. */
  async fetch() {
    const { status, packets } = await this.poll();
    if (status !== 200) throw new Error(`a poll was answered ${status}`);
    this.waiting.push(...packets);
  }

  /** The next packet; it polls if there is none. */
  async next() {
    while (!this.waiting.length) await this.fetch();
    return this.waiting.shift();
  }
}

/** A frame as a client sends it. */
export function frame(payload, { opcode = TEXT, fin = true, masked = true } = {}) {
  const bytes = Buffer.from(payload);
  const [size, extended] = bytes.length < 126 ? [bytes.length, Buffer.alloc(0)] : [126, Buffer.alloc(2)];
  if (extended.length) extended.writeUInt16BE(bytes.length);
  const mask = masked ? randomBytes(4) : Buffer.alloc(0);
  const body = masked ? bytes.map((byte, i) => byte ^ mask[i % 4]) : bytes;
  return Buffer.concat([Buffer.from([(fin ? 0x80 : 0) | opcode, (masked ? 0x80 : 0) | size]), extended, mask, body]);
}

/** The first frame in the bytes; `undefined` while it is incomplete. */
function first(bytes) {
  if (bytes.length < 2) return undefined;
  const short = bytes[1] & 0x7f;
  const head = { 126: 4, 127: 10 }[short] ?? 2;
  if (bytes.length < head) return undefined;
  const length = { 126: () => bytes.readUInt16BE(2), 127: () => Number(bytes.readBigUInt64BE(2)) }[short]?.() ?? short;
  if (bytes.length < head + length) return undefined;
  const payload = bytes.subarray(head, head + length);
  return { fin: Boolean(bytes[0] & 0x80), opcode: bytes[0] & 0x0f, masked: Boolean(bytes[1] & 0x80), payload, size: head + length };
}

/** A session on a WebSocket, or one that upgrades to it. */
export class Wire {
  /** Frames that have not been returned yet. */
  #frames = [];
  #look = () => {};

  /** Connects; with a `sid` it upgrades that session. `dribble` sends every byte alone; `head` replaces the request. */
  static async open(server, { version = 4, sid, dribble = false, head } = {}) {
    const wire = new Wire();
    wire.dribble = dribble;
    wire.socket = net.connect({ port: server.port, host: '127.0.0.1', noDelay: true });
    wire.socket.on('error', () => {});
    // not `once`: it rejects when an error comes first, as after a close by the other side
    wire.ended = new Promise((resolve) => { wire.socket.once('close', resolve); });
    wire.ended.then(() => { wire.gone = true; wire.#look(); });
    await within(once(wire.socket, 'connect'), 'a TCP connection');
    const query = `EIO=${version}&transport=websocket${sid ? `&sid=${sid}` : ''}`;
    const answer = wire.#read();
    await wire.write(head ?? `GET /socket.io/?${query} HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n`
      + `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`);
    wire.status = await within(answer, 'the answer to the upgrade');
    return wire;
  }

  /** Collects frames; resolves with the status of the HTTP response before them. */
  #read() {
    let bytes = Buffer.alloc(0);
    let status;
    return new Promise((resolve) => {
      this.ended.then(() => resolve(status ?? 0));
      this.socket.on('data', (data) => {
        bytes = Buffer.concat([bytes, data]);
        if (!status) {
          const end = bytes.indexOf('\r\n\r\n');
          if (end < 0) return;
          status = Number(/^HTTP\/1\.1 (\d+)/.exec(bytes)[1]);
          bytes = bytes.subarray(end + 4);
          resolve(status);
        }
        for (let one = status === 101 && first(bytes); one; one = first(bytes)) {
          bytes = bytes.subarray(one.size);
          this.#frames.push(one);
        }
        this.#look();
      });
    });
  }

  async write(bytes) {
    for (const part of this.dribble ? Buffer.from(bytes) : [bytes]) {
      await new Promise((resolve) => { this.socket.write(this.dribble ? Buffer.of(part) : part, resolve); });
    }
  }

  /** Sends packets, one frame each, in one write. */
  send(...packets) { return this.write(Buffer.concat(packets.map((packet) => frame(packet)))); }

  /** The next frame of any kind; `undefined` when the connection has ended. */
  frame(what = 'a frame') {
    return within(new Promise((resolve) => {
      this.#look = () => {
        if (!this.#frames.length && !this.gone) return;
        this.#look = () => {};
        resolve(this.#frames.shift());
      };
      this.#look();
    }), what);
  }

  /** The next packet. */
  async next() {
    const got = await this.frame('a packet');
    if (got?.opcode !== TEXT) throw new Error(`no packet, but ${got ? `a frame of opcode ${got.opcode}` : 'the end'}`);
    return got.payload.toString();
  }

  /** Awaits the end of the connection; returns the packets before it, without close frames. */
  async rest() {
    const packets = [];
    for (let got = await this.frame('the end'); got; got = await this.frame('the end')) {
      if (got.opcode !== CLOSE) packets.push(got.payload.toString());
    }
    return packets;
  }

  /** Resets the connection. */
  cut() { this.socket.resetAndDestroy(); }
}

export const TRANSPORTS = { polling: Polling, websocket: Wire };

export const nextTwo = async (session) => [await session.next(), await session.next()];

/** An open session. With a user it has also joined, and `greeting` has the first two packets. */
export async function opened(server, transport, user, more) {
  const session = await TRANSPORTS[transport].open(server);
  if (transport === 'websocket') session.hello = JSON.parse((await session.next()).slice(1));
  if (!user) return session;
  await session.send(join(user, more));
  session.greeting = await nextTwo(session);
  return session;
}
