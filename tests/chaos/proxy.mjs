// A TCP proxy before the server, one for each client, that treats bytes as a bad network does. It knows nothing of what it
// carries: a cut comes in the middle of a frame because it comes in the middle of what was read.
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** Of chunks: how often they come in pieces, and how often late. */
const FRAGMENTED = 0.15;
const DELAYED = 0.15;
const DELAY_MS = 25;

class Link {
  #gone = new AbortController();
  #gates = { up: null, down: null };
  /** Set when the next bytes to the client are to be the last ones, and not all of them. */
  #armed = null;

  constructor(proxy, client, server) {
    this.proxy = proxy;
    this.ends = { client, server };
    for (const end of [client, server]) {
      end.setNoDelay(true);
      end.on('error', () => this.cut('rst'));
    }
    client.on('close', () => { if (server.destroyed) this.#over(); });
    server.on('close', () => { if (client.destroyed) this.#over(); });
    server.once('connect', () => {
      this.#pump(client, server, 'up');
      this.#pump(server, client, 'down');
    });
  }

  #over() {
    this.#gone.abort();
    this.proxy.links.delete(this);
  }

  async #pump(from, to, way) {
    const { random } = this.proxy;
    const { signal } = this.#gone;
    try {
      // The end is not to be closed when we stop reading it: being silent is a way to go, too.
      for await (const chunk of from.iterator({ destroyOnReturn: false })) {
        for (const piece of this.#pieces(chunk)) {
          await this.#gates[way];
          if (!this.proxy.calm && random.chance(DELAYED)) await pause(random.between(1, DELAY_MS), undefined, { signal });
          if (signal.aborted) return;
          if (way === 'down' && this.#armed) {
            const cut = this.#armed;
            const part = piece.subarray(0, random.below(piece.length));
            to.write(part, () => cut(part.length > 0));
            return;
          }
          if (!to.write(piece)) await once(to, 'drain', { signal });
        }
      }
      to.end();
    } catch {
      this.cut('rst'); // a side went away under us
    }
  }

  #pieces(chunk) {
    const { random, calm } = this.proxy;
    if (calm || chunk.length < 2 || !random.chance(FRAGMENTED)) return [chunk];
    const cuts = Array.from({ length: 1 + random.below(4) }, () => 1 + random.below(chunk.length - 1)).sort((a, b) => a - b);
    return [0, ...cuts].map((from, i) => chunk.subarray(from, cuts[i])).filter((piece) => piece.length > 0);
  }

  /** Nothing passes that way for a while. */
  async stall(ways, ms) {
    const over = pause(ms, undefined, { signal: this.proxy.calmed.signal }).catch(() => {});
    for (const way of ways) this.#gates[way] = over;
    await over;
  }

  /**
   * Ends the connection. `rst`: at once, on both sides. `fin`: politely, though in the middle of something. `silent-client`,
   * `silent-server`: only the other side is told; to this one the connection just says nothing any more, for `ms`. False if it had ended.
   */
  cut(how, ms = 0) {
    if (this.#gone.signal.aborted) return false;
    this.#gone.abort();
    this.proxy.links.delete(this);
    const { client, server } = this.ends;
    if (how === 'rst') {
      for (const end of [client, server]) end.resetAndDestroy();
    } else if (how === 'fin') {
      for (const end of [client, server]) end.destroySoon();
    } else {
      const [silent, told] = how === 'silent-client' ? [client, server] : [server, client];
      told.resetAndDestroy();
      pause(ms, undefined, { signal: this.proxy.calmed.signal }).catch(() => {}).then(() => silent.resetAndDestroy());
    }
    return true;
  }

  /** Cuts within the next bytes to the client, or after `ms` when none come: 'middle', 'between', or null if it had ended. */
  async cutWithin(how, ms, silence) {
    const middle = await Promise.race([
      new Promise((resolve) => { this.#armed = resolve; }),
      pause(ms, false, { signal: this.#gone.signal }).catch(() => false),
    ]);
    if (!this.cut(how, silence)) return null;
    return middle ? 'middle' : 'between';
  }
}

export class Proxy {
  links = new Set();
  calm = true;
  calmed = new AbortController();

  /** Listens on a port of its own for the server on `port`. */
  static async open(port, random) {
    const proxy = new Proxy();
    proxy.random = random;
    const listener = net.createServer({ allowHalfOpen: true }, (client) => {
      const server = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      proxy.links.add(new Link(proxy, client, server));
    });
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    proxy.base = `http://127.0.0.1:${listener.address().port}`;
    return proxy;
  }

  /** From now on it only passes on; what is stalled goes on, what is silent ends. */
  settle() {
    this.calm = true;
    this.calmed.abort();
  }
}
