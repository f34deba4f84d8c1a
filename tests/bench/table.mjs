// Prints medians and spread of result files, and which targets are reached.  Usage: node table.mjs FILE…
import { read, select, summary, text } from './lib/results.mjs';
import { targets } from './lib/targets.mjs';

// For each measure: the fields that identify a case, and the columns as [title, field, whether to show spread and ratio to Node].
const tables = {
  idle: [['sockets'], [['KB/socket', 'kb_per_socket', true], ['kernel KB', 'kernel_mem_kb_per_socket'], ['slab KB', 'kernel_slab_kb_per_socket'],
    ['connects/s', 'connects_per_s', true], ['CPU ms/connect', 'cpu_ms_per_connect'], ['CPU µs/s/socket', 'cpu_us_per_s_per_socket']]],
  room: [['listeners'], [['deliveries/s', 'deliveries_per_s', true], ['CPU s/M', 'server_cpu_s_per_million_deliveries'],
    ['half: p50 ms', 'half.delivery_ms.p50'], ['p99', 'half.delivery_ms.p99'], ['p99.9', 'half.delivery_ms.p999'],
    ['at half of Node’s rate: p50 ms', 'at_rate.delivery_ms.p50'], ['p99', 'at_rate.delivery_ms.p99'], ['conflated', 'conflated']]],
  relay: [[], [['reports/s', 'reports_per_s', true], ['deliveries/s', 'deliveries_per_s'], ['CPU s/M reports', 'server_cpu_s_per_million_reports', true],
    ['half: ack p99 ms', 'half.ack_ms.p99'], ['delivery p99', 'half.delivery_ms.p99'], ['p99.9', 'half.delivery_ms.p999'],
    ['conflated', 'conflated'], ['trail dropped', 'trail_dropped']]],
  status: [['database', 'door', 'writers'], [['changes/s', 'changes_per_s', true], ['request p50 ms', 'request_ms.p50'], ['p99', 'request_ms.p99'],
    ['delivery p50 ms', 'delivery_ms.p50'], ['p99', 'delivery_ms.p99'], ['fsync p50 ms', 'fsync_ms.p50'], ['p99', 'fsync_ms.p99'],
    ['CPU ms/change', 'server_cpu_ms_per_change']]],
  storm: [[], [['all back s', 'all_back_s', true], ['CPU s', 'server_cpu_s', true], ['log reads', 'log_reads']]],
  stall: [[], [['p99 ms before', 'healthy.delivery_ms.p99', true], ['while stalled', 'stalled.delivery_ms.p99', true], ['p99.9', 'stalled.delivery_ms.p999'],
    ['RSS KB before', 'healthy.rss_kb'], ['while stalled', 'stalled.rss_kb'], ['cut', 'cut']]],
  growth: [['database', 'orders_in_database', 'drivers'], [['reports/s', 'reports_per_s', true], ['CPU s/M reports', 'server_cpu_s_per_million_reports', true],
    ['changes/s', 'changes_per_s', true], ['CPU ms/change', 'server_cpu_ms_per_change', true], ['delivery p99 ms', 'delivery_ms.p99']]],
};

/** Prints a table with one row per case and server. The fields in `keys` identify a case. */
function table(keys, columns, lines) {
  const cases = [...new Map(lines.map((line) => [JSON.stringify(keys.map((key) => line[key])), line])).values()];
  const shown = columns.filter(([, field]) => summary(lines, field));
  const rows = [[...keys, 'server', 'n', ...shown.flatMap(([title, , wide]) => (wide ? [title, 'min–max', '× node'] : [title])), 'CPU', 'generator']];
  for (const one of cases) {
    const same = select(lines, Object.fromEntries(keys.map((key) => [key, one[key]])));
    for (const server of new Set(same.map((line) => line.server))) {
      const mine = select(same, { server });
      const cells = shown.flatMap(([, field, wide]) => {
        const value = summary(mine, field);
        const node = summary(select(same, { server: 'node' }), field);
        if (!value) return wide ? ['-', '', ''] : ['-'];
        return wide ? [text(value.median), `${text(value.min)}–${text(value.max)}`, node ? text(value.median / node.median) : ''] : [text(value.median)];
      });
      const cpu = (field) => (summary(mine, field) ? summary(mine, field).median.toFixed(2) : '-');
      const bound = mine.some((line) => line.generator_bound) ? ' *' : '';
      rows.push([...keys.map((key) => String(one[key] ?? '')), server, String(mine.length), ...cells, cpu('server_cpu'), cpu('generator_cpu') + bound]);
    }
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const empty = widths.map((_, column) => rows.slice(1).every((row) => row[column] === ''));
  for (const row of rows) {
    console.log(row.map((cell, column) => cell.padStart(widths[column])).filter((_, column) => !empty[column]).join('  ').trimEnd());
  }
}

function print({ header, lines, failed }) {
  const [keys, columns] = tables[header.measure];
  lines = lines.map((line) => ({ ...line, cut: line.dropped === undefined ? undefined : Number(line.dropped) }));
  console.log(`\n${header.measure}: medians of ${header.rounds}, ${header.date.slice(0, 10)}, ${header.commit}, ${header.cpu}`);
  for (const bench of new Set(lines.map((line) => line.bench))) table(keys, columns, select(lines, { bench }));
  if (lines.some((line) => line.generator_bound)) console.log('* in some round the generator, not the server, was the bottleneck');
  for (const line of failed) console.log(`failed in round ${line.round}: ${line.server}: ${line.failed}`);
  for (const [what, value, bound, reached] of targets[header.measure](lines)) {
    if (!value.startsWith('NaN') && !value.includes('Infinity')) console.log(`${reached ? 'reached' : 'MISSED '}  ${what}: ${value} (${bound})`);
  }
}

for (const file of process.argv.slice(2)) print(read(file));
