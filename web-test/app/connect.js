// The Connections dialog: which server, which token for which view, how to travel.

import { byId, h, render } from './dom.js';
import { VIEWS, VIEW_TITLES, whoIs } from './config.js';

const coordinates = (place) => (place?.latitude === undefined ? '' : `${place.latitude}, ${place.longitude}`);

function readCoordinates(text) {
  const [latitude, longitude] = text.split(/[,\s]+/).filter(Boolean).map(Number);
  return Number.isFinite(latitude) && Number.isFinite(longitude) ? { latitude, longitude } : null;
}

export function createConnectDialog({ page, stored, onConnect }) {
  const dialog = byId('connect');
  const field = (name) => dialog.querySelector(`[name="${name}"]`);
  const started = stored();

  const close = () => dialog.close();

  function submit(event) {
    event.preventDefault();
    const tokens = Object.fromEntries(VIEWS.map((view) => [view, field(`token-${view}`).value.trim()]));
    const pickup = readCoordinates(field('pickup').value);
    const home = readCoordinates(field('home').value);
    const chefId = field('chef').value.trim();
    onConnect({
      server: field('server').value.trim(),
      transport: field('transport').value,
      tokens,
      places: { restaurant: { ...pickup, ...(chefId ? { id: chefId } : {}) }, home: { ...home } },
    });
    close();
  }

  const tokenField = (view) => h('div', { class: 'field', key: view },
    h('label', { for: `token-${view}` }, `${VIEW_TITLES[view]} token`),
    h('input', {
      id: `token-${view}`, name: `token-${view}`, type: 'password', autocomplete: 'off', spellcheck: 'false',
      value: started?.tokens?.[view] ?? '', 'data-testid': `token-${view}`, 'aria-describedby': `who-${view}`,
      placeholder: page.accounts?.[view] ? 'Demo account' : 'Paste a JWT',
      oninput: ({ target }) => showOwner(view, target.value),
    }),
    h('p', { class: 'hint', id: `who-${view}` }, ''));

  function showOwner(view, token) {
    const who = token.trim() ? whoIs(token.trim()) : null;
    byId(`who-${view}`).textContent = !token.trim() ? '' : who ? `${who.name} (${who.id})${who.role ? `, ${who.role}` : ''}` : 'This does not look like a JWT.';
  }

  render(dialog, h('form', { class: 'connect-form', method: 'dialog', onsubmit: submit },
    h('header', { class: 'dialog-head' },
      h('h2', { id: 'connect-title' }, 'Connections'),
      h('button', { type: 'button', class: 'button quiet square', onclick: close, 'aria-label': 'Close' }, '×')),
    h('p', { class: 'hint' }, page.demo
      ? 'The demo accounts are connected. Enter tokens to use another server or other people; they stay in this tab.'
      : 'Each view connects on its own, with its own token. Tokens stay in this tab and are never logged.'),
    h('div', { class: 'field-pair' },
      h('div', { class: 'field' },
        h('label', { for: 'connect-server' }, 'Server'),
        h('input', { id: 'connect-server', name: 'server', type: 'url', value: started?.server ?? '', placeholder: location.origin, autocomplete: 'off', 'data-testid': 'connect-server' })),
      h('div', { class: 'field' },
        h('label', { for: 'connect-transport' }, 'Transport'),
        h('select', { id: 'connect-transport', name: 'transport', 'data-testid': 'connect-transport' },
          h('option', { value: 'auto' }, 'Polling, then WebSocket'),
          h('option', { value: 'websocket' }, 'WebSocket only'),
          h('option', { value: 'polling' }, 'Polling only')))),
    h('div', { class: 'field-grid' }, VIEWS.map(tokenField)),
    h('details', { class: 'more' },
      h('summary', {}, 'Where placed orders go'),
      h('div', { class: 'field-grid' },
        h('div', { class: 'field' },
          h('label', { for: 'connect-chef' }, 'Chef id'),
          h('input', { id: 'connect-chef', name: 'chef', type: 'text', value: started?.places?.restaurant?.id ?? '', placeholder: page.restaurant?.id ?? 'From the chef’s token', autocomplete: 'off' })),
        h('div', { class: 'field' },
          h('label', { for: 'connect-pickup' }, 'Restaurant (latitude, longitude)'),
          h('input', { id: 'connect-pickup', name: 'pickup', type: 'text', value: coordinates(started?.places?.restaurant), placeholder: coordinates(page.restaurant) || '47.1393, 9.5228', autocomplete: 'off' })),
        h('div', { class: 'field' },
          h('label', { for: 'connect-home' }, 'Delivery address (latitude, longitude)'),
          h('input', { id: 'connect-home', name: 'home', type: 'text', value: coordinates(started?.places?.home), placeholder: coordinates(page.home) || '47.1466, 9.5186', autocomplete: 'off' })))),
    h('footer', { class: 'dialog-foot' },
      page.demo && h('button', { type: 'button', class: 'button', 'data-testid': 'connect-demo', onclick: () => { onConnect(null); close(); } }, 'Use the demo accounts'),
      h('button', { type: 'submit', class: 'button primary', 'data-testid': 'connect-submit' }, 'Connect'))));
  field('transport').value = started?.transport ?? 'auto';

  const open = () => {
    for (const view of VIEWS) showOwner(view, field(`token-${view}`).value);
    dialog.showModal();
  };
  byId('open-connect').addEventListener('click', open);
  return { open };
}
