// One view's socket.io connection: its state, its requests with acks, its subscriptions and their return after a cut.

const PING_EVERY = 4000;
const ACK_TIMEOUT = 8000;

export class RequestError extends Error {
  constructor({ code = 'failed', message, ...rest } = {}) {
    super(message || code);
    this.code = code;
    this.details = rest;
  }
}

export class Connection {
  #socket = null;
  #handlers = new Map();
  #watchers = new Set();
  #subscriptions = new Set();
  #seqs = new Map();
  #timer = null;
  #clockOffset = 0;
  #log;
  #everConnected = false;

  /** phase: off | connecting | connected | reconnecting | refused */
  state = { phase: 'off', reason: '', transport: '', rtt: null, attempt: 0, connects: 0, userId: null, role: null };

  constructor(view, log) {
    this.view = view;
    this.#log = log;
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

  open({ server, token, transports }) {
    this.close();
    this.#everConnected = false;
    this.#set({ phase: 'connecting', reason: '', attempt: 0, rtt: null, transport: '', connects: 0, userId: null, role: null });
    const socket = window.io(`${server}/realtime`, {
      auth: { token },
      transports,
      forceNew: true,
      reconnectionDelay: 700,
      reconnectionDelayMax: 5000,
      timeout: 10000,
    });
    this.#socket = socket;
    socket.on('connect', () => this.#connected(socket));
    socket.on('disconnect', (reason) => this.#disconnected(socket, reason));
    socket.on('connect_error', (error) => this.#refused(socket, error));
    socket.io.on('reconnect_attempt', (attempt) => this.#set({ phase: this.#everConnected ? 'reconnecting' : 'connecting', attempt }));
    socket.onAny((event, payload) => this.#received(event, payload));
    this.#timer = setInterval(() => this.#ping(), PING_EVERY);
  }

  close() {
    clearInterval(this.#timer);
    this.#subscriptions.clear();
    this.#seqs.clear();
    if (!this.#socket) return;
    this.#socket.removeAllListeners();
    this.#socket.offAny();
    this.#socket.io.removeAllListeners('reconnect_attempt');
    this.#socket.disconnect();
    this.#socket = null;
    this.#set({ phase: 'off', reason: '', transport: '', rtt: null });
  }

  /** Drops the transport without a goodbye; the client comes back by itself. */
  cut() {
    this.#note('cut', { transport: this.state.transport });
    this.#socket?.io.engine?.close();
  }

  /** After a refusal, or a disconnection asked for by the server, socket.io-client waits to be told. */
  retry() {
    if (!this.#socket) return;
    this.#set({ phase: 'connecting', reason: '' });
    this.#socket.connect();
  }

  #connected(socket) {
    const engine = socket.io.engine;
    this.#everConnected = true;
    this.#set({ phase: 'connected', reason: '', attempt: 0, transport: engine.transport.name, connects: this.state.connects + 1 });
    this.#note('connect', { transport: engine.transport.name, recovered: socket.recovered === true });
    engine.on('upgrade', (transport) => {
      this.#set({ transport: transport.name });
      this.#note('upgrade', { transport: transport.name });
      this.#ping();
    });
    if (!socket.recovered) {
      for (const id of this.#seqs.keys()) if (!this.#subscriptions.has(id)) this.#seqs.delete(id);
      for (const id of this.#subscriptions) {
        this.#join(id, this.#seqs.get(id)).catch((error) => this.#note('subscribe failed', { orderId: id, code: error.code }, { error: true }));
      }
    }
    this.#ping();
    this.#fire('ready', { recovered: socket.recovered === true });
  }

  #disconnected(socket, reason) {
    const comesBack = socket.active;
    this.#note('disconnect', { reason }, { error: !comesBack });
    this.#set({ phase: comesBack ? 'reconnecting' : 'refused', reason: comesBack ? reason : `the server closed it (${reason})`, rtt: null, transport: '' });
  }

  #refused(socket, error) {
    this.#note('connect_error', { message: error.message }, { error: true });
    if (socket.active) this.#set({ phase: this.#everConnected ? 'reconnecting' : 'connecting', reason: error.message });
    else this.#set({ phase: 'refused', reason: error.message, transport: '' });
  }

  #received(event, payload) {
    const row = { view: this.view, direction: 'in', event, payload, ms: this.#age(payload) };
    if (event === 'connected') this.#set({ userId: payload?.userId ?? null, role: payload?.role ?? null });
    if (event === 'driver:unassigned') this.#seqs.delete(payload?.orderId);
    if (event === 'order:status_update' && payload) row.mark = this.#sequence(payload);
    if (payload?.replayed) row.ms = null;
    if (payload?.snapshot) row.ms = null;
    if (event === 'error') row.error = true;
    this.#log(row);
    this.#fire(event, payload);
  }

  /** Every order's events are numbered without a gap: says so when one is missing or comes twice. */
  #sequence({ orderId, seq, snapshot, replayed }) {
    const last = this.#seqs.get(orderId);
    if (last === undefined || seq > last) this.#seqs.set(orderId, seq);
    if (snapshot) return 'snapshot';
    if (last !== undefined && seq <= last) return 'repeat';
    if (last !== undefined && seq > last + 1) return `gap of ${seq - last - 1}`;
    return replayed ? 'replayed' : undefined;
  }

  #age(payload) {
    const at = Date.parse(payload?.receivedAt ?? payload?.timestamp ?? payload?.serverTime ?? '');
    return Number.isFinite(at) ? Math.max(0, Date.now() + this.#clockOffset - at) : null;
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

  /** Emits with an ack. Resolves with the answer, rejects with a RequestError. */
  request(event, payload) {
    const socket = this.#socket;
    if (!socket?.connected) return Promise.reject(new RequestError({ code: 'not_connected', message: 'Not connected' }));
    const started = performance.now();
    this.#log({ view: this.view, direction: 'out', event, payload });
    return new Promise((resolve, reject) => {
      socket.timeout(ACK_TIMEOUT).emit(event, payload, (timedOut, answer) => {
        const ms = performance.now() - started;
        if (timedOut) {
          this.#log({ view: this.view, direction: 'ack', event, payload: { error: 'no answer' }, ms, error: true });
          reject(new RequestError({ code: 'timeout', message: 'The server did not answer' }));
          return;
        }
        const failed = answer?.ok === false;
        this.#log({ view: this.view, direction: 'ack', event, payload: answer, ms, error: failed });
        if (failed) reject(new RequestError(answer.error));
        else resolve(answer ?? {});
      });
    });
  }

  #join(orderId, since) {
    return this.request('subscribe:order', since === undefined ? { orderId } : { orderId, since });
  }

  /** Follows an order until `unsubscribe`, also over reconnects. */
  async subscribe(orderId) {
    this.#subscriptions.add(orderId);
    return this.#join(orderId);
  }

  async unsubscribe(orderId) {
    if (!this.#subscriptions.delete(orderId)) return;
    if (this.#socket?.connected) await this.request('unsubscribe:order', { orderId }).catch(() => {});
  }
}
