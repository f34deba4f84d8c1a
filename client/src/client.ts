import type { io as socketIo, ManagerOptions, Socket, SocketOptions } from 'socket.io-client';
import { Connection, type ConnectionState, type TokenSource } from './connection.js';
import { OrdercastError, failure } from './errors.js';
import type { Requests, ServerEvents } from './events.js';
import { OrderStore } from './order.js';
import { Reporter, type ReporterOptions } from './driver.js';
import type { Readable } from './store.js';
import { type Clock, type Moment, Timeline, systemClock } from './timeline.js';

export type EventName = keyof ServerEvents;
export type RequestName = keyof Requests;
export type Payload<R extends RequestName> = Requests[R]['payload'];
export type Answer<R extends RequestName> = Requests[R]['answer'];

/** The socket with the names of the wire, and no others. */
export type Wire = Socket<
  { [E in EventName]: (payload: ServerEvents[E], offset?: string) => void },
  { [R in RequestName]: (payload: Payload<R>, done?: (answer: Answer<R>) => void) => void }
>;

/** What was sent, or answered: for a log. Tokens are not in it. */
export interface Trace {
  readonly direction: 'out' | 'ack';
  readonly event: string;
  readonly payload: unknown;
  /** From the request to its answer. */
  readonly ms?: number;
  readonly failed?: boolean;
}

export interface Options {
  token: TokenSource;
  /** Options of socket.io-client, such as `transports`. */
  socket?: Partial<ManagerOptions & SocketOptions>;
  /** How long to wait for an answer, 8,000 ms. */
  requestTimeoutMs?: number;
  trace?: (line: Trace) => void;
  clock?: Clock;
  /** socket.io-client's `io`, where it cannot be imported. */
  io?: typeof socketIo;
}

type Done<R extends RequestName> = (error: OrdercastError | null, answer: Answer<R>) => void;

type Greeted = (greeting: ServerEvents['connected'], date: (moment: Moment) => number) => void;

/** Orders that nobody looks at are kept for a return, up to this number. */
const IDLE_ORDERS = 100;

/** One user's connection to an Ordercast server. */
export class Client {
  /** The socket of socket.io-client, for what this client has no words for. */
  readonly socket: Wire;
  /** What the connection is like. */
  readonly connection: Readable<ConnectionState>;
  /** @internal */
  readonly timeline: Timeline;
  readonly #connection: Connection;
  readonly #timeout: number;
  readonly #trace: (line: Trace) => void;
  readonly #orders = new Map<string, OrderStore>();
  /** Those that somebody looks at. */
  readonly #active = new Set<OrderStore>();
  /** Orders that were left, and the server has not said yes. */
  readonly #leaving = new Set<string>();
  readonly #greeted = new Set<Greeted>();
  #reporter: Reporter | undefined;

  constructor(io: typeof socketIo, url: string, { token, socket: more, requestTimeoutMs = 8000, trace, clock }: Options) {
    const base = url.replace(/\/+$/, '');
    this.timeline = new Timeline(clock ?? systemClock);
    this.#timeout = requestTimeoutMs;
    this.#trace = trace ?? (() => {});
    // Two clients of one server are two connections.
    const socket: Wire = io(`${base}/realtime`, { ...more, forceNew: true, autoConnect: false });
    this.socket = socket;
    this.#connection = new Connection(socket, base, token, (newer) => this.request('token:refresh', { token: newer }));
    this.connection = this.#connection;
    socket.on('connect', () => this.#connected(socket.recovered));
    this.connection.subscribe((state) => {
      for (const order of this.#active) order.connection(state);
    });
    const tell = <E extends EventName>(event: E, id: (payload: ServerEvents[E]) => string, how: (order: OrderStore, payload: ServerEvents[E]) => void) => this.on(event, (payload) => {
      for (const order of this.#active) if (order.wireId === id(payload)) how(order, payload);
    });
    const ofOrder = ({ orderId }: { orderId: string }) => orderId;
    tell('order:status_update', ofOrder, (order, update) => order.hear(update));
    tell('driver:location_update', ofOrder, (order, location) => {
      // What is played again was so once, and is not so now.
      if (!location.replayed) order.moved(location);
    });
    tell('order:eta_update', ofOrder, (order, eta) => order.eta(eta));
    tell('order:signal', ofOrder, (order, { state, lastSeen }) => order.set({ signalLostSince: state === 'lost' ? lastSeen : null }));
    tell('order:risk', ofOrder, (order, { risk }) => order.learn({ risk }));
    tell('order:milestone', ofOrder, (order, milestone) => order.passed(milestone));
    tell('driver:unassigned', ofOrder, (order) => order.lost());
    tell('driver:new_assignment', ({ id }) => id, (order) => order.join());
    this.on('connected', (greeting) => {
      const date = this.timeline.greet(greeting.serverTime);
      for (const listener of this.#greeted) listener(greeting, date);
    });
    this.on('resync', () => this.#connected(false));
    socket.connect();
  }

  /** Calls `listener` at each such event. Returns the function that ends it. */
  on<E extends EventName>(event: E, listener: (payload: ServerEvents[E]) => void): () => void {
    return this.onAnnouncement(event, listener as (payload: unknown) => void);
  }

  /** The same for an event of your own, which came by `POST /announcements`. */
  onAnnouncement(event: string, listener: (payload: unknown) => void): () => void {
    // Without the offset that durable events end with.
    const heard = (payload: unknown) => listener(payload);
    this.socket.on(event as EventName, heard);
    return () => void this.socket.off(event as EventName, heard);
  }

  /**
   * Asks the server. A request that is made while the connection is lost waits for it, as long as for an answer.
   * Rejects with an `OrdercastError`.
   */
  request<R extends RequestName>(name: R, payload: Payload<R>): Promise<Answer<R>> {
    return new Promise((resolve, reject) => {
      this.ask(name, payload, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }

  /** @internal Like `request`, but `done` runs before the next event is heard. */
  ask<R extends RequestName>(name: R, payload: Payload<R>, done: Done<R>, isVolatile = false): void {
    const { phase, error } = this.connection.get();
    if (phase === 'refused' || phase === 'closed') {
      done(error, undefined as never);
      return;
    }
    const started = this.timeline.stamp().monotonic;
    this.#trace({ direction: 'out', event: name, payload: name === 'token:refresh' ? {} : payload });
    const socket = this.socket as Socket;
    (isVolatile ? socket.volatile : socket).timeout(this.#timeout).emit(name, payload, (silence: Error | null, answer: Answer<R> | { ok: false; error: ConstructorParameters<typeof OrdercastError>[0] }) => {
      const ms = this.timeline.stamp().monotonic - started;
      let problem: OrdercastError | null = null;
      if (silence) {
        const isLost = this.socket.disconnected;
        problem = failure(isLost ? 'disconnected' : 'timeout', `${isLost ? 'The connection was lost before the answer' : `No answer within ${this.#timeout} ms`}: whether ${name} was carried out is not known.`);
      } else if (!answer.ok) problem = new OrdercastError(answer.error);
      this.#trace({ direction: 'ack', event: name, payload: silence ? { error: 'no answer' } : answer, ms, failed: problem !== null });
      done(problem, answer as Answer<R>);
    });
  }

  /** An order, live as long as somebody subscribes to it. The same id gives the same store. */
  order(id: string): OrderStore {
    let order = this.#orders.get(id);
    if (!order) {
      for (const [oldId, old] of this.#orders) {
        if (this.#orders.size < IDLE_ORDERS) break;
        if (!this.#active.has(old)) this.#orders.delete(oldId);
      }
      order = new OrderStore(this, id);
      this.#orders.set(id, order);
    }
    return order;
  }

  /** Reports the positions of this driver. `options` count at the first call. */
  driver(options?: ReporterOptions): Reporter {
    return (this.#reporter ??= new Reporter(this, options));
  }

  /** Goes on with another token of the same user: on the live connection, or at the next one, which is tried at once. */
  setToken(token: TokenSource): void {
    this.#connection.setToken(token);
  }

  /** Connects again now, after a refusal or `close` too. */
  retry(): void {
    this.#connection.retry();
  }

  /** Leaves. Positions that wait are stored, if there is a storage. */
  close(): Promise<void> {
    this.#connection.close();
    return this.#reporter?.close() ?? Promise.resolve();
  }

  /** @internal `date` dates what has happened since the greeting before. */
  onGreeting(listener: Greeted): void {
    this.#greeted.add(listener);
  }

  /** @internal */
  enter(order: OrderStore): void {
    this.#active.add(order);
    this.#leaving.delete(order.wireId);
  }

  /** @internal */
  leave(order: OrderStore): void {
    this.#active.delete(order);
    for (const other of this.#active) if (other.wireId === order.wireId) return;
    this.#leaving.add(order.wireId);
    if (this.socket.connected) this.#part(order.wireId);
  }

  #part(orderId: string): void {
    this.ask('unsubscribe:order', { orderId }, (error) => {
      if (!error) this.#leaving.delete(orderId);
    });
  }

  /** A recovered session follows what it followed, also what was left meanwhile. A new one follows nothing. */
  #connected(recovered: boolean): void {
    if (!recovered) this.#leaving.clear();
    for (const id of this.#leaving) this.#part(id);
    for (const order of this.#active) order.connected(recovered);
  }
}
