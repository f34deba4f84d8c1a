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

export const targets = {
  idle: (lines) => unique(lines, 'sockets').flatMap((sockets) => [
    atMost(`${sockets} sockets: resident memory of each`, of(lines, 'ordercast', 'kb_per_socket', { sockets }), 16, ' KB'),
    ...[of(lines, 'ordercast', 'cpu_us_per_s_per_socket', { sockets })].filter((value) => !Number.isNaN(value))
      .map((value) => under(`${sockets} sockets: CPU of each`, value, 3, ' µs/s')),
  ]),
  room: (lines) => unique(lines, 'listeners').map((listeners) =>
    atLeast(`${listeners} listeners: deliveries, tungstenite`, against(lines, 'tungstenite', 'deliveries_per_s', { listeners }), 0.85)),
  relay: (lines) => [['node', 2.5], ['nest', 4], ['limit', 0.7]].map(([peer, bound]) =>
    atLeast(`reports, ${peer}`, against(lines, peer, 'reports_per_s'), bound)),
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
    atMost('CPU per report, 100 to 15,000 watchers: most expensive over cheapest',
      spread(select(lines, { bench: 'relay', server: 'ordercast' }), 'drivers', 'server_cpu_s_per_million_reports'), 15, ' %'),
    ...['sqlite', 'postgres'].map((database) => atMost(`CPU per change, 1,000 to 1,000,000 orders, ${database}: most expensive over cheapest`,
      spread(select(lines, { bench: 'status', database }), 'orders_in_database', 'server_cpu_ms_per_change'), 15, ' %')),
  ],
};
