// Reads the generator's results, one JSON object a line, and prints each server's medians and its ratio to the first one.
import { readFileSync } from 'node:fs';

const columns = {
  relay: [['reports/s', 'reports_per_s', 'x'], ['deliveries/s', 'deliveries_per_s'], ['CPU s/M reports', 'server_cpu_s_per_million_reports'],
    ['ack p50 ms', 'ack_ms.p50'], ['ack p99', 'ack_ms.p99'], ['delivery p50 ms', 'delivery_ms.p50'], ['delivery p99', 'delivery_ms.p99'],
    ['trail dropped', 'trail_dropped'], ['server CPU', 'server_cpu'], ['generator CPU', 'generator_cpu']],
  idle: [['KB/socket', 'kb_per_socket', 'x'], ['RSS KB', 'rss_after_kb'], ['CPU ms/connect', 'cpu_ms_per_connect']],
  status: [['changes/s', 'changes_per_s'], ['request p50 ms', 'request_ms.p50'], ['p99', 'request_ms.p99'], ['max', 'request_ms.max'],
    ['delivery p50 ms', 'delivery_ms.p50'], ['p99', 'delivery_ms.p99'], ['max', 'delivery_ms.max'], ['late p99', 'late_ms.p99'],
    ['server CPU', 'server_cpu'], ['generator CPU', 'generator_cpu']],
  storm: [['all back s', 'all_back_s', 'x'], ['CPU s', 'server_cpu_s', 'x'], ['log reads', 'log_reads']],
};

const results = readFileSync(0, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
const servers = [...new Set(results.map((result) => result.server))];
const shown = columns[results[0].bench];
const median = (server, path) => {
  const values = results.filter((result) => result.server === server)
    .map((result) => path.split('.').reduce((value, name) => value?.[name], result) ?? NaN).sort((a, b) => a - b);
  return (values[(values.length - 1) >> 1] + values[values.length >> 1]) / 2;
};
// A bare relay has not got all of it.
const text = (number) => (Number.isNaN(number) ? '-' : number >= 1000 ? Math.round(number).toString() : number.toFixed(number < 10 ? 2 : 1));

const rows = [['server', ...shown.flatMap(([title, , ratio]) => (ratio ? [title, 'x ' + servers[0]] : [title]))]];
for (const server of servers) {
  rows.push([server, ...shown.flatMap(([, path, ratio]) => {
    const value = median(server, path);
    return ratio ? [text(value), (value / median(servers[0], path)).toFixed(2)] : [text(value)];
  })]);
}
const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
for (const row of rows) console.log(row.map((cell, column) => cell.padStart(widths[column])).join('  '));
