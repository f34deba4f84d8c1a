// The older doors: Socket.IO's default namespace and the raw WebSockets, each with its own words for the same facts.
// A test dials a raw one, sends a message and awaits the `next` one, as with client.mjs.
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { open, Recorder } from './client.mjs';
import { as, jwt, people } from './server.mjs';

/** In ms. The older systems' apps double the wait after each failure and start again at the first after a success. */
const BACKOFF = { first: 1000, most: 30_000 };

/** The status words of each door. A tracking session begins with the assignment. */
export const WORDS = {
  pending: { track: 'pending', ws: 'PENDING', tracking: null },
  payment_confirmed: { track: 'pending', ws: 'CONFIRMED', tracking: null },
  accepted: { track: 'confirmed', ws: 'CONFIRMED', tracking: null },
  preparing: { track: 'preparing', ws: 'PREPARING', tracking: null },
  ready_for_pickup: { track: 'ready', ws: 'READY', tracking: null },
  assigned_to_driver: { track: 'ready', ws: 'READY', tracking: 'ASSIGNED' },
  picked_up: { track: 'out_for_delivery', ws: 'OUT_FOR_DELIVERY', tracking: 'PICKED_UP' },
  in_transit: { track: 'out_for_delivery', ws: 'OUT_FOR_DELIVERY', tracking: 'IN_TRANSIT' },
  delivered: { track: 'delivered', ws: 'DELIVERED', tracking: 'DELIVERED' },
  cancelled: { track: 'cancelled', ws: 'CANCELLED', tracking: null },
};

/** The message of each status word of `/orders/track`. */
export const MESSAGES = {
  pending: 'Your order has been received',
  confirmed: 'Your order has been confirmed',
  preparing: 'Your order is being prepared',
  ready: 'Your order is ready for pickup/delivery',
  out_for_delivery: 'Your order is on its way',
  delivered: 'Your order has been delivered',
  cancelled: 'Your order has been cancelled',
};

const dialled = new Set();
/** For `afterEach`: a socket left open would keep the test process alive. */
export function hangUpAll() {
  for (const line of dialled) line.hangUp();
}

/** A raw WebSocket. Each message is recorded under its `type`, the connection as `(open)`, `(refused)` and `(close)`. */
class Line extends Recorder {
  constructor(url, options) {
    super();
    Object.assign(this, { url, options });
    dialled.add(this);
    this.connect();
  }

  connect() {
    this.ws = new WebSocket(this.url, this.options);
    this.ws.on('open', () => this.record('(open)'));
    this.ws.on('message', (data) => {
      const message = JSON.parse(`${data}`);
      this.record(message.type, message);
    });
    this.ws.on('unexpected-response', (request, response) => { request.destroy(); this.record('(refused)', response.statusCode); });
    this.ws.on('error', () => {}); // a close follows it
    this.ws.on('close', (code, reason) => this.record('(close)', { code, reason: `${reason}` }));
  }

  /** Strings and bytes are sent as they are, all else as JSON. */
  send(message) {
    this.ws.send(typeof message === 'string' || Buffer.isBuffer(message) ? message : JSON.stringify(message));
  }

  /** Sends a message and returns the next one of that type. */
  ask(message, type, match) {
    const answer = this.next(type, match);
    this.send(message);
    return answer;
  }

  /** Resolves when everything sent to it so far has arrived: the answer comes after it. */
  flush() { return this.ask({ type: 'ping' }, 'pong'); }

  get messages() { return this.events.filter(({ name }) => !name.startsWith('(')).map(({ payload }) => payload); }
  get closed() { return this.next('(close)'); }

  hangUp() {
    dialled.delete(this);
    this.ws.terminate();
  }
}

/** An app as in the older systems: it reconnects after every loss and calls `arrive` at each connection. */
class App extends Line {
  #wait = BACKOFF.first;

  constructor(url, arrive) {
    super(url);
    this.arrive = arrive;
  }

  connect() {
    super.connect();
    this.ws.on('open', () => { this.#wait = BACKOFF.first; this.arrive(this); });
    this.ws.on('close', () => {
      this.timer = setTimeout(() => this.connect(), this.#wait);
      this.#wait = Math.min(2 * this.#wait, BACKOFF.most);
    });
  }

  hangUp() {
    this.ws.removeAllListeners('close');
    clearTimeout(this.timer);
    super.hangUp();
  }
}

function url({ base }, path, user) {
  const token = typeof user === 'string' ? user : user && jwt(user);
  return base.replace('http', 'ws') + path + (token ? `?token=${encodeURIComponent(token)}` : '');
}

/** A raw WebSocket with this user's token, this token or none; it need not be open yet. */
export const ring = (server, path, user, options) => new Line(url(server, path, user), options);

/** The same, already open. */
export async function dial(server, path, user, options) {
  const line = ring(server, path, user, options);
  await line.next('(open)');
  return line;
}

/** An app that reconnects; `arrive` is called with it at each connection. */
export async function install(server, path, user, arrive) {
  const app = new App(url(server, path, user), arrive);
  await app.next('(open)');
  return app;
}

/** Connects to `/orders/track`, subscribes and awaits the present state. */
export async function track(server, user, order, since) {
  const line = await dial(server, '/orders/track', user);
  await line.ask({ type: 'subscribe', order_id: order, since }, 'subscribed');
  if (since === undefined) await line.next('order_update');
  return line;
}

/** Connects to `/ws`, subscribes and awaits the present state. */
export async function watch(server, user, order) {
  const line = await dial(server, '/ws', user);
  await line.ask({ type: 'subscribe', orderId: order }, 'order:updated');
  return line;
}

/** A page on the default namespace. */
export const enter = (server, options) => open(server, { namespace: '/', ...options });

/** The same, already connected. */
export async function visit(server, options) {
  const page = enter(server, options);
  await page.until(() => page.of('(connect)').length || page.of('(refused)').some((error) => { throw error; }), 'the connection');
  return page;
}

/** What a page has heard of an order, in the order it came. */
export const heard = (page, id) => page.events.filter(({ payload }) => payload?.orderId === id);

/** Checks that nothing in the value identifies a person. */
export function anonymous(value, { customer, chef, driver, delivery }, what) {
  const text = JSON.stringify(value);
  const secrets = [customer, chef, driver].flatMap(({ id, name, phone, businessName, address }) => [id, name, phone, businessName, address]);
  for (const secret of [...secrets, delivery.address, 'changedBy', 'changed_by']) {
    if (secret) assert.ok(!text.includes(secret), `${what} has ${secret}: ${text}`);
  }
}

// --- tracking sessions

/** The shape of a session: in full, and as anybody reads it by its id. */
export const SESSION = {
  tracking_id: 'string', order_id: 'string', rider_id: 'string', status: 'string', current_location: 'object|null',
  dropoff: 'object', eta_seconds: 'count|null', updated_at: 'count',
};
export const PUBLIC_SESSION = Object.fromEntries(Object.entries(SESSION).filter(([name]) => name !== 'rider_id'));
export const PLACE = { lat: 'number', lng: 'number', timestamp: 'count' };

/** Seconds to the dropoff at 30 km/h, at least a minute, by that system's formula. */
export function etaSeconds(from, to) {
  const radians = (degrees) => degrees * Math.PI / 180;
  const a = Math.sin(radians(to.lat - from.lat) / 2) ** 2
    + Math.cos(radians(from.lat)) * Math.cos(radians(to.lat)) * Math.sin(radians(to.lng - from.lng) / 2) ** 2;
  return Math.max(60, 6371 * 2 * Math.atan2(Math.sqrt(a), Math.sqrt(1 - a)) / 30 * 3600);
}

/** Starts a rider's session, for an order that may not exist yet. */
export const begin = (server, rider, order, more) => server.ok('POST', '/tracking/start', {
  order_id: order, rider_id: rider.sub, dropoff_lat: 45.2271, dropoff_lng: 13.5947, ...more,
}, rider);

/** Connects to a session's WebSocket and awaits its state. */
export async function trace(server, id, user) {
  const line = await dial(server, `/ws/tracking/${id}`, user);
  await line.next('initial_state');
  return line;
}

/** An order with an assigned driver and a tracking session. */
export async function onTheWay(server, more) {
  const who = people();
  const { id } = await server.create(who, more);
  await server.status(id, 'ready_for_pickup');
  await server.assign(id, who.driver);
  const rider = as(who.driver, 'driver');
  const { tracking_id: session } = await begin(server, rider, id);
  return { id, who, session, rider };
}

// --- what the raw doors have in common

/** For each raw door: its path, how to follow an order from `onTheWay`, the message that tells a change, where a message has the driver's position, and its requests. */
export const RAW = {
  '/orders/track': {
    path: () => '/orders/track', follow: (server, user, { id }) => track(server, user, id), told: 'order_update', place: ({ type, lat }) => type === 'driver_location' && lat,
    subscribe: (id, more) => ({ type: 'subscribe', order_id: id, ...more }), unsubscribe: (id) => ({ type: 'unsubscribe', order_id: id }), member: 'order_id',
  },
  '/ws': {
    path: () => '/ws', follow: (server, user, { id }) => watch(server, user, id), told: 'order:updated',
    subscribe: (id) => ({ type: 'subscribe', orderId: id }), unsubscribe: (id) => ({ type: 'unsubscribe', orderId: id }), member: 'orderId',
  },
  '/ws/tracking': {
    path: ({ session }) => `/ws/tracking/${session}`, follow: (server, user, { session }) => trace(server, session, user), told: 'status_change',
    place: ({ type, data }) => type === 'location_update' && data.current_location?.lat,
  },
};
