// What is on show: the four people or the five clients, and on narrow screens one view at a time.

import { VIEWS, VIEW_TITLES } from './config.js';
import { byId, h, icon, render } from './dom.js';

const ICONS = { customer: 'bag', chef: 'pot', driver: 'nav', admin: 'grid', log: 'list', clients: 'doors' };
const TITLES = { ...VIEW_TITLES, log: 'Log', clients: 'Clients' };
const CLIENTS = '#clients';

/** @param clientsShown is called when the five clients are looked at */
export function createPages(connections, clients, clientsShown) {
  const summary = byId('summary');
  let person = 'customer';
  const shown = () => document.body.dataset.view;

  const draw = () => {
    const five = shown() === 'clients';
    const page = (name, address, label, current) => h('a', { key: name, class: 'page', href: address, 'aria-current': current ? 'page' : false, 'data-testid': `page-${name}` }, label);
    render(byId('pages'), page('people', '#people', 'Four people', !five), page('clients', CLIENTS, 'Five clients', five));
    render(byId('tabs'), [...VIEWS, 'clients', 'log'].map((view) => h('button', {
      key: view, type: 'button', class: 'tab', 'aria-current': shown() === view ? 'true' : false, 'aria-controls': `view-${view}`, 'data-testid': `tab-${view}`,
      onclick: () => go(view),
    }, icon(ICONS[view]), h('span', {}, TITLES[view]),
    VIEWS.includes(view) && h('span', { class: `tab-dot is-${connections[view].state.phase}`, 'aria-hidden': 'true' }))));
    summarise(five ? clients.phases : VIEWS.map((view) => connections[view].state.phase));
  };

  function summarise(phases) {
    const up = phases.filter((phase) => phase === 'connected').length;
    const wanted = phases.filter((phase) => phase !== 'off').length;
    summary.dataset.state = wanted === 0 ? 'off' : up === wanted ? 'up' : 'partly';
    summary.textContent = wanted === 0 ? 'Not connected' : `${up} of ${wanted} connected`;
  }

  function show(view) {
    if (view !== 'clients') person = view;
    document.body.dataset.view = view;
    draw();
    if (view === 'clients') clientsShown();
    window.scrollTo({ top: 0 });
  }

  /** The five clients have an address of their own, so that a link leads to them. */
  function go(view) {
    if ((view === 'clients') === (shown() === 'clients')) {
      show(view);
      return;
    }
    if (view !== 'clients') person = view;
    location.hash = view === 'clients' ? CLIENTS : '#people';
  }

  const follow = () => {
    const { hash } = location;
    if (hash === CLIENTS) show('clients');
    else if (hash !== '#main' && shown() === 'clients') show(person);
  };
  window.addEventListener('hashchange', follow);
  for (const view of VIEWS) connections[view].watch(draw);
  clients.watch(draw);
  draw();
  follow();
}
