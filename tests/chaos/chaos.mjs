// The chaos test; `tests/chaos/run --help` says what it is and starts it.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { postgresDatabase, Server } from '../clients/support/server.mjs';
import { CAST, CLIENTS } from './cast.mjs';
import { explain } from './checker.mjs';
import { checkApp } from './doors-checker.mjs';
import { Orders, Track } from './followers.mjs';
import { checkLog, readLog } from './log.mjs';
import { Disk, Machines } from './machines.mjs';
import { Network } from './network.mjs';
import { Page } from './page.mjs';
import { Proxy } from './proxy.mjs';
import { Random } from './random.mjs';
import { Tracker } from './tracker.mjs';
import { Results, settle } from './verdict.mjs';
import { Watcher } from './watcher.mjs';
import { World } from './world.mjs';
import { Writer } from './writer.mjs';

const ALL_FAULTS = ['cut', 'stall', 'kill', 'terminate', 'disk', 'postgres', 'none'];
const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '15' },
    long: { type: 'boolean', default: false },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
    database: { type: 'string', default: 'sqlite' },
    faults: { type: 'string', default: ALL_FAULTS.join(',') },
  },
});

const APPS = { '/realtime': Watcher, '/': Page, '/orders/track': Track, '/ws': Orders, '/ws/tracking': Tracker };
const WRITERS = 6;
/** The long run goes on until it has both, within the time. */
const LONG = { kills: 200, cuts: 10_000, ms: 45 * 60_000 };
const FAULTS_PER_SECOND = 30;
const PROGRESS_MS = 5_000;
const SETTLE_MS = 30_000;

function usage(what) {
  console.error(`${what}; see tests/chaos/run --help`);
  process.exit(2);
}
if (!Number.isFinite(Number(flags.seed)) || !(Number(flags.seconds) > 0)) usage('--seed and --seconds take a number');
if (!['sqlite', 'postgres'].includes(flags.database)) usage('--database takes sqlite or postgres');
const random = new Random(Number(flags.seed));
const postgres = flags.database === 'postgres';
const kinds = new Set(flags.faults.split(','));
for (const kind of kinds) if (!ALL_FAULTS.includes(kind)) usage(`--faults knows no '${kind}'`);
const world = new World({ cast: CAST, postgres });
const { counts, faults } = world;

/** Below the ports that outgoing connections get, or a proxy might take the server's while it is down. */
async function freePort() {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 15_000);
    const probe = net.createServer().listen(port, '127.0.0.1');
    const free = await Promise.race([once(probe, 'listening').then(() => true), once(probe, 'error').then(() => false)]);
    if (free) {
      probe.close();
      return port;
    }
  }
}

/** Like Server.start, on the small disk and on a port that stays ours. */
async function startServer() {
  const server = new Server();
  server.dir = mkdtempSync(path.join(process.env.CHAOS_MOUNT, 'server-'));
  server.args = [];
  server.env = {
    // so short that half-dead connections are noticed within the test
    PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '1500', WRITE_STALL_MS: '2000', DRAIN_MS: '300',
    // an app that comes back asks for all it wants at once, and comes back often here
    LOCATION_RATE_PER_SECOND: '0', SOCKET_REQUESTS_PER_SECOND: '0',
    RUST_LOG: process.env.RUST_LOG ?? 'info',
  };
  server.database = postgres ? postgresDatabase() : `sqlite://${server.dir}/t.db?mode=rwc`;
  server.port = await freePort();
  await server.run();
  return server;
}

const output = [];
/** What the servers have said moves out of the way of the next. */
function keepOutput() {
  if (!world.server) return;
  output.push(world.server.output);
  world.server.output = '';
}

function tell(started) {
  const seconds = Math.round((Date.now() - started) / 1000);
  const shown = { ...counts, acknowledged: world.acknowledged.length, orders: world.orders.size };
  console.log(`${String(seconds).padStart(5)} s  ${Object.entries(shown).filter(([, n]) => n > 0).map(([name, n]) => `${name} ${n}`).join(', ')}`);
}

async function storm(machines, network) {
  const started = Date.now();
  const ms = flags.long ? LONG.ms : Number(flags.seconds) * 1000;
  const enough = () => flags.long && counts.kills >= LONG.kills && counts.cuts >= LONG.cuts;
  const over = () => Date.now() - started > ms || enough() || faults.length > 0;
  const deck = Object.entries({
    kill: ['kill', 'kill', 'kill', 'kill'], terminate: ['terminate'], disk: ['diskFull'], postgres: postgres ? ['restartPostgres'] : [],
  }).flatMap(([kind, cards]) => (kinds.has(kind) ? cards : []));
  if (postgres && machines.disk.kind === 'limit') deck.splice(deck.indexOf('diskFull'), 1);
  const progress = setInterval(() => { tell(started); keepOutput(); }, PROGRESS_MS);
  const writers = Array.from({ length: WRITERS }, (_, i) => new Writer(world, random.fork(`writer ${i}`), `w${i}`));
  const writing = writers.map((writer) => writer.run().catch((error) => world.fault(`${writer.name}: ${error.message}`)));
  try {
    await Promise.all([
      deck.length > 0 ? machines.run(deck, [300, 1500], over) : pause(ms),
      network.run(FAULTS_PER_SECOND, kinds, over),
    ]);
  } finally {
    world.closing = true;
    for (const { proxy } of world.watchers) proxy.settle();
    await Promise.all(writing);
    clearInterval(progress);
    tell(started);
  }
  return deck;
}

const results = new Results();

function judge(log, deck) {
  results.add(`${world.acknowledged.length} acknowledged changes are in the log, and it has no gap`, checkLog(log, world.acknowledged), explain);
  results.add('the server ended when and as it was told, and refused nothing without need', faults);
  for (const app of world.watchers) {
    const received = app.record.filter((item) => item.at === 'event').length;
    results.add(`${app.name}: ${received} events`, checkApp(app, log), (problem) => explain(problem, app, log));
  }
  if (faults.length > 0) return; // it was cut short
  // a storm that did not blow proves nothing
  const least = flags.long ? LONG : { kills: 1, cuts: Number(flags.seconds) };
  const wanted = {
    acknowledged: [world.acknowledged.length, 5 * WRITERS],
    recovered: [counts.recovered, kinds.has('cut') ? 10 : 0],
    'returned to the raw doors': [counts.returned, kinds.has('cut') ? 10 : 0],
    'tracking sessions': [world.sessions.size, 1],
    cuts: [counts.cuts, kinds.has('cut') ? least.cuts : 0],
    kills: [counts.kills, kinds.has('kill') ? least.kills : 0],
    terminations: [counts.terminations, deck.includes('terminate') ? 1 : 0],
    diskFull: [counts.diskFull, deck.includes('diskFull') ? 1 : 0],
    'PostgreSQL restarts': [counts['postgres fast'] + counts['postgres immediate'], deck.includes('restartPostgres') ? 1 : 0],
    'live events': [counts.live, 1],
  };
  results.add('there was enough of everything', Object.entries(wanted).filter(([, [n, min]]) => n < min).map(([what, [n, min]]) => `${what}: ${n}, not ${min}`));
}

function keepEvidence() {
  const dir = path.join(tmpdir(), `ordercast-chaos-${flags.seed}`);
  mkdirSync(dir, { recursive: true });
  keepOutput();
  writeFileSync(path.join(dir, 'server.log'), output.join(''));
  for (const [i, { name, record }] of world.watchers.entries()) {
    writeFileSync(path.join(dir, `${i}.jsonl`), [JSON.stringify({ name }), ...record.map((item) => JSON.stringify(item))].join('\n'));
  }
  console.log(`# the server's log and each client's record are in ${dir}`);
}

console.log(`# seed ${flags.seed}, ${flags.database}, ${CLIENTS.length} clients, ${WRITERS} writers, disk: ${process.env.CHAOS_DISK}`);
world.server = await startServer();
const machines = new Machines(world, random.fork('machines'), new Disk({
  kind: process.env.CHAOS_DISK, mount: process.env.CHAOS_MOUNT, size: process.env.CHAOS_SIZE,
}));
world.up = () => machines.up();
machines.watch();
for (const who of CLIENTS) {
  const app = new APPS[who.door](who, counts, random.fork(who.name));
  app.proxy = await Proxy.open(world.server.port, random.fork(`proxy of ${who.name}`));
  world.watchers.push(app);
}
await Promise.all(world.watchers.map((app) => app.connect(app.proxy.base)));

let log = new Map();
try {
  const deck = await storm(machines, new Network(world.watchers.map(({ proxy }) => proxy), random.fork('network'), counts));
  log = await readLog(world.server, world.orders);
  await settle(world.watchers, log, SETTLE_MS);
  judge(log, deck);
} catch (error) {
  results.add('the test came to its end', [error.stack]);
}
if (results.failed > 0) keepEvidence();
machines.expectEnd();
await world.server.close();
if (results.failed > 0) console.log(`# again: tests/chaos/run --seed ${flags.seed} --database ${flags.database}${flags.long ? ' --long' : ` --seconds ${flags.seconds}`}`);
results.end();
process.exit(results.failed > 0 ? 1 : 0);
