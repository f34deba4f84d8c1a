// The client of a courier's tracking session: it can connect once the order has a driver, whose session is begun then.

import { Door } from './door.js';
import { Backoff, WebSocketLine, socketAddress } from './websocket.js';
import { Path, road } from '../geo.js';
import { WORDS } from './words.js';
import { isBefore } from '../order.js';

const PARTS = 12;
const KNOWN = 50;

export class TrackingDoor extends Door {
  name = 'tracking';
  title = 'Courier tracking';
  address = 'WebSocket /ws/tracking/{id}';
  words = WORDS.tracking;
  writes = 'POST /tracking/update/{id}';
  readers = ['customer', 'admin', 'driver', 'chef'];
  line = new WebSocketLine(() => socketAddress(this.setup, `/ws/tracking/${this.session}`, this.reader), this.on);

  session = null;
  #known = new Map();
  #open = false;
  #asked = '';
  #backoff = new Backoff();
  #timer = 0;
  #way = null;
  #part = 0;

  open() {
    this.#open = true;
    this.#begin();
  }

  close() {
    this.#open = false;
    super.close();
    this.#forget();
    this.#known.clear();
  }

  follow(order) {
    const another = order?.id !== this.order?.id || order?.driver?.id !== this.order?.driver?.id;
    super.follow(order);
    if (another) this.#forget();
    this.#begin();
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#backoff.reset();
    this.#asked = '';
    this.#part = 0;
    this.#way = null;
    if (!this.session) return;
    this.session = this.status = null;
    this.line.close();
  }

  isOurs({ order, session }) {
    return super.isOurs({ order }) || (order === undefined && session !== undefined && session === this.session);
  }

  get next() {
    return this.session ? super.next : null;
  }

  /** Who may begin the session of this driver, and update it. */
  get writer() {
    const { admin, driver } = this.setup?.accounts ?? {};
    return admin ?? (driver && driver.user.id === this.order?.driver?.id ? driver : null);
  }

  get #lacking() {
    const { order } = this;
    if (!order) return 'for an order';
    if (!this.writer || !this.reader) return 'for a token of the admin or of this driver';
    if (order.status === 'cancelled') return 'for another order: this one is cancelled';
    if (order.status === 'delivered') return this.#known.has(order.id) ? '' : 'for another order: this one is delivered, and its session is not known here';
    if (!order.driver) return 'for a driver: a tracking session is a driver’s';
    if (isBefore(order.status, 'assigned_to_driver')) return `until the order is ready: then ${order.driver.name}’s session begins`;
    return '';
  }

  /** Begins the session, as soon as that can be. Beginning it again gives the one that there is. */
  async #begin() {
    if (!this.#open || this.session) return;
    const { order } = this;
    const lacking = this.#lacking;
    if (lacking || !this.#asked) this.waits = lacking;
    if (lacking || this.#asked) return;
    if (order.status === 'delivered') {
      this.#join(this.#known.get(order.id));
      return;
    }
    const asked = `${order.id} ${order.driver.id}`;
    this.#asked = asked;
    this.waits = 'for its session';
    try {
      const { tracking_id: session } = await this.call('POST', '/tracking/start', this.writer, { order_id: order.id, rider_id: order.driver.id });
      this.#known.set(order.id, session);
      if (this.#known.size > KNOWN) this.#known.delete(this.#known.keys().next().value);
      if (asked === this.#asked) this.#join(session);
    } catch (error) {
      if (asked !== this.#asked) return;
      this.waits = error.message;
      if (error.status === 0 || error.status >= 500) this.#beginLater();
    }
    this.changed();
  }

  #beginLater() {
    this.#timer = setTimeout(() => {
      this.#asked = '';
      this.#begin();
    }, this.#backoff.next());
  }

  #join(session) {
    this.session = session;
    this.waits = '';
    this.line.open();
  }

  write(id, status) {
    return this.#update({ status });
  }

  /** The driver goes a part of the way. */
  drive() {
    this.#part = Math.min(this.#part + 1, PARTS);
    return this.#update({});
  }

  #update(change) {
    this.#way ??= new Path(road(this.order, this.setup.route) ?? [[0, 0]]);
    const [lat, lng] = this.#way.at((this.#way.length * this.#part) / PARTS).point;
    return this.call('POST', `/tracking/update/${this.session}`, this.writer, { lat, lng, ...change });
  }
}
