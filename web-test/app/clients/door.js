// One client: its line, what it says and hears of the order on show, and how it writes.

import { Frames, read } from './frames.js';
import { RestError } from '../rest.js';
import { nextWord } from './words.js';

export class Door {
  frames = new Frames();
  order = null;
  /** Where the order stands, as this client was told last, and with the number of which event. */
  status = null;
  seq = 0;
  busy = false;
  error = '';
  /** What it waits for before it can connect at all: “for …”, “until …”. */
  waits = '';

  #setup = null;
  #greeted = null;
  #view;

  /** What a kind of client says for itself; see doors.js. */
  name; title; address; words; writes; readers; line;

  /** @param view {changed(), acted()}: something is to be drawn anew; a person did something to the order on show */
  constructor(view) {
    this.#view = view;
    this.on = {
      frame: (direction, text) => this.#take(direction, text),
      up: (recovered) => {
        if (!recovered) this.#greeted = null;
        this.#meet();
      },
      changed: view.changed,
    };
  }

  get setup() {
    return this.#setup;
  }

  get state() {
    return this.line.state;
  }

  /** The one whose token this client uses, and the one who writes: the first of those who are known. */
  get reader() {
    return this.#first(this.readers);
  }

  get writer() {
    return this.#first(['admin', 'driver', 'chef']);
  }

  #first(roles) {
    return roles.map((role) => this.#setup?.accounts[role]).find(Boolean) ?? null;
  }

  /** Takes the accounts and the server of the moment. */
  use(setup) {
    this.#setup = setup;
  }

  /** Whether it was turned away for its token. */
  get spent() {
    return this.state.phase === 'refused' && /token|unauthorized|session ended|server closed/i.test(this.state.reason);
  }

  changed() {
    this.#view.changed();
  }

  open() {
    this.waits = this.reader ? '' : 'for a token: enter one under Connections';
    if (!this.waits) this.line.open();
  }

  close() {
    this.line.close();
    this.follow(null);
  }

  /** Goes over to another order, or learns more of the one it follows. */
  follow(order) {
    const before = this.order;
    this.order = order;
    if (order?.id === before?.id) return;
    this.frames.clear();
    this.status = null;
    this.seq = 0;
    this.error = '';
    if (this.state.phase === 'connected') this.#meet();
  }

  /** Asks to hear of the order on show. A recovered session goes on hearing of the one it had. */
  #meet() {
    const id = this.order?.id ?? null;
    const before = this.#greeted;
    if (id === before && this.status !== null) return;
    if (before && before !== id) this.leave(before);
    this.#greeted = id;
    if (id) this.greet(id);
  }

  /** What this client says once it is connected, to hear of an order; and to hear of it no more. */
  greet() {}

  leave() {}

  /** The step it can ask for next, in its own words. */
  get next() {
    return this.order ? nextWord(this.words, this.order.status) : null;
  }

  /** Whether a frame is about the order on show. */
  isOurs({ order }) {
    return order === this.order?.id;
  }

  #take(direction, text) {
    const about = read(text);
    const ours = this.isOurs(about);
    if (about.order === undefined || ours) this.frames.add(direction, text);
    else if (direction === 'in') this.frames.others += 1;
    if (direction === 'in' && ours && typeof about.status === 'string' && !(about.seq < this.seq)) {
      this.status = about.status;
      this.seq = about.seq ?? this.seq;
    }
    this.#view.changed();
  }

  /** Runs something a person asked for, one at a time, and says what went wrong. */
  async run(work) {
    if (this.busy) return;
    this.busy = true;
    this.error = '';
    this.#view.acted();
    try {
      await work();
    } catch (error) {
      this.error = error.message;
    } finally {
      this.busy = false;
      this.#view.changed();
    }
  }

  /** A call of this client's REST, shown as frames too. While its plug is out, nothing goes through. */
  async call(method, path, account, body) {
    if (this.state.phase === 'unplugged') throw new Error('The plug is out');
    if (!account) throw new Error('This needs a token of the back office: enter one under Connections');
    const sent = body === undefined ? undefined : JSON.stringify(body);
    this.#take('out', `${method} ${path}${sent === undefined ? '' : `\n${sent}`}`);
    let response;
    try {
      response = await fetch(this.#setup.server + path, {
        method, body: sent, credentials: 'omit', cache: 'no-store',
        headers: { Authorization: `Bearer ${account.token}`, ...(sent === undefined ? {} : { 'Content-Type': 'application/json' }) },
      });
    } catch {
      throw new RestError(0, {});
    }
    const text = await response.text();
    this.#take('in', `${response.status} ${response.statusText}\n${text}`);
    let answer = {};
    try {
      answer = JSON.parse(text);
    } catch { /* an intermediary's page, say */ }
    if (!response.ok) throw new RestError(response.status, answer);
    return answer;
  }
}
