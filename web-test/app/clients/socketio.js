// The line of a client of Socket.IO.

import { Line } from './line.js';
import { cut } from '../plug.js';

const PACKETS = { open: 0, close: 1, ping: 2, pong: 3, message: 4, upgrade: 5, noop: 6 };

/** A stock socket.io-client, which comes back by itself. */
export class SocketIoLine extends Line {
  #where;
  #token;
  #tapped = null;
  socket = null;

  /** @param where gives {address, transports}; token the token of the moment */
  constructor(where, token, on) {
    super(on);
    this.#where = where;
    this.#token = token;
  }

  open() {
    const { address, transports } = this.#where();
    this.begin();
    const socket = window.io(address, { auth: (give) => give({ token: this.#token(), recovery: true }), transports, forceNew: true });
    this.socket = socket;
    this.#tap();
    socket.on('connect', () => this.up(socket.recovered === true));
    socket.on('disconnect', (reason) => {
      if (this.state.phase === 'unplugged') return;
      this.note(`disconnected: ${reason}`);
      if (socket.active) this.down(reason);
      else this.set({ phase: 'refused', reason: `the server closed it (${reason})` });
    });
    socket.on('connect_error', ({ message }) => {
      if (socket.active) this.down(message);
      else this.set({ phase: 'refused', reason: message });
    });
    socket.io.on('reconnect_attempt', () => queueMicrotask(() => this.#tap()));
  }

  /** Every connection has an engine of its own, and its packets are the frames. */
  #tap() {
    const engine = this.socket?.io.engine;
    if (!engine || engine === this.#tapped) return;
    this.#tapped = engine;
    const frame = (direction) => ({ type, data = '' }) => this.on.frame(direction, `${PACKETS[type] ?? ''}${data}`);
    engine.on('packet', frame('in')).on('packetCreate', frame('out'));
  }

  dial() {
    this.socket.io.reconnection(true);
    this.socket.connect();
    this.#tap();
  }

  hangUp() {
    if (!this.socket) return;
    this.socket.removeAllListeners();
    this.socket.io.removeAllListeners('reconnect_attempt');
    this.socket.disconnect();
    this.socket = null;
  }

  pull() {
    cut(this.socket.io);
  }
}
