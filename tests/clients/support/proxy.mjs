// A TCP proxy in front of the server that breaks connections as networks do: it cuts them, lets them die silently, slows them down.
import { once } from 'node:events';
import net from 'node:net';
import { Transform } from 'node:stream';

/** Bytes that may wait here in each direction: a slow proxy must not be a big buffer. */
const CHUNK = 8 * 1024;

export class Proxy {
  #links = new Set();
  #orphans = new Set();
  #blocked = false;
  #paused = false;
  #trap = null;
  /** Bytes per second from the server to the client, for each connection. */
  rate = Infinity;
  /** With it, all connections are cut as soon as a new one sends something. */
  fatal = false;

  /** A proxy to the port of `server`, which may stop and start again there. Clients use `base` instead of the server's. */
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
      // an orphan's far side stays open on purpose
      if (!this.#links.delete(link)) return;
      near.destroy();
      far.destroy();
    };
    near.on('error', end).on('close', end);
    // the server's last bytes may still be on their way, slowly
    far.on('error', end).on('close', () => { if (!far.readableEnded) end(); });
    near.once('data', () => { if (this.fatal) setImmediate(() => this.cut()); });
    near.pipe(far);
    valve.pipe(near);
    if (!this.#paused) far.pipe(valve);
  }

  /** Cuts all connections, on both sides. */
  cut() {
    for (const { near, far } of this.#links) { near.destroy(); far.destroy(); }
  }

  /** Ends all connections on the client's side. For the server they stay open and silent. */
  sever() {
    for (const link of this.#links) {
      this.#links.delete(link);
      this.#orphans.add(link.far);
      link.near.unpipe(link.far);
      link.near.destroy();
    }
  }

  /**
   * Cuts all connections between two events: the next event with `text` in it still reaches the client, the one after it does not, or
   * only its beginning. Resolves after the cut.
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
        // the bytes returned below are forwarded before the connection ends
        setImmediate(() => {
          this.#trap = null;
          this.#end();
          resolve();
        });
        return data.subarray(0, Math.max(0, next + EVENT.length - before));
      };
    });
  }

  /** Ends all connections; clients still get what was sent. */
  #end() {
    for (const { near, far, valve } of this.#links) {
      valve.unpipe(near);
      near.end(() => far.destroy());
    }
  }

  /** New connections are refused from now on. */
  block() { this.#blocked = true; }
  unblock() { this.#blocked = false; }

  /** Stops and starts reading from the server. */
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
