// Who takes part: the cast of the chaos test, or as many as are wanted.
import { CAST, CLIENTS } from '../../chaos/cast.mjs';
import { clustered } from './binary.mjs';

/** A polling session needs nodes that pass its requests on to each other. */
const possible = ({ transport }) => clustered || transport === undefined || transport === 'websocket';

/** Everyone of the chaos test: every door, every role, clients old and new. */
export const everyone = () => ({ cast: CAST, clients: CLIENTS.filter(possible) });

/** `n` clients on WebSockets: mostly customers, some chefs and drivers, an admin and a service, and all doors among them. */
export function crowd(n) {
  const many = (word, count, more) => Array.from({ length: count }, (_, i) => ({ id: `${word}${i}`, name: `${word} ${i}`, ...more }));
  const cast = {
    customers: many('customer', Math.ceil(n / 2)),
    chefs: many('chef', Math.ceil(n / 8), { businessName: 'Konoba', address: 'Trg 1, Višnjan', latitude: 45.2735, longitude: 13.7142 }),
    drivers: many('driver', Math.ceil(n / 8)),
  };
  const staff = everyone().clients.filter(({ role, transport }) => ['admin', 'service'].includes(role) && (transport ?? 'websocket') === 'websocket');
  const doors = [
    ['customers', '/realtime'], ['customers', '/realtime', { follows: 'since' }], ['chefs', '/realtime'], ['customers', '/orders/track', { follows: 'since' }],
    ['drivers', '/realtime', { drives: true }], ['customers', '/'], ['customers', '/ws'], ['customers', '/realtime'],
  ];
  const clients = Array.from({ length: Math.max(0, n - staff.length) }, (_, i) => {
    const [people, door, habits = {}] = doors[i % doors.length];
    const role = people.slice(0, -1);
    const user = cast[people][Math.floor(i / doors.length) % cast[people].length].id;
    return { name: `${user} (${role}, ${door}, ${i})`, door, user, role, client: '4', transport: 'websocket', ...habits };
  });
  return { cast, clients: [...staff, ...clients] };
}
