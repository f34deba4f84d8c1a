// A plug that is pulled for a while, as if the network were lost, and goes back in by itself.

export const AWAY = 10000;

export class Plug {
  #timer = 0;
  #putBack;

  /** When it is put back, in milliseconds; null while it is in. */
  at = null;

  constructor(putBack) {
    this.#putBack = putBack;
  }

  /** Out for `ms`, or for that much longer. */
  stayOut(ms) {
    this.at = (this.at ?? Date.now()) + ms;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#putBack, this.at - Date.now());
  }

  /** It is in: whoever had it out goes on. */
  reset() {
    clearTimeout(this.#timer);
    this.at = null;
  }
}

/** Cuts socket.io-client off as a lost network would: no goodbye to the server, and a poll under way is left hanging. */
export function cut(manager) {
  const { transport } = manager.engine;
  manager.reconnection(false);
  transport.onClose();
  transport.ws?.close();
}
