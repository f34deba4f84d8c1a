// The targets of each measure. Each target is [what, value, bound, reached].
import { select, summary, text } from './results.mjs';

const median = (lines, path) => summary(lines, path)?.median ?? NaN;
const atLeast = (what, value, bound, unit = '×') => [what, `${text(value)}${unit}`, `≥ ${bound}${unit}`, value >= bound];
const atMost = (what, value, bound, unit = '×') => [what, `${text(value)}${unit}`, `≤ ${bound}${unit}`, value <= bound];
const under = (what, value, bound, unit = '×') => [what, `${text(value)}${unit}`, `< ${bound}${unit}`, value < bound];
const unique = (lines, name) => [...new Set(lines.map((line) => line[name]))];

const of = (lines, server, path, wanted = {}) => median(select(lines, { server, ...wanted }), path);
const against = (lines, peer, path, wanted) => of(lines, 'ordercast', path, wanted) / of(lines, peer, path, wanted);

/** How much more the most expensive case costs than the cheapest one, in percent. */
function spread(lines, name, path) {
  const costs = unique(lines, name).map((value) => median(select(lines, { [name]: value }), path));
  return (Math.max(...costs) / Math.min(...costs) - 1) * 100;
}

/** How many times as much a report costs with the most watchers as with the fewest. */
function growth(lines, server) {
  const drivers = unique(select(lines, { bench: 'relay' }), 'drivers');
  const cost = (number) => of(lines, server, 'server_cpu_s_per_million_reports', { bench: 'relay', drivers: number });
  return cost(Math.max(...drivers)) / cost(Math.min(...drivers));
}

export const targets = {
  idle: (lines) => unique(lines, 'sockets').flatMap((sockets) => [
    atMost(`${sockets} sockets: resident memory of each`, of(lines, 'ordercast', 'kb_per_socket', { sockets }), 16, ' KB'),
    ...[of(lines, 'ordercast', 'cpu_us_per_s_per_socket', { sockets })].filter((value) => !Number.isNaN(value))
      .map((value) => under(`${sockets} sockets: CPU of each`, value, 3, ' µs/s')),
  ]),
  room: (lines) => unique(lines, 'listeners').flatMap((listeners) => {
    const node = of(lines, 'node', 'half.delivery_ms.p99', { listeners });
    const slowest = (server) => of(lines, server, 'at_rate.delivery_ms.p99', { listeners }) / node;
    return [
      atLeast(`${listeners} listeners: deliveries, tungstenite`, against(lines, 'tungstenite', 'deliveries_per_s', { listeners }), 0.85),
      atMost(`${listeners} listeners, half of Node’s rate: p99, node`, slowest('ordercast'), 0.25),
      atMost(`${listeners} listeners, half of Node’s rate: p99 of the limit, node`, slowest('limit'), 0.25),
    ];
  }),
  relay: (lines) => [
    ...[['node', 2.5], ['nest', 4], ['limit', 0.7], ['bare', 1.25]].map(([peer, bound]) =>
      atLeast(`reports, ${peer}`, against(lines, peer, 'reports_per_s'), bound)),
    atLeast('reports, before', against(lines, 'before', 'reports_per_s'), 1),
    atMost('p99 of a delivery at half load, limit', against(lines, 'limit', 'half.delivery_ms.p99'), 1.5),
  ],
  status: (lines) => unique(lines, 'database').flatMap((database) => unique(lines, 'door').flatMap((door) => {
    const writers = (number) => select(lines, { database, door, writers: number });
    const fsyncs = (number) => median(writers(number), 'delivery_ms.p99') / median(writers(number), 'fsync_ms.p50');
    return [
      atLeast(`${database}, ${door}: 64 writers, one writer`, median(writers(64), 'changes_per_s') / median(writers(1), 'changes_per_s'), 8),
      ...[1, 64].map((number) => under(`${database}, ${door}, ${number} writing: p99 from request to watcher, in durations of an fsync`, fsyncs(number), 3, '')),
    ];
  })),
  storm: (lines) => [under('time until all clients are back, relative to a plain connect on bare socketioxide', against(lines, 'bare', 'all_back_s'), 1.5)],
  stall: () => [],
  growth: (lines) => [
    atMost('CPU per report, 100 to 15,000 watchers: growth, in growths of the limit', growth(lines, 'ordercast') / growth(lines, 'limit'), 1.1),
    ...['sqlite', 'postgres'].map((database) => atMost(`CPU per change, 1,000 to 1,000,000 orders, ${database}: most expensive over cheapest`,
      spread(select(lines, { bench: 'status', database }), 'orders_in_database', 'server_cpu_ms_per_change'), 15, ' %')),
  ],
};
