// The back office: every order live, everything that may be done to it, and the server's figures.

import { Actions, empty, statusChip } from './panel.js';
import { OrderBook, STATUSES, ago, isFinal, nextStatus, person, phase, rank, words } from './order.js';
import { byId, h, render, scheduler } from './dom.js';
import { delivery } from './metrics.js';

const STATS_EVERY = 5000;
const FINISHED_SHOWN = 8;

/** Adds up whatever shape of figures there is: a number, or an object of numbers. */
const sum = (value) => {
  if (typeof value === 'number') return value;
  if (value && typeof value === 'object') return Object.values(value).reduce((total, v) => total + sum(v), 0);
  return 0;
};

export class AdminView {
  #book = new OrderBook();
  #draw = scheduler(() => this.#render());
  #actions = new Actions(this.#draw);
  #connection;
  #rest = null;
  #setup = null;
  #stats = null;
  #barred = false;
  #delivery = null;
  #uncounted = false;
  #inView = false;
  #replay;
  #deliveries;
  #house;

  constructor(connection, { replay, deliveries, house }) {
    this.#house = house;
    this.#connection = connection;
    this.#replay = replay;
    this.#deliveries = deliveries;
    connection.on('connected', () => {
      this.#barred = this.#uncounted = false;
      this.lookUp();
    });
    this.#book.listen(connection, { fetch: (id) => this.#rest.order(id), changed: this.#draw });
    connection.on('order:eta_update', ({ orderId, etaMinutes }) => {
      this.#book.patch(orderId, { etaMinutes });
      this.#draw();
    });
    connection.watch(this.#draw);
    setInterval(() => this.lookUp(), STATS_EVERY);
    new IntersectionObserver((changes) => {
      this.#inView = changes.at(-1).isIntersecting;
      this.lookUp();
    }).observe(byId('view-admin'));
  }

  use(setup, rest) {
    this.#setup = setup;
    this.#rest = rest;
    this.#stats = this.#delivery = null;
    this.#book.clear();
    this.#draw();
  }

  /** Asks for the figures, if somebody can see them. */
  async lookUp() {
    if (this.#connection.state.phase !== 'connected' || document.hidden || !this.#inView) return;
    if (!this.#barred) {
      try {
        this.#stats = await this.#rest.stats();
        // An ETA changes without an event of its own for the admin.
        if (this.#book.list().some(({ status }) => phase(status) === 'road')) (await this.#rest.orders()).forEach((order) => this.#book.put(order));
      } catch (error) {
        this.#barred = error.status === 401 || error.status === 403;
      }
    }
    if (!this.#uncounted) {
      this.#delivery = await this.#rest.metrics().then(delivery, () => null);
      this.#uncounted = this.#delivery === null && this.#connection.state.phase === 'connected';
    }
    this.#draw();
  }

  #run(order, work) {
    this.#actions.run(order.id, async () => {
      const answer = await work(this.#rest);
      if (answer?.id) this.#book.put(answer);
    });
  }

  #render() {
    const orders = this.#book.list();
    const active = orders.filter((order) => !isFinal(order.status));
    const finished = orders.filter((order) => isFinal(order.status)).slice(0, FINISHED_SHOWN);
    const off = this.#connection.state.phase === 'off';
    render(byId('admin-stats'), this.#renderStats(), this.#renderDelivery(),
      this.#stats && h('button', { key: 'deliveries', type: 'button', class: 'button small', 'data-testid': 'admin-deliveries', onclick: () => this.#deliveries(this.#rest) }, 'Notifications'),
      this.#stats && h('button', { key: 'house', type: 'button', class: 'button small', 'data-testid': 'admin-house', onclick: () => this.#house(this.#rest, this.#connection) }, 'The house'));
    render(byId('body-admin'),
      orders.length === 0 && empty('grid', off ? 'The back office is not connected' : 'No orders yet',
        off ? 'Give the admin a token under Connections.' : 'Every order of the house is listed here, live.'),
      active.length > 0 && h('ul', { class: 'cards', key: 'active', 'aria-label': 'Active orders' }, active.map((order) => this.#card(order))),
      finished.length > 0 && h('h3', { class: 'group-title', key: 'finished-title' }, 'Finished'),
      finished.length > 0 && h('ul', { class: 'rows', key: 'finished', 'aria-label': 'Finished orders' }, finished.map((order) => h('li', { key: order.id, class: 'row', 'data-testid': `admin-order-${order.orderNumber}`, 'data-status': order.status },
        h('b', {}, order.orderNumber), h('span', { class: 'seq muted', title: 'Events of this order' }, `#${order.seq}`), statusChip(order.status),
        h('details', { class: 'more', key: 'more' }, h('summary', { 'data-testid': `admin-more-${order.orderNumber}`, 'aria-label': `More for ${order.orderNumber}` }, 'More'), this.#actions.error(order.id), this.#correction(order, this.#actions.isBusy(order.id))),
        order.driver && h('button', { type: 'button', class: 'button small square', title: 'Play again', 'data-testid': `admin-replay-${order.orderNumber}`, 'aria-label': `Play ${order.orderNumber} again`, onclick: () => this.#replay(order, this.#rest) }, '↻')))));
  }

  #renderStats() {
    const s = this.#stats;
    if (!s) return h('p', { class: 'muted', key: 'none' }, this.#barred ? 'This token may not read the figures' : this.#connection.state.phase === 'connected' ? 'Reading the figures…' : 'Figures appear once connected');
    const connections = s.connections?.total ?? sum(s.connections?.byRole ?? s.connections?.roles ?? s.connectionsByRole ?? s.connections);
    const byStatus = s.orders?.byStatus ?? s.ordersByStatus ?? s.orders ?? {};
    const active = sum(Object.fromEntries(Object.entries(byStatus).filter(([status]) => rank(status) >= 0 && !isFinal(status))));
    const eventRate = s.eventsPerSecond ?? s.events?.perSecond ?? 0;
    const rate = typeof eventRate === 'object' ? sum(eventRate) : eventRate;
    const figure = (value, label) => h('div', { key: label, class: 'figure' }, h('dd', {}, value), h('dt', {}, label));
    return h('dl', { class: 'figures', 'data-testid': 'admin-stats', key: 'figures' },
      figure(String(connections), 'connections'),
      figure(String(active), 'active orders'),
      figure(Number(rate).toFixed(rate < 10 ? 1 : 0), 'events / s'));
  }

  /** Whether anybody misses anything: how those who were cut came back, and who cannot keep up. */
  #renderDelivery() {
    const d = this.#delivery;
    if (!d) return null;
    const small = (label, value, title) => h('div', { key: label, class: 'figure', title, 'data-figure': label, 'data-value': String(value) }, h('dt', {}, label), h('dd', {}, String(value)));
    return h('dl', { class: 'figures figures-small', 'data-testid': 'admin-delivery', key: 'delivery' },
      small('Came back', d.recoveries.map(([outcome, count]) => `${count} ${outcome.replaceAll('_', ' ')}`).join(', ') || 'nobody', 'What became of connections that were lost and asked to be recovered'),
      small('Replayed', d.replayed, 'Events sent to those who had missed them'),
      small('Behind', d.behind, 'Sockets that have events to catch up with now'),
      small('Conflated', d.conflated, 'Positions and ETAs left out in favour of newer ones, on slow connections'),
      small('Stalled', d.stalls, 'Sockets closed because they took nothing any more'));
  }

  /** Sets any status, with the reason why. */
  #correction(order, busy) {
    const number = order.orderNumber;
    const field = (name) => byId(`admin-correct-${name}-${order.id}`);
    return h('form', { class: 'inline-form', key: 'correct', onsubmit: (event) => {
      event.preventDefault();
      this.#run(order, (rest) => rest.correct(order.id, field('status').value, field('note').value));
    } },
    h('select', { id: `admin-correct-status-${order.id}`, 'aria-label': `Right status of ${number}`, 'data-testid': `admin-correct-status-${number}` }, [...STATUSES, 'failed', 'returned', 'cancelled'].map((status) => h('option', { key: status, value: status }, words(status)))),
    h('input', { id: `admin-correct-note-${order.id}`, type: 'text', required: true, placeholder: 'Why', 'aria-label': `Why the status of ${number} is corrected`, 'data-testid': `admin-correct-note-${number}` }),
    h('button', { type: 'submit', class: 'button small', 'aria-disabled': busy ? 'true' : false, 'data-testid': `admin-correct-${number}`, 'aria-label': `Correct ${number}` }, 'Correct'));
  }

  #card(order) {
    const number = order.orderNumber;
    const busy = this.#actions.isBusy(order.id);
    const demoDriver = this.#setup?.accounts.driver?.user;
    const unpaid = order.paymentStatus !== 'completed';
    const next = nextStatus(order.status);
    const canAssign = rank(order.status) >= rank('accepted') && rank(order.status) < rank('picked_up');
    const button = (name, label, kind, onclick) => h('button', {
      key: name, type: 'button', class: `button ${kind}`, 'aria-disabled': busy ? 'true' : false, 'data-testid': `admin-${name}-${number}`, 'aria-label': `${label}: ${number}`, onclick,
    }, label);
    const input = (name) => byId(`admin-${name}-${order.id}`);
    return h('li', { key: order.id, class: 'card', 'data-testid': `admin-order-${number}`, 'data-status': order.status, 'data-seq': String(order.seq) },
      h('div', { class: 'card-head' }, h('span', { class: 'card-number' }, number), h('span', { class: 'seq muted', title: 'Events of this order' }, `#${order.seq}`)),
      h('div', { class: 'card-line' }, statusChip(order.status), h('span', { class: 'muted' }, ago(order.createdAt))),
      h('dl', { class: 'pairs' },
        h('div', {}, h('dt', {}, 'Customer'), h('dd', {}, order.customer?.name ?? '–')),
        h('div', {}, h('dt', {}, 'Driver'), h('dd', {}, order.driver?.name ?? '–')),
        h('div', {}, h('dt', {}, 'Payment'), h('dd', {}, order.paymentStatus ?? '–')),
        h('div', {}, h('dt', {}, 'ETA'), h('dd', {}, order.etaMinutes === null || order.etaMinutes === undefined ? '–' : `${order.etaMinutes} min`))),
      this.#actions.error(order.id),
      h('div', { class: 'card-actions', key: 'actions' },
        unpaid && button('verify', 'Verify payment', 'primary', () => this.#run(order, (rest) => rest.verifyPayment(order.id))),
        canAssign && !order.driver && demoDriver && h('button', {
          key: 'assign', type: 'button', class: 'button primary', 'aria-disabled': busy ? 'true' : false, 'data-testid': `admin-assign-${number}`, 'aria-label': `Assign ${demoDriver.name} to ${number}`,
          onclick: () => this.#run(order, (rest) => rest.assign(order.id, person(demoDriver))),
        }, `Assign ${demoDriver.name.split(' ')[0]}`),
        next && next !== 'payment_confirmed' && button('advance', `Mark ${words(next).toLowerCase()}`, '', () => this.#run(order, (rest) => rest.setStatus(order.id, next)))),
      h('details', { class: 'more', key: 'more' },
        h('summary', { 'data-testid': `admin-more-${number}`, 'aria-label': `More for ${number}` }, 'More'),
        h('div', { class: 'more-body' },
          h('form', { class: 'inline-form', onsubmit: (event) => {
            event.preventDefault();
            const id = input('driver').value.trim();
            if (id) this.#run(order, (rest) => rest.assign(order.id, id === demoDriver?.id ? person(demoDriver) : { id, name: id }));
          } },
          h('input', { id: `admin-driver-${order.id}`, type: 'text', placeholder: 'Driver id', autocomplete: 'off', 'aria-label': `Driver id for ${number}` }),
          h('button', { type: 'submit', class: 'button small', 'aria-disabled': busy ? 'true' : false, 'aria-label': `Assign this driver to ${number}` }, 'Assign')),
          h('form', { class: 'inline-form', onsubmit: (event) => {
            event.preventDefault();
            const minutes = Number(input('eta').value);
            if (input('eta').value) this.#run(order, (rest) => rest.setEta(order.id, minutes));
          } },
          h('input', { id: `admin-eta-${order.id}`, type: 'number', min: '0', max: '600', placeholder: 'Minutes', 'aria-label': `Minutes until ${number} arrives`, 'data-testid': `admin-eta-minutes-${number}` }),
          h('button', { type: 'submit', class: 'button small', 'aria-disabled': busy ? 'true' : false, 'data-testid': `admin-eta-${number}`, 'aria-label': `Set the ETA of ${number}` }, 'Set ETA')),
          this.#correction(order, busy),
          h('div', { class: 'card-actions' },
            order.driver && button('unassign', 'Unassign driver', 'small', () => this.#run(order, (rest) => rest.unassign(order.id))),
            button('cancel', 'Cancel order', 'danger small', () => this.#run(order, (rest) => rest.cancel(order.id, 'Cancelled by the back office')))))));
  }
}
