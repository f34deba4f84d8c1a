/** Where time comes from. A test may hand in its own. */
export interface Clock {
  /** The device's clock, in milliseconds since 1970. It may jump. */
  now(): number;
  /** Milliseconds since any moment. It never goes back, but may stand still while the device sleeps. */
  monotonic(): number;
}

export const systemClock: Clock = { now: () => Date.now(), monotonic: () => performance.now() };

/** A moment by both clocks of the device. */
export interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

/** Greetings that differ by less differ by their way through the network. */
const JITTER_MS = 5000;

/** The server's time, told by the device's monotonic clock: a wall clock that is wrong or jumps does not matter. */
export class Timeline {
  readonly #clock: Clock;
  /** Server's time minus monotonic clock, and wall clock minus monotonic clock, both as of the last greeting. */
  #offset: number | undefined;
  #skew = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isKnown(): boolean {
    return this.#offset !== undefined;
  }

  stamp(): Moment {
    return { monotonic: this.#clock.monotonic(), wall: this.#clock.now() };
  }

  /** The server's time of a moment since the last greeting, in milliseconds since 1970. */
  date({ monotonic }: Moment): number {
    return monotonic + (this.#offset ?? NaN);
  }

  /**
   * Takes the time that the server has just told. Returns what dates moments since the greeting before.
   *
   * In between the wall clock may have jumped, or the monotonic clock may have stood still. The server's time tells them apart:
   * by how much it has gone on more than the monotonic clock, that long the device slept.
   */
  greet(serverTime: string): (moment: Moment) => number {
    const { monotonic, wall } = this.stamp();
    const told = Date.parse(serverTime) - monotonic;
    const before = this.#offset ?? told;
    const skew = this.#skew;
    const hasSlept = told - before > JITTER_MS;
    // The greeting that took the shortest way is the most exact.
    this.#offset = Math.abs(told - before) > JITTER_MS ? told : Math.max(told, before);
    this.#skew = wall - monotonic;
    const slept = hasSlept ? told - before : 0;
    const offset = this.#offset;
    return (moment) => moment.monotonic + offset - slept + Math.min(slept, Math.max(0, moment.wall - moment.monotonic - skew));
  }
}
