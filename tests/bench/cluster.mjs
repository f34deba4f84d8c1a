#!/usr/bin/env node
// What several nodes cost. On two cores totals of several nodes mean nothing, so all is measured at one fixed rate, or as a ratio.
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { closeAll, open } from '../clients/support/client.mjs';
import { as, people, SECRET } from '../clients/support/server.mjs';
import { each, Load, quantile } from './lib/cluster-load.mjs';
import { adapter, clustered, cpu, end, haproxy, keep, ordercast, query, Redis, stop } from './lib/cluster-servers.mjs';

const HELP = `tests/bench/cluster.mjs [--quick] [MEASURE…]     ORDERCAST_BIN names the server, and its folder has the bench's programs (cargo build --release --workspace).
                                             Redis and PostgreSQL are started

  tax       CPU per report of 2 nodes with all watchers on the other one, minus that of 1 node; and Redis'; and latencies
  spread    CPU per delivery on 1, 2 and 3 nodes, watchers on all of them
  changes   durable changes a second of 64 writers on 1, 2 and 3 nodes; a and b of: cycle = a + b × events
  return    how long clients are away when one of two nodes is killed
  adapters  the same relay on Node's Socket.IO with its Redis adapters, classic and sharded, and on socketioxide with its own
  restart   deliveries missed when Redis restarts: ours, and those adapters'

Raw results go to target/bench/cluster.jsonl.`;
const { values: flags, positionals } = parseArgs({ allowPositionals: true, options: { quick: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } });
if (flags.help) {
  console.log(HELP);
  process.exit(0);
}

const SHAPE = { drivers: 200, watchers: 3 };
/** Reports a second: of what is counted one by one, of comparisons, and of the tax. */
const [SLOW, RATE, RATES] = [600, 3_000, [1_000, 3_000, 6_000]];
const DRIVERS = 1_000;
const SECONDS = flags.quick ? 3 : 10;
const ROUNDS = flags.quick ? 1 : 3;
/** One writer waits for itself, not for the log: the line is fitted through those of whom one always waits. */
const [WRITERS, GROWING, WAITING] = [64, [1, 4, 16, 64], 4];
const RETURNING = flags.quick ? 200 : 1000;
const OUTAGE_MS = 500;
/** The generator beside the server's binary. */
const GENERATOR = path.join(path.dirname(process.env.ORDERCAST_BIN), 'ordercast-bench');
const FILE = path.join(process.env.CARGO_TARGET_DIR ?? 'target', 'bench', 'cluster.jsonl');
// The generator, PostgreSQL and the proxy would be on other machines.
execFileSync('taskset', ['-cp', '1', String(process.pid)]);

const redis = await new Redis().start();
const round = (n, digits = 1) => Number(n.toFixed(digits));
const median = (list) => quantile([...list].sort((a, b) => a - b), 0.5);
function result(measure, values) {
  keep(FILE, { measure, at: new Date().toISOString(), bin: clustered ? 'cluster' : 'single', ...values });
  console.log(`${measure.padEnd(10)}${Object.entries(values).map(([name, value]) => `${name} ${typeof value === 'number' ? round(value, 2) : value}`).join(', ')}`);
}

const KINDS = {
  ordercast: { start: (n) => ordercast(n, redis), prepare: (nodes) => async (i) => {
    const who = people();
    const node = nodes[i % nodes.length];
    const { id } = await node.assigned(who);
    return { order: id, driver: as(who.driver, 'driver'), customer: as(who.customer, 'customer') };
  } },
  classic: { start: (n) => adapter('classic', n, redis), prepare: () => async (i) => ({ order: `order-${i}` }) },
  sharded: { start: (n) => adapter('sharded', n, redis), prepare: () => async (i) => ({ order: `order-${i}` }) },
  socketioxide: { start: (n) => adapter('socketioxide', n, redis), prepare: () => async (i) => ({ order: `order-${i}` }) },
};

/** One fixed load on `n` nodes; `act(load, nodes)` measures. */
async function relay(kind, n, driverOn, watcherOn, act) {
  const nodes = await KINDS[kind].start(n);
  try {
    const load = await Load.open(nodes, { ...SHAPE, prepare: KINDS[kind].prepare(nodes), driverOn, watcherOn });
    try {
      await load.run(SLOW, 1); // what is slow the first time is over
      return await act(load, nodes);
    } finally {
      load.close();
    }
  } finally {
    for (const { process: child } of nodes) await stop(child);
  }
}

/** CPU in µs of nodes and of Redis under a fixed load, and its latencies. Watchers are on the nodes that `watched` gives. */
async function costs(kind, n, watched, rate = RATE) {
  const nodes = await KINDS[kind].start(n);
  try {
    const at = ({ port }) => `127.0.0.1:${port}`;
    const pids = [...nodes.map(({ process: child }) => child.pid), redis.pid];
    const measured = JSON.parse(execFileSync('taskset', ['-c', '1', GENERATOR, 'nodes', '--addr', at(nodes[0]), '--watch-addr', watched(nodes).map(at).join(),
      '--pids', pids.join(), '--drivers', String(DRIVERS), '--watchers', String(SHAPE.watchers), '--rate', String(rate), '--seconds', String(SECONDS),
      ...(kind === 'ordercast' ? ['--jwt-secret', SECRET] : [])], { encoding: 'utf8' }));
    const cpus = measured.cpu_s;
    const [reports, deliveries] = [measured.reports_per_s * SECONDS, measured.deliveries_per_s * SECONDS];
    const used = cpus.slice(0, -1).reduce((sum, one) => sum + one, 0) * 1e6;
    return {
      us_per_report: used / reports, us_per_delivery: used / deliveries, redis_us_per_report: cpus.at(-1) * 1e6 / reports,
      p50: measured.delivery_ms.p50, p99: measured.delivery_ms.p99, rate: measured.reports_per_s, missed: SHAPE.watchers * reports - deliveries,
    };
  } finally {
    for (const { process: child } of nodes) await stop(child);
  }
}

const medians = (list) => Object.fromEntries(Object.keys(list[0]).map((name) => [name, median(list.map((one) => one[name]))]));
/** The same several times, those to compare in turn. */
async function rounds(...acts) {
  const results = acts.map(() => []);
  for (let i = 0; i < ROUNDS; i += 1) for (const [n, act] of acts.entries()) results[n].push(await act());
  return results.map(medians);
}

const [here, there, everywhere] = [([one]) => [one], ([, two]) => [two], (nodes) => nodes];

async function bought(kind, rate) {
  const [alone, apart] = await rounds(() => costs(kind, 1, here, rate), () => costs(kind, 2, there, rate));
  return { alone, apart, tax: apart.us_per_report - alone.us_per_report };
}

const MEASURES = {
  async tax() {
    for (const rate of RATES) {
      const { alone, apart, tax } = await bought('ordercast', rate);
      result('tax', {
        'reports/s': apart.rate, 'µs/report': tax, 'one node': alone.us_per_report, 'two nodes': apart.us_per_report,
        'Redis µs/report': apart.redis_us_per_report, 'local p50 ms': alone.p50, 'local p99 ms': alone.p99,
        'remote − local p50': apart.p50 - alone.p50, 'remote − local p99': apart.p99 - alone.p99, missed: apart.missed,
      });
    }
  },
  async spread() {
    const found = await rounds(...[1, 2, 3].map((n) => () => costs('ordercast', n, everywhere)));
    found.forEach((one, i) => result('spread', {
      nodes: i + 1, 'µs/delivery': one.us_per_delivery, 'Redis µs/report': one.redis_us_per_report, 'p50 ms': one.p50, 'p99 ms': one.p99, missed: one.missed,
    }));
  },
  async changes() {
    for (const count of [1, 2, 3]) {
      const nodes = await ordercast(count, redis);
      const points = [];
      for (const writers of count === 1 ? GROWING : [WRITERS]) {
        const found = await changing(nodes, writers);
        if (writers >= WAITING) points.push(found);
        result('changes', { nodes: count, writers, 'changes/s': found.rate, 'events/group': found.size, 'cycle ms': found.cycle });
      }
      if (points.length > 1) result('changes', fit(points));
      for (const { process: child } of nodes) await stop(child);
    }
  },
  async return() {
    const nodes = await ordercast(2, redis, { PING_INTERVAL_MS: '2000', PING_TIMEOUT_MS: '2000' });
    const proxy = await haproxy(nodes);
    const clients = await each(Array.from({ length: RETURNING }), async () => {
      const client = open(proxy, { user: as(people().customer, 'customer'), options: { reconnectionDelay: 50, reconnectionDelayMax: 500 } });
      await client.next('connected');
      return client;
    });
    const lost = clients.filter(({ socket }) => { socket.once('disconnect', () => { socket.lostAt = performance.now(); }); return true; });
    const killed = performance.now();
    await stop(nodes[0].process);
    await pause(100);
    const gone = lost.filter(({ socket }) => socket.lostAt);
    const back = await Promise.all(gone.map(async (client) => ({ ...await client.next('connected'), after: performance.now() - killed })));
    const times = back.map(({ after }) => after).sort((a, b) => a - b);
    result('return', {
      clients: RETURNING, lost: gone.length, recovered: back.filter(({ recovered }) => recovered).length,
      'p50 ms': quantile(times, 0.5), 'p99 ms': quantile(times, 0.99), 'last ms': times.at(-1),
    });
    closeAll();
    await stop(nodes[1].process);
    await stop(proxy.process);
  },
  async adapters() {
    for (const kind of ['classic', 'sharded', 'socketioxide']) {
      const { alone, apart, tax } = await bought(kind);
      result('adapters', {
        adapter: kind, 'tax µs/report': tax, 'one node': alone.us_per_report, 'two nodes µs/delivery': apart.us_per_delivery,
        'Redis µs/report': apart.redis_us_per_report, 'reports/s': apart.rate, missed: apart.missed,
      });
    }
  },
  async restart() {
    for (const kind of Object.keys(KINDS)) {
      if (kind === 'ordercast' && !clustered) continue;
      await relay(kind, 2, () => 0, () => 1, async (load) => {
        const seconds = Math.max(8, SECONDS);
        const running = load.run(SLOW, seconds);
        await pause(2_000);
        await redis.stop();
        await pause(OUTAGE_MS);
        await redis.start();
        const up = performance.now();
        const at = load.deliveries;
        let first = null;
        while (first === null && performance.now() - up < 6_000) {
          await pause(5);
          if (load.deliveries > at) first = performance.now() - up;
        }
        const { expected, deliveries } = await running;
        const missed = expected - deliveries;
        result('restart', {
          kind, missed, of: expected, 'away ms': OUTAGE_MS, 'first delivery after ms': first ?? 'never',
          'missed, in ms of traffic': missed / (SLOW * SHAPE.watchers) * 1000,
        });
      });
    }
  },
};

/** So many writers without a pause; groups are counted by the row that each of them locks. */
async function changing(nodes, writers) {
  const of = (column, table) => `(SELECT ${column} FROM pg_stat_user_tables WHERE relname = '${table}')`;
  const counted = () => query(nodes[0].database, `SELECT ${of('n_tup_upd', 'log_head')}, ${of('n_tup_ins', 'order_event')}`);
  const orders = await each(Array.from({ length: writers }), async (_, i) => (await nodes[i % nodes.length].assigned(people())).id);
  const spare = [people().driver, people().driver];
  let running = true;
  let done = 0;
  await pause(1_100); // PostgreSQL tells its counts once a second
  const [groups, events] = counted();
  const started = performance.now();
  const writing = orders.map(async (order, i) => {
    for (let n = 0; running; n += 1) {
      await nodes[i % nodes.length].ok('POST', `/orders/${order}/assign`, { driver: spare[n % 2] });
      done += 1;
    }
  });
  await pause(SECONDS * 500);
  running = false;
  await Promise.all(writing);
  const seconds = (performance.now() - started) / 1000;
  await pause(1_100);
  const [groupsAfter, eventsAfter] = counted();
  const count = groupsAfter - groups;
  return { rate: done / seconds, size: (eventsAfter - events) / count, cycle: seconds * 1000 / count };
}

/** Least squares: cycle = a + b × events of a group. */
function fit(points) {
  const mean = (of) => points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [x, y] = [mean(({ size }) => size), mean(({ cycle }) => cycle)];
  const b = points.reduce((sum, { size, cycle }) => sum + (size - x) * (cycle - y), 0) / points.reduce((sum, { size }) => sum + (size - x) ** 2, 0);
  return { 'a ms': y - b * x, 'b µs': b * 1000 };
}

let failed = 0;
for (const name of positionals.length > 0 ? positionals : Object.keys(MEASURES)) {
  if (!MEASURES[name]) {
    console.error(`no measure is called '${name}'`);
    failed += 1;
  } else if (!clustered && ['tax', 'spread'].includes(name)) {
    console.log(`${name.padEnd(10)}skipped: this binary knows no --redis-url`);
  } else {
    await MEASURES[name]().catch((error) => { failed += 1; console.log(`${name.padEnd(10)}failed: ${error.stack}`); });
  }
}
await end();
process.exit(failed ? 1 : 0);
