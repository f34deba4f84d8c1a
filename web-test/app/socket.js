// One view's connection, by the client that apps use: its state, its requests, what it follows, its token, and what an absence cost it.

import { connect } from '../vendor/ordercast-client/ordercast-client.min.js';
import { AWAY, Plug, cut } from './plug.js';
import { Ledger } from './ledger.js';
import { RequestError } from './request.js';

const PING_EVERY = 4000;
const CATCH_UP_WITHIN = 5000;

// The first event of a new order that a party hears: customers made it themselves, drivers join half-way.
const FIRST_EVENT = { customer: 2, chef: 1, admin: 1 };

export class Connection {
  #client = null;
  #fetchOrders;
  #handlers = new Map();
  #watchers = new Set();
  #followed = new Set();
  #ledger;
  #plug = new Plug(() => this.plugIn());
  #timers = { ping: 0, catchUp: 0 };
  #clockOffset = 0;
  #log;
  #everConnected = false;

  /**
   * phase: off | connecting | connected | reconnecting | unplugged | refused
   * plugAt: when an unplugged connection is plugged in; token: {state: 'expiring'|'expired', at} or null; absence: see Ledger
   */
  state = { phase: 'off', reason: '', transport: '', rtt: null, attempt: 0, connects: 0, userId: null, role: null, plugAt: null, token: null, absence: null };

  constructor(view, log) {
    this.view = view;
    this.#log = log;
    this.#ledger = new Ledger(FIRST_EVENT[view]);
  }

  on(event, handler) {
    if (!this.#handlers.has(event)) this.#handlers.set(event, []);
    this.#handlers.get(event).push(handler);
  }

  watch(watcher) {
    this.#watchers.add(watcher);
  }

  #set(change) {
    this.state = { ...this.state, ...change };
    for (const watcher of this.#watchers) watcher(this.state);
  }

  #fire(event, ...args) {
    for (const handler of this.#handlers.get(event) ?? []) handler(...args);
  }

  #note(event, payload, extra = {}) {
    this.#log({ view: this.view, direction: 'state', event, payload, ...extra });
  }

  /** The server's time, as far as it is known. */
  now() {
    return Date.now() + this.#clockOffset;
  }

  get #socket() {
    return this.#client?.socket;
  }

  open({ server, token, transports, fetchOrders }) {
    this.close();
    this.#fetchOrders = fetchOrders;
    this.#everConnected = false;
    this.#set({ phase: 'connecting', reason: '', attempt: 0, rtt: null, transport: '', connects: 0, userId: null, role: null, token: null, absence: null });
    const client = connect(server, {
      token,
      socket: { transports, reconnectionDelay: 700, reconnectionDelayMax: 5000, timeout: 10000 },
      trace: ({ direction, event, payload, ms, failed }) => this.#log({ view: this.view, direction, event, payload, ms, error: failed }),
    });
    this.#client = client;
    // A client that was closed has nothing more to say.
    const ours = (heard) => (...args) => client === this.#client && heard(...args);
    const { socket } = client;
    socket.on('connect', ours(() => this.#connected(socket)));
    socket.on('disconnect', ours((reason) => this.#disconnected(socket, reason)));
    socket.on('connect_error', ours((error) => this.#refused(socket, error)));
    socket.io.on('reconnect_attempt', ours((attempt) => this.#set({ phase: this.#everConnected ? 'reconnecting' : 'connecting', attempt })));
    // A durable event has one argument more, its offset. socket.io-client itself keeps it, to come back with.
    socket.onAny(ours((event, payload, ...more) => this.#received(event, payload, more.at(-1))));
    client.connection.subscribe(ours(({ tokenEndsAt }) => this.state.token && !tokenEndsAt && this.#set({ token: null })));
    this.#timers.ping = setInterval(() => this.#ping(), PING_EVERY);
  }

  close() {
    clearInterval(this.#timers.ping);
    clearTimeout(this.#timers.catchUp);
    this.#plug.reset();
    this.#followed.clear();
    this.#ledger = new Ledger(FIRST_EVENT[this.view]);
    const client = this.#client;
    if (!client) return;
    this.#client = null;
    client.close();
    this.#set({ phase: 'off', reason: '', transport: '', rtt: null, plugAt: null, token: null, absence: null });
  }

  /** Pulls the plug. It stays out until `plugIn`, or for `ms`. */
  unplug(ms = AWAY) {
    if (this.state.phase !== 'connected') return;
    const manager = this.#socket.io;
    this.#note('unplugged', { transport: manager.engine.transport.name });
    this.stayOut(ms);
    cut(manager);
  }

  /** Puts off the moment at which an unplugged connection is plugged in. */
  stayOut(ms) {
    this.#plug.stayOut(ms);
    this.#set({ plugAt: this.#plug.at });
  }

  /** From here on socket.io-client is on its own again. */
  plugIn() {
    if (this.state.phase !== 'unplugged') return;
    this.#plug.reset();
    this.#note('plugged in');
    this.#set({ phase: 'reconnecting', plugAt: null });
    this.#socket.io.reconnection(true);
    this.#socket.connect();
  }

  dismissAbsence() {
    this.#ledger.dismiss();
    this.#showAbsence();
  }

  /** After a refusal, or a disconnection asked for by the server, socket.io-client waits to be told. */
  retry() {
    if (!this.#client) return;
    this.#set({ phase: this.#everConnected ? 'reconnecting' : 'connecting', reason: '' });
    this.#client.retry();
  }

  /** Goes on with a fresh token of the same person: on the live socket if that asks for one, else at the next connect. */
  renew(token) {
    if (!this.#client) return;
    if (this.state.phase === 'refused') this.#set({ phase: this.#everConnected ? 'reconnecting' : 'connecting', reason: '' });
    this.#client.setToken(token);
  }

  #connected(socket) {
    const { engine } = socket.io;
    const recovered = socket.recovered === true;
    this.#everConnected = true;
    this.#ledger.back(this.now(), recovered);
    this.#set({ phase: 'connected', reason: '', attempt: 0, transport: engine.transport.name, connects: this.state.connects + 1, token: null, absence: this.#ledger.absence });
    this.#note('connect', { transport: engine.transport.name, recovered });
    engine.on('upgrade', (transport) => {
      this.#set({ transport: transport.name });
      this.#note('upgrade', { transport: transport.name });
      this.#ping();
    });
    if (!recovered) this.#ledger.restart(this.#followed);
    this.#ping();
    this.#catchUp(socket, recovered);
  }

  /** A new session needs the orders as they are now; a recovered one is sent what it missed, and the list only proves it. */
  async #catchUp(socket, recovered) {
    clearTimeout(this.#timers.catchUp);
    const { connects } = this.state;
    const orders = await this.#fetchOrders().catch(() => null);
    if (socket !== this.#socket || !socket.connected || connects !== this.state.connects) return; // gone again meanwhile
    if (orders) {
      this.#ledger.audit(orders);
      this.#ledger.learn(orders);
      if (!recovered) this.#fire('orders', orders);
    }
    this.#showAbsence();
    this.#timers.catchUp = setTimeout(() => {
      this.#ledger.settle();
      this.#showAbsence();
    }, CATCH_UP_WITHIN);
  }

  #showAbsence() {
    const before = this.state.absence?.state;
    const { absence } = this.#ledger;
    this.#set({ absence });
    if (absence?.state !== 'done' || before === 'done') return;
    const { recovered, awayMs, count, missing } = absence;
    this.#note('back', { recovered, awayMs: Math.round(awayMs), events: count, missing: missing?.length }, { error: missing?.length > 0 && recovered });
    this.#fire('settled');
  }

  #disconnected(socket, reason) {
    const comesBack = socket.active;
    const unplugged = this.state.plugAt !== null;
    clearTimeout(this.#timers.catchUp);
    this.#ledger.leave(this.now());
    this.#note('disconnect', { reason }, { error: !comesBack });
    this.#set({
      phase: !comesBack ? 'refused' : unplugged ? 'unplugged' : 'reconnecting',
      reason: comesBack ? reason : `the server closed it (${reason})`,
      rtt: null, transport: '', token: null, absence: this.#ledger.absence,
    });
  }

  #refused(socket, error) {
    this.#note('connect_error', { message: error.message }, { error: true });
    if (socket.active) this.#set({ phase: this.#everConnected ? 'reconnecting' : 'connecting', reason: error.message });
    else this.#set({ phase: 'refused', reason: error.message, transport: '' });
  }

  #received(event, payload, offset) {
    const row = { view: this.view, direction: 'in', event, payload, ms: this.#age(payload), offset: typeof offset === 'string' ? offset : undefined };
    if (event === 'connected') this.#set({ userId: payload?.userId ?? null, role: payload?.role ?? null });
    if (event === 'driver:unassigned') this.#ledger.forget(payload?.orderId);
    if (event === 'order:status_update' && payload) row.mark = this.#hear(payload);
    if (event === 'order:new' && payload) row.mark = this.#hear({ orderId: payload.id, orderNumber: payload.orderNumber, seq: 1, status: 'pending', timestamp: payload.createdAt });
    if (event === 'token:expiring' || event === 'token:expired') this.#set({ token: { state: event.slice('token:'.length), at: payload?.expiresAt } });
    if (event === 'resync') {
      this.#ledger.restart();
      this.#catchUp(this.#socket, false);
    }
    if (payload?.replayed || payload?.snapshot) row.ms = null;
    if (event === 'error' || event === 'token:expired') row.error = true;
    this.#log(row);
    this.#fire(event, payload);
  }

  #hear(event) {
    const mark = this.#ledger.hear(event);
    if (this.state.absence?.state === 'checking') this.#showAbsence();
    return mark;
  }

  #age(payload) {
    const at = Date.parse(payload?.receivedAt ?? payload?.timestamp ?? payload?.serverTime ?? '');
    return Number.isFinite(at) ? Math.max(0, this.now() - at) : null;
  }

  async #ping() {
    if (!this.#socket?.connected) return;
    const sent = Date.now();
    const started = performance.now();
    try {
      const answer = await this.request('ping:latency', { t: sent });
      const rtt = performance.now() - started;
      const offset = Date.parse(answer.serverTime) - (sent + rtt / 2);
      this.#clockOffset = Math.abs(offset) > 50 ? offset : 0;
      this.#set({ rtt });
    } catch { /* logged by request */ }
  }

  /** Resolves with the answer, rejects with an OrdercastError. Nothing is asked while the connection is lost. */
  request(event, payload) {
    if (!this.#socket?.connected) return Promise.reject(new RequestError({ code: 'not_connected', message: 'Not connected' }));
    return this.#client.request(event, payload);
  }

  /** Calls `listener` with an order as it is, now and at every change. Returns what ends it. */
  follow(orderId, listener) {
    this.#followed.add(orderId);
    const end = this.#client.order(orderId).subscribe(listener);
    return () => {
      this.#followed.delete(orderId);
      end();
    };
  }

  /** The driver's reporter of positions; null while there is no account. */
  get reporter() {
    return this.#client?.driver() ?? null;
  }
}
