// An app on a real socket.io-client: it does what an app does, and records what it hears. checker.mjs tells what a record is.
import { open } from '../clients/support/client.mjs';
import { jwt } from '../clients/support/server.mjs';
import { parseOffset } from './checker.mjs';
import { Listener } from './listener.mjs';

const UPDATE = 'order:status_update';
const DURABLE = new Set([UPDATE, 'order:new', 'order:available', 'order:withdrawn', 'driver:new_assignment', 'driver:unassigned']);
const LIVE = new Set(['driver:location_update', 'order:eta_update', 'order:milestone', 'order:risk', 'order:signal', 'order:receipt']);
const QUIET = new Set(['driver:location_acknowledged']);
const FINAL = new Set(['delivered', 'cancelled']);
const DRIVE_MS = 200;
const AGAIN_MS = 200;
/** An order's life is not much longer: a subscription finds it at any point. */
const LATE_MS = 800;

export class Watcher extends Listener {
  update = UPDATE;
  /** What it subscribes to: order → {covered: the seq up to which it knows all, beyond: what it knows more, settled}. */
  #wants = new Map();
  #leaving = new Set();
  /** For `auth.position`: all up to here is known. */
  #position = null;

  /**
   * `who`: {name, user, role, client, transport}, and its habits: `position`: it comes back with auth.position; `follows`:
   * 'since' or 'snapshot', how it subscribes to orders; `again`: it now and then subscribes once more; `drives`: it reports its place.
   */
  constructor(who, counts, random) {
    super(who, counts, random);
    this.recovers = who.client === '4';
    // These get no offsets.
    this.bare = who.client === '2' || who.position === true;
  }

  /** Connects, for as long as the test lasts; resolves with the greeting. */
  async connect(base) {
    const token = jwt({ sub: this.user, role: this.role, exp: Math.floor(Date.now() / 1000) + 24 * 3600 });
    const own = () => ({ token, ...(this.position && this.#position !== null && { position: this.#position }) });
    const query = { token };
    this.app = open({ base }, {
      client: this.client,
      transport: this.transport,
      options: {
        reconnectionDelay: 30,
        reconnectionDelayMax: 250,
        timeout: 3000,
        ...(this.client === '2' ? { query } : { auth: (give) => give(own()) }),
      },
    });
    const { socket } = this.app;
    // Version 2 has no `auth`; its query goes with each CONNECT.
    if (this.client === '2') socket.io.on('reconnect_attempt', () => { socket.query = own(); });
    const { onevent } = socket;
    socket.onevent = (packet) => {
      onevent.call(socket, packet);
      this.#heard(packet.data);
      this.app.events.length = 0; // we have our own, shorter, record
    };
    const greeted = new Promise((resolve) => { this.greeted = resolve; });
    socket.on('connect', () => this.#connected());
    socket.on('disconnect', (reason) => this.note({ at: 'disconnect', reason }));
    socket.on(this.client === '2' ? 'error' : 'connect_error', (error) => this.#refused(error));
    if (this.drives) this.driving = setInterval(() => this.#drive(), DRIVE_MS);
    await greeted;
  }

  #connected() {
    const recovered = this.app.socket.recovered === true;
    const gave = this.position && this.#position !== null ? this.#position : undefined;
    this.note({ at: 'connect', recovered, gave, time: Date.now() });
    if (this.record.length > 1) this.counts[recovered ? 'recovered' : 'fresh'] += 1;
    for (const [order, want] of this.#wants) {
      if (!recovered) want.settled = false;
      if (!want.settled) this.#ask(order, want);
    }
    // a fresh session follows nothing; a recovered one may have missed the request
    if (!recovered) this.#leaving.clear();
    for (const order of this.#leaving) this.#leave(order);
  }

  /** Trouble with the transport is what this test is made of; a refusal by the server is not. */
  #refused(error) {
    if (error?.event !== undefined && this.client === '2') return; // our `error` event, heard below
    if (error instanceof Error && (error.type === 'TransportError' || error.message === 'timeout')) return;
    this.note({ at: 'fault', text: `refused: ${error?.message ?? JSON.stringify(error)}` });
  }

  #heard([name, payload, ...rest]) {
    if (LIVE.has(name)) {
      this.counts.live += 1;
      this.counts.conflated += payload.conflated ?? 0;
    } else if (DURABLE.has(name)) {
      this.#durable(name, payload, typeof rest.at(-1) === 'string' ? rest.at(-1) : null);
    } else if (name === 'connected') {
      this.note({ at: 'connected', recovered: payload.recovered, position: payload.position });
      this.#position ??= parseOffset(payload.position)[0];
      this.greeted();
    } else if (!QUIET.has(name)) {
      this.note({ at: 'fault', text: `${name} ${JSON.stringify(payload)}` });
    }
  }

  #durable(name, payload, offset) {
    this.counts.events += 1;
    const order = payload.orderId ?? payload.id;
    const item = { at: 'event', name, order, offset };
    if (name === UPDATE) {
      const kind = payload.snapshot ? 'snapshot' : payload.replayed ? 'replay' : 'live';
      Object.assign(item, { seq: payload.seq, kind, status: payload.status, position: payload.position });
    }
    this.note(item);
    if (offset !== null) {
      const [position, index] = parseOffset(offset);
      // events of one position come together, the plain one last: only then it is done with
      this.#position = Math.max(this.#position, index === Infinity ? position : position - 1);
    } else if (name === UPDATE && item.kind !== 'snapshot') this.#position = Math.max(this.#position, item.position);
    this.#use(item, payload);
  }

  // ---- subscriptions

  /** A new order that the app learns of by other ways, sooner or later. */
  follow(order) {
    if (this.follows === undefined) return;
    const since = this.follows === 'since' ? this.random.below(2) : null;
    setTimeout(() => this.#want(order, since), this.random.between(0, LATE_MS));
  }

  #want(order, covered) {
    const want = { covered, beyond: new Set(), settled: false };
    this.#wants.set(order, want);
    if (this.app.socket.connected) this.#ask(order, want);
  }

  #ask(order, want) {
    const since = want.covered ?? undefined;
    const { socket } = this.app;
    const { id } = socket;
    this.note({ at: 'ask', order, since });
    socket.emit('subscribe:order', { orderId: order, since }, (answer) => {
      const item = { at: 'answer', order, since, seq: answer.ok ? answer.seq : null, code: answer.error?.code };
      this.note(item);
      if (answer.ok) {
        want.settled = true;
        if (since === undefined) want.covered = Math.max(want.covered ?? 0, answer.seq);
      } else if (answer.error.code === 'not_found' && this.role === 'driver') {
        this.#wants.delete(order); // it was taken away meanwhile
      } else if (['unavailable', 'internal_error'].includes(answer.error.code)) {
        setTimeout(() => { if (socket.connected && socket.id === id && this.#wants.get(order) === want) this.#ask(order, want); }, AGAIN_MS);
      } else {
        this.note({ at: 'fault', text: `subscribe:order ${order} was answered ${JSON.stringify(answer)}` });
      }
    });
  }

  #leave(order) {
    this.app.socket.emit('unsubscribe:order', { orderId: order }, () => this.#leaving.delete(order));
  }

  #use({ name, order, seq, kind, status }, payload) {
    if (name === 'driver:new_assignment' && this.follows) this.#want(order, payload.seq);
    if (name === 'driver:unassigned') this.#wants.delete(order);
    const want = this.#wants.get(order);
    if (name !== UPDATE || !want) return;
    if (kind === 'snapshot') want.covered = Math.max(want.covered ?? 0, seq);
    else want.beyond.add(seq);
    // the creation, seq 1, is nobody's update
    for (let next = Math.max(want.covered ?? Infinity, 1) + 1; want.beyond.delete(next); next += 1) want.covered = next;
    if (FINAL.has(status)) {
      this.#wants.delete(order);
      this.#leaving.add(order);
      if (this.app.socket.connected) this.#leave(order);
    } else if (this.again && want.settled && this.random.chance(0.1)) {
      want.settled = false;
      this.#ask(order, want);
    }
  }

  #drive() {
    if (!this.app.socket.connected) return;
    const [latitude, longitude] = [45.2 + this.random.next() / 10, 13.6 + this.random.next() / 10];
    this.app.socket.volatile.emit('driver:location', { latitude, longitude });
  }

  // ---- the end

  leave() {
    clearInterval(this.driving);
    super.leave();
  }

  /** What is on its way comes before the answer to this. */
  async flush() {
    const { socket } = this.app;
    if (!socket.connected) return;
    const asked = [...this.#leaving];
    const answer = await this.app.request('ping:latency', { t: 1 }).catch(() => null);
    const unanswered = answer ? asked.filter((order) => this.#leaving.has(order)) : [];
    if (unanswered.length > 0) this.note({ at: 'fault', text: `unsubscribe:order was never answered: ${unanswered}` });
  }
}
