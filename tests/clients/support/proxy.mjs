// A TCP proxy in front of the server that does to connections what networks do: cut them, let them die in silence, slow them down.
import { once } from 'node:events';
import net from 'node:net';
import { Transform } from 'node:stream';

/** How much may wait here, in each direction: a slow proxy must not be a big buffer. */
const CHUNK = 8 * 1024;

export class Proxy {
  #links = new Set();
  #orphans = new Set();
  #blocked = false;
  #paused = false;
  #trap = null;
  /** Bytes per second and connection from the server to the client. */
  rate = Infinity;
  /** Whether a new connection is cut, like all others, as soon as the client has asked for something. */
  fatal = false;

  /** A proxy to the port of `server`, which may go away and come back there. `base` stands in for the server's own. */
  static async start(server) {
    const proxy = new Proxy();
    proxy.listener = net.createServer({ noDelay: true }, (near) => proxy.#accept(near, server.port));
    proxy.listener.listen(0, '127.0.0.1');
    await once(proxy.listener, 'listening');
    proxy.base = `http://127.0.0.1:${proxy.listener.address().port}`;
    return proxy;
  }

  #accept(near, port) {
    if (this.#blocked) { near.resetAndDestroy(); return; }
    const far = net.connect({ port, host: '127.0.0.1', noDelay: true });
    const valve = new Transform({
      highWaterMark: CHUNK,
      transform: (data, _, next) => {
        const trapped = this.#trap?.(data);
        const wait = this.rate === Infinity ? 0 : 1000 * data.length / this.rate;
        if (trapped) next(null, trapped);
        else if (wait) setTimeout(next, wait, null, data);
        else next(null, data);
      },
    });
    const link = { near, far, valve };
    this.#links.add(link);
    const end = () => {
      // an orphan's far side outlives the near one: that is what it is for
      if (!this.#links.delete(link)) return;
      near.destroy();
      far.destroy();
    };
    near.on('error', end).on('close', end);
    // what the server said last may still be on its way, slowly
    far.on('error', end).on('close', () => { if (!far.readableEnded) end(); });
    near.once('data', () => { if (this.fatal) setImmediate(() => this.cut()); });
    near.pipe(far);
    valve.pipe(near);
    if (!this.#paused) far.pipe(valve);
  }

  /** Ends all connections, on both sides. */
  cut() {
    for (const { near, far } of this.#links) { near.destroy(); far.destroy(); }
  }

  /** Ends all connections for the clients; for the server they stay as they are, and silent. */
  sever() {
    for (const link of this.#links) {
      this.#links.delete(link);
      this.#orphans.add(link.far);
      link.near.unpipe(link.far);
      link.near.destroy();
    }
  }

  /**
   * Cuts all connections between two events: the next one that has `text` in it still reaches the client, the one after
   * it does not, or no more than its beginning. Resolves with the cut.
   */
  cutAfter(text) {
    const EVENT = '42/realtime,[';
    return new Promise((resolve) => {
      let seen = '';
      this.#trap = (data) => {
        const before = seen.length;
        seen += data.toString('latin1');
        const found = seen.indexOf(text);
        const next = found < 0 ? -1 : seen.indexOf(EVENT, found);
        if (next < 0) return null;
        this.#trap = () => Buffer.alloc(0);
        // what is forwarded here is on its way before the connection ends
        setImmediate(() => {
          this.#trap = null;
          this.#end();
          resolve();
        });
        return data.subarray(0, Math.max(0, next + EVENT.length - before));
      };
    });
  }

  /** Ends all connections, those of the clients once they have what was sent. */
  #end() {
    for (const { near, far, valve } of this.#links) {
      valve.unpipe(near);
      near.end(() => far.destroy());
    }
  }

  /** From now on connections are refused. */
  block() { this.#blocked = true; }
  unblock() { this.#blocked = false; }

  /** Stops and starts to read from the server. */
  pause() {
    this.#paused = true;
    for (const { far, valve } of this.#links) far.unpipe(valve).pause();
  }
  resume() {
    this.#paused = false;
    for (const { far, valve } of this.#links) far.pipe(valve);
  }

  close() {
    this.block();
    this.cut();
    for (const far of this.#orphans) far.destroy();
    this.listener.close();
  }
}
