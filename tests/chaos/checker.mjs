// What a Socket.IO client should have heard, from the log of the database, and whether it has. Pure: records in, problems out.
//
// A record is what one client lived through, in order:
//   {at: 'connect', recovered, gave, time}   recovered: what the library says; gave: the `auth.position` it came with, if any
//   {at: 'connected', recovered, position}   our greeting
//   {at: 'disconnect', reason}
//   {at: 'ask', order, since}                subscribe:order, and its answer:
//   {at: 'answer', order, since, seq}        seq is null when it was refused
//   {at: 'event', name, order, seq, kind, status, position, offset}     kind: live, replay or snapshot
//   {at: 'fault', text}                      what must not come at all: a refusal, `resync`, `error`
// `name` is the door's own. On the default namespace nobody asks, and the updates are of changes of status only.
// The log is that of log.mjs.
import { expected, UPDATES } from './log.mjs';

/**
 * An offset as [position, index, replay, seq]. "12.1" is [12, 1]; the plain "12" is the last of its position; "12~7~2" comes beside the
 * stream, after "12": the second replay or snapshot that the session was told, up to seq 7.
 */
export function parseOffset(offset) {
  const [place, seq = 0, replay = 0] = String(offset).split('~');
  const [position, index = Infinity] = place.split('.');
  return [position, index, replay, seq].map(Number);
}
const show = ([position, index, replay, seq]) => (
  `${position}${index === Infinity ? '' : `.${index}`}${replay === 0 ? '' : `~${seq}~${replay}`}`
);
function after(a, b) {
  const i = a.findIndex((n, at) => n !== b[at]);
  return i >= 0 && a[i] > b[i];
}

/** How far the clock of a server, which is that of its database, may be from the clock of the apps. */
export const CLOCK_MS = 20;

class Check {
  problems = [];
  #orders = new Map();
  #others = [];
  /** The offset of the newest durable event; whatever comes must be after it. */
  #cursor = null;
  /** The newest offset of all. Less than the cursor's only when an app asks again for what it had. */
  #best = parseOffset('0.0');
  #base = null;
  /** What a client that was not recovered and gave no position cannot have heard: from, to. */
  #holes = [];
  #coming = null;
  #first = true;
  #bare = false;

  constructor(who, log) {
    this.who = who;
    this.log = log;
    this.updates = UPDATES[who.door];
    this.rooms = who.role !== 'service';
    this.expected = expected(log, who);
  }

  run() {
    this.who.record.forEach((item, i) => this[`on_${item.at}`](item, i));
    this.#missingAtTheEnd();
    this.#compareOthers();
    return this.problems;
  }

  #problem(kind, text, i, order) { this.problems.push({ client: this.who.name, kind, order, text, i }); }

  #order(id) {
    let state = this.#orders.get(id);
    if (!state) {
      state = { covered: this.rooms ? 0 : null, stands: null, last: 0, open: 0, torn: false, seen: new Set(), asked: false };
      this.#orders.set(id, state);
    }
    return state;
  }

  on_connect(item, i) {
    if (!item.recovered) {
      const lost = !this.#first && this.who.recovers && !this.#rightLost(item.time);
      if (lost) this.#problem('fresh', `not recovered after offset ${show(this.#best)}, for no reason`, i);
      if (item.gave !== undefined) this.#cursor = parseOffset(item.gave);
      for (const state of this.#orders.values()) Object.assign(state, { open: 0, torn: false });
    } else if (this.#first) this.#problem('fresh', 'recovered what has never been', i);
    this.#coming = item;
  }

  on_connected(item, i) {
    if (this.#coming === null) this.#problem('greeting', 'it came before the connection', i);
    const { recovered, gave } = this.#coming ?? item;
    if (this.who.recovers && item.recovered !== recovered) {
      this.#problem('greeting', `connected.recovered is ${item.recovered}, socket.recovered ${recovered}`, i);
    }
    const here = parseOffset(item.position);
    this.#base ??= here[0];
    if (!recovered && gave === undefined) {
      if (!this.#first && this.rooms) this.#holes.push([this.#best[0], here[0]]);
      this.#cursor = here;
    }
    this.#first = false;
  }

  on_disconnect(item, i) {
    if (item.reason === 'io server disconnect') this.#problem('dismissed', 'the server sent it away for good', i);
    for (const state of this.#orders.values()) {
      if (state.open > 0) Object.assign(state, { open: 0, torn: true });
    }
  }

  on_ask({ order }) {
    const state = this.#order(order);
    state.open += 1;
    state.asked = true;
  }

  on_answer({ order, since, seq }) {
    const state = this.#order(order);
    Object.assign(state, { open: Math.max(0, state.open - 1), torn: false });
    if (seq === null) return;
    // The answer says how things stand; what is told begins with the snapshot, or, if that was cut, where the stream goes on.
    if (since === undefined) state.stands = seq;
    // the creation is nobody's update
    else this.#advance(order, state, state.covered ?? Math.max(since, 1));
  }

  on_fault({ text }, i) { this.#problem('fault', text, i); }

  on_event(item, i) {
    const { name, kind, order, offset } = item;
    const plain = kind === undefined || kind === 'live';
    if (offset === null) {
      // once is enough: a server that gives none gives none at all
      if (plain && !this.#bare && !this.who.bare) this.#problem('offset', `${name} came without one`, i, order);
      this.#bare ||= plain;
    } else {
      const at = parseOffset(offset);
      if (this.#cursor !== null && !after(at, this.#cursor)) this.#problem('offset', `${offset} after ${show(this.#cursor)}`, i, order);
      else this.#cursor = at;
      // asked for again, by `position`: an event of a position is known only when all of that position are
      if (this.#coming.gave !== undefined && !after(at, this.#best) && name !== this.updates) return;
      if (after(at, this.#best)) this.#best = at;
    }
    if (name === this.updates) this.#update(item, i);
    else this.#others.push({ name, order, position: offset === null ? null : parseOffset(offset)[0], again: this.#coming?.gave !== undefined, i });
  }

  #update({ order, seq, kind, status, position, offset }, i) {
    const seqs = this.expected.updates.get(order) ?? [];
    const logged = this.log.get(order)?.events[seq - 1];
    if (kind !== 'snapshot' && !seqs.includes(seq)) {
      this.#problem('stranger', `seq ${seq} (${kind}) is not for this client`, i, order);
      return;
    }
    if (logged?.position !== position || logged.status !== status) {
      this.#problem('content', `seq ${seq} says ${status} at ${position}, the log ${logged?.status} at ${logged?.position}`, i, order);
    }
    // what else a page is told of that position comes after it
    const own = this.who.door === '/' ? `${position}.0` : String(position);
    if (kind === 'live' && offset !== null && offset !== own) {
      this.#problem('offset', `seq ${seq} at position ${position} has the offset ${offset}`, i, order);
    }
    const state = this.#order(order);
    if (kind === 'snapshot') this.#advance(order, state, seq);
    else if (kind === 'replay') this.#replayed(order, state, seq, i);
    else this.#live(order, state, seq, i);
  }

  #replayed(order, state, seq, i) {
    if (state.covered !== null && seq <= state.covered) {
      // who asked for an order may be told of it again, marked as replayed; who gave a position, not
      if (!state.asked) this.#problem('repeat', `seq ${seq} replayed, but ${state.covered} had come`, i, order);
      return;
    }
    const pending = this.#pending(state);
    if (!pending) this.#gap(order, state, seq, i);
    this.#take(order, state, seq, pending);
  }

  /** A subscription that was cut before its answer may be in force already: the app asks again, and the replay fills it up. */
  #pending(state) { return !this.rooms && (state.open > 0 || state.torn); }

  #live(order, state, seq, i) {
    if (state.seen.has(seq)) this.#problem('repeat', `seq ${seq} came before`, i, order);
    else if (seq <= state.last) this.#problem('swap', `seq ${seq} after ${state.last}`, i, order);
    else if (state.covered !== null && seq <= state.covered) {
      this.#problem('repeat', `seq ${seq} live, but a replay or snapshot had covered ${state.covered}`, i, order);
    } else {
      const pending = this.#pending(state);
      if (!pending) this.#gap(order, state, seq, i);
      this.#take(order, state, seq, pending);
    }
    state.seen.add(seq);
    state.last = Math.max(state.last, seq);
  }

  #gap(order, state, seq, i) {
    if (state.covered === null && state.stands === null) {
      this.#problem('stranger', `seq ${seq} of an order it had not asked for`, i, order);
      return;
    }
    const missed = this.#missing(order, state.covered ?? state.stands, seq);
    if (missed.length > 0) this.#problem('gap', `seq ${seq} came, but never ${missed}`, i, order);
  }

  #take(order, state, seq, pending) {
    if (!pending) state.covered = seq;
    else state.seen.add(seq);
    this.#advance(order, state, state.covered);
  }

  /** All up to `seq` is known; and what had come beyond it. */
  #advance(order, state, seq) {
    if (seq === null) return;
    state.covered = Math.max(state.covered ?? 0, seq);
    for (const next of this.expected.updates.get(order) ?? []) {
      if (next > state.covered && !state.seen.has(next)) break;
      state.covered = Math.max(state.covered, next);
    }
  }

  /** What should have come between two seqs of an order, holes left out. */
  #missing(order, from, to) {
    const { events } = this.log.get(order);
    return (this.expected.updates.get(order) ?? []).filter((seq) => {
      const { position } = events[seq - 1];
      return seq > from && seq < to && position > this.#base && !this.#inHole(position);
    });
  }

  #inHole(position) { return this.#holes.some(([from, to]) => position > from && position <= to); }

  #missingAtTheEnd() {
    for (const order of this.expected.updates.keys()) {
      const state = this.#order(order);
      if (!this.rooms && !state.asked) continue;
      const { covered, stands, seen } = state;
      // asked for and never answered, but in force all the same: from where it began on
      const from = covered ?? stands ?? (this.rooms ? 0 : Math.min(...seen));
      const missed = this.#missing(order, from, Infinity).filter((seq) => !seen.has(seq));
      if (missed.length > 0) this.#problem('gap', `the end is missing: ${missed}`, this.who.record.length, order);
    }
  }

  /** Durable events other than updates: exactly those of the log, each once. */
  #compareOthers() {
    const key = ({ name, order, position }) => `${name} of ${order} at ${position}`;
    const due = new Map(this.expected.others
      .filter(({ position }) => position > this.#base && !this.#inHole(position)).map((item) => [key(item), item.order]));
    const seen = new Set();
    for (const item of this.#others) {
      if (item.position === null && this.who.bare) {
        this.#unplaced(item, due, seen);
        continue;
      }
      const what = key(item);
      if (seen.has(what)) this.#problem('repeat', `${what} came before`, item.i, item.order);
      else if (!due.delete(what)) this.#problem('stranger', `${what} is not for this client`, item.i, item.order);
      seen.add(what).add(`${item.name} of ${item.order}`);
    }
    for (const [what, order] of due) this.#problem('gap', `${what} never came`, this.who.record.length, order);
  }

  /** One without an offset: the first that is due. Who came back with a position may be told again what was not done with. */
  #unplaced({ name, order, again, i }, due, seen) {
    const what = `${name} of ${order}`;
    const found = [...due.keys()].find((one) => one.startsWith(`${what} at `));
    if (found) due.delete(found);
    else if (!seen.has(what)) this.#problem('stranger', `${what} is not for this client`, i, order);
    else if (!again) this.#problem('repeat', `${what} came before`, i, order);
    seen.add(what);
  }

  /** Whether a driver lost an order they had asked for, since the last they heard of: then there is nothing to recover. */
  #rightLost(time) {
    if (this.who.role !== 'driver') return false;
    return [...this.#orders].some(([order, { asked }]) => asked && this.log.get(order)?.events.some((event, i, events) => (
      i > 0 && events[i - 1].driver === this.who.user && event.driver !== this.who.user
        && event.position > this.#best[0] && event.time <= time + (this.who.skewMs ?? CLOCK_MS))));
  }
}

/** What is wrong with the record of `who` ({name, user, role, recovers, record}); nothing, one hopes. */
export const checkClient = (who, log) => new Check(who, log).run();

/** The problem, with what was due and what was seen around it. */
export function explain({ client, kind, order, text, i }, who, log) {
  const lines = [`${client ?? 'the log'}: ${kind}${order ? `, order ${order}` : ''}: ${text}`];
  if (!who) return lines.join('\n');
  const events = log.get(order)?.events ?? [];
  const shown = events.map((event) => `${event.seq}@${event.position} ${event.status}${event.driver ? ` ${event.driver}` : ''}`);
  if (order) lines.push(`  the log: ${shown.join(', ')}`);
  // what never came is looked for where the order's last event came, or what is beyond its creation
  const beyond = (item) => item.offset && events.length > 0 && parseOffset(item.offset)[0] > events[0].position;
  const last = who.record.findLastIndex((item) => item.order === order);
  const at = i < who.record.length ? i : last >= 0 ? last : who.record.findIndex(beyond);
  const rows = who.record.map((item, n) => ({ n, item }))
    .filter(({ n, item }) => n === at || !order || !item.order || item.order === order);
  const center = rows.findIndex(({ n }) => n === at);
  for (const { n, item } of rows.slice(Math.max(0, center - 12), center + 8)) {
    lines.push(`  ${n === i ? '>' : ' '} ${n} ${JSON.stringify(item)}`);
  }
  return lines.join('\n');
}
