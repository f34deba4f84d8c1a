// The house at one glance, for the back office: all drivers on a map, who is connected and how far behind, other systems, search.

import { byId, h, render } from './dom.js';
import { colour } from './map.js';
import { ago, clock, words } from './order.js';

const TABS = { fleet: 'Fleet', sockets: 'Sockets', webhooks: 'Webhooks', search: 'Search' };

/**
 * @param {{streets?: number[][][], tileUrl?: string}} page what lies below the drivers
 * @returns {(rest, connection) => void} opens the dialog
 */
export function createHouseDialog({ streets, tileUrl }) {
  const dialog = byId('house');
  let rest = null;
  let connection = null;
  let tab = 'fleet';
  let problem = '';
  let said = '';
  let items = [];
  let messages = null;
  let fresh = null;
  const spots = new Map();
  // Leaflet draws in it, so it is not described with the rest: it is put into its place after each drawing.
  const box = document.createElement('div');
  Object.assign(box, { id: 'house-map', className: 'house-map' });
  let map = null;
  // Somebody looks at a part of the map: it stays there.
  let moved = false;
  for (const name of ['pointerdown', 'wheel']) box.addEventListener(name, () => { moved = true; }, { passive: true });
  let dots = new Map();

  const quiet = (work) => async () => {
    problem = said = '';
    try {
      await work();
    } catch (error) {
      problem = error.message;
    }
    draw();
  };

  function heard({ drivers }) {
    for (const spot of drivers) spots.set(spot.driverId, spot);
    if (dialog.open && tab === 'fleet') draw();
  }

  const load = quiet(async () => {
    items = [];
    messages = null;
    if (tab === 'fleet') {
      for (const spot of (await rest.fleet()).items) spots.set(spot.driverId, spot);
      await connection.request('subscribe:fleet', {});
    } else if (tab === 'sockets') ({ items } = await rest.sockets());
    else if (tab === 'webhooks') ({ items } = await rest.webhooks());
  });

  function choose(name) {
    if (tab === 'fleet' && name !== 'fleet') leaveFleet();
    tab = name;
    fresh = null;
    draw();
    load();
  }

  function leaveFleet() {
    connection?.request('unsubscribe:fleet', {}).catch(() => {});
    map?.remove();
    map = null;
    moved = false;
    dots = new Map();
  }

  function drawMap() {
    byId('house-map-place').append(box);
    if (spots.size === 0) return;
    const all = [...spots.values()];
    const bounds = L.latLngBounds(all.map((spot) => [spot.latitude, spot.longitude]));
    const fit = () => map.fitBounds(bounds.pad(0.3), { maxZoom: 15, animate: false });
    if (!map) {
      map = L.map(box, { attributionControl: false, zoomSnap: 0.25 });
      fit();
      if (tileUrl) L.tileLayer(tileUrl, { maxZoom: 19 }).addTo(map);
      else if (streets?.length) L.polyline(streets, { renderer: L.canvas(), interactive: false, color: colour('--map-road') }).addTo(map);
    }
    if (!moved && !map.getBounds().contains(bounds)) fit();
    for (const spot of all) {
      const at = [spot.latitude, spot.longitude];
      const known = dots.get(spot.driverId);
      if (known) known.setLatLng(at);
      else dots.set(spot.driverId, L.circleMarker(at, { radius: 8, color: colour('--map-route'), fillOpacity: 0.7 }).bindTooltip(spot.driverId).addTo(map));
    }
  }

  const fleet = () => [
    h('div', { key: 'map', id: 'house-map-place', 'data-testid': 'house-map', role: 'img', 'aria-label': 'Map of all drivers; the list below says the same' }),
    h('ul', { key: 'list', class: 'deliveries', 'aria-label': 'Drivers' }, [...spots.values()].map((spot) => h('li', { key: spot.driverId, 'data-testid': 'fleet-driver', 'data-driver': spot.driverId, 'data-at': spot.recordedAt },
      h('b', {}, spot.driverId), h('span', { class: 'muted' }, `${spot.latitude.toFixed(4)}, ${spot.longitude.toFixed(4)}`),
      h('span', { class: 'muted' }, ago(spot.recordedAt)), h('span', { class: 'chip' }, spot.orderIds.length ? `${spot.orderIds.length} ${spot.orderIds.length === 1 ? 'order' : 'orders'}` : 'idle'),
      spot.battery !== undefined && h('span', { class: 'muted' }, `${spot.battery} %`)))),
    spots.size === 0 && h('p', { key: 'none', class: 'muted' }, 'No driver has sent a position yet.'),
  ];

  const sockets = () => h('ul', { key: 'sockets', class: 'deliveries', 'aria-label': 'Sockets' }, items.map((socket, index) => h('li', { key: `${socket.userId}-${index}`, 'data-testid': 'socket', 'data-user': socket.userId },
    h('b', {}, socket.userId), h('span', { class: 'chip' }, socket.role), h('span', { class: 'muted' }, socket.client),
    h('span', { class: 'muted' }, `since ${clock(socket.since)}`), h('span', { class: socket.behind ? 'warn' : 'muted' }, socket.behind ? `${socket.behind} events behind` : 'up to date'),
    h('button', { type: 'button', class: 'button small danger', 'aria-label': `Disconnect ${socket.userId}`, 'data-testid': `disconnect-${socket.userId}`, onclick: quiet(async () => {
      const { disconnected } = await rest.endSessions(socket.userId);
      said = `${disconnected} sockets of ${socket.userId} were disconnected`;
      ({ items } = await rest.sockets());
    }) }, 'Disconnect'))));

  const webhooks = () => [
    h('form', { key: 'new', class: 'inline-form', onsubmit: (event) => {
      event.preventDefault();
      quiet(async () => {
        fresh = await rest.addWebhook(byId('webhook-url').value, ['*']);
        ({ items } = await rest.webhooks());
      })();
    } },
    h('input', { id: 'webhook-url', type: 'url', required: true, placeholder: 'https://example.com/hook', 'aria-label': 'Address of the other system', 'data-testid': 'webhook-url' }),
    h('button', { type: 'submit', class: 'button primary', 'data-testid': 'webhook-add' }, 'Tell it')),
    fresh && h('p', { key: 'secret', class: 'note', 'data-testid': 'webhook-secret' }, 'Its secret, shown once: ', h('code', {}, fresh.secret)),
    h('ul', { key: 'list', class: 'deliveries', 'aria-label': 'Webhooks' }, items.map((hook) => h('li', { key: hook.id, 'data-testid': 'webhook', 'data-enabled': String(hook.enabled) },
      h('b', {}, hook.url), h('span', { class: 'chip' }, hook.enabled ? (hook.failingSince ? 'failing' : 'on') : `off: ${hook.reason}`),
      h('button', { type: 'button', class: 'button small', 'aria-label': `Test ${hook.url}`, 'data-testid': 'webhook-test', onclick: quiet(async () => {
        const { ok, status, error } = await rest.testWebhook(hook.id);
        said = ok ? `It answered ${status}` : `It did not take it: ${error ?? status}`;
      }) }, 'Test'),
      h('button', { type: 'button', class: 'button small', 'aria-label': `Messages to ${hook.url}`, 'data-testid': 'webhook-messages', onclick: quiet(async () => { messages = (await rest.webhookMessages(hook.id)).items; }) }, 'Messages'),
      h('button', { type: 'button', class: 'button small danger', 'aria-label': `Remove ${hook.url}`, onclick: quiet(async () => {
        await rest.removeWebhook(hook.id);
        ({ items } = await rest.webhooks());
      }) }, 'Remove')))),
    messages && h('ol', { key: 'messages', class: 'deliveries', 'aria-label': 'Messages' }, messages.map((message) => h('li', { key: message.id, 'data-testid': 'webhook-message', 'data-state': message.state },
      h('time', { class: 'muted' }, clock(message.at)), h('b', {}, message.type), h('span', {}, message.orderId ?? ''), h('span', { class: 'chip' }, message.state), h('span', { class: 'muted' }, message.error ?? String(message.status ?? ''))))),
    messages?.length === 0 && h('p', { key: 'no-messages', class: 'muted' }, 'It was told nothing yet.'),
  ];

  const search = () => [
    h('form', { key: 'form', class: 'inline-form', role: 'search', onsubmit: (event) => {
      event.preventDefault();
      quiet(async () => {
        ({ items } = await rest.search(byId('house-query').value));
        said = items.length ? '' : 'Nothing was found';
      })();
    } },
    h('input', { id: 'house-query', type: 'search', placeholder: 'Number, id or customer', 'aria-label': 'Number, id or name of the customer', 'data-testid': 'house-query' }),
    h('button', { type: 'submit', class: 'button primary', 'data-testid': 'house-search' }, 'Search')),
    h('ul', { key: 'found', class: 'deliveries', 'aria-label': 'Found orders' }, items.map((order) => h('li', { key: order.id, 'data-testid': 'found', 'data-order': order.orderNumber },
      h('b', {}, order.orderNumber), h('span', {}, order.customer?.name ?? ''), h('span', { class: 'chip' }, words(order.status)), h('span', { class: 'muted' }, ago(order.createdAt))))),
  ];

  function draw() {
    render(dialog, h('div', { class: 'connect-form' },
      h('header', { class: 'dialog-head' }, h('h2', { id: 'house-title' }, 'The house')),
      h('div', { class: 'segments', role: 'group', 'aria-label': 'Part' }, Object.entries(TABS).map(([name, label]) => h('button', { key: name, type: 'button', class: 'segment', 'aria-pressed': String(name === tab), 'data-testid': `house-${name}`, onclick: () => choose(name) }, label))),
      problem && h('p', { class: 'inline-error', role: 'alert', key: 'problem', 'data-testid': 'house-problem' }, problem),
      h('p', { class: 'hint', role: 'status', key: 'said', 'data-testid': 'house-said' }, said),
      h('div', { class: 'house-body', key: tab }, { fleet, sockets, webhooks, search }[tab]()),
      h('footer', { class: 'dialog-foot' },
        h('button', { type: 'button', class: 'button', onclick: load }, 'Look again'),
        h('button', { type: 'button', class: 'button primary', 'data-testid': 'house-close', onclick: () => dialog.close() }, 'Close'))));
    if (tab === 'fleet') drawMap();
  }

  dialog.addEventListener('close', () => { if (tab === 'fleet') leaveFleet(); });

  return (caller, admin) => {
    if (connection !== admin) admin.on('fleet:positions', heard);
    [rest, connection] = [caller, admin];
    dialog.showModal();
    draw();
    load();
  };
}
