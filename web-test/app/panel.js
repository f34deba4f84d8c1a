// What the views share: the strip that shows a connection, the choice of an order, and small pieces of order cards.

import { announce, byId, h, icon, render } from './dom.js';
import { VIEW_TITLES } from './config.js';
import { phase, shortNumber, words } from './order.js';

export const LABELS = { off: 'Not connected', waiting: 'Waiting', connecting: 'Connecting', connected: 'Connected', reconnecting: 'Reconnecting', unplugged: 'Unplugged', refused: 'Refused' };

// What socket.io-client says when nobody answers. The log has its words.
const UNREACHABLE = new Set(['xhr poll error', 'websocket error', 'timeout']);

/** Keeps a view's connection strip and title up to date. */
export function connectionStrip(view, connection, { person, openConnect }) {
  let before = 'off';
  const draw = () => {
    const state = connection.state;
    const who = person();
    const reason = UNREACHABLE.has(state.reason) ? 'no answer' : state.reason;
    const label = LABELS[state.phase] + (state.phase === 'refused' || (state.phase === 'connecting' && reason) ? `: ${reason}` : '');
    render(byId(`head-${view}`),
      h('h2', { id: `title-${view}` }, icon({ customer: 'bag', chef: 'pot', driver: 'nav', admin: 'grid' }[view]), VIEW_TITLES[view]),
      who && h('p', { class: 'person', title: who.id }, who.name));
    render(byId(`conn-${view}`),
      h('p', { class: `conn-state is-${state.phase}`, 'data-testid': `conn-${view}`, 'data-state': state.phase, 'data-transport': state.transport || false, 'data-connects': String(state.connects), title: state.reason || false },
        h('span', { class: 'conn-dot', 'aria-hidden': 'true' }), h('span', { class: 'conn-label' }, label)),
      state.phase === 'connected' && h('p', { class: 'conn-facts', key: 'facts' },
        h('span', { 'data-testid': `transport-${view}` }, state.transport),
        h('span', { 'data-testid': `rtt-${view}`, title: 'Round trip' }, state.rtt === null ? '' : `${state.rtt < 10 ? state.rtt.toFixed(1) : Math.round(state.rtt)} ms`)),
      state.phase === 'off'
        ? h('button', { key: 'act', type: 'button', class: 'button small', onclick: openConnect, 'aria-label': `Enter a token for the ${view}` }, 'Connect')
        : state.phase === 'refused'
          ? h('button', { key: 'act', type: 'button', class: 'button small', 'data-testid': `retry-${view}`, onclick: () => connection.retry(), 'aria-label': `Retry the ${view}’s connection` }, 'Retry')
          : state.phase === 'unplugged'
            ? h('button', { key: 'act', type: 'button', class: 'button primary small', 'data-testid': `plug-${view}`, onclick: () => connection.plugIn(), 'aria-label': `Plug in the ${view}` }, icon('plug'), 'Plug in')
            : h('button', { key: 'act', type: 'button', class: 'button small', 'data-testid': `plug-${view}`, 'aria-disabled': state.phase === 'connected' ? false : 'true', onclick: () => connection.unplug(), title: 'Pull the plug for ten seconds, and see that nothing is missed', 'aria-label': `Pull the ${view}’s plug` }, icon('plug'), 'Unplug'));
    if (state.phase !== before) {
      if (['refused', 'reconnecting', 'unplugged'].includes(state.phase)) announce(`${VIEW_TITLES[view]}: ${label}`);
      else if (state.phase === 'connected' && before === 'reconnecting') announce(`${VIEW_TITLES[view]}: connected again`);
      before = state.phase;
    }
  };
  connection.watch(draw);
  draw();
  return draw;
}

export const statusChip = (status, props = {}) => h('span', { class: `chip phase-${phase(status)}`, 'data-status': status, ...props }, words(status));

export const empty = (iconName, title, text) => h('div', { class: 'empty-state', key: 'empty' },
  h('span', { class: 'empty-icon', 'aria-hidden': 'true' }, icon(iconName)),
  h('p', { class: 'empty-title' }, title),
  h('p', { class: 'empty-text' }, text));

const LISTED = 5;

/** Buttons to choose one of the newest orders with; the current one is always among them. */
export function orderSwitch(name, { label, orders, current, choose, first = null }) {
  const listed = orders.slice(0, LISTED);
  const chosen = orders.find(({ id }) => id === current);
  if (chosen && !listed.includes(chosen)) listed.splice(-1, 1, chosen);
  return h('div', { class: 'order-switch', role: 'group', 'aria-label': label, key: 'orders' }, first,
    listed.map((order) => h('button', {
      key: order.id, type: 'button', class: `switch-item phase-${phase(order.status)}`, 'aria-pressed': String(order.id === current),
      'data-testid': `${name}-select-${order.orderNumber}`, onclick: () => choose(order),
      title: `${order.orderNumber}: ${words(order.status)}`,
    },
    h('span', { class: 'switch-dot', 'aria-hidden': 'true' }),
    h('span', { class: 'sr' }, `Order ${order.orderNumber}, ${words(order.status)}`),
    h('span', { 'aria-hidden': 'true' }, shortNumber(order.orderNumber)))));
}

/** Runs actions on orders one at a time per order, and remembers what went wrong with each. */
export class Actions {
  #busy = new Set();
  #errors = new Map();
  #changed;

  constructor(changed) {
    this.#changed = changed;
  }

  isBusy(id) {
    return this.#busy.has(id);
  }

  async run(id, work) {
    if (this.#busy.has(id)) return;
    this.#busy.add(id);
    this.#errors.delete(id);
    this.#changed();
    try {
      await work();
    } catch (error) {
      this.#errors.set(id, error.message);
    } finally {
      this.#busy.delete(id);
      this.#changed();
    }
  }

  /** The inline message of an order's last failed action. */
  error(id) {
    const message = this.#errors.get(id);
    return message && h('div', { class: 'inline-error', role: 'alert', key: 'error' },
      h('span', {}, message),
      h('button', { type: 'button', class: 'button quiet square tiny', 'aria-label': 'Dismiss the message', onclick: () => { this.#errors.delete(id); this.#changed(); } }, '×'));
  }
}
