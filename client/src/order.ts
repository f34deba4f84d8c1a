import type { Client } from './client.js';
import { Backoff, type ConnectionState } from './connection.js';
import { OrdercastError, failure } from './errors.js';
import type { EtaUpdate, LocationUpdate, MilestoneUpdate, StatusUpdate, Tracking } from './events.js';
import { Store, tell } from './store.js';

/** A place of the driver. From a snapshot only place and time are known. */
export type DriverLocation = Pick<LocationUpdate, 'latitude' | 'longitude' | 'timestamp'> & Partial<LocationUpdate>;

export interface OrderState {
  readonly id: string;
  /**
   * `idle`: nobody subscribes. `loading`: nothing is known yet. `live`. `reconnecting`: what is shown may be old.
   * `error`: see `error`; the order is not live.
   */
  readonly phase: 'idle' | 'loading' | 'live' | 'reconnecting' | 'error';
  readonly error: OrdercastError | null;
  /** The order with its history and ETA, kept up to date by events. */
  readonly tracking: Tracking | null;
  /** The number of the newest event that is in `tracking`; 0 while nothing is known. */
  readonly seq: number;
  /** The newest event: its `message` is for people. */
  readonly update: StatusUpdate | null;
  readonly location: DriverLocation | null;
  /** Since when the driver on the way has been silent; null while positions come. */
  readonly signalLostSince: string | null;
  /** How many events the server could not give any more. The state is right all the same. */
  readonly skipped: number;
}

/** What positions and clocks change, and events do not. */
const LIVE = ['etaMinutes', 'estimatedDeliveryTime', 'etaLow', 'etaHigh', 'etaSource', 'remainingMeters', 'stopsBefore', 'stale', 'milestones', 'risk'] as const;
const ETA = LIVE.slice(0, 8) as Exclude<(typeof LIVE)[number], 'milestones' | 'risk'>[];
const TIMES: Partial<Record<string, keyof Tracking>> = {
  payment_confirmed: 'paymentConfirmedAt', accepted: 'acceptedAt', ready_for_pickup: 'readyAt', assigned_to_driver: 'assignedAt', picked_up: 'pickedUpAt',
  delivered: 'deliveredAt', cancelled: 'cancelledAt', failed: 'failedAt', returned: 'returnedAt',
};
const FINAL = /^(delivered|cancelled|returned)$/;
/** What passes by itself. Any other refusal is final until the next connection. */
const PASSING = /^(unavailable|internal_error|rate_limited|timeout|disconnected|token_expired)$/;
/** A snapshot may be ahead of the events, but not for long. */
const AHEAD_MS = 5000;

const pick = <T, K extends keyof T>(from: T, names: readonly K[]) => Object.fromEntries(names.map((name) => [name, from[name]])) as Pick<T, K>;

/** One order: how it is, and every change of it once and in order. */
export class OrderStore extends Store<OrderState> {
  readonly id: string;
  /** @internal The id as the server writes it: UUIDs in lower case. */
  wireId: string;
  readonly #client: Client;
  readonly #heard = new Set<(update: StatusUpdate) => void>();
  #users = 0;
  #isJoined = false;
  /** Answers to older attempts to join do not count. */
  #attempt = 0;
  #isJoining = false;
  #repairedAt = -1;
  /** A snapshot whose events are still on their way. */
  #ahead: Tracking | null = null;
  readonly #again = new Backoff();
  readonly #late = new Backoff();

  /** @internal */
  constructor(client: Client, id: string) {
    super({ id, phase: 'idle', error: null, tracking: null, seq: 0, update: null, location: null, signalLostSince: null, skipped: 0 });
    this.id = this.wireId = id;
    this.#client = client;
    const listen = this.subscribe;
    this.subscribe = (listener) => {
      let end = () => {};
      const leave = this.#use(() => end());
      end = listen(listener);
      return leave;
    };
  }

  /** Calls `listener` with the state now and at every change. The first subscription joins the order, the end of the last one leaves it. */
  declare readonly subscribe: Store<OrderState>['subscribe'];

  /** Calls `listener` with each event that is newer than the first snapshot, once and in order. Counts as a subscription. */
  onUpdate(listener: (update: StatusUpdate) => void): () => void {
    const own = (update: StatusUpdate) => listener(update);
    this.#heard.add(own);
    return this.#use(() => this.#heard.delete(own));
  }

  /** The first user joins the order, the last one leaves it. */
  #use(end: () => void): () => void {
    if (this.#users++ === 0) {
      this.#client.enter(this);
      if (!this.#isJoined) this.join();
    }
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      end();
      this.#users -= 1;
      // Who comes back at once, as components do, has not been away.
      queueMicrotask(() => {
        if (this.#users > 0 || this.get().phase === 'idle') return;
        this.#drop();
        this.#client.leave(this);
        this.set({ phase: 'idle', error: null });
      });
    };
  }

  #drop(): void {
    this.#attempt += 1;
    this.#isJoined = this.#isJoining = false;
    this.#again.reset();
    this.#late.reset();
  }

  /** @internal */
  connected(recovered: boolean): void {
    if (recovered && this.#isJoined) {
      this.#again.reset();
      this.set({ phase: 'live', error: null });
      this.#refresh(); // positions and ETAs are not sent again
      return;
    }
    this.#drop();
    this.join();
  }

  /** @internal */
  connection({ phase, error }: ConnectionState): void {
    if (phase === 'connected') return;
    if (phase === 'refused' || phase === 'closed') {
      this.#drop();
      this.set({ phase: 'error', error });
    } else if (this.get().phase !== 'idle') this.set({ phase: this.get().tracking ? 'reconnecting' : 'loading', error });
  }

  /** @internal Joins the order where this store is. `anew` takes it as it is now, whatever was before. */
  join(anew = false): void {
    const { tracking, seq } = this.get();
    if (this.get().phase === 'idle' || !tracking) this.set({ phase: 'loading', error: null });
    if (!this.#client.socket.connected) {
      this.connection(this.#client.connection.get());
      return;
    }
    const attempt = ++this.#attempt;
    this.#isJoining = true;
    const since = tracking && !anew ? { since: seq } : {};
    this.#client.ask('subscribe:order', { orderId: this.id, ...since }, (error, answer) => {
      if (attempt !== this.#attempt) return;
      this.#isJoining = false;
      if (error) {
        this.#refusedBy(error);
        return;
      }
      this.#isJoined = true;
      this.wireId = answer.orderId;
      this.#again.reset();
      if (!tracking || anew || answer.seq < seq) {
        // What lies between was told to nobody.
        const skipped = this.get().skipped + (tracking ? Math.max(0, answer.seq - seq) : 0);
        this.#ahead = null;
        this.set({ phase: 'live', error: null, skipped, ...this.#whole(answer.tracking, null) });
      } else {
        this.set({ phase: 'live', error: null });
        this.#take(answer.tracking);
      }
    });
  }

  #refusedBy(error: OrdercastError): void {
    if (PASSING.test(error.code)) {
      this.set({ error });
      this.#again.again(() => this.join(), error.retryAfterMs);
      return;
    }
    this.#isJoined = false;
    const hint = error.code === 'not_found' ? failure('not_found', `There is no order ${this.id}, or the user of this token may not see it.`) : error;
    this.set({ phase: 'error', error: hint });
  }

  /** @internal The driver does not have it any more. */
  lost(): void {
    this.#drop();
    this.set({ phase: 'error', error: failure('unassigned', `Order ${this.id} was taken from this driver.`), tracking: null, seq: 0, update: null, location: null });
  }

  /** @internal */
  hear(update: StatusUpdate): void {
    const { tracking, seq } = this.get();
    if (!tracking) return; // the answer to the request to join says it all
    if (update.snapshot) {
      if (update.seq === seq) this.set({ update });
      return;
    }
    if (update.seq <= seq) return;
    if (update.seq > seq + 1) {
      this.#repair();
      return;
    }
    this.#apply(tracking, update);
    if (this.#ahead && this.get().seq >= this.#ahead.seq) this.#catchUp();
    else if (update.changed || update.corrected) this.#refresh();
    tell(this.#heard, update);
  }

  /** Events are missing: asks for all after the last one. If that did not help, for the order as it is. */
  #repair(): void {
    if (this.#isJoining) return;
    const { seq } = this.get();
    const didNotHelp = this.#repairedAt === seq;
    this.#repairedAt = seq;
    this.join(didNotHelp);
  }

  #apply(tracking: Tracking, update: StatusUpdate): void {
    const { status, timestamp, driver, changedBy } = update;
    const isNew = status !== tracking.status;
    const time = isNew && TIMES[status];
    const next: Tracking = {
      ...tracking,
      seq: update.seq, status, paymentStatus: update.paymentStatus, failureReason: update.reason as Tracking['failureReason'] ?? tracking.failureReason,
      driverAssigned: Boolean(driver), driverName: driver?.name, driverPhone: driver?.phone,
      ...(isNew && { statusHistory: [...tracking.statusHistory, { status, timestamp, changedBy }] }),
      ...(time && { [time]: timestamp }),
      // An event of the past has an ETA of the past.
      ...(!update.replayed && !this.#ahead && pick(update as Partial<Tracking>, update.etaMinutes === undefined ? ETA : ETA.slice(0, 2))),
    };
    const { location } = this.get();
    const isGone = FINAL.test(status) || !driver || (location?.driverId !== undefined && location.driverId !== driver.id);
    this.set({ tracking: next, seq: update.seq, update, location: isGone ? null : location, ...(isGone && { signalLostSince: null }) });
  }

  /** The whole state by a snapshot. A position that is newer than it stays. */
  #whole(tracking: Tracking, location: DriverLocation | null) {
    const { driverLatitude: latitude, driverLongitude: longitude, lastLocationUpdate: timestamp } = tracking;
    const isKnown = typeof latitude === 'number' && typeof longitude === 'number' && timestamp !== undefined && timestamp !== null;
    const told = isKnown && (!location || timestamp > location.timestamp) ? { latitude, longitude, timestamp } : location;
    return { tracking, seq: tracking.seq, location: isKnown ? told : null };
  }

  #refresh(): void {
    const attempt = this.#attempt;
    this.#client.ask('order:tracking', { orderId: this.id }, (error, answer) => {
      if (attempt !== this.#attempt) return;
      if (error) {
        this.#refusedBy(error);
        return;
      }
      const { ok: _, ...tracking } = answer;
      this.#take(tracking);
    });
  }

  /** Takes a snapshot. What it knows of events that this store has yet to hear waits for them. */
  #take(snapshot: Tracking): void {
    const { tracking, seq, location } = this.get();
    if (!tracking || snapshot.seq < seq) return;
    const whole = this.#whole(snapshot, location);
    if (snapshot.seq === seq) {
      this.set(whole);
      return;
    }
    this.#ahead = snapshot;
    this.set({ tracking: { ...tracking, ...pick(snapshot, LIVE) }, location: whole.location });
    this.#late.again(() => this.#ahead && this.#repair(), AHEAD_MS);
  }

  #catchUp(): void {
    const { tracking, seq } = this.get();
    const ahead = this.#ahead;
    this.#ahead = null;
    this.#late.reset();
    if (!tracking || !ahead) return;
    if (ahead.seq === seq) this.set({ tracking: { ...ahead, ...pick(tracking, LIVE) } });
    else this.#refresh();
  }

  /** @internal */
  learn(news: Partial<Tracking>): void {
    const { tracking } = this.get();
    if (tracking) this.set({ tracking: { ...tracking, ...news } });
  }

  /** @internal */
  moved(location: LocationUpdate): void {
    const { tracking } = this.get();
    if (tracking && !FINAL.test(tracking.status)) this.set({ location, signalLostSince: null });
  }

  /** @internal */
  eta(eta: EtaUpdate): void {
    this.learn(pick(eta, ETA));
  }

  /** @internal */
  passed({ orderId: _, conflated: __, ...own }: MilestoneUpdate): void {
    const others = this.get().tracking?.milestones.filter(({ stop, milestone: what }) => stop !== own.stop || what !== own.milestone) ?? [];
    this.learn({ milestones: [...others, own] });
  }
}
