// What all actors of a test share: its people, its orders, what was acknowledged, and what went wrong.

/** After trouble with the database, its faults may still show for so long. */
const AFTERMATH_MS = 1_500;
/** After trouble with the database so many changes must be acknowledged within this time, before more happens. */
const RECOVERED_CHANGES = 10;
const RECOVERED_MS = 20_000;

export class World {
  orders = new Map();
  /** Tracking sessions by order and driver: of each there is one. */
  sessions = new Map();
  acknowledged = [];
  closing = false;
  watchers = [];
  faults = [];
  counts = {
    kills: 0, terminations: 0, cuts: 0, midframe: 0, stalls: 0, diskFull: 0, 'postgres immediate': 0, 'postgres fast': 0,
    recovered: 0, fresh: 0, returned: 0, events: 0, live: 0, conflated: 0, refused: 0, retries: 0,
  };
  #troubles = 0;
  #lastTrouble = 0;

  /** `cast`: who there is; `server`: whom the writers call; `up()`: resolves when it is there, where that can be known. */
  constructor({ cast, server, postgres = true, up = async () => {} }) { Object.assign(this, { cast, server, postgres, up }); }

  fault(text) { this.faults.push(text); }

  /** Tells the apps of those people and of staff, which know of orders by other ways, of a new one. */
  created(order, people) {
    for (const app of this.watchers) if (['admin', 'service'].includes(app.role) || people.includes(app.user)) app.follow?.(order);
  }

  assigned(order, driver) {
    for (const app of this.watchers) app.assigned?.(this, order, driver);
  }

  troubled() { return this.#troubles > 0 || Date.now() - this.#lastTrouble < AFTERMATH_MS; }

  /** Runs what is trouble to the database. */
  async trouble(act) {
    this.#troubles += 1;
    try {
      await act();
    } finally {
      this.#troubles -= 1;
      this.#lastTrouble = Date.now();
    }
  }

  acknowledge(change) {
    this.acknowledged.push(change);
    this.noticedChange?.();
  }

  /** Resolves when some more changes were acknowledged; trouble that is over must not go on. */
  async goesOn(what, ms = RECOVERED_MS) {
    const enough = this.acknowledged.length + RECOVERED_CHANGES;
    const deadline = Date.now() + ms;
    while (this.acknowledged.length < enough && this.faults.length === 0) {
      if (Date.now() > deadline) {
        this.fault(`no change was acknowledged in ${ms} ms after ${what}`);
        return;
      }
      await new Promise((resolve) => { this.noticedChange = resolve; setTimeout(resolve, 1000).unref(); });
    }
  }

  nextRefusal() { return new Promise((resolve) => { this.noticed = resolve; }); }

  refused(status) {
    this.counts.refused += 1;
    this.noticed?.(status);
  }
}
