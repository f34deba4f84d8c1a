// What apps on the raw WebSockets should have heard, from the log of the database, and whether they have. Pure: records in, problems out.
//
// A record is what one app lived through, in order. On `/orders/track` and `/ws`:
//   {at: 'open'}, {at: 'close', code, reason}      a connection
//   {at: 'greeting'}                               of `/orders/track`
//   {at: 'ask', order, since}, {at: 'leave', order}     it subscribes, and unsubscribes
//   {at: 'subscribed', order}                      the answer of `/orders/track`
//   {at: 'event', name, order, seq, status, message | driver}; of `orders:changed` only {…, order, status}
// On `/ws/tracking/{id}`, each with its `session`:
//   {at: 'start', session, order, rider}, {at: 'refused', order, rider, status, time}     the answers to `POST /tracking/start`
//   {at: 'open'}, {at: 'expired'} (the message), {at: 'close', code, reason}, {at: 'leave'}
//   {at: 'event', name, order, rider, status, fix, time}      fix: when the driver was there, or null
// and everywhere {at: 'fault', text}: what must not come at all. The log is that of log.mjs.
import { MESSAGES, WORDS } from '../clients/support/doors.mjs';
import { CLOCK_MS, checkClient } from './checker.mjs';

export const EXPIRED = 'Session expired';
export const FINAL_WORDS = new Set(['delivered', 'cancelled', 'DELIVERED', 'CANCELLED']);
/** Cut, going away, a fault of ours, come again later: after these an app comes back. */
const RETURNS = new Set([1006, 1001, 1011, 1013]);

/** The orders that an app follows, as [id, {customer, chef, events}]. */
export const mine = (log, { user, role }) => [...log]
  .filter(([, { customer, chef }]) => ['admin', 'service'].includes(role) || { customer, chef }[role] === user);

/** How far each word of a door is from the beginning. */
const ranks = (door) => [...new Set(Object.values(WORDS).map((words) => words[door]))].filter(Boolean);
const RANKS = { ws: ranks('ws'), tracking: ranks('tracking') };

class DoorCheck {
  problems = [];

  constructor(who, log) { Object.assign(this, { who, log }); }

  run() {
    this.who.record.forEach((item, i) => {
      this.i = i;
      this[`on_${item.at}`](item);
    });
    this.i = this.who.record.length;
    this.end();
    return this.problems;
  }

  problem(kind, text, order) { this.problems.push({ client: this.who.name, kind, order, text, i: this.i }); }

  on_fault({ text, order }) { this.problem('fault', text, order); }
  on_close({ code, reason }) {
    if (!RETURNS.has(code)) this.problem('dismissed', `the server closed with ${code} ${reason}`);
  }
}

/** What the two doors have in common whose apps follow orders. */
class FollowerCheck extends DoorCheck {
  /** order → {last: the newest seq; on this connection: asked: how often, subscribed, known: whether it was told how it stands}. */
  orders = new Map();

  order(id) {
    if (!this.orders.has(id)) this.orders.set(id, { last: null, asked: 0, subscribed: false, known: false });
    return this.orders.get(id);
  }

  on_open() { for (const state of this.orders.values()) Object.assign(state, { asked: 0, subscribed: false, known: false }); }
  on_ask({ order }) { this.order(order).asked += 1; }
  /** What is on its way still comes. */
  on_leave() {}

  on_event(item) {
    const { order, seq, status } = item;
    const logged = this.log.get(order)?.events[seq - 1];
    if (!logged || WORDS[logged.status][this.door] !== status || !this.same(item, logged)) {
      this.problem('content', `seq ${seq} says ${JSON.stringify(item)}, the log ${JSON.stringify(logged)}`, order);
      return;
    }
    const state = this.order(order);
    if (state.asked === 0) this.problem('stranger', `seq ${seq} of an order that it had not asked for`, order);
    else this.told(state, item);
    state.known = true;
    state.last = Math.max(state.last ?? 0, seq);
  }

  /** Events that come one by one. */
  next(last, seq, order) {
    if (seq > last + 1) this.problem('gap', `seq ${seq} after ${last}`, order);
    else if (seq === last) this.problem('repeat', `seq ${seq} came before`, order);
    else if (seq < last) this.problem('backwards', `seq ${seq} after ${last}`, order);
  }

  end() {
    for (const [order, { events }] of mine(this.log, this.who)) {
      const { last } = this.order(order);
      if (last !== events.length) this.problem('gap', `the last that came is ${last}, the order's last ${events.length}`, order);
    }
  }
}

/** Every event once, in order, from the first on that was told, whatever happens to the connection. */
class TrackCheck extends FollowerCheck {
  door = 'track';
  #greeted = false;

  on_open() {
    super.on_open();
    this.#greeted = false;
  }
  on_greeting() { this.#greeted = true; }

  on_ask(item) {
    super.on_ask(item);
    const state = this.order(item.order);
    state.since = item.since ?? null;
    state.last ??= state.since;
  }

  on_subscribed({ order }) {
    if (!this.#greeted) this.problem('greeting', 'there was none', order);
    const state = this.order(order);
    if (state.asked === 0) this.problem('stranger', 'subscribed, though it had not asked', order);
    // it has asked more than once, not knowing what a refusal was about, and is told again
    if (state.subscribed) state.last = state.since;
    state.subscribed = true;
  }

  same({ message, status }) { return message === MESSAGES[status]; }

  told(state, { order, seq }) {
    if (!state.subscribed) this.problem('early', `seq ${seq} came before the subscription was answered`, order);
    // the creation may be told to who asks from 0 on, and need not
    const from = state.last === 0 && seq === 2 ? 1 : state.last;
    if (from !== null) this.next(from, seq, order);
  }
}

/** On each connection how the order stands, and then every event. What a list is hinted at does not go backwards either. */
class OrdersCheck extends FollowerCheck {
  door = 'ws';
  #hints = new Map();

  same({ driver }, logged) { return driver === logged.driver; }

  on_event(item) {
    if (item.name === 'orders:changed') this.#hint(item);
    else super.on_event(item);
  }

  told(state, { order, seq }) {
    if (state.known && seq === state.last && state.asked > 1) state.asked -= 1; // it has asked more than once, and is told each time
    else if (state.known) this.next(state.last, seq, order);
    else if (seq < state.last) this.problem('backwards', `it stood at ${state.last}, and stands at ${seq}`, order);
  }

  #hint({ order, status }) {
    const { events } = this.log.get(order) ?? { events: [] };
    const { role } = this.who;
    if (role === 'service' || !mine(this.log, this.who).some(([id]) => id === order)) {
      this.problem('stranger', `${status}: that order is nothing to it`, order);
    } else if (!events.some((event) => WORDS[event.status].ws === status)) this.problem('content', `it never was ${status}`, order);
    const rank = RANKS.ws.indexOf(status);
    if (rank < this.#hints.get(order)) this.problem('backwards', `${status} after ${RANKS.ws[this.#hints.get(order)]}`, order);
    this.#hints.set(order, rank);
  }
}

/** No delivery goes backwards, and the last that is seen of it is how it ended. */
class TrackingCheck extends DoorCheck {
  #sessions = new Map();

  on_start({ session, order, rider }) {
    const { events = [] } = this.log.get(order) ?? {};
    const words = events.filter(({ driver }) => driver === rider).map((event) => WORDS[event.status].tracking ?? RANKS.tracking[0]);
    this.#sessions.set(session, { order, rider, words, status: null, greeted: false, told: null, owed: null, fix: null, expired: false, over: false });
  }

  /** The events that ended a driver's part in an order. */
  #ends({ order, rider }) {
    const { events = [] } = this.log.get(order) ?? {};
    const over = (event) => event.driver !== rider || ['delivered', 'cancelled'].includes(event.status);
    return events.filter((event, i) => events[i - 1]?.driver === rider && over(event));
  }

  #endedBy(time, part) {
    return this.#ends(part).some((event) => event.time <= time + (this.who.skewMs ?? CLOCK_MS));
  }

  on_refused(item) {
    const { order, rider, status, time } = item;
    const right = [403, 404, 409].includes(status) && this.#endedBy(time, item);
    if (!right) this.problem('refused', `no session for ${rider}: ${status}`, order);
  }

  on_open({ session }) { Object.assign(this.#sessions.get(session), { greeted: false, told: null, owed: null, fix: null }); }

  on_event({ name, session, order, rider, status, fix, time }) {
    const state = this.#sessions.get(session);
    const problem = (kind, text) => this.problem(kind, `${session}: ${text}`, state.order);
    if (order !== state.order || rider !== state.rider || !state.words.includes(status)) {
      problem('content', `${name} of ${order} by ${rider}: ${status}; it was ${state.words} with ${state.rider}`);
      return;
    }
    if ((name === 'initial_state') === state.greeted) problem('greeting', `${name} ${state.greeted ? 'came again' : 'came first'}`);
    state.greeted = true;
    if (RANKS.tracking.indexOf(status) < RANKS.tracking.indexOf(state.status)) problem('backwards', `${status} after ${state.status}`);
    // A change that is told late is told without the driver if they are done with the order by then.
    const done = status === 'DELIVERED' || this.#endedBy(time, state);
    const astray = fix === null ? state.fix !== null && !done : fix < state.fix;
    if (astray) problem('backwards', `the driver's place of ${fix} after that of ${state.fix}`);
    // Each change is told by both, in this order; a change may leave the word as it is.
    if (name === 'status_change') {
      if (status !== state.told) problem('pair', `a status_change to ${status} without a location_update before`);
      state.owed = null;
    } else if (name === 'location_update') {
      if (status !== state.status && state.owed) problem('pair', `no status_change to ${state.owed}`);
      if (status !== state.status) state.owed = status;
      state.told = status;
    }
    Object.assign(state, { status, fix: fix ?? state.fix });
  }

  on_expired({ session }) { this.#sessions.get(session).expired = true; }

  on_close({ session, code, reason }) {
    const state = this.#sessions.get(session);
    if (code !== 1008 || reason !== EXPIRED) {
      super.on_close({ code, reason });
      return;
    }
    if (!state.expired) this.problem('expired', `${session} expired without a word`, state.order);
    const lost = this.#ends(state).some(({ status }) => status !== 'delivered');
    if (!lost) this.problem('expired', `${session} expired, though ${state.rider} kept the order`, state.order);
    state.over = true;
  }

  on_leave() {}

  end() {
    for (const [session, { order, over, status }] of this.#sessions) {
      if (!over && status !== 'DELIVERED') this.problem('gap', `${session} was last seen ${status}, and has not expired`, order);
    }
  }
}

const CHECKS = { '/orders/track': TrackCheck, '/ws': OrdersCheck, '/ws/tracking': TrackingCheck };

/** What is wrong with the record of an app, whichever door it uses. */
export function checkApp(who, log) {
  const Door = CHECKS[who.door];
  return Door ? new Door(who, log).run() : checkClient(who, log);
}
