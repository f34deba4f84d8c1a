// Drivers who report at a fixed rate, and watchers on any node, on WebSockets by hand. For Ordercast and for bare relays of Socket.IO.
import { createRequire } from 'node:module';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { jwt } from '../../clients/support/server.mjs';

const WebSocket = createRequire(new URL('../../clients/package.json', import.meta.url))('ws');
const NAMESPACE = '/realtime,';
const [LONGITUDE, STEP] = [13, 1e-6];
const SETTLE_MS = 1_500;
const AT_ONCE = 50;

class Socket {
  #acks = new Map();
  #next = 0;

  static open(base, user, heard = () => {}) {
    const socket = new Socket();
    socket.ws = new WebSocket(`${base.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`, { perMessageDeflate: false });
    return new Promise((resolve, reject) => {
      socket.ws.on('error', reject);
      socket.ws.on('message', (data) => {
        const text = data.toString('latin1');
        if (text.startsWith(`42${NAMESPACE}["driver:location_update"`)) heard(text);
        else if (text === '2') socket.ws.send('3');
        else if (text[0] === '0') socket.ws.send(`40${NAMESPACE}${user ? JSON.stringify({ token: jwt(user) }) : ''}`);
        else if (text.startsWith(`40${NAMESPACE}`)) resolve(socket);
        else if (text.startsWith('44')) reject(new Error(text));
        else if (text.startsWith(`43${NAMESPACE}`)) {
          const [, id] = /^(\d+)/.exec(text.slice(2 + NAMESPACE.length));
          socket.#acks.get(id)?.(text);
          socket.#acks.delete(id);
        }
      });
    });
  }

  /** Its ack is not looked at, but asked for: apps do, and the bare relays always give one. */
  tell(name, payload) {
    this.#next += 1;
    this.ws.send(`42${NAMESPACE}${this.#next}${JSON.stringify([name, payload])}`);
  }

  ask(name, payload) {
    this.#next += 1;
    this.ws.send(`42${NAMESPACE}${this.#next}${JSON.stringify([name, payload])}`);
    return new Promise((resolve) => { this.#acks.set(String(this.#next), resolve); });
  }
}

/** `act` for each, some at a time. */
export async function each(list, act) {
  const left = list.map((item, i) => [item, i]);
  const results = [];
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (let next = left.shift(); next; next = left.shift()) results[next[1]] = await act(...next);
  }));
  return results;
}

export const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];

export class Load {
  #sent = [];
  #sockets = [];
  latencies = { local: [], remote: [] };
  deliveries = 0;
  reports = 0;

  /**
   * `nodes`: {base}; `prepare(i)` makes the order of driver i: {order, driver, customer}; `driverOn(i)` and `watcherOn(i, w)`: on which node they are.
   */
  static async open(nodes, { drivers, watchers, prepare, driverOn, watcherOn }) {
    const load = new Load();
    const rides = await each(Array.from({ length: drivers }, (_, i) => i), prepare);
    load.rides = await each(rides, async ({ order, driver, customer }, i) => {
      const socket = await Socket.open(nodes[driverOn(i)].base, driver);
      load.#sockets.push(socket);
      for (let w = 0; w < watchers; w += 1) {
        const on = watcherOn(i, w);
        const kind = on === driverOn(i) ? 'local' : 'remote';
        const watcher = await Socket.open(nodes[on].base, customer, (text) => load.#heard(text, kind));
        load.#sockets.push(watcher);
        await watcher.ask('subscribe:order', { orderId: order });
      }
      return { order, socket };
    });
    load.watchers = watchers;
    return load;
  }

  #heard(text, kind) {
    this.deliveries += 1;
    this.lastAt = performance.now();
    const n = Math.round((Number(/"longitude":([\d.]+)/.exec(text)[1]) - LONGITUDE) / STEP);
    this.latencies[kind].push(this.lastAt - this.#sent[n]);
  }

  /** So many reports a second in all, for so long; then what is on its way arrives. */
  async run(rate, seconds) {
    Object.assign(this, { deliveries: 0, reports: 0, latencies: { local: [], remote: [] } });
    this.#sent = [];
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const started = performance.now();
    const due = rate * seconds;
    await new Promise((resolve) => {
      const timer = setInterval(() => {
        const now = performance.now();
        const wanted = Math.min(due, Math.floor((now - started) / 1000 * rate));
        for (; this.reports < wanted; this.reports += 1) {
          const { order, socket } = this.rides[this.reports % this.rides.length];
          this.#sent[this.reports] = performance.now();
          socket.tell('driver:location', { orderId: order, latitude: 45.2, longitude: LONGITUDE + this.reports * STEP });
        }
        if (this.reports >= due) { clearInterval(timer); resolve(); }
      }, 1);
    });
    const end = performance.now() + SETTLE_MS;
    while (this.deliveries < due * this.watchers && performance.now() < end) await new Promise((resolve) => { setTimeout(resolve, 20); });
    delay.disable();
    const sort = (list) => list.sort((a, b) => a - b);
    sort(this.latencies.local);
    sort(this.latencies.remote);
    return { reports: this.reports, deliveries: this.deliveries, expected: due * this.watchers, generator_lag_ms: delay.percentile(99) / 1e6 };
  }

  close() { for (const { ws } of this.#sockets) ws.terminate(); }
}
