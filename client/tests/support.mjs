// Real servers, proxies and clients for the tests of the package. ORDERCAST_BIN names the server.
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'ordercast-client';
import { Proxy } from '../../tests/clients/support/proxy.mjs';
import { Server, as, jwt, people } from '../../tests/clients/support/server.mjs';

export { Server, as, jwt, people, sleep };
export const STATUSES = ['pending', 'payment_confirmed', 'accepted', 'preparing', 'ready_for_pickup', 'assigned_to_driver', 'picked_up', 'in_transit', 'delivered'];
const WAIT_MS = 10_000;
// Tests lose their connections often.
const EAGER = { transports: ['websocket'], reconnectionDelay: 20, reconnectionDelayMax: 60, timeout: 2000 };

export async function start(t, options) {
  const server = await Server.start(options);
  t.after(() => server.close());
  return server;
}

export async function proxyTo(t, server) {
  const proxy = await Proxy.start(server);
  t.after(() => proxy.close());
  return proxy;
}

/** A client of `user` that ends with the test. */
export function join(t, { base }, user, { socket, ...options } = {}) {
  const client = connect(base, { token: () => jwt(user), socket: { ...EAGER, ...socket }, ...options });
  t.after(() => client.close());
  return client;
}

/** Resolves with the first value of the store that passes. */
export function until(store, passes, what = passes.toString()) {
  return new Promise((resolve, reject) => {
    let end = () => {};
    const timer = setTimeout(() => {
      queueMicrotask(() => end());
      reject(new Error(`waited ${WAIT_MS} ms for ${what}; it is ${JSON.stringify(store.get(), null, 1).slice(0, 2000)}`));
    }, WAIT_MS);
    end = store.subscribe((value) => {
      if (!passes(value)) return;
      clearTimeout(timer);
      queueMicrotask(() => end());
      resolve(value);
    });
  });
}

export const connected = (client) => until(client.connection, ({ phase, userId }) => phase === 'connected' && userId !== null, 'a connection');
export const live = (order) => until(order, ({ phase }) => phase === 'live', 'a live order');
export const atSeq = (order, seq) => until(order, (state) => state.seq >= seq, `seq ${seq}`);

/** Follows an order until the test ends; the updates and states that came are in the arrays. */
export function follow(t, client, id) {
  const order = client.order(id);
  const updates = [];
  const states = [];
  const ends = [order.subscribe((state) => states.push(state)), order.onUpdate((update) => updates.push(update))];
  const end = () => ends.splice(0).forEach((one) => one());
  t.after(end);
  return { order, updates, states, end };
}

/** What is sent on the socket under the client, `[name, payload]`. */
export function sent(client) {
  const all = [];
  client.socket.onAnyOutgoing((...packet) => all.push(packet));
  return all;
}

export const fix = (more = {}) => ({ latitude: 45.25, longitude: 13.65, accuracy: 5, ...more });

/** A clock of one's own: `now` is the wall clock, and may be set. */
export class TestClock {
  #started = performance.now();
  ahead = 0;
  slept = 0;
  wallStart = Date.now();
  monotonic = () => performance.now() - this.#started - this.slept + 1000;
  now = () => this.wallStart + performance.now() - this.#started + this.ahead;
}
