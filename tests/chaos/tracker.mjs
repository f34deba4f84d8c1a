// An app that follows deliveries on `/ws/tracking/{id}`, a connection for each tracking session. Whenever an order has got a driver it
// has a session started, as that driver, and looks at it until it is over. doors-checker.mjs tells what its record is.
import { setTimeout as pause } from 'node:timers/promises';
import { as } from '../clients/support/server.mjs';
import { Listener } from './listener.mjs';
import { EXPIRED } from './doors-checker.mjs';
import { LATER, Returning } from './returning.mjs';

const RETRY_MS = 40;
const PATIENCE_MS = 40_000;

export class Tracker extends Listener {
  #starting = new Set();
  #lines = new Set();

  /** Remembers where; there is nothing to connect to yet. */
  async connect(base) { this.base = base; }

  /** An order has got this driver. */
  assigned(world, order, driver) {
    const started = this.#start(world, order, driver).catch((error) => this.note({ at: 'fault', order, text: error.message }));
    this.#starting.add(started);
    started.then(() => this.#starting.delete(started));
  }

  /** Asks until there is an answer. */
  async #start(world, order, driver) {
    const body = { order_id: order, rider_id: driver.id, dropoff_lat: 45.2271, dropoff_lng: 13.5947 };
    for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await pause(RETRY_MS)) {
      const troubled = world.troubled();
      const answer = await world.server.call('POST', '/tracking/start', body, as(driver, 'driver')).catch(() => null);
      if (answer?.status === 200) {
        const { tracking_id: session } = answer.body;
        this.note({ at: 'start', session, order, rider: driver.id });
        const key = `${order} ${driver.id}`;
        if ((world.sessions.get(key) ?? session) !== session) this.note({ at: 'fault', order, text: `a second session of ${key}` });
        world.sessions.set(key, session);
        this.#follow(session);
        return;
      }
      const later = !answer || answer.status === 503 || (answer.status === 500 && (troubled || world.troubled()));
      if (!later) {
        this.note({ at: 'refused', order, rider: driver.id, status: answer.status, time: Date.now() });
        return;
      }
      await world.up();
    }
    this.note({ at: 'fault', order, text: `no tracking session in ${PATIENCE_MS} ms` });
  }

  #follow(session) {
    const user = this.user && { sub: this.user, role: this.role, exp: Math.floor(Date.now() / 1000) + 24 * 3600 };
    let before = false;
    const line = new Returning(this.base, `/ws/tracking/${session}`, user, {
      open: () => {
        if (before) this.counts.returned += 1;
        before = true;
        this.note({ at: 'open', session });
      },
      message: (message) => {
        this.#heard(session, message);
        if (this.#isOver(message)) this.#leave(session, line);
      },
      close: (how) => {
        this.note({ at: 'close', session, ...how });
        if (how.reason === EXPIRED) this.#leave(session, line);
      },
    });
    this.#lines.add(line);
  }

  /** Nothing comes after that. */
  #isOver({ type, data }) { return data?.status === 'DELIVERED' && type !== 'location_update'; }

  #leave(session, line) {
    line.leave();
    this.#lines.delete(line);
    this.note({ at: 'leave', session });
  }

  #heard(session, { type, code, message, data }) {
    if (data) {
      this.counts.events += 1;
      const { order_id: order, rider_id: rider, status, current_location: fix, tracking_id: id } = data;
      if (id === session) this.note({ at: 'event', name: type, session, order, rider, status, fix: fix?.timestamp ?? null, time: Date.now() });
      else this.note({ at: 'fault', order, text: `the session ${session} was told of ${id}` });
    } else if (type === 'error' && message === 'Tracking session expired') this.note({ at: 'expired', session });
    else if (type !== 'error' || !LATER.has(code)) this.note({ at: 'fault', text: `${type} ${message}` });
  }

  leave() { for (const line of this.#lines) line.leave(); }

  /** Which sessions are not over. All orders are, by now. */
  async settle(due, ms) {
    await Promise.all(this.#starting);
    const left = new Set(this.record.filter(({ at }) => at === 'start').map(({ session }) => session));
    return this.awaits(left, ({ at, session }) => { if (at === 'leave') left.delete(session); }, ms);
  }

  /** All connections have ended. */
  async flush() {}
}
