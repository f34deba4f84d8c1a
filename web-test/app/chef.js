// The chef's view: the kitchen's queue, and one button for what comes next.

import { Actions, empty, statusChip } from './panel.js';
import { OrderBook, ago, isFinal, isBefore, money } from './order.js';
import { byId, h, render, scheduler } from './dom.js';

const STEPS = [
  { from: 'payment_confirmed', to: 'accepted', label: 'Accept', name: 'accept' },
  { from: 'accepted', to: 'preparing', label: 'Start preparing', name: 'prepare' },
  { from: 'preparing', to: 'ready_for_pickup', label: 'Ready for pickup', name: 'ready' },
];
const HAND_OVER = { from: 'ready_for_pickup', to: 'delivered', label: 'Handed over', name: 'handover' };
const isFetched = (order) => order.fulfilment === 'collection';
const stepOf = (order) => (isFetched(order) && order.status === HAND_OVER.from ? HAND_OVER : STEPS.find(({ from }) => from === order.status));

const NOTES = {
  pending: 'Waiting for the payment',
  ready_for_pickup: 'Waiting for a driver',
  assigned_to_driver: 'A driver is on the way here',
  picked_up: 'Handed over',
  in_transit: 'On the road',
  failed: 'It could not be delivered',
};

export class ChefView {
  #book = new OrderBook();
  #draw = scheduler(() => this.#render());
  #actions = new Actions(this.#draw);
  #connection;
  #rest = null;

  constructor(connection) {
    this.#connection = connection;
    connection.on('orders', (orders) => {
      this.#book.replace(orders);
      this.#draw();
    });
    connection.on('order:new', (order) => {
      this.#book.put(order);
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
    this.#rest = rest;
    this.#book.clear();
    this.#draw();
  }

  #send(order, status, note) {
    this.#actions.run(order.id, () => this.#connection.request('order:status_update', { orderId: order.id, status, ...(note ? { note } : {}) }));
  }

  #render() {
    const orders = this.#book.list();
    // The kitchen cooks in the order of arrival; so a new order does not push the others from under the cursor.
    const groups = [
      ['kitchen', 'In the kitchen', orders.filter((order) => stepOf(order) && stepOf(order) !== HAND_OVER).reverse()],
      ['unpaid', 'Not paid yet', orders.filter(({ status }) => status === 'pending')],
      ['ready', 'Packed', orders.filter(({ status }) => isBefore(status, 'picked_up') && !isBefore(status, 'ready_for_pickup'))],
      ['away', 'Left the kitchen', orders.filter(({ status }) => !isFinal(status) && !isBefore(status, 'picked_up'))],
    ].filter(([, , list]) => list.length > 0);
    const phase = this.#connection.state.phase;
    render(byId('body-chef'),
      groups.length === 0 && empty('pot', phase === 'off' ? 'The kitchen is not connected' : 'The kitchen is quiet',
        phase === 'off' ? 'Give the chef a token under Connections.' : 'New orders ring in here the moment they are placed.'),
      groups.map(([name, title, list]) => [
        h('h3', { class: 'group-title', key: `${name}-title` }, title),
        h('ul', { class: 'cards', key: name, 'aria-label': title }, list.map((order) => this.#card(order))),
      ]));
  }

  #card(order) {
    const step = stepOf(order);
    const busy = this.#actions.isBusy(order.id);
    const number = order.orderNumber;
    return h('li', { key: order.id, class: 'card', 'data-testid': `chef-order-${number}`, 'data-status': order.status },
      h('div', { class: 'card-head' }, h('span', { class: 'card-number' }, number), h('span', { class: 'muted' }, ago(order.createdAt))),
      h('div', { class: 'card-line' }, statusChip(order.status), isFetched(order) && h('span', { class: 'chip', 'data-testid': `chef-fetched-${number}` }, 'The customer fetches it'), order.driver && h('span', { class: 'muted' }, order.driver.name)),
      order.items?.length > 0 && h('ul', { class: 'items', 'aria-label': 'Items' },
        order.items.map((item, i) => h('li', { key: i }, h('b', {}, `${item.quantity} ×`), ` ${item.name}`))),
      h('p', { class: 'card-line muted' }, order.customer?.name ?? '', order.total !== undefined && order.total !== null && h('span', { key: 'total' }, money(order.total, order.currency ?? undefined))),
      order.notes && h('p', { class: 'note', key: 'notes' }, order.notes),
      this.#actions.error(order.id),
      step
        ? h('div', { class: 'card-actions', key: 'actions' },
          h('button', { key: 'next', type: 'button', class: 'button primary grow', 'aria-disabled': busy ? 'true' : false, 'data-testid': `chef-${step.name}-${number}`, 'aria-label': `${step.label}: ${number}`, onclick: () => this.#send(order, step.to) }, step.label),
          h('button', { key: 'cancel', type: 'button', class: 'button danger', 'aria-disabled': busy ? 'true' : false, 'data-testid': `chef-cancel-${number}`, 'aria-label': `Decline ${number}`, onclick: () => this.#send(order, 'cancelled', 'Declined by the kitchen') }, 'Decline'))
        : h('p', { class: 'card-note', key: 'actions-note' }, NOTES[order.status] ?? ''));
  }
}
