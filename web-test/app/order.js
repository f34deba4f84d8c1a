// What an order is to this page: the vocabulary of its statuses and how an event changes what a view knows of it.

export const STATUSES = [
  'pending', 'payment_confirmed', 'accepted', 'preparing', 'ready_for_pickup',
  'assigned_to_driver', 'picked_up', 'in_transit', 'delivered',
];

const WORDS = {
  pending: 'Waiting for payment',
  payment_confirmed: 'Payment confirmed',
  accepted: 'Accepted',
  preparing: 'Being cooked',
  ready_for_pickup: 'Ready for pickup',
  assigned_to_driver: 'Driver assigned',
  picked_up: 'Picked up',
  in_transit: 'On the way',
  delivered: 'Delivered',
  failed: 'Could not be delivered',
  returned: 'Returned',
  cancelled: 'Cancelled',
};

const PHASES = {
  pending: 'wait', payment_confirmed: 'wait', accepted: 'kitchen', preparing: 'kitchen', ready_for_pickup: 'kitchen',
  assigned_to_driver: 'road', picked_up: 'road', in_transit: 'road', delivered: 'done', failed: 'off', returned: 'off', cancelled: 'off',
};

export const words = (status) => WORDS[status] ?? String(status ?? 'Unknown').replaceAll('_', ' ');
export const phase = (status) => PHASES[status] ?? 'wait';
/** A delivery that failed is as far as one that is on its way. */
export const rank = (status) => STATUSES.indexOf(status === 'failed' ? 'in_transit' : status);
const FINAL = new Set(['delivered', 'returned', 'cancelled']);
export const isFinal = (status) => FINAL.has(status);
export const isBefore = (status, other) => !isFinal(status) && rank(status) < rank(other);
export const nextStatus = (status) => (isFinal(status) ? null : STATUSES[rank(status) + 1] ?? null);

/** Last part of an order number, for tight places. */
export const shortNumber = (number) => {
  const text = String(number ?? '');
  const tail = text.split('-').at(-1);
  return tail.length >= 3 && tail.length <= 8 ? tail : text.slice(-8);
};

export const clock = (time) => {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? '' : date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
};

export const ago = (time) => {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  if (!Number.isFinite(seconds)) return '';
  if (seconds < 10) return 'now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
};

export const money = (amount, currency = 'CHF') => {
  try {
    return new Intl.NumberFormat([], { style: 'currency', currency }).format(amount);
  } catch {
    return `${amount} ${currency}`;
  }
};

/** A user as an order names them. */
export const person = ({ id, name, phone }) => ({ id, name, ...(phone ? { phone } : {}) });

/** An order of this setup's customer, as it is placed. */
export const newOrder = ({ accounts, restaurant, home }, { items, total, currency, fetches = false, proofRequired = [] }) => ({
  customer: person(accounts.customer.user), chef: restaurant, items, total, currency,
  ...(fetches ? { fulfilment: 'collection' } : { delivery: home }),
  ...(proofRequired.length > 0 ? { proofRequired } : {}),
});

const KEPT = 300;

/** The orders one view knows, by id. Of finished ones, only the newest are kept. */
export class OrderBook {
  #orders = new Map();

  get(id) {
    return this.#orders.get(id);
  }

  has(id) {
    return this.#orders.has(id);
  }

  /** Newest first. */
  list() {
    return [...this.#orders.values()].sort((a, b) => String(b.createdAt ?? '').localeCompare(String(a.createdAt ?? '')));
  }

  /** Takes an order as the server gives it, unless something newer is known. */
  put(order) {
    const known = this.#orders.get(order.id);
    if (known && (known.seq ?? 0) > (order.seq ?? 0)) return known;
    const merged = { ...known, ...order };
    this.#orders.set(order.id, merged);
    if (this.#orders.size > KEPT) {
      const oldest = this.list().findLast((one) => isFinal(one.status));
      if (oldest) this.#orders.delete(oldest.id);
    }
    return merged;
  }

  /** Replaces everything by a fresh answer of `GET /orders`, keeping what arrived meanwhile. */
  replace(orders) {
    const fresh = new Map(orders.map((order) => [order.id, order]));
    for (const [id, order] of this.#orders) {
      const other = fresh.get(id);
      if (other && (order.seq ?? 0) > (other.seq ?? 0)) fresh.set(id, { ...other, ...order });
    }
    this.#orders = fresh;
  }

  /** Learns what a connection that hears of every order hears. `fetch` gets an order that is not known yet. */
  listen(connection, { fetch, changed }) {
    const learn = (event, take) => connection.on(event, async (news) => {
      await take(news);
      changed();
    });
    learn('orders', (orders) => this.replace(orders));
    learn('order:new', (order) => this.put(order));
    learn('order:status_update', async (update) => {
      if (this.apply(update) === 'unknown') await fetch(update.orderId).then((order) => this.put(order), () => {});
    });
  }

  clear() {
    this.#orders.clear();
  }

  remove(id) {
    this.#orders.delete(id);
  }

  patch(id, change) {
    const known = this.#orders.get(id);
    if (known) this.#orders.set(id, { ...known, ...change });
  }

  /** @returns 'applied', 'stale' (already known) or 'unknown' (no such order here) */
  apply(update) {
    const known = this.#orders.get(update.orderId);
    if (!known) return 'unknown';
    if ((known.seq ?? 0) >= update.seq) return 'stale';
    const change = { status: update.status, seq: update.seq, updatedAt: update.timestamp };
    if (update.paymentStatus) change.paymentStatus = update.paymentStatus;
    if (update.etaMinutes !== undefined) change.etaMinutes = update.etaMinutes;
    if (update.estimatedDeliveryTime !== undefined) change.estimatedDeliveryTime = update.estimatedDeliveryTime;
    if (update.reason) change.failureReason = update.reason;
    if (update.driver !== undefined) change.driver = update.driver;
    else if (isBefore(update.status, 'assigned_to_driver')) change.driver = null;
    this.#orders.set(update.orderId, { ...known, ...change });
    return 'applied';
  }
}
