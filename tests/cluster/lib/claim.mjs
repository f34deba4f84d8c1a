// A connection of Socket.IO by hand, that claims a session: what a stock client sends when it comes back, but at a time of our choosing.
import { createRequire } from 'node:module';
import { jwt } from '../../clients/support/server.mjs';

const WebSocket = createRequire(new URL('../../clients/package.json', import.meta.url))('ws');
const NAMESPACE = '/realtime,';

export class Claim {
  /** [{at, name, payload, offset}]; the greeting is one of them. */
  heard = [];
  state = 'opening';
  #waiters = new Set();
  #acks = new Map();

  /** `session`: {pid, offset} of a former connection. */
  constructor(node, user, session = {}) {
    Object.assign(this, { node, offset: session.offset });
    this.ws = new WebSocket(`${node.base.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
    this.ws.on('message', (data) => this.#packet(`${data}`, { token: jwt(user), ...session }));
    this.ws.on('close', () => this.#now(this.state === 'refused' ? 'refused' : 'closed'));
    this.ws.on('error', () => {});
  }

  #now(state) {
    this.state = state;
    if (state === 'closed') this.closedAt = performance.now();
    this.#look();
  }

  #look() { for (const look of [...this.#waiters]) look(); }

  #packet(text, auth) {
    if (text[0] === '0') this.ws.send(`40${NAMESPACE}${JSON.stringify(auth)}`);
    else if (text === '2') this.ws.send('3');
    else if (text.startsWith(`40${NAMESPACE}`)) {
      this.pid = JSON.parse(text.slice(2 + NAMESPACE.length)).pid;
      this.joinedAt = performance.now();
      this.#now('joined');
    } else if (text.startsWith('44') || text.startsWith('41')) this.#now('refused');
    else if (text.startsWith(`42${NAMESPACE}`)) {
      const [name, payload, ...rest] = JSON.parse(text.slice(2 + NAMESPACE.length));
      const offset = typeof rest.at(-1) === 'string' ? rest.at(-1) : undefined;
      this.offset = offset ?? this.offset;
      this.heard.push({ at: performance.now(), name, payload, offset });
      this.#look();
    } else if (text.startsWith(`43${NAMESPACE}`)) {
      const [, id, body] = /^(\d+)(.*)$/s.exec(text.slice(2 + NAMESPACE.length));
      this.#acks.get(id)?.(JSON.parse(body)[0]);
    }
  }

  until(check, ms) {
    return new Promise((resolve) => {
      const done = (value) => { this.#waiters.delete(look); clearTimeout(timer); resolve(value); };
      const look = () => { if (check()) done(true); };
      const timer = setTimeout(done, ms, false);
      this.#waiters.add(look);
      look();
    });
  }

  /** Joined, refused or closed. */
  settled(ms = 10_000) { return this.until(() => this.state !== 'opening', ms); }
  over(ms) { return this.until(() => ['closed', 'refused'].includes(this.state), ms); }

  /** A request with an ack; null when the connection ends first, or after `ms`. */
  ask(name, payload, ms = 3000) {
    const id = String(this.#acks.size + 1);
    const answer = new Promise((resolve) => { this.#acks.set(id, resolve); });
    this.ws.send(`42${NAMESPACE}${id}${JSON.stringify([name, payload])}`);
    return Promise.race([answer, this.over(ms).then(() => null)]);
  }

  updates(order) { return this.heard.filter(({ name, payload }) => name === 'order:status_update' && payload.orderId === order); }

  /** As if the network had gone. */
  cut() { this.ws.terminate(); }
}
