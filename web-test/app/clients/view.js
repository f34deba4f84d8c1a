// One order as five kinds of clients see it, side by side: which order, what may be done to it, and their panels.

import { Actions, orderSwitch, statusChip } from '../panel.js';
import { OrderBook, isFinal, newOrder, person, rank } from '../order.js';
import { VIEWS } from '../config.js';
import { announce, byId, h, render, scheduler } from '../dom.js';
import { announcer, doorPanel } from './panel.js';
import { createDoors } from './doors.js';
import { uuid } from '../rest.js';

// Whose connection tells of orders: whoever sees most of them.
const SOURCES = ['admin', 'customer', 'chef', 'driver'];
const ITEMS = { items: [{ name: 'Margherita', quantity: 1, unitPrice: 11.5 }], total: 11.5, currency: 'CHF' };

export class ClientsView {
  #book = new OrderBook();
  #draw = scheduler(() => this.#render());
  #actions = new Actions(this.#draw);
  #watchers = new Set();
  #setup = null;
  #rests = {};
  #source = null;
  #pinned = null;
  #open = false;

  constructor(connections) {
    this.doors = createDoors({ changed: this.#draw, acted: () => this.#pick(this.doors[0].order?.id ?? null) });
    this.announce = this.doors.map(announcer);
    for (const view of VIEWS) {
      const source = { on: (event, handler) => connections[view].on(event, (news) => view === this.#source && handler(news)) };
      this.#book.listen(source, { fetch: (id) => this.#rests[view].order(id), changed: this.#draw });
    }
  }

  watch(watcher) {
    this.#watchers.add(watcher);
  }

  get phases() {
    return this.doors.map(({ state }) => state.phase);
  }

  get spent() {
    return this.doors.some((door) => door.spent);
  }

  use(setup, rests) {
    this.#setup = setup;
    this.#rests = rests;
    this.#source = SOURCES.find((view) => setup.accounts[view]) ?? null;
    this.#book.clear();
    this.#pinned = null;
    for (const door of this.doors) {
      door.close();
      door.use(setup);
      if (this.#open) door.open();
    }
    this.#draw();
  }

  /** The same people with fresh tokens. */
  renew(setup) {
    this.#setup = setup;
    for (const door of this.doors) {
      door.use(setup);
      if (door.spent) door.line.retry();
    }
  }

  /** The clients connect when they are looked at for the first time, and stay. */
  open() {
    if (this.#open) return;
    this.#open = true;
    for (const door of this.doors) door.open();
    this.#draw();
  }

  /** The order on show: one that was picked, else the newest that is under way. */
  get #order() {
    const orders = this.#book.list();
    return this.#book.get(this.#pinned) ?? orders.find(({ status }) => !isFinal(status)) ?? this.#book.get(this.doors[0].order?.id) ?? orders[0] ?? null;
  }

  #pick(id) {
    this.#pinned = id;
    this.#draw();
  }

  #render() {
    for (const watcher of this.#watchers) watcher();
    if (!this.#open) return;
    const order = this.#order;
    for (const door of this.doors) door.follow(order);
    for (const say of this.announce) say();
    render(byId('clients-bar'), this.#renderBar(order));
    render(byId('doors'), this.doors.map((door, i) => doorPanel(door, i + 1)));
  }

  #renderBar(order) {
    return [
      orderSwitch('clients', {
        label: 'The order on show', orders: this.#book.list(), current: order?.id, choose: ({ id }) => this.#pick(id),
        first: h('button', { key: 'newest', type: 'button', class: 'switch-item', 'aria-pressed': String(this.#pinned === null), 'data-testid': 'clients-newest', onclick: () => this.#pick(null) }, 'Newest'),
      }),
      order && h('p', { key: 'order', class: 'clients-order', 'data-testid': 'clients-order', 'data-order': order.orderNumber, 'data-id': order.id, 'data-status': order.status },
        h('span', { class: 'card-number' }, order.orderNumber), statusChip(order.status)),
      h('div', { class: 'clients-tools', key: 'tools' }, this.#renderTools(order)),
      this.#actions.error('new'),
      order && this.#actions.error(order.id),
    ];
  }

  #renderTools(order) {
    const { customer, driver, admin } = this.#setup.accounts;
    const mayAssign = order && !order.driver && !isFinal(order.status) && rank(order.status) >= rank('accepted');
    const button = (name, label, key, work, props = {}) => h('button', {
      key: name, type: 'button', class: 'button small', 'data-testid': `clients-${name}`, 'aria-disabled': this.#actions.isBusy(key) ? 'true' : false,
      onclick: () => this.#actions.run(key, work), ...props,
    }, label);
    return [
      button('new', 'New order', 'new', () => this.#place(), { disabled: !customer, title: 'An order that waits for you to move it on' }),
      admin && driver?.user && order && button('assign', `Assign ${driver.user.name.split(' ')[0]}`, order.id, () => this.#change(order, (rest) => rest.assign(order.id, person(driver.user))), { disabled: !mayAssign }),
      admin && order && button('cancel', 'Cancel', order.id, () => this.#change(order, (rest) => rest.cancel(order.id, 'Cancelled on the test page')), { class: 'button danger small', disabled: isFinal(order.status), 'aria-label': `Cancel ${order.orderNumber}` }),
    ];
  }

  async #place() {
    const order = this.#book.put(await this.#rests.customer.place(newOrder(this.#setup, ITEMS), uuid()));
    announce(`Order ${order.orderNumber} placed`);
    this.#pick(order.id);
  }

  /** What is done to the order in no client's own way: the back office does it. */
  async #change(order, work) {
    this.#pinned = order.id;
    const answer = await work(this.#rests.admin);
    if (answer?.id) this.#book.put(answer);
  }
}
