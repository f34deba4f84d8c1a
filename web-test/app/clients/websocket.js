// The line of a client of raw WebSockets.

import { Line } from './line.js';

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30000;
const PING_EVERY = 30000;
const POLICY = 1008; // the close code for those who need not come back with the same token

/** 1 s, 2 s, 4 s … 30 s: what all three clients of raw WebSockets wait between two tries. */
export class Backoff {
  #next = FIRST_WAIT;

  next() {
    const wait = this.#next;
    this.#next = Math.min(wait * 2, LONGEST_WAIT);
    return wait;
  }

  reset() {
    this.#next = FIRST_WAIT;
  }
}

/** Where a raw WebSocket goes: to the server of this setup, with somebody's token. */
export function socketAddress({ server }, path, account) {
  const url = new URL(path, server || location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  url.searchParams.set('token', account.token);
  return url.href;
}

/** A raw WebSocket that comes back by itself: after 1 s, doubling to 30 s, and at once when its page is looked at again. */
export class WebSocketLine extends Line {
  #url;
  #ws = null;
  #backoff = new Backoff();
  #timers = { dial: 0, ping: 0 };

  /** @param url gives the address, with the token of the moment */
  constructor(url, on) {
    super(on);
    this.#url = url;
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && this.#timers.dial) this.dial();
    });
  }

  open() {
    this.#backoff.reset();
    this.begin();
    this.dial();
  }

  send(message) {
    if (this.#ws?.readyState !== WebSocket.OPEN) return;
    const text = JSON.stringify(message);
    this.on.frame('out', text);
    this.#ws.send(text);
  }

  dial() {
    this.hangUp();
    const ws = new WebSocket(this.#url());
    this.#ws = ws;
    ws.onopen = () => {
      this.#backoff.reset();
      this.#timers.ping = setInterval(() => this.send({ type: 'ping' }), PING_EVERY);
      this.up();
    };
    ws.onmessage = ({ data }) => this.on.frame('in', String(data));
    ws.onclose = ({ code, reason }) => {
      this.hangUp();
      this.note(`closed ${code} ${reason}`.trim());
      if (code === POLICY) this.set({ phase: 'refused', reason: reason || String(code) });
      else this.#dialLater();
    };
  }

  #dialLater() {
    const wait = this.#backoff.next();
    this.#timers.dial = setTimeout(() => this.dial(), wait);
    this.down(`next try after ${wait / 1000} s`);
  }

  /** Lets go of the socket without waiting for the other side's goodbye. */
  hangUp() {
    clearInterval(this.#timers.ping);
    clearTimeout(this.#timers.dial);
    this.#timers.dial = 0;
    if (!this.#ws) return;
    this.#ws.onopen = this.#ws.onmessage = this.#ws.onclose = null;
    this.#ws.close();
    this.#ws = null;
  }

  pull() {
    this.hangUp();
  }
}
