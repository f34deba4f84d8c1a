// Who takes part, and on what: every door, every role, every transport, clients old and new.

const person = (id) => ({ id, name: id[0].toUpperCase() + id.slice(1) });
const chef = (id) => ({ ...person(id), businessName: 'Konoba', address: 'Trg 1, Višnjan', latitude: 45.2735, longitude: 13.7142 });

export const CAST = {
  customers: ['carla', 'cyril', 'cleo'].map(person),
  chefs: ['kim', 'karl'].map(chef),
  drivers: ['dana', 'dino', 'dora'].map(person),
};

// Clients of version 4 recover. Older ones come back with auth.position, or, as service, subscribe since what they saw last.
const OLD = { position: true };
const DRIVES = { drives: true };
// A driver who loses an order while away may not be recovered: the app is prepared for that.
const FOLLOWS_OWN = { follows: 'since', position: true };

const REALTIME = [
  ['carla', 'customer', '4', 'websocket'],
  ['carla', 'customer', '4', 'polling'],
  ['carla', 'customer', '3', 'upgrade', OLD],
  ['cyril', 'customer', '4', 'upgrade', { follows: 'snapshot' }],
  ['cyril', 'customer', '4', 'websocket', { follows: 'since', again: true }],
  ['cleo', 'customer', '4', 'upgrade'],
  ['cleo', 'customer', '2', 'websocket', OLD],
  ['kim', 'chef', '4', 'websocket'],
  ['kim', 'chef', '4', 'upgrade'],
  ['kim', 'chef', '2', 'polling', OLD],
  ['karl', 'chef', '4', 'polling'],
  ['karl', 'chef', '3', 'websocket', OLD],
  ['dana', 'driver', '4', 'websocket', { ...DRIVES, ...FOLLOWS_OWN }],
  ['dana', 'driver', '4', 'polling'],
  ['dino', 'driver', '4', 'upgrade', DRIVES],
  ['dino', 'driver', '3', 'websocket', OLD],
  ['dora', 'driver', '4', 'websocket', DRIVES],
  ['dora', 'driver', '4', 'upgrade', FOLLOWS_OWN],
  ['root', 'admin', '4', 'websocket'],
  ['root', 'admin', '4', 'upgrade'],
  ['root', 'admin', '4', 'polling'],
  ['root', 'admin', '2', 'upgrade', OLD],
  ['backend', 'service', '4', 'websocket', { follows: 'since' }],
  ['backend', 'service', '4', 'upgrade', { follows: 'since', again: true }],
  ['backend', 'service', '4', 'polling', { follows: 'snapshot' }],
  ['backend', 'service', '3', 'upgrade', { follows: 'since' }],
].map(([user, role, client, transport, habits = {}]) => ({
  name: `${user} (${role}, client ${client}, ${transport}${Object.keys(habits).map((habit) => `, ${habit}`).join('')})`,
  door: '/realtime', user, role, client, transport, ...habits,
}));

// A page recovers as the clients of version 4 do.
const PAGES = [
  ['carla', 'customer', 'websocket'], ['kim', 'chef', 'polling'], ['dana', 'driver', 'upgrade'], ['root', 'admin', 'websocket'],
].map(([user, role, transport]) => ({ name: `${user} (${role}, / over ${transport})`, door: '/', user, role, client: '4', transport }));

const RAW = [
  ['/orders/track', 'cyril', 'customer', { follows: 'since' }], ['/orders/track', 'karl', 'chef'], ['/orders/track', 'backend', 'service', { follows: 'since' }],
  ['/ws', 'cleo', 'customer'], ['/ws', 'kim', 'chef'], ['/ws', 'root', 'admin'],
  ['/ws/tracking', 'carla', 'customer'], ['/ws/tracking'],
].map(([door, user, role, habits = {}]) => ({
  name: `${user ?? 'anybody'} (${role ?? 'no token'}, ${door}${Object.keys(habits).map((habit) => `, ${habit}`).join('')})`, door, user, role, ...habits,
}));

export const CLIENTS = [...REALTIME, ...PAGES, ...RAW];
