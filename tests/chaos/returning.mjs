// A raw WebSocket of an app as the seeds have them: whatever ends it, it is made anew, twice as late after each failure.
import { ring } from '../clients/support/doors.mjs';

/** The seeds' apps wait 1 s at first and 30 s at most. */
const WAIT_MS = { first: 30, most: 250 };
const HANDSHAKE_MS = 3000;
/** Errors while the database is away: ask again later. */
export const LATER = new Set(['unavailable', 'internal_error']);

export class Returning {
  #wait = WAIT_MS.first;
  #left = false;
  #line;

  /** `user`: whose token it brings; `hear`: {open(), message(message), close({code, reason})}. */
  constructor(base, path, user, hear) {
    Object.assign(this, { base, path, user, hear, open: false });
    this.#dial();
  }

  #dial() {
    const line = ring(this, this.path, this.user, { handshakeTimeout: HANDSHAKE_MS });
    this.#line = line;
    const { ws } = line;
    ws.on('open', () => {
      this.#wait = WAIT_MS.first;
      this.open = true;
      this.hear.open();
    });
    ws.on('message', (data) => {
      line.events.length = 0; // we have our own, shorter, record
      if (!this.#left) this.hear.message(JSON.parse(`${data}`));
    });
    ws.on('unexpected-response', () => ws.terminate());
    ws.on('close', (code, reason) => {
      line.hangUp();
      if (this.#left) return;
      if (this.open) this.hear.close({ code, reason: `${reason}` });
      this.open = false;
      if (this.#left) return;
      setTimeout(() => this.#dial(), this.#wait);
      this.#wait = Math.min(2 * this.#wait, WAIT_MS.most);
    });
  }

  send(message) { if (this.open) this.#line.send(message); }

  /** Does not come back any more. */
  leave() {
    this.#left = true;
    this.#line.hangUp();
  }
}
