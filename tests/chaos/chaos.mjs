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
import { checkLog, expected, readLog } from './log.mjs';
import { Disk, Machines } from './machines.mjs';
import { Network } from './network.mjs';
import { Page } from './page.mjs';
import { Proxy } from './proxy.mjs';
import { Random } from './random.mjs';
import { Tracker } from './tracker.mjs';
import { Watcher } from './watcher.mjs';
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
/** After trouble with the database, its faults may still show for so long. */
const AFTERMATH_MS = 1_500;
/** After trouble with the database so many changes must be acknowledged within this time, before more happens. */
const RECOVERED_CHANGES = 10;
const RECOVERED_MS = 20_000;
const SHOWN = 3;

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
const counts = {
  kills: 0, terminations: 0, cuts: 0, midframe: 0, stalls: 0, diskFull: 0, 'postgres immediate': 0, 'postgres fast': 0,
  recovered: 0, fresh: 0, returned: 0, events: 0, live: 0, conflated: 0, refused: 0, retries: 0,
};
const faults = [];

const world = {
  cast: CAST,
  counts,
  postgres,
  orders: new Map(),
  /** Tracking sessions by order and driver: of each there is one. */
  sessions: new Map(),
  acknowledged: [],
  closing: false,
  watchers: [],
  fault(text) { faults.push(text); },
  /** Tells the apps of those people and of staff, which know of orders by other ways, of a new one. */
  created(order, people) {
    for (const app of this.watchers) if (['admin', 'service'].includes(app.role) || people.includes(app.user)) app.follow?.(order);
  },
  assigned(order, driver) {
    for (const app of this.watchers) app.assigned?.(this, order, driver);
  },
  troubles: 0,
  lastTrouble: 0,
  troubled() { return this.troubles > 0 || Date.now() - this.lastTrouble < AFTERMATH_MS; },
  /** Runs what is trouble to the database. */
  async trouble(act) {
    this.troubles += 1;
    try {
      await act();
    } finally {
      this.troubles -= 1;
      this.lastTrouble = Date.now();
    }
  },
  acknowledge(change) {
    this.acknowledged.push(change);
    this.noticedChange?.();
  },
  /** Resolves when some more changes were acknowledged; trouble that is over must not go on. */
  async goesOn(what) {
    const enough = this.acknowledged.length + RECOVERED_CHANGES;
    const deadline = Date.now() + RECOVERED_MS;
    while (this.acknowledged.length < enough && faults.length === 0) {
      if (Date.now() > deadline) return this.fault(`no change was acknowledged in ${RECOVERED_MS} ms after ${what}`);
      await new Promise((resolve) => { this.noticedChange = resolve; setTimeout(resolve, 1000).unref(); });
    }
  },
  nextRefusal() { return new Promise((resolve) => { this.noticed = resolve; }); },
  refused(status) {
    counts.refused += 1;
    this.noticed?.(status);
  },
};

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

/** Every client has heard the last of every order, or has been given the time to. */
async function settle(log) {
  const late = await Promise.all(world.watchers.map(async (app) => {
    const due = expected(log, app);
    const finals = new Map([...due.updates].map(([order, seqs]) => [order, seqs.at(-1)]));
    const missing = await app.settle({ finals, others: due.others, log }, SETTLE_MS);
    await app.flush();
    return missing.length > 0 ? `${app.name}: ${missing.length}, as ${missing.slice(0, 3).join('; ')}` : [];
  }));
  if (late.flat().length > 0) console.log(`# after ${SETTLE_MS} ms still awaited by\n#   ${late.flat().join('\n#   ')}`);
}

const results = { passed: 0, failed: 0 };
function result(what, problems, tellProblem = String) {
  const good = problems.length === 0;
  results[good ? 'passed' : 'failed'] += 1;
  console.log(`${good ? 'ok' : 'not ok'} ${results.passed + results.failed} - ${what}`);
  for (const [i, problem] of problems.slice(0, SHOWN).entries()) {
    const text = tellProblem(problem);
    // what came before and after helps with the first; the others tend to follow from it
    console.log((i === 0 ? text : text.split('\n')[0]).replace(/^/gm, '    '));
  }
  if (problems.length > SHOWN) console.log(`    … and ${problems.length - SHOWN} more`);
}

function judge(log, deck) {
  result(`${world.acknowledged.length} acknowledged changes are in the log, and it has no gap`, checkLog(log, world.acknowledged), explain);
  result('the server ended when and as it was told, and refused nothing without need', faults);
  for (const app of world.watchers) {
    const received = app.record.filter((item) => item.at === 'event').length;
    result(`${app.name}: ${received} events`, checkApp(app, log), (problem) => explain(problem, app, log));
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
  result('there was enough of everything', Object.entries(wanted).filter(([, [n, min]]) => n < min).map(([what, [n, min]]) => `${what}: ${n}, not ${min}`));
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
  await settle(log);
  judge(log, deck);
} catch (error) {
  result('the test came to its end', [error.stack]);
}
if (results.failed > 0) keepEvidence();
machines.expectEnd();
await world.server.close();
if (results.failed > 0) console.log(`# again: tests/chaos/run --seed ${flags.seed} --database ${flags.database}${flags.long ? ' --long' : ` --seconds ${flags.seconds}`}`);
console.log(`# pass ${results.passed}\n# fail ${results.failed}\n${results.passed} passed, ${results.failed} failed`);
process.exit(results.failed > 0 ? 1 : 0);
