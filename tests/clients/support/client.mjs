// The real socket.io clients of three major versions behind one small vocabulary: `connect` a client, `request` something, await the
// `next` event. Every event is recorded as it arrives, so tests await events and never sleep.
import { createRequire } from 'node:module';
import { jwt } from './server.mjs';

const require = createRequire(import.meta.url);
const LIBRARIES = {
  4: require('socket.io-client'),
  3: require('socket.io-client-3'),
  2: require('socket.io-client-2'),
};
const TRANSPORTS = {
  websocket: ['websocket'],
  polling: ['polling'],
  upgrade: ['polling', 'websocket'],
};
const WAIT_MS = 10_000;

/** Every client version on every transport. */
export const combos = Object.keys(LIBRARIES).reverse()
  .flatMap((client) => Object.keys(TRANSPORTS).map((transport) => ({ client, transport })));
export const label = ({ client, transport }) => `socket.io-client ${client}, ${transport}`;

const opened = new Set();
/** For `afterEach`: a socket left open would keep the test process alive. */
export function closeAll() {
  for (const client of opened) client.close();
}

/** The events of a client, in the order they came. */
export class Recorder {
  events = [];
  #waiters = new Set();
  #read = new Map();

  record(name, payload, rest = []) {
    this.events.push({ name, payload, rest });
    for (const look of [...this.#waiters]) look();
  }

  /** Resolves with the first truthy value of `check`, which runs again at each event. */
  until(check, what, ms = WAIT_MS) {
    return new Promise((resolve, reject) => {
      const done = (settle, value) => {
        this.#waiters.delete(look);
        clearTimeout(timer);
        settle(value);
      };
      const look = () => {
        try {
          const value = check();
          if (value) done(resolve, value);
        } catch (error) {
          done(reject, error);
        }
      };
      const timer = setTimeout(() => {
        const seen = this.events.slice(-8).map((event) => JSON.stringify(event)).join('\n  ');
        done(reject, new Error(`waited ${ms} ms for ${what}; the last events were\n  ${seen}`));
      }, ms);
      this.#waiters.add(look);
      look();
    });
  }

  /** The payloads of all events with that name so far. */
  of(name) {
    return this.events.filter((event) => event.name === name).map((event) => event.payload);
  }

  /** The next event with that name that no earlier `next` has returned or skipped. */
  async next(name, match = () => true, ms = WAIT_MS) {
    const index = await this.until(() => {
      const from = this.#read.get(name) ?? 0;
      const found = this.events.findIndex((event, i) => i >= from && event.name === name && match(event.payload));
      return found >= 0 && found + 1;
    }, name, ms);
    this.#read.set(name, index);
    return this.events[index - 1].payload;
  }

  /** Resolves with the payloads when `n` events with that name have come. */
  async count(name, n, ms = WAIT_MS) {
    await this.until(() => this.of(name).length >= n, `${n} × ${name}, not only ${this.of(name).length}`, ms);
    return this.of(name);
  }
}

class Client extends Recorder {
  constructor(socket, version) {
    super();
    this.socket = socket;
    this.version = version;
    opened.add(this);
    // All three versions hand each event packet to `onevent`; only the newer two have `onAny`.
    const { onevent } = socket;
    socket.onevent = (packet) => {
      const [name, payload, ...rest] = packet.data;
      this.record(name, payload, rest);
      onevent.call(socket, packet);
    };
    for (const name of ['connect', 'disconnect']) socket.on(name, (detail) => this.record(`(${name})`, detail));
    // Before 3.0 a refused namespace raised `error`. Our own `error` event has an object as payload.
    if (version === '2') socket.on('error', (error) => this.record('(refused)', error));
    else socket.on('connect_error', (error) => this.record('(refused)', error));
  }

  /** Emits with an ack callback; returns the answer, and records it as the event `(ack)`. */
  request(event, ...payload) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ack of ${event} in ${WAIT_MS} ms`)), WAIT_MS);
      this.socket.emit(event, ...payload, (answer) => {
        clearTimeout(timer);
        this.record('(ack)', answer);
        resolve(answer);
      });
    });
  }

  /** A request that must be answered with `ok: true`. */
  async ask(event, payload) {
    const answer = await this.request(event, payload);
    if (answer?.ok !== true) throw new Error(`${event} was answered ${JSON.stringify(answer)}`);
    return answer;
  }

  send(event, ...payload) { this.socket.emit(event, ...payload); }

  /** Why the connection was refused: the message that the app sees. */
  async refusal() {
    const error = await this.next('(refused)');
    return typeof error === 'string' ? error : error.message;
  }

  /** Resolves when the upgrade to a WebSocket is done. */
  upgraded() {
    const { engine } = this.socket.io;
    return engine.transport.name === 'websocket' || new Promise((resolve) => { engine.once('upgrade', resolve); });
  }

  get transport() { return this.socket.io.engine.transport.name; }

  close() {
    opened.delete(this);
    this.socket.io.reconnection(false);
    this.socket.close();
    const { engine } = this.socket.io;
    engine?.close();
    // In the middle of an upgrade the client waits for the other side, which may be gone, until the next heartbeat, 45 s from now.
    if (engine?.readyState === 'closing') (engine._onClose ?? engine.onClose).call(engine, 'forced close');
  }
}

/**
 * Starts to connect. `via` says how the token is sent. Without `user` and `token` there is none. `more` is said beside the token: in the
 * auth payload, version 2 in the query.
 */
export function open(server, { client = '4', transport = 'websocket', namespace = '/realtime', user, token, via, more, options = {} } = {}) {
  const secret = token ?? (user && jwt(user));
  const way = via ?? (client === '2' ? 'query' : 'auth');
  const socket = LIBRARIES[client].connect(server.base + namespace, {
    transports: TRANSPORTS[transport],
    forceNew: true,
    reconnectionDelay: 100,
    reconnectionDelayMax: 400,
    ...(secret && way === 'auth' && { auth: { token: secret, ...more } }),
    ...(secret && way === 'query' && { query: { token: secret, ...more } }),
    ...(secret && way === 'header' && { extraHeaders: { authorization: `Bearer ${secret}` } }),
    ...options,
  });
  return new Client(socket, client);
}

/** Connects and awaits `connected`. */
export async function connect(server, options) {
  const client = open(server, options);
  await client.until(
    () => client.of('connected').length || client.of('(refused)').some((error) => { throw error; }),
    'connected',
  );
  return client;
}
