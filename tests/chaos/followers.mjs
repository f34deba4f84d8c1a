// Apps that follow orders on the raw WebSockets `/orders/track` and `/ws`. doors-checker.mjs tells what their records are.
import { Listener } from './listener.mjs';
import { FINAL_WORDS, mine } from './doors-checker.mjs';
import { LATER, Returning } from './returning.mjs';

const LATE_MS = 800;
const AGAIN_MS = 200;
const FLUSH_MS = 5000;

/** What both have in common: one connection, and orders that are asked for again on each. */
class Follower extends Listener {
  /** order → {last: the newest seq known, since: what to ask from when none is, settled: it was answered on this connection}. */
  wants = new Map();
  #pong = () => {};

  /** Connects, for as long as the test lasts. */
  async connect(base) {
    const user = { sub: this.user, role: this.role, exp: Math.floor(Date.now() / 1000) + 24 * 3600 };
    await new Promise((resolve) => {
      this.line = new Returning(base, this.path, user, {
        open: () => { this.#opened(); resolve(); },
        message: (message) => this.#heard(message),
        close: (how) => this.note({ at: 'close', ...how }),
      });
    });
  }

  #opened() {
    if (this.record.length > 0) this.counts.returned += 1;
    this.note({ at: 'open' });
    for (const [order, want] of this.wants) {
      want.settled = false;
      this.#ask(order, want);
    }
  }

  /** A new order that the app learns of by other ways, sooner or later. */
  follow(order) {
    const want = { last: null, since: this.follows === 'since' ? this.random.below(2) : undefined, settled: false };
    setTimeout(() => {
      this.wants.set(order, want);
      if (this.line.open) this.#ask(order, want);
    }, this.random.between(0, LATE_MS));
  }

  #ask(order, want) {
    const since = this.resumes ? want.last ?? want.since : undefined;
    this.note({ at: 'ask', order, since });
    this.line.send({ type: 'subscribe', [this.member]: order, since });
  }

  #heard(message) {
    if (message.type === 'pong') this.#pong();
    else if (message.type === 'error' && LATER.has(message.code)) this.#later();
    else if (!this.hear(message)) this.note({ at: 'fault', text: JSON.stringify(message) });
  }

  /** The database is away, and which request that was is not said: those that were not answered by then are made again. */
  #later() {
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      if (!this.line.open) return;
      for (const [order, want] of this.wants) if (!want.settled) this.#ask(order, want);
    }, AGAIN_MS);
  }

  /** How an order stands now. */
  stands(item) {
    this.counts.events += 1;
    this.note({ at: 'event', ...item });
    const { order, seq, status } = item;
    const want = this.wants.get(order);
    if (!want) return;
    want.last = seq;
    if (!FINAL_WORDS.has(status)) return;
    this.wants.delete(order);
    this.note({ at: 'leave', order });
    this.line.send({ type: 'unsubscribe', [this.member]: order });
  }

  /** What is missing of the last states of all orders that it follows. */
  settle({ log }, ms) {
    const left = new Set(mine(log, this).map(([order, { events }]) => `${order} ${events.length}`));
    return this.awaits(left, ({ order, seq }) => left.delete(`${order} ${seq}`), ms);
  }

  leave() { this.line?.leave(); }

  /** What is on its way comes before the answer to this. */
  async flush() {
    if (!this.line.open) return;
    const answer = new Promise((resolve) => { this.#pong = () => resolve(true); });
    this.line.send({ type: 'ping' });
    const late = new Promise((resolve) => { setTimeout(resolve, FLUSH_MS, false).unref(); });
    if (!await Promise.race([answer, late]) && this.line.open) this.note({ at: 'fault', text: 'a ping was never answered' });
  }
}

export class Track extends Follower {
  path = '/orders/track';
  member = 'order_id';
  resumes = true;

  hear(message) {
    const { type, order_id: order } = message;
    switch (type) {
      case 'connected':
        this.note({ at: 'greeting' });
        return true;
      case 'subscribed': {
        this.note({ at: 'subscribed', order });
        const want = this.wants.get(order);
        if (want) want.settled = true;
        return true;
      }
      case 'order_update':
        this.stands({ name: type, order, seq: message.seq, status: message.status, message: message.message });
        return true;
      case 'driver_location':
        this.counts.live += 1;
        this.counts.conflated += message.conflated ?? 0;
        return true;
      default:
        return type === 'unsubscribed';
    }
  }
}

export class Orders extends Follower {
  path = '/ws';
  member = 'orderId';
  resumes = false;

  hear({ type, orderId: order, status, data }) {
    if (type === 'orders:changed') {
      this.counts.events += 1;
      this.note({ at: 'event', name: type, order, status });
      return true;
    }
    if (type !== 'order:updated') return false;
    const want = this.wants.get(order);
    if (want) want.settled = true;
    this.stands({ name: type, order, seq: data.seq, status: data.status, driver: data.driver?.id ?? null });
    return true;
  }
}
