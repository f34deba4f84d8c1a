// The page of a link to one order, for somebody who has no account: status, ETA and, if the link says so, the driver on a map.

const $ = (id) => document.getElementById(id);
const token = location.pathname.split('/').pop();
const clock = (text) => new Date(text).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
const words = (status) => status.replaceAll('_', ' ').replace(/^./, (letter) => letter.toUpperCase());
const STILL_OPEN = new Set(['delivered', 'returned', 'cancelled', 'failed']);

let map;
let dot;

/** Moves the dot of the driver; the first time the map appears. */
function place(latitude, longitude) {
  const at = [latitude, longitude];
  if (!map) {
    $('map').hidden = false;
    map = L.map('map', { attributionControl: false, zoomControl: true }).setView(at, 15);
    dot = L.marker(at, { icon: L.divIcon({ className: 'dot', iconSize: [18, 18] }), alt: 'Driver', keyboard: false }).addTo(map);
    tiles();
    return;
  }
  dot.setLatLng(at);
  if (!map.getBounds().pad(-0.2).contains(at)) map.panTo(at);
}

async function tiles() {
  const { tileUrl } = await (await fetch('/page-config')).json();
  if (tileUrl) L.tileLayer(tileUrl, { maxZoom: 19 }).addTo(map);
}

function expect(minutes, at, status) {
  const isOver = STILL_OPEN.has(status);
  $('eta').textContent = isOver || minutes === undefined || minutes === null ? '' : `${minutes} min, about ${clock(at)}`;
}

function say(status, message) {
  $('status').textContent = message;
  document.title = message;
  document.body.dataset.status = status;
}

function past(status, at) {
  const line = document.createElement('li');
  const time = document.createElement('time');
  time.dateTime = at;
  time.textContent = clock(at);
  line.append(words(status), time);
  $('history').append(line);
}

function ended(message) {
  document.body.dataset.state = 'ended';
  say('ended', message);
  $('eta').textContent = '';
  $('map').hidden = true;
}

async function read() {
  const answer = await fetch(`/share/${token}`, { headers: { accept: 'application/json' } });
  if (answer.status === 404) return ended('This link is not known');
  if (answer.status === 410) return ended('This link has ended');
  if (!answer.ok) return setTimeout(read, 5000);
  const order = await answer.json();
  say(order.status, order.message);
  expect(order.etaMinutes, order.estimatedDeliveryTime, order.status);
  $('history').replaceChildren();
  for (const { status, timestamp } of order.statusHistory) past(status, timestamp);
  if (order.driverLatitude !== undefined) place(order.driverLatitude, order.driverLongitude);
  $('ends').textContent = `Order ${order.orderNumber}. This link works until ${new Date(order.expiresAt).toLocaleString()}.`;
  follow(order.seq);
}

let socket;
let seq = 0;

function follow(from) {
  seq = from;
  if (socket) return;
  socket = io('/realtime', { auth: { share: token } });
  socket.on('order:status_update', (update) => {
    if (update.seq > seq) {
      seq = update.seq;
      if (update.status !== update.previousStatus) past(update.status, update.timestamp);
    }
    say(update.status, update.message);
    expect(update.etaMinutes, update.estimatedDeliveryTime, update.status);
  });
  socket.on('order:eta_update', (eta) => expect(eta.etaMinutes, eta.estimatedDeliveryTime, document.body.dataset.status));
  socket.on('driver:location_update', ({ latitude, longitude }) => place(latitude, longitude));
  // A link that has ended lets nobody in again; anything else comes back by itself.
  socket.on('connect_error', (error) => { if (/^(expired|not_found|unauthorized)/.test(error.message)) ended('This link has ended'); });
  socket.on('disconnect', (reason) => { if (reason === 'io server disconnect') read(); });
}

read();
