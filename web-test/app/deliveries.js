// What was sent to people who were not connected, and what not: for the back office.

import { byId, h, render } from './dom.js';
import { clock } from './order.js';

const AGAIN = new Set(['dead', 'failed', 'expired', 'unknown', 'capped', 'superseded', 'suppressed']);

/** @returns {(rest) => void} shows the newest deliveries */
export function createDeliveriesDialog() {
  const dialog = byId('deliveries');
  let rest = null;
  let items = [];
  let problem = '';
  /** The delivery whose attempts are shown. */
  let opened = null;

  async function load() {
    try {
      ({ items } = await rest.deliveries());
      problem = '';
    } catch (error) {
      problem = error.message;
    }
    draw();
  }

  async function retry(id) {
    try {
      await rest.retryDelivery(id);
    } catch (error) {
      problem = error.message;
    }
    await load();
  }

  async function open(id) {
    try {
      opened = opened?.id === id ? null : await rest.delivery(id);
    } catch (error) {
      problem = error.message;
    }
    draw();
  }

  const tried = ({ at, millis, status, excerpt }) => h('li', {}, h('time', { class: 'muted' }, clock(at)), ` ${status ?? 'no answer'} in ${millis} ms `,
    excerpt && h('code', {}, excerpt.slice(0, 200)));

  function draw() {
    render(dialog,
      h('header', { class: 'dialog-head' }, h('h2', { id: 'deliveries-title' }, 'Notifications')),
      h('p', { class: 'muted' }, 'Who was not connected was pushed. The newest are first.'),
      problem && h('p', { class: 'inline-error', role: 'alert', key: 'problem' }, problem),
      items.length === 0 && h('p', { class: 'muted', key: 'none' }, 'Nothing was sent yet: switch notifications on in the customer’s view, and unplug it.'),
      h('ol', { class: 'deliveries', key: 'list' }, items.map((item) => h('li', { key: item.id, 'data-testid': 'delivery', 'data-kind': item.kind, 'data-state': item.state },
        h('time', { class: 'muted' }, clock(item.at)), h('b', {}, item.kind), h('span', {}, item.userId), h('span', { class: 'muted' }, item.channel),
        h('span', { class: 'chip' }, item.state), item.reason && h('span', { class: 'muted' }, item.reason),
        item.id && h('button', { type: 'button', class: 'button small', 'aria-label': `Attempts of ${item.kind} to ${item.userId}`, 'aria-expanded': String(opened?.id === item.id), onclick: () => open(item.id) }, 'Attempts'),
        AGAIN.has(item.state) && h('button', { type: 'button', class: 'button small', 'aria-label': `Send ${item.kind} to ${item.userId} again`, onclick: () => retry(item.id) }, 'Send again'),
        opened?.id === item.id && h('ol', { class: 'muted', 'data-testid': 'attempts' }, opened.attempts.length ? opened.attempts.map(tried) : h('li', {}, 'Not tried yet.'))))),
      h('footer', { class: 'dialog-foot' },
        h('button', { type: 'button', class: 'button', 'data-testid': 'deliveries-reload', onclick: load }, 'Look again'),
        h('button', { type: 'button', class: 'button primary', onclick: () => dialog.close() }, 'Close')));
  }

  return (caller) => {
    rest = caller;
    items = [];
    dialog.showModal();
    draw();
    load();
  };
}
