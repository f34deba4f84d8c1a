// What one connection has heard of its orders' numbered events (`seq`: 1, 2, 3… of every order), and what an absence cost it.

const ORDERS_KEPT = 2000;
const EVENTS_LISTED = 60;

/** Puts the newest last, and lets go of the oldest. */
function remember(map, id, value) {
  map.delete(id);
  map.set(id, value);
  if (map.size > ORDERS_KEPT) map.delete(map.keys().next().value);
}

export class Ledger {
  #heard = new Map();
  #listed = new Map();
  #hasList = false;
  #absence = null;
  #first;

  /** @param first the number of the first event this party hears of a new order; null for one who joins orders half-way */
  constructor(first = null) {
    this.#first = first;
  }

  /** Takes an event. @returns what is notable about it: 'snapshot', 'repeat', 'gap of N', 'caught up', 'replayed' */
  hear({ orderId, orderNumber, seq, status, timestamp, snapshot, replayed }) {
    const last = this.#heard.get(orderId);
    if (last === undefined || seq > last) remember(this.#heard, orderId, seq);
    if (snapshot) return 'snapshot';
    if (last !== undefined && seq <= last) return 'repeat';
    const late = this.#hearLate({ orderId, orderNumber, seq, status }, Date.parse(timestamp));
    if (last !== undefined && seq > last + 1) return `gap of ${seq - last - 1}`;
    return late ? 'caught up' : replayed ? 'replayed' : undefined;
  }

  #hearLate(event, at) {
    const absence = this.#absence;
    if (!absence || absence.settled) return false;
    if (!absence.got.has(event.orderId)) absence.got.set(event.orderId, new Set());
    absence.got.get(event.orderId).add(event.seq);
    const late = absence.backAt === null || !(at > absence.backAt); // a server may send what was missed ahead of its welcome
    if (late) {
      absence.count += 1;
      if (absence.events.length < EVENTS_LISTED) absence.events.push(event);
    }
    if (absence.backAt !== null) this.#settleIfWhole();
    return late;
  }

  /** Takes the orders as the server lists them: events up to these numbers need not be heard. */
  learn(orders) {
    this.#hasList = true;
    for (const { id, seq } of orders) remember(this.#listed, id, seq);
  }

  /** The order is no longer this party's: what happens to it meanwhile is none of its business. */
  forget(orderId) {
    for (const map of [this.#heard, this.#listed, this.#absence?.before, this.#absence?.got]) map?.delete(orderId);
  }

  /** The last number heard of an order. */
  last(orderId) {
    return this.#heard.get(orderId);
  }

  /** A new session, which hears on only of the orders it follows by name. */
  restart(followed = new Set()) {
    for (const id of this.#heard.keys()) if (!followed.has(id)) this.#heard.delete(id);
  }

  /** The connection is gone. Times are the server's, in milliseconds. */
  leave(at) {
    if (this.#absence && !this.#absence.settled && this.#absence.recovered !== false) {
      this.#absence.backAt = this.#absence.heads = null; // gone again before it had caught up: one long absence
      return;
    }
    this.#absence = {
      leftAt: at, backAt: null, recovered: null, settled: false,
      before: this.#hasList ? new Map([...this.#listed, ...this.#heard]) : null,
      got: new Map(), count: 0, events: [], heads: null,
    };
  }

  back(at, recovered) {
    if (!this.#absence || this.#absence.settled) return;
    this.#absence.backAt = at;
    this.#absence.recovered = recovered;
  }

  /** Compares with the orders as the server lists them after the return. */
  audit(orders) {
    if (!this.#absence || this.#absence.backAt === null) return;
    this.#absence.heads = orders;
    if (!this.#absence.recovered) this.settle();
    else this.#settleIfWhole();
  }

  #settleIfWhole() {
    if (this.#missing()?.length === 0) this.settle();
  }

  /** No more is waited for: what has not come by now is missing. */
  settle() {
    const absence = this.#absence;
    if (!absence || absence.settled || absence.backAt === null) return;
    absence.missing = this.#missing();
    absence.settled = true;
    absence.before = absence.got = absence.heads = null;
  }

  /** @returns the numbers the server has given since, and nobody has heard; null when that cannot be told */
  #missing() {
    const { before, got, heads } = this.#absence;
    if (!before || !heads) return null;
    return heads.flatMap(({ id, orderNumber, seq: head }) => {
      const seqs = got.get(id) ?? new Set();
      const last = before.get(id) ?? (this.#first ?? Math.min(head, ...seqs)) - 1;
      const lost = [];
      for (let seq = last + 1; seq <= head; seq += 1) if (!seqs.has(seq)) lost.push({ orderId: id, orderNumber, seq });
      return lost;
    });
  }

  /**
   * The last absence, or null.
   * @returns {{state: 'away'|'checking'|'done', leftAt, awayMs, recovered, count, events, missing: object[]|null}}
   */
  get absence() {
    if (!this.#absence) return null;
    const { leftAt, backAt, recovered, settled, count, events, missing = null } = this.#absence;
    return {
      state: settled ? 'done' : backAt === null ? 'away' : 'checking',
      leftAt, awayMs: backAt === null ? null : Math.max(0, backAt - leftAt), recovered, count, events: [...events], missing,
    };
  }

  dismiss() {
    if (this.#absence?.settled) this.#absence = null;
  }
}
