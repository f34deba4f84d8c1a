import type { Client, Payload } from './client.js';
import { Backoff } from './connection.js';
import { type OrdercastError, failure } from './errors.js';
import type { Connected } from './events.js';
import { Store } from './store.js';
import type { Moment } from './timeline.js';

type Report = Payload<'driver:location'>;

/** A position as the phone gives it. What the phone does not know may be null, -1 or absent. */
export interface Fix {
  latitude: number;
  longitude: number;
  /** Without it the fix is for all the driver's active orders. */
  orderId?: string;
  heading?: number | null;
  speed?: number | null;
  accuracy?: number | null;
  /** When the phone took it: its `timestamp`. Without it: now. Null: untold, if the fix goes out at once. */
  recordedAt?: number | string | Date | null;
  /** Whether Android says that an app invented it. */
  mocked?: boolean;
}

/** Where positions wait over a restart of the app: `AsyncStorage`, `localStorage`, or anything with these functions. */
export interface Storage {
  getItem(key: string): string | null | Promise<string | null>;
  setItem(key: string, value: string): unknown;
  removeItem(key: string): unknown;
}

export interface ReporterOptions {
  storage?: Storage;
  /** `ordercast:fixes`. */
  storageKey?: string;
  /** How many positions may wait, 5,000. The oldest go first. */
  capacity?: number;
}

export interface ReporterState {
  /** The newest position that was reported, whatever became of it. */
  readonly last: Fix | null;
  /** How many wait to be sent. */
  readonly waiting: number;
  /** How many the server has taken. */
  readonly taken: number;
  /** How many the server has refused. */
  readonly refused: number;
  /** How many were lost because too many waited. */
  readonly dropped: number;
  /** What the server said of the newest one that went out at once: `shown`, or why not. */
  readonly verdict: string | null;
  /** The last refusal. */
  readonly error: OrdercastError | null;
}

/** What became of a report: taken by the server with its verdict, waiting, or refused. */
export type Outcome =
  | { readonly state: 'taken'; readonly shown: boolean; readonly verdict: string }
  | { readonly state: 'waiting' }
  | { readonly state: 'refused'; readonly error: OrdercastError };

interface Entry {
  readonly report: Report;
  readonly moment: Moment;
  /** How much older the fix was when it was reported. */
  readonly age: number;
  /** When it was taken, by the server's time, once that is settled. */
  at?: number;
}

const BATCH = 500;
/** More unanswered ones mean that the connection does not take them. */
const UNDER_WAY = 16;
const SAVE_EVERY_MS = 5000;
const WAITING: Outcome = { state: 'waiting' };

/**
 * Reports a driver's positions: at once while the connection takes them, else later and many at a time.
 * Their times are the server's: see `Timeline`.
 */
export class Reporter extends Store<ReporterState> {
  readonly #client: Client;
  readonly #storage: Storage | undefined;
  readonly #key: string;
  readonly #capacity: number;
  #queue: Entry[] = [];
  #batch = BATCH;
  #underWay = 0;
  #isFlushing = false;
  #isPaused = false;
  /** Whose positions wait. */
  #owner: string | null = null;
  #newest = 0;
  readonly #pause = new Backoff();
  readonly #saving = new Backoff();
  #willSave = false;
  readonly #loaded: Promise<void>;

  /** @internal */
  constructor(client: Client, { storage, storageKey = 'ordercast:fixes', capacity = 5000 }: ReporterOptions = {}) {
    super({ last: null, waiting: 0, taken: 0, refused: 0, dropped: 0, verdict: null, error: null });
    this.#client = client;
    this.#storage = storage;
    this.#key = storageKey;
    this.#capacity = capacity;
    client.onGreeting((greeting, date) => this.#greeted(greeting, date));
    this.#loaded = this.#load();
  }

  /** Takes a position. It never throws, and need not be awaited. */
  async report(fix: Fix): Promise<Outcome> {
    this.set({ last: fix });
    for (const member of ['latitude', 'longitude'] as const) {
      if (!Number.isFinite(fix[member])) return this.#refused({ code: 'invalid_payload', message: `${member} must be a number`, member });
    }
    const { recordedAt, ...report } = fix;
    const moment = this.#client.timeline.stamp();
    const entry = { report, moment, age: this.#age(recordedAt, moment) };
    if (!this.#isLive) return this.#keep(entry);
    return this.#tell(entry, recordedAt === null);
  }

  /** The phone's two clocks and that of its GPS may differ: the reading by which the fix is the youngest counts. */
  #age(recordedAt: Fix['recordedAt'], moment: Moment): number {
    const taken = recordedAt === undefined || recordedAt === null ? NaN : new Date(recordedAt).getTime();
    const { timeline } = this.#client;
    const ages = [moment.wall - taken, timeline.isKnown ? timeline.date(moment) - taken : Infinity];
    return Math.max(0, Math.min(...ages)) || 0;
  }

  get #isLive(): boolean {
    const { socket, timeline } = this.#client;
    return socket.connected && timeline.isKnown && this.#queue.length === 0 && !this.#isPaused && this.#underWay < UNDER_WAY && socket.io.engine.transport.writable;
  }

  /** The entry as it goes out. Times without an age never go back. */
  #dated(entry: Entry): Report {
    const at = (entry.at ?? this.#client.timeline.date(entry.moment)) - entry.age;
    const time = entry.age > 0 ? at : Math.max(at, this.#newest + 1);
    this.#newest = Math.max(this.#newest, time);
    return { ...entry.report, recordedAt: new Date(time).toISOString() };
  }

  #tell(entry: Entry, isUndated: boolean): Promise<Outcome> {
    this.#underWay += 1;
    return new Promise((resolve) => {
      this.#client.ask('driver:location', isUndated ? entry.report : this.#dated(entry), (error, answer) => {
        this.#underWay -= 1;
        if (!error) {
          this.set({ taken: this.get().taken + 1, verdict: answer.verdict, error: null });
          resolve({ state: 'taken', shown: answer.shown, verdict: answer.verdict });
        } else if (error.code === 'rate_limited') {
          // The server keeps it all the same.
          this.set({ taken: this.get().taken + 1, verdict: error.code, error });
          this.#rest(error);
          resolve({ state: 'taken', shown: false, verdict: error.code });
        } else if (isFinal(error)) resolve(this.#refused(error));
        else resolve(this.#keep(entry));
      }, true);
    });
  }

  #refused(problem: ConstructorParameters<typeof OrdercastError>[0] | OrdercastError): Outcome {
    const error = problem instanceof Error ? problem : Object.assign(failure(problem.code, problem.message), problem);
    this.set({ refused: this.get().refused + 1, error });
    return { state: 'refused', error };
  }

  /** The server, or what is between, wants no more for a while. */
  #rest(error: OrdercastError): void {
    this.#isPaused = true;
    this.#pause.again(() => {
      this.#isPaused = false;
      this.#flush();
    }, error.retryAfterMs);
  }

  #keep(entry: Entry): Outcome {
    this.#queue.push(entry);
    // An older one may come back, whose answer was lost.
    if (entry.moment.monotonic < (this.#queue.at(-2)?.moment.monotonic ?? 0)) this.#queue.sort((a, b) => a.moment.monotonic - b.moment.monotonic);
    this.#changed();
    // The transport may be full for this moment only.
    if (this.#client.socket.connected) setTimeout(() => this.#flush());
    return WAITING;
  }

  #changed(): void {
    const excess = Math.max(0, this.#queue.length - this.#capacity);
    this.#queue.splice(0, excess);
    this.set({ waiting: this.#queue.length, dropped: this.get().dropped + excess });
    if (!this.#storage || this.#willSave) return;
    this.#willSave = true;
    this.#saving.again(() => void this.save(), SAVE_EVERY_MS);
  }

  #greeted({ userId }: Connected, date: (moment: Moment) => number): void {
    if (this.#owner !== null && this.#owner !== userId) {
      // What another driver of this phone has left is not this driver's.
      this.set({ dropped: this.get().dropped + this.#queue.length });
      this.#queue = [];
      this.#changed();
    }
    this.#owner = userId;
    for (const entry of this.#queue) entry.at ??= date(entry.moment);
    this.#pause.reset();
    this.#isPaused = false;
    this.#flush();
  }

  /** Sends what waits, a batch after the other. */
  #flush(): void {
    const { socket, timeline } = this.#client;
    if (this.#isFlushing || this.#isPaused || this.#queue.length === 0 || !socket.connected || !timeline.isKnown) return;
    const batch = this.#queue.slice(0, this.#batch);
    const points = batch.map((entry) => this.#dated(entry)).sort((a, b) => (a.recordedAt! < b.recordedAt! ? -1 : 1));
    this.#isFlushing = true;
    this.#client.ask('driver:location_batch', { points }, (error, answer) => {
      this.#isFlushing = false;
      if (error?.code === 'too_large' && batch.length > 1) this.#batch = batch.length >> 1;
      else if (error && !isFinal(error)) {
        if (socket.connected) this.#rest(error);
        return;
      } else {
        const sent = new Set(batch);
        this.#queue = this.#queue.filter((entry) => !sent.has(entry));
        const { taken, refused } = this.get();
        const accepted = error ? 0 : answer.accepted;
        this.set({ taken: taken + accepted, refused: refused + batch.length - accepted, error });
        this.#changed();
        this.#pause.reset();
      }
      this.#flush();
    });
  }

  /** Writes what waits into the storage, which otherwise happens every five seconds. */
  async save(): Promise<void> {
    this.#saving.reset();
    this.#willSave = false;
    if (!this.#storage) return;
    await this.#loaded;
    const fixes = this.#queue.map(({ report, moment, age }) => [report, moment.wall - age]);
    try {
      if (fixes.length > 0) await this.#storage.setItem(this.#key, JSON.stringify({ owner: this.#owner, fixes }));
      else await this.#storage.removeItem(this.#key);
    } catch (error) {
      this.set({ error: failure('storage', `Positions that wait cannot be stored: ${error}`) });
    }
  }

  /** @internal */
  close(): Promise<void> {
    this.#pause.reset();
    return this.save();
  }

  async #load(): Promise<void> {
    try {
      const text = await this.#storage?.getItem(this.#key);
      if (!text) return;
      const { owner, fixes } = JSON.parse(text) as { owner: string | null; fixes: [Report, number][] };
      const { monotonic, wall } = this.#client.timeline.stamp();
      const old = fixes.map(([report, at]) => ({ report, age: 0, moment: { monotonic: monotonic - Math.max(0, wall - at), wall: at } }));
      const { userId } = this.#client.connection.get();
      if (owner !== null && userId !== null && owner !== userId) {
        this.set({ dropped: this.get().dropped + old.length });
        return;
      }
      this.#owner ??= owner;
      this.#queue.unshift(...old);
      this.#changed();
      this.#flush();
    } catch (error) {
      this.set({ error: failure('storage', `Positions that waited cannot be read: ${error}`) });
    }
  }
}

/** Whether the same again would be refused again. */
const isFinal = ({ code }: OrdercastError) => /^(invalid_payload|forbidden|not_found|clock_skew|too_large)$/.test(code);
