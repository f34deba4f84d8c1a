// Draws how-fast.svg from the result files in a folder.  Usage: node chart.mjs FOLDER
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bars, picture, plot } from './lib/panels.mjs';
import { read, select, summary, titles } from './lib/results.mjs';

const folder = process.argv[2] ?? new URL('results', import.meta.url).pathname;
const files = Object.fromEntries(['relay', 'room', 'idle', 'status', 'growth']
  .map((measure) => [measure, join(folder, `${measure}.jsonl`)]).filter(([, file]) => existsSync(file))
  .map(([measure, file]) => [measure, read(file)]));
const lines = (measure, wanted) => select(files[measure]?.lines ?? [], wanted);
const kinds = { ordercast: 'ours', limit: 'limit' };

/** A panel with one bar per server, or an empty list if there are no results. */
function servers(results, field, order, words) {
  const rows = Object.keys(titles)
    .map((server) => ({ title: titles[server], kind: kinds[server] ?? 'other', ...summary(select(results, { server }), field) }))
    .filter((row) => row.count).sort((a, b) => order * (a.median - b.median));
  return rows.length > 0 ? [[bars, { ...words, rows }]] : [];
}

/** A panel of several series over the places of an x axis. `series` is a list of [title, kind, results]. */
function over(field, key, places, series, words) {
  const drawn = series.map(([title, kind, results]) => ({
    title,
    kind,
    points: places.map(([, value], at) => ({ at, ...summary(select(results, { [key]: value }), field) })).filter((point) => point.count),
  })).filter((one) => one.points.length > 0);
  return drawn.length > 0 ? [[plot, { ...words, places: places.map(([name]) => name), series: drawn }]] : [];
}

const relay = lines('relay', {});
const writers = [['1', 1], ['8', 8], ['64', 64]];
const watchers = [['100', 7], ['1,000', 67], ['5,000', 333], ['15,000', 1000]];
const orders = [['1,000', 1000], ['100,000', 100_000], ['1,000,000', 1_000_000]];
const [low, high] = [1, -1];

const rows = [
  [
    ...servers(relay, 'reports_per_s', high, { title: 'Position reports per second', subtitle: '2,000 drivers, 3 watchers each: report → answer + 3 deliveries' }),
    ...servers(relay, 'server_cpu_s_per_million_reports', low, { title: 'CPU seconds per million reports', subtitle: 'of the server; less is better' }),
  ],
  [1000, 10_000].flatMap((listeners) => servers(lines('room', { listeners }), 'deliveries_per_s', high, {
    title: `Deliveries per second, ${listeners.toLocaleString('en')} listeners`,
    subtitle: 'one driver, one room',
    most: summary(lines('room', {}), 'deliveries_per_s')?.max,
  })),
  [
    ...servers(relay, 'half.delivery_ms.p99', low, { title: 'p99 until a watcher has the report, ms', subtitle: 'at half of each server’s own rate; less is better' }),
    ...servers(lines('idle', { sockets: 10_000 }), 'kb_per_socket', low, { title: 'KB of memory per idle socket', subtitle: '10,000 sockets in two rooms, resident; less is better' }),
  ],
  [['SQLite', 'sqlite'], ['PostgreSQL', 'postgres']].flatMap(([title, database]) => over('changes_per_s', 'writers', writers,
    [['REST', 'ours', lines('status', { database, door: 'rest' })], ['socket', 'second', lines('status', { database, door: 'socket' })]],
    { title: `Durable status changes per second, ${title}`, subtitle: '', axis: 'writers at once' })),
  [
    ...over('server_cpu_s_per_million_reports', 'drivers', watchers,
      [['Ordercast', 'ours', lines('growth', { bench: 'relay', server: 'ordercast' })], ['the limit', 'limit', lines('growth', { bench: 'relay', server: 'limit' })]],
      { title: 'CPU seconds per million reports', subtitle: '', axis: 'watchers’ sockets, 3 an order', lines: true }),
    ...over('server_cpu_ms_per_change', 'orders_in_database', orders,
      [['SQLite', 'ours', lines('growth', { bench: 'status', database: 'sqlite' })], ['PostgreSQL', 'second', lines('growth', { bench: 'status', database: 'postgres' })]],
      { title: 'CPU ms per status change, 8 writers', subtitle: '', axis: 'orders in the database', lines: true }),
  ],
];

const { header } = Object.values(files)[0];
const counts = new Set(Object.values(files).map((file) => file.header.rounds));
writeFileSync(join(folder, 'how-fast.svg'), picture(
  'Performance compared with other servers',
  'Ordercast runs with all features (tokens, checks, live state, ETA, trail, log). All other servers only relay positions.',
  rows,
  [
    `Medians of ${[...counts].join(' or ')} interleaved rounds; whiskers from minimum to maximum. Server on one core, load generator on the other. All axes begin at zero.`,
    `“The limit” is an epoll loop in Rust that only writes prepared frames. “raw”: JSON over plain WebSocket.`,
    `${header.date.slice(0, 10)} · commit ${header.commit} · ${header.cpu}, ${header.cores} cores · Linux ${header.kernel}`,
  ],
));
