// Under a view's connection: that its plug is out, and once it is back, what it had missed and was given.

import { announce, byId, h, icon, render } from './dom.js';
import { VIEW_TITLES } from './config.js';
import { clock, phase, shortNumber, words } from './order.js';

const TICK = 200;
const LONGER = 10000;

const seconds = (ms) => `${(Math.max(0, ms) / 1000).toFixed(ms < 9950 ? 1 : 0)} s`;
const changes = (count) => (count === 1 ? '1 change' : `${count} changes`);

/** @returns what an absence came to, in words: whole, title, and facts as [name, value] */
export function verdict({ awayMs, recovered, count, missing }) {
  const lost = missing?.length;
  const facts = [['Recovered', recovered ? 'yes' : 'no'], ['Away', seconds(awayMs)]];
  if (!recovered) return { whole: false, title: 'A new session: its orders were fetched again', facts };
  facts.push(['Caught up with', changes(count)], ['Missing', lost === undefined ? 'unknown' : lost === 0 ? 'none' : String(lost)]);
  const whole = count > 0 ? 'Back, and nothing was missed' : 'Back: its orders had not changed';
  const title = lost === undefined ? 'Back, but the orders could not be compared' : lost === 0 ? whole : `${changes(lost)} missing`;
  return { whole: lost === 0, title, facts };
}

/** The events of an absence by order, in the order they came. */
export function byOrder(list) {
  const orders = new Map();
  for (const event of list) {
    if (!orders.has(event.orderId)) orders.set(event.orderId, { orderId: event.orderId, orderNumber: event.orderNumber, events: [] });
    orders.get(event.orderId).events.push(event);
  }
  return [...orders.values()];
}

/** Keeps a view's outage box up to date. */
export function outageBox(view, connection, { renews }) {
  const box = byId(`outage-${view}`);
  let ticking = 0;
  let before = null;

  const out = ({ absence, plugAt }) => {
    const away = connection.now() - absence.leftAt;
    const left = plugAt - Date.now();
    return [
      h('p', { class: 'outage-title' }, icon('plug'), h('span', {}, `The plug is out: ${seconds(away)}`)),
      h('p', { class: 'outage-text' }, 'As if the network were lost. The others go on; what this one misses, it gets once it is back.'),
      h('div', { class: 'outage-tools' },
        h('div', { class: 'bar', role: 'progressbar', 'aria-label': 'Time until it is plugged in', 'aria-valuemin': '0', 'aria-valuemax': '100', 'aria-valuenow': String(Math.round((100 * away) / (away + left))), vars: { '--part': String(away / (away + left)) } }, h('span', { class: 'bar-fill' })),
        h('span', { class: 'muted' }, `back in ${Math.max(0, Math.ceil(left / 1000))} s`),
        h('button', { type: 'button', class: 'button small', 'data-testid': `longer-${view}`, 'aria-label': `Keep the ${view} unplugged for 10 seconds more`, onclick: () => connection.stayOut(LONGER) }, '+10 s')),
    ];
  };

  const lost = ({ absence }) => [
    h('p', { class: 'outage-title' }, icon('cut'), h('span', {}, `The connection was lost: ${seconds(connection.now() - absence.leftAt)}`)),
    h('p', { class: 'outage-text' }, 'It comes back by itself.'),
  ];

  const back = ({ absence }) => {
    const { whole, title, facts } = verdict(absence);
    let i = 0;
    return [
      h('div', { class: 'outage-head' },
        h('p', { class: `outage-title ${whole ? 'is-whole' : ''}` }, icon(whole ? 'check' : 'plug'), h('span', {}, title)),
        h('button', { type: 'button', class: 'button quiet square tiny', 'aria-label': `Dismiss the ${view}’s report`, 'data-testid': `dismiss-${view}`, onclick: () => connection.dismissAbsence() }, '×')),
      h('dl', { class: 'outage-facts' }, facts.map(([name, value]) => h('div', { key: name }, h('dt', {}, name), h('dd', {}, value)))),
      absence.events.length > 0 && h('ul', { class: 'caught', key: 'caught', tabindex: '0', 'aria-label': 'What happened meanwhile' }, byOrder(absence.events).map((order) => h('li', { key: order.orderId },
        h('b', { title: order.orderNumber }, shortNumber(order.orderNumber)),
        h('ol', {}, order.events.map(({ seq, status }) => h('li', { key: seq, class: `chip phase-${phase(status)} arrives`, 'data-order': order.orderNumber, 'data-seq': String(seq), 'data-status': status, vars: { '--i': String(i++) } }, `#${seq} ${words(status)}`)))))),
      absence.count > absence.events.length && h('p', { class: 'outage-text', key: 'more' }, `and ${absence.count - absence.events.length} more`),
    ];
  };

  const token = ({ state, at }) => [
    h('p', { class: 'outage-title is-warning' }, icon('plug'), h('span', { 'data-testid': `token-note-${view}`, 'data-state': state }, state === 'expired' ? 'The token has expired: events have stopped' : `The token expires at ${clock(at)}`)),
    h('p', { class: 'outage-text' }, state === 'expired' ? 'The server waits a moment for a fresh one, then closes.' : 'An app asks for a fresh one now and sends token:refresh.'),
  ];

  const draw = () => {
    const { absence, phase: now, plugAt, token: spent } = connection.state;
    const state = now === 'unplugged' && plugAt ? 'unplugged' : spent && !renews() ? 'token' : ['off', 'refused'].includes(now) ? null : absence?.state ?? null;
    byId(`view-${view}`).dataset.plug = state === 'unplugged' ? 'out' : 'in';
    box.hidden = !state;
    render(box, state && h('div', {
      key: state, class: 'outage-box', 'data-testid': `outage-${view}`, 'data-state': state,
      'data-recovered': state === 'done' ? (absence.recovered ? 'yes' : 'no') : false,
      'data-events': state === 'done' ? String(absence.count) : false,
      'data-missing': state === 'done' && absence.missing ? String(absence.missing.length) : false,
    }, {
      unplugged: () => out(connection.state), away: () => lost(connection.state), done: () => back(connection.state), token: () => token(spent),
      checking: () => h('p', { class: 'outage-title' }, icon('plug'), h('span', {}, 'Back: catching up')),
    }[state]()));
    if (state === 'done' && before !== 'done') {
      const { title, facts } = verdict(absence);
      announce(`${VIEW_TITLES[view]}: ${title}. ${facts.map((fact) => fact.join(': ')).join('. ')}`);
    }
    before = state;
    const ticks = state === 'unplugged' || state === 'away';
    if (ticks && !ticking) ticking = setInterval(draw, TICK);
    if (!ticks) ticking = clearInterval(ticking) ?? 0;
  };
  connection.watch(draw);
  draw();
}
