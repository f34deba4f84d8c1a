// The driver's view: assigned orders with their next steps, and a simulator that drives along the road.

import { Actions, empty, statusChip } from './panel.js';
import { OrderBook, isFinal, rank } from './order.js';
import { Path, kilometres, road } from './geo.js';
import { announce, byId, h, icon, render, scheduler } from './dom.js';

const METRES_PER_SECOND = 8.5;
const FIX_EVERY = 500;
const SPEEDS = [1, 2, 4, 8];
const FASTEST = 4;
const BURST = 20;
const OFFER_LIFE = 30000;
const STEPS = [
  { to: 'picked_up', label: 'Picked up', name: 'pickup' },
  { to: 'in_transit', label: 'On the way', name: 'transit' },
  { to: 'delivered', label: 'Delivered', name: 'deliver' },
];

/** What is shown of the positions beside what the client counts. */
const newTally = () => ({ sent: 0, burst: 0, limited: 0, lastMs: null, message: '', verdict: '' });

export class DriverView {
  #book = new OrderBook();
  #offers = new Map();
  #draw = scheduler(() => this.#render());
  #actions = new Actions(this.#draw);
  #connection;
  #rest = null;
  #setup = null;
  #drive = { playing: false, speed: 1, travelled: 0, path: null, key: '', timer: 0, at: 0 };
  #tally = newTally();
  #door;

  constructor(connection, { door }) {
    this.#connection = connection;
    this.#door = door;
    connection.on('orders', (orders) => {
      this.#book.replace(orders);
      this.#draw();
    });
    connection.on('driver:new_assignment', (order) => {
      this.#offers.delete(order.id);
      this.#book.put(order);
      announce(`New assignment for the driver: ${order.orderNumber}`);
      this.#draw();
    });
    connection.on('driver:unassigned', ({ orderId }) => {
      this.#book.remove(orderId);
      this.#draw();
    });
    connection.on('order:available', (offer) => {
      this.#offers.set(offer.orderId, { ...offer, until: Date.now() + OFFER_LIFE });
      this.#draw();
    });
    connection.on('order:withdrawn', ({ orderId }) => {
      this.#offers.delete(orderId);
      this.#draw();
    });
    connection.on('order:status_update', async (update) => {
      if (this.#book.apply(update) === 'unknown' && !isFinal(update.status)) await this.#rest.order(update.orderId).then((order) => this.#book.put(order), () => {});
      this.#draw();
    });
    connection.watch(this.#draw);
    setInterval(this.#draw, 10000);
  }

  use(setup, rest) {
    this.#pause();
    this.#setup = setup;
    this.#rest = rest;
    this.#book.clear();
    this.#offers.clear();
    this.#drive = { ...this.#drive, travelled: 0, path: null, key: '' };
    this.#tally = newTally();
    this.#draw();
  }

  #active() {
    return this.#book.list().filter((order) => !isFinal(order.status));
  }

  #choosePath() {
    const order = this.#active().at(-1);
    if (!order) return;
    if (this.#drive.key === order.id && this.#drive.path) return;
    const points = road(order, this.#setup?.route);
    this.#drive = { ...this.#drive, key: order.id, path: points ? new Path(points) : null, travelled: 0 };
  }

  #play() {
    this.#choosePath();
    const drive = this.#drive;
    if (!drive.path || drive.playing) return;
    if (drive.travelled >= drive.path.length) drive.travelled = 0;
    drive.playing = true;
    drive.at = performance.now();
    this.#tick();
    drive.timer = setInterval(() => this.#tick(), FIX_EVERY);
    this.#draw();
  }

  #pause() {
    clearInterval(this.#drive.timer);
    this.#drive.playing = false;
    this.#draw();
  }

  #tick() {
    const drive = this.#drive;
    const now = performance.now();
    drive.travelled = Math.min(drive.path.length, drive.travelled + ((now - drive.at) / 1000) * METRES_PER_SECOND * drive.speed);
    drive.at = now;
    this.#sendFix();
    if (drive.travelled >= drive.path.length) this.#pause();
    this.#draw();
  }

  #fix() {
    const { path, travelled, speed, playing } = this.#drive;
    const { point, heading } = path.at(travelled);
    const fix = { latitude: point[0], longitude: point[1], heading: Math.round(heading * 10) / 10 % 360, speed: playing ? METRES_PER_SECOND * speed : 0 };
    // Nobody is as fast as time is here: positions without evidence are shown as they are.
    return speed <= FASTEST ? { ...fix, accuracy: 5 } : { ...fix, recordedAt: null };
  }

  /** What cannot go out now is collected by the client, and goes out later. */
  async #sendFix() {
    const tally = this.#tally;
    const started = performance.now();
    tally.sent += 1;
    const { state, verdict, error } = await this.#connection.reporter.report(this.#fix());
    if (state === 'taken') {
      tally.verdict = verdict;
      tally.lastMs = performance.now() - started;
    }
    tally.message = error?.message ?? '';
    this.#draw();
  }

  /** Past the client, which would send them together. */
  async #sendBurst() {
    const tally = this.#tally;
    const { recordedAt: _, ...fix } = this.#fix();
    tally.sent += 1;
    try {
      await this.#connection.request('driver:location', fix);
      tally.burst += 1;
    } catch (error) {
      if (error.code === 'rate_limited') tally.limited += 1;
      tally.message = error.code === 'rate_limited' ? `Rate limited: again in ${error.details.retryAfterMs} ms` : error.message;
    }
    this.#draw();
  }

  #burst() {
    this.#choosePath();
    if (!this.#drive.path) return;
    for (let i = 0; i < BURST; i += 1) this.#sendBurst();
  }

  #render() {
    const now = Date.now();
    for (const [id, { until }] of this.#offers) if (until < now || this.#book.has(id)) this.#offers.delete(id);
    const orders = this.#active();
    const done = this.#book.list().filter((order) => isFinal(order.status)).slice(0, 2);
    const offers = [...this.#offers.values()].reverse().slice(0, 2);
    if (!this.#drive.playing) this.#choosePath();
    const phase = this.#connection.state.phase;
    render(byId('body-driver'),
      orders.length === 0 && empty('nav', phase === 'off' ? 'The driver is not connected' : 'No delivery assigned',
        phase === 'off' ? 'Give the driver a token under Connections.' : 'When the admin assigns an order to this driver, it appears here.'),
      orders.length > 0 && h('ul', { class: 'cards', key: 'orders', 'aria-label': 'To deliver' }, orders.map((order) => this.#card(order))),
      offers.length > 0 && h('h3', { class: 'group-title', key: 'offers-title' }, 'Just offered to drivers'),
      offers.length > 0 && h('ul', { class: 'rows', key: 'offers' }, offers.map((offer) => h('li', { key: offer.orderId, class: 'row', 'data-testid': `driver-available-${offer.orderNumber}` },
        h('b', {}, offer.orderNumber), h('span', { class: 'muted' }, offer.pickup?.address ?? '')))),
      done.length > 0 && h('h3', { class: 'group-title', key: 'done-title' }, 'Finished'),
      done.length > 0 && h('ul', { class: 'rows', key: 'done' }, done.map((order) => h('li', { key: order.id, class: 'row', 'data-testid': `driver-order-${order.orderNumber}`, 'data-status': order.status },
        h('b', {}, order.orderNumber), statusChip(order.status)))));
    render(byId('driver-foot'), this.#renderDrive(orders));
  }

  #card(order) {
    const busy = this.#actions.isBusy(order.id);
    const number = order.orderNumber;
    const waiting = rank(order.status) < rank('assigned_to_driver');
    const again = [{ to: 'in_transit', label: 'Try again', name: 'again' }, { to: 'returned', label: 'Goods are back', name: 'returned' }];
    const steps = order.status === 'failed' ? again : STEPS.filter(({ to }) => rank(to) > rank(order.status));
    const atDoor = ['picked_up', 'in_transit'].includes(order.status);
    return h('li', { key: order.id, class: 'card', 'data-testid': `driver-order-${number}`, 'data-status': order.status },
      h('div', { class: 'card-head' }, h('span', { class: 'card-number' }, number)),
      h('div', { class: 'card-line' }, statusChip(order.status)),
      h('dl', { class: 'stops' },
        h('div', {}, h('dt', {}, 'Pick up'), h('dd', {}, order.chef?.businessName ?? order.chef?.name ?? '', h('span', { class: 'muted' }, order.chef?.address ?? ''))),
        h('div', {}, h('dt', {}, 'Deliver'), h('dd', {}, order.customer?.name ?? '', h('span', { class: 'muted' }, order.delivery?.address ?? '')))),
      this.#actions.error(order.id),
      waiting
        ? h('p', { class: 'card-note', key: 'waiting' }, 'Yours once the kitchen is ready')
        : h('div', { class: 'card-actions stack', key: 'actions' }, steps.map(({ to, label, name }, i) => h('button', {
          key: name, type: 'button', class: `button ${i === 0 ? 'primary' : ''} wide`, 'aria-disabled': busy ? 'true' : false, 'data-testid': `driver-${name}-${number}`, 'aria-label': `${label}: ${number}`,
          onclick: () => this.#actions.run(order.id, () => this.#connection.request('order:status_update', { orderId: order.id, status: to })),
        }, label)),
        atDoor && h('button', { key: 'door', type: 'button', class: 'button wide', 'data-testid': `driver-door-${number}`, 'aria-label': `At the door: ${number}`, onclick: () => this.#door(order, this.#rest, this.#draw) }, order.proofRequired?.length ? 'Proof, or no delivery' : 'Cannot deliver'),
        order.status === 'assigned_to_driver' && h('button', { key: 'decline', type: 'button', class: 'button danger wide', 'data-testid': `driver-decline-${number}`, 'aria-label': `Decline ${number}`, onclick: () => this.#actions.run(order.id, async () => {
          await this.#rest.decline(order.id, 'Declined on the test page');
          this.#book.remove(order.id);
        }) }, 'Decline')));
  }

  #renderDrive(orders) {
    const { playing, speed, travelled, path } = this.#drive;
    const tally = this.#tally;
    const { taken = 0, waiting = 0 } = this.#connection.reporter?.get() ?? {};
    const acked = taken + tally.burst;
    const part = path?.length ? travelled / path.length : 0;
    const can = orders.length > 0 && path && this.#connection.state.phase === 'connected';
    const arrived = path && travelled >= path.length;
    return h('div', { class: 'drive', key: 'drive', 'data-testid': 'driver-drive', 'data-progress': part.toFixed(3), 'data-arrived': String(Boolean(arrived)), 'data-acked': String(acked) },
      h('div', { class: 'drive-head' },
        h('h3', { class: 'group-title' }, 'Drive'),
        h('p', { class: 'muted' }, arrived ? 'Arrived' : path ? `${kilometres(path.length - travelled)} to go` : 'No order in hand')),
      h('div', { class: 'bar', role: 'progressbar', 'aria-label': 'Way driven', 'aria-valuemin': '0', 'aria-valuemax': '100', 'aria-valuenow': String(Math.round(part * 100)), vars: { '--part': String(part) } }, h('span', { class: 'bar-fill' })),
      h('div', { class: 'drive-tools' },
        h('button', {
          type: 'button', class: `button ${playing ? '' : 'primary'} square`, disabled: !can && !playing, 'data-testid': playing ? 'driver-pause' : 'driver-play',
          'aria-label': playing ? 'Pause driving' : 'Start driving', onclick: () => (playing ? this.#pause() : this.#play()),
        }, icon(playing ? 'pause' : 'play')),
        h('div', { class: 'segments', role: 'group', 'aria-label': 'Speed' }, SPEEDS.map((value) => h('button', {
          key: value, type: 'button', class: 'segment', 'aria-pressed': String(value === speed), 'data-testid': `driver-speed-${value}`,
          onclick: () => {
            this.#drive.speed = value;
            this.#draw();
          },
        }, `${value}×`))),
        h('button', { type: 'button', class: 'button', disabled: !can, 'data-testid': 'driver-burst', title: `Send ${BURST} positions at once, to see the rate limit`, 'aria-label': `Send ${BURST} positions at once`, onclick: () => this.#burst() }, 'Burst')),
      h('p', { class: 'drive-facts muted' },
        h('span', { 'data-testid': 'driver-acked' }, `${acked} of ${tally.sent} acknowledged`),
        waiting > 0 && h('span', { key: 'waiting', 'data-testid': 'driver-waiting' }, `${waiting} waiting`),
        tally.verdict && h('span', { key: 'verdict', class: tally.verdict === 'shown' ? false : 'warn', 'data-testid': 'driver-verdict' }, tally.verdict === 'shown' ? 'Shown' : `Not shown: ${tally.verdict.replaceAll('_', ' ')}`),
        tally.lastMs !== null && h('span', { key: 'ms' }, `${tally.lastMs.toFixed(1)} ms`),
        tally.limited > 0 && h('span', { key: 'limited', class: 'warn', 'data-testid': 'driver-limited' }, `${tally.limited} limited`)),
      tally.message && h('p', { class: 'inline-error', key: 'message', role: 'status', 'data-testid': 'driver-message' }, tally.message));
  }
}
