// A client's line to the server, kept up the way that client's own code does it. Every frame is passed on as it is on the wire.

import { AWAY, Plug } from '../plug.js';

/** What both kinds of line have in common; each of them can open, dial, pull and hangUp. */
export class Line {
  #plug = new Plug(() => this.plugIn());

  /** phase: off | connecting | connected | reconnecting | unplugged | refused */
  state = { phase: 'off', reason: '', connects: 0 };

  /** @param on {frame(direction, text), up(recovered), changed()} */
  constructor(on) {
    this.on = on;
  }

  set(change) {
    this.state = { ...this.state, ...change };
    this.on.changed();
  }

  note(text) {
    this.on.frame('state', text);
  }

  begin() {
    this.set({ phase: 'connecting', reason: '', connects: 0 });
  }

  up(recovered = false) {
    this.set({ phase: 'connected', reason: '', connects: this.state.connects + 1 });
    this.on.up(recovered);
  }

  down(reason) {
    this.set({ phase: this.state.connects ? 'reconnecting' : 'connecting', reason });
  }

  close() {
    this.#plug.reset();
    this.hangUp();
    this.set({ phase: 'off', reason: '' });
  }

  unplug() {
    if (this.state.phase !== 'connected') return;
    this.#plug.stayOut(AWAY);
    this.note('the plug is pulled');
    this.set({ phase: 'unplugged', reason: `back after ${AWAY / 1000} s` });
    this.pull();
  }

  plugIn() {
    if (this.state.phase !== 'unplugged') return;
    this.#plug.reset();
    this.note('the plug is put back');
    this.set({ phase: 'reconnecting', reason: '' });
    this.dial();
  }

  /** After a refusal: at once, and with the token of now. */
  retry() {
    this.set({ phase: 'reconnecting', reason: '' });
    this.dial();
  }
}
