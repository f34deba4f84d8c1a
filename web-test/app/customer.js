// The customer's view: places an order, follows one order on the map and through its statuses.

import { Actions, empty, orderSwitch } from './panel.js';
import { OrderBook, STATUSES, clock, isFinal, isBefore, money, newOrder, phase, rank, words } from './order.js';
import { announce, byId, h, render, scheduler } from './dom.js';
import { distance, kilometres } from './geo.js';
import { uuid } from './rest.js';

const MENU = [
  { name: 'Margherita', unitPrice: 11.5 },
  { name: 'Tagliatelle', unitPrice: 14 },
  { name: 'Insalata', unitPrice: 7.5 },
  { name: 'Tiramisù', unitPrice: 6 },
];
const CURRENCY = 'CHF';
const DWELL = { auto: 4000, own: 15000 };
const CANCELLABLE = new Set(['pending', 'payment_confirmed', 'accepted']);
const SENTENCES = {
  pending: 'We have your order. The kitchen starts once the payment is verified.',
  payment_confirmed: 'Payment received. Waiting for the kitchen to accept.',
  accepted: 'The kitchen has accepted your order.',
  preparing: 'Your meal is on the stove.',
  ready_for_pickup: 'Packed and waiting for a driver.',
  assigned_to_driver: 'Your driver is heading to the restaurant.',
  picked_up: 'Your driver has your order.',
  in_transit: 'Your driver is on the road to you.',
  delivered: 'Enjoy your meal.',
  failed: 'It could not be delivered. It will be tried again, or brought back.',
  returned: 'It was brought back.',
  cancelled: 'This order was cancelled.',
};

const SOURCES = { network: 'by road', geodesic: 'as the crow flies', override: 'set by hand' };
const RISKS = { at_risk: 'may be late', delayed: 'late' };

/** How sure the ETA is, what it is made of, and what comes before. */
function range({ etaLow, etaHigh, etaSource, stopsBefore, risk }) {
  const minute = (time) => clock(time).slice(0, 5);
  const between = etaLow === etaHigh ? minute(etaLow) : `${minute(etaLow)} to ${minute(etaHigh)}`;
  const stops = stopsBefore > 0 && `${stopsBefore} ${stopsBefore === 1 ? 'stop' : 'stops'} before yours`;
  return [between, SOURCES[etaSource], stops, RISKS[risk]].filter(Boolean).join(' · ');
}

export class CustomerView {
  #book = new OrderBook();
  /** The order on show, as the client knows it. */
  #shown = null;
  #unfollow = () => {};
  #current = null;
  #pinned = null;
  #finals = new Map();
  #fetching = new Map();
  #basket = new Set([0, 2]);
  #attempt = null;
  #placeError = '';
  /** What the next order is to be: `fetch`, `pin`, `signature`. */
  #wishes = new Set();
  /** What was asked for beside an order, by its id. */
  #beside = new Map();
  #placing = false;
  #draw = scheduler(() => this.#render());
  #actions = new Actions(this.#draw);
  #connection;
  #map;
  #setup = null;
  #rest = null;
  #placed = '';

  constructor(connection, map) {
    this.#connection = connection;
    this.#map = map;
    connection.on('orders', (orders) => this.#load(orders));
    connection.on('order:status_update', (update) => this.#updated(update));
    connection.watch(this.#draw);
    setInterval(() => this.#choose(), 1000);
  }

  /** Starts anew with a server and an account. */
  use(setup, rest) {
    this.#setup = setup;
    this.#rest = rest;
    this.#book.clear();
    this.#finals.clear();
    this.#unfollow();
    this.#current = this.#pinned = this.#shown = this.#attempt = null;
    this.#placeError = '';
    this.#draw();
  }

  #load(orders) {
    const before = this.#book.get(this.#current);
    this.#book.replace(orders);
    // It may have ended while this view was away: that is shown for as long as if it had been watched.
    const now = this.#book.get(this.#current);
    if (before && now && !isFinal(before.status) && isFinal(now.status)) this.#finals.set(now.id, Date.now());
    this.#choose();
    this.#draw();
  }

  /** Decides which order is on show: one the user placed or picked, else the newest active one. */
  #choose() {
    const orders = this.#book.list();
    const lingers = (id, time) => this.#finals.has(id) && Date.now() - this.#finals.get(id) < time;
    const pinned = this.#pinned && this.#book.get(this.#pinned.id);
    if (this.#pinned && !pinned) this.#pinned = null;
    if (pinned && isFinal(pinned.status) && !this.#pinned.keep && !lingers(pinned.id, DWELL.own)) this.#pinned = null;
    if (this.#pinned) {
      this.#follow(pinned.id);
      return;
    }
    if (this.#current && lingers(this.#current, DWELL.auto)) return;
    const active = orders.find((order) => !isFinal(order.status));
    const next = active ?? this.#book.get(this.#current) ?? orders[0];
    if (next) this.#follow(next.id);
  }

  #follow(id) {
    if (id === this.#current) return;
    this.#unfollow();
    this.#current = id;
    this.#shown = null;
    this.#map.setDriver(null);
    this.#draw();
    this.#unfollow = this.#connection.follow(id, (state) => id === this.#current && this.#show(state));
  }

  #show(state) {
    const before = this.#shown;
    this.#shown = state;
    if (state.tracking) this.#book.patch(state.id, { etaMinutes: state.tracking.etaMinutes ?? null });
    if (state.location !== before?.location) this.#map.setDriver(state.location);
    const { tracking } = state;
    if (tracking && before?.tracking && tracking.status !== before.tracking.status) announce(`Order ${tracking.orderNumber}: ${words(tracking.status)}. ${SENTENCES[tracking.status] ?? ''}`);
    this.#draw();
  }

  #updated(update) {
    const result = this.#book.apply(update);
    if (result === 'unknown') {
      this.#fetch(update.orderId);
      return;
    }
    if (result === 'applied' && isFinal(update.status) && update.previousStatus !== update.status) this.#finals.set(update.orderId, Date.now());
    this.#choose();
    this.#draw();
  }

  async #fetch(id) {
    if (this.#fetching.has(id)) {
      this.#fetching.set(id, true);
      return;
    }
    this.#fetching.set(id, false);
    try {
      do {
        this.#fetching.set(id, false);
        this.#book.put(await this.#rest.order(id));
      } while (this.#fetching.get(id)); // an update that came meanwhile may be newer than the answer
      this.#choose();
      this.#draw();
    } catch { /* not visible to this customer */ } finally {
      this.#fetching.delete(id);
    }
  }

  async #place() {
    if (this.#placing) return;
    const items = [...this.#basket].sort().map((i) => ({ name: MENU[i].name, quantity: 1, unitPrice: MENU[i].unitPrice }));
    const body = newOrder(this.#setup, { items, total: this.#total(), currency: CURRENCY, fetches: this.#wishes.has('fetch'), proofRequired: ['pin', 'signature'].filter((kind) => this.#wishes.has(kind)) });
    // A repeat after a lost answer goes out with the same key, so that it cannot order twice.
    const text = JSON.stringify(body);
    if (this.#attempt?.text !== text) this.#attempt = { text, key: uuid() };
    this.#placing = true;
    this.#placeError = '';
    this.#draw();
    try {
      const order = this.#book.put(await this.#rest.place(body, this.#attempt.key));
      this.#attempt = null;
      this.#pinned = { id: order.id, keep: false };
      this.#choose();
      announce(`Order ${order.orderNumber} placed`);
    } catch (error) {
      if (error.status) this.#attempt = null;
      this.#placeError = error.message;
    } finally {
      this.#placing = false;
      this.#draw();
    }
  }

  #total() {
    return Math.round([...this.#basket].reduce((sum, i) => sum + MENU[i].unitPrice, 0) * 100) / 100;
  }

  #select(order) {
    this.#pinned = { id: order.id, keep: isFinal(order.status) };
    this.#choose();
    this.#draw();
  }

  #render() {
    const orders = this.#book.list();
    const order = this.#book.get(this.#current);
    this.#placeOnMap(order);
    render(byId('customer-orders'), this.#renderList(orders));
    render(byId('customer-detail'), order ? this.#renderOrder(order) : this.#renderEmpty());
    render(byId('customer-foot'), this.#renderPlace());
  }

  #placeOnMap(order) {
    const t = this.#shown?.tracking;
    const setup = this.#setup;
    const point = (place) => (Number.isFinite(place?.latitude) && Number.isFinite(place?.longitude) ? [place.latitude, place.longitude] : null);
    const restaurant = point({ latitude: t?.chefLatitude, longitude: t?.chefLongitude }) ?? point(order?.chef) ?? (order ? null : point(setup?.restaurant));
    const home = point({ latitude: t?.deliveryLatitude, longitude: t?.deliveryLongitude }) ?? point(order?.delivery) ?? (order ? null : point(setup?.home));
    const route = setup?.route?.length > 1 && home && distance(setup.route.at(-1), home) < 400 && restaurant && distance(setup.route[0], restaurant) < 400
      ? setup.route : restaurant && home ? [restaurant, home] : null;
    const key = JSON.stringify([restaurant, home, route?.length, route?.[0]]);
    if (key === this.#placed) return;
    this.#placed = key;
    this.#map.setPlaces({ restaurant, home, route });
  }

  #renderList(orders) {
    if (orders.length < 2) return null;
    return orderSwitch('customer', { label: 'Your orders', orders, current: this.#current, choose: (order) => this.#select(order) });
  }

  #renderEmpty() {
    const { phase: connection } = this.#connection.state;
    return connection === 'connected' || connection === 'reconnecting'
      ? empty('bag', 'No order yet', 'Choose something below and place an order. It is followed here until it arrives.')
      : empty('plug', 'Waiting for a connection', 'Once the customer is connected, the newest order is followed here.');
  }

  #renderOrder(order) {
    const t = this.#shown?.tracking;
    const { location, signalLostSince } = this.#shown ?? {};
    const status = order.status;
    const eta = t?.etaMinutes ?? order.etaMinutes;
    const driverName = t?.driverName ?? (isBefore(status, 'assigned_to_driver') ? null : order.driver?.name);
    const home = t && Number.isFinite(t.deliveryLatitude) ? [t.deliveryLatitude, t.deliveryLongitude] : null;
    const away = location && home && !isFinal(status) ? distance([location.latitude, location.longitude], home) : null;
    const ended = t?.statusHistory?.findLast((row) => row.status === status)?.timestamp;
    return h('div', { class: 'follow', key: order.id },
      h('div', { class: 'follow-main' },
        h('p', { class: 'order-number' }, h('span', { 'data-testid': 'customer-order-number' }, order.orderNumber),
          order.chef?.businessName && h('span', { class: 'muted' }, order.chef.businessName)),
        h('p', { class: `follow-status phase-${phase(status)}`, 'data-testid': 'customer-status', 'data-status': status, 'data-order': order.orderNumber }, words(status)),
        h('p', { class: 'follow-sentence' }, SENTENCES[status] ?? ''),
        h('p', { class: 'eta', 'data-testid': 'customer-eta', 'data-minutes': isFinal(status) ? false : eta ?? false, hidden: isFinal(status) ? !ended : eta === null || eta === undefined, key: 'eta' },
          isFinal(status)
            ? [h('span', { class: 'eta-label' }, status === 'delivered' ? 'Arrived' : 'Ended'), h('span', { class: 'eta-value' }, ended ? clock(ended).slice(0, 5) : '')]
            : [h('span', { class: 'eta-label' }, 'Arrives in'), h('span', { class: 'eta-value' }, String(eta), h('small', {}, ' min'))]),
        !isFinal(status) && t?.etaLow && h('p', { class: 'muted', 'data-testid': 'customer-range', key: 'range' }, range(t)),
        signalLostSince && !isFinal(status) && h('p', { class: 'inline-error', role: 'status', 'data-testid': 'customer-signal', key: 'signal' }, `No signal from the driver since ${clock(signalLostSince)}`),
        driverName && h('div', { class: 'driver-card', key: 'driver' },
          h('span', { class: 'avatar', 'aria-hidden': 'true' }, initials(driverName)),
          h('div', {}, h('p', { class: 'driver-name', 'data-testid': 'customer-driver' }, driverName),
            h('p', { class: 'muted', 'data-testid': 'customer-distance' }, away !== null ? `${kilometres(away)} away` : 'Your driver'))),
        this.#actions.error(order.id),
        this.#renderBeside(order),
        CANCELLABLE.has(status) && h('button', {
          key: 'cancel', type: 'button', class: 'button danger small', 'data-testid': 'customer-cancel', 'aria-disabled': this.#actions.isBusy(order.id) ? 'true' : false,
          onclick: () => this.#actions.run(order.id, () => this.#connection.request('order:status_update', { orderId: order.id, status: 'cancelled', note: 'Cancelled by the customer' })),
        }, 'Cancel order')),
      h('ol', { class: 'timeline', 'aria-label': 'Progress', 'data-testid': 'customer-timeline' }, this.#renderTimeline(order, t)));
  }

  /** The number for the driver, a link for somebody else, and how it was. */
  #renderBeside(order) {
    const beside = this.#beside.get(order.id) ?? {};
    const learn = (change) => this.#beside.set(order.id, { ...beside, ...change });
    const run = (work) => () => this.#actions.run(order.id, async () => learn(await work()));
    const needsPin = order.proofRequired?.includes('pin') && !isFinal(order.status);
    return h('div', { class: 'phone', key: 'beside' },
      needsPin && (beside.pin
        ? h('p', { key: 'pin', class: 'note' }, 'Tell the driver: ', h('b', { 'data-testid': 'customer-pin' }, beside.pin))
        : h('button', { key: 'show-pin', type: 'button', class: 'button small', 'data-testid': 'customer-show-pin', onclick: run(() => this.#rest.pin(order.id)) }, 'Show my number for the driver')),
      !isFinal(order.status) && (beside.url
        ? h('p', { key: 'link', class: 'share-line' }, h('a', { href: beside.url, target: '_blank', rel: 'noopener', 'data-testid': 'customer-link' }, new URL(beside.url, location.href).href))
        : h('button', { key: 'share', type: 'button', class: 'button small', 'data-testid': 'customer-share', onclick: run(() => this.#rest.share(order.id, 'location')) }, 'Share a link')),
      order.status === 'delivered' && h('div', { key: 'stars', class: 'stars', role: 'group', 'aria-label': 'How was it?' }, [1, 2, 3, 4, 5].map((stars) => h('button', {
        key: stars, type: 'button', class: 'button small square', 'aria-pressed': String(beside.stars === stars), 'aria-label': `${stars} of 5 stars`, 'data-testid': `customer-stars-${stars}`,
        onclick: run(() => this.#rest.rate(order.id, { subject: 'order', stars })),
      }, stars <= (beside.stars ?? 0) ? '★' : '☆'))));
  }

  #renderTimeline(order, tracking) {
    const times = new Map((tracking?.statusHistory ?? []).map((row) => [row.status, row.timestamp]));
    if (!times.has('pending')) times.set('pending', order.createdAt);
    const isAside = !STATUSES.includes(order.status);
    const rows = isAside ? [...STATUSES.filter((status) => times.has(status)), order.status] : STATUSES;
    const here = isAside ? rows.length - 1 : rank(order.status);
    return rows.map((status, i) => {
      const state = i < here ? (times.has(status) ? 'done' : 'skipped') : i === here ? 'now' : 'todo';
      return h('li', { key: status, class: `step is-${state} phase-${phase(status)}`, 'data-status': status, 'data-state': state, 'aria-current': state === 'now' ? 'step' : false },
        h('span', { class: 'step-dot', 'aria-hidden': 'true' }),
        h('span', { class: 'step-name' }, status === 'pending' ? 'Order placed' : words(status)),
        h('span', { class: 'step-time' }, state === 'skipped' ? 'skipped' : state === 'todo' ? '' : clock(times.get(status) ?? '')));
    });
  }

  #renderPlace() {
    const user = this.#setup?.accounts.customer?.user;
    const ready = user && this.#connection.state.phase !== 'off' && this.#basket.size > 0;
    return [
      h('div', { class: 'menu', role: 'group', 'aria-label': 'Menu', key: 'menu' }, MENU.map((item, i) => h('button', {
        key: item.name, type: 'button', class: 'menu-item', 'aria-pressed': String(this.#basket.has(i)), 'data-testid': `menu-${i}`,
        onclick: () => {
          if (!this.#basket.delete(i)) this.#basket.add(i);
          this.#draw();
        },
      }, h('span', { class: 'menu-check', 'aria-hidden': 'true' }), h('span', {}, item.name), h('span', { class: 'muted menu-price' }, item.unitPrice.toFixed(2))))),
      h('div', { class: 'choices', key: 'wishes', role: 'group', 'aria-label': 'How it is handed over' }, Object.entries({ fetch: 'I fetch it', pin: 'Only with my number', signature: 'Only with a signature' }).map(([wish, label]) => h('label', { key: wish },
        h('input', { type: 'checkbox', checked: this.#wishes.has(wish), 'data-testid': `wish-${wish}`, onchange: () => {
          if (!this.#wishes.delete(wish)) this.#wishes.add(wish);
          this.#draw();
        } }), label))),
      this.#placeError && h('div', { class: 'inline-error', role: 'alert', key: 'error' }, h('span', {}, this.#placeError)),
      h('button', { key: 'place', type: 'button', class: 'button primary place', 'data-testid': 'customer-place-order', disabled: !ready, 'aria-disabled': this.#placing ? 'true' : false, onclick: () => this.#place() },
        this.#attempt && this.#placeError ? 'Try again' : 'Place order',
        this.#basket.size > 0 && h('span', { class: 'button-aside' }, money(this.#total(), CURRENCY))),
    ];
  }
}

const initials = (name) => String(name).split(/\s+/).map((part) => part[0]).slice(0, 2).join('').toUpperCase();
