// The test of several nodes; `tests/cluster/run --help` says what it is and starts it.
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { closeAll } from '../clients/support/client.mjs';
import { hangUpAll } from '../clients/support/doors.mjs';
import { Random } from '../chaos/random.mjs';
import { Results } from '../chaos/verdict.mjs';
import { clustered, NEEDS_CLUSTER, unguardable } from './lib/binary.mjs';
import { Cluster } from './lib/cluster.mjs';
import { GUARDS } from './lib/guards.mjs';
import { Net } from './lib/net.mjs';
import { HaProxy, postgres, Redis } from './lib/services.mjs';

const SCENARIOS = [
  'doors', 'announcements', 'polling', 'deaths', 'redis', 'database', 'cuts', 'rights', 'gained', 'migrations', 'clocks', 'takeover', 'hopping',
];
const SCENARIO_MS = { short: 60_000, long: 30 * 60_000 };

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    long: { type: 'boolean', default: false },
    guards: { type: 'boolean', default: false },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
  },
});
const { long } = flags;
const unknown = positionals.find((name) => !SCENARIOS.includes(name));
if (unknown || !Number.isFinite(Number(flags.seed))) {
  console.error(unknown ? `no scenario is called '${unknown}'; they are ${SCENARIOS.join(', ')}` : '--seed takes a number');
  process.exit(2);
}

const results = new Results();
const net = new Net();
const redis = [new Redis('redis1'), new Redis('redis2')];
const proxy = new HaProxy();
const machines = ['node1', 'node2', 'node3'];

/** What a scenario has: its chance, its cluster, and where to say what it has found. */
class Test {
  failed = false;
  #kept = [];
  #clusters = [];

  constructor(name, env = {}) { Object.assign(this, { name, env, long, seed: flags.seed, random: new Random(Number(flags.seed)).fork(name), net, redis }); }

  say(text) { console.log(`#   ${text}`); }
  check(what, problems, tell) { if (!results.add(`${this.name}: ${what}`, problems, tell)) this.failed = true; }
  /** A storm that did not blow proves nothing. `wanted`: {what: [how much there was, how much there must be]}. */
  enough(wanted) {
    const poor = Object.entries(wanted).filter(([, [n, least]]) => !(n >= least)).map(([what, [n, least]]) => `${what}: ${n}, not ${least}`);
    this.check(`there was enough: ${Object.entries(wanted).map(([what, [n]]) => `${what} ${n}`).join(', ')}`, poor);
  }
  /** Whose records are evidence. */
  keep(apps) { this.#kept.push(...apps); }

  /** Nodes on a new database. One after the other: they have the same addresses. */
  async start({ nodes, ...options } = {}) {
    await Promise.all(redis.map((one) => one.revive()));
    this.cluster = new Cluster({ ...options, env: { ...options.env, ...this.env }, proxy, redis, net, name: `${this.name}${this.#clusters.length}` });
    this.#clusters.push(this.cluster);
    await this.cluster.start(nodes?.(this.cluster));
    return this.cluster;
  }

  async end() {
    for (const app of this.#kept) app.leave();
    closeAll();
    hangUpAll();
    await postgres.go();
    for (const cluster of this.#clusters) await cluster.close();
    this.check('the nodes ended when and as they were told', this.#clusters.flatMap(({ faults }) => faults));
    if (this.failed) this.#evidence(this.#clusters.flatMap(({ nodes }) => nodes));
    await Promise.all(redis.map((one) => one.revive()));
  }

  #evidence(nodes) {
    const dir = path.join(tmpdir(), `ordercast-cluster-${this.seed}`, this.name);
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir, { recursive: true });
    for (const { name, log } of nodes) appendFileSync(path.join(dir, `${name}.log`), log);
    for (const [i, { name, record }] of this.#kept.entries()) {
      writeFileSync(path.join(dir, `${i}.jsonl`), [JSON.stringify({ name }), ...record.map((item) => JSON.stringify(item))].join('\n'));
    }
    console.log(`#   the nodes' logs and each client's record are in ${dir}`);
    console.log(`#   again: tests/cluster/run --seed ${this.seed}${long ? ' --long' : ''} ${this.name}`);
  }
}

async function run(name, env) {
  const scenario = await import(`./${name}.mjs`);
  const test = new Test(name, env);
  const started = Date.now();
  console.log(`# ${name}: ${scenario.what}; seed ${flags.seed}`);
  const ms = long ? SCENARIO_MS.long : SCENARIO_MS.short;
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`it was not over after ${ms} ms`)), ms); });
  try {
    await Promise.race([scenario.run(test), late]);
  } catch (error) {
    test.check('it came to its end', [error.stack]);
  }
  clearTimeout(timer);
  await test.end();
  test.say(`${((Date.now() - started) / 1000).toFixed(1)} s`);
  return test.failed;
}

/** With a guard switched off its check must fail, or it guards nothing, or is not looked at. */
async function withoutGuards() {
  for (const [guard, scenario, what] of GUARDS) {
    console.log(`# without the ${guard}: ${what}`);
    const { passed, failed } = results;
    const found = await run(scenario, { ORDERCAST_TEST_DISABLE: guard });
    Object.assign(results, { passed, failed }); // what it says there is about a server that is broken on purpose
    results.add(`without the ${guard}, ${scenario} fails`, found ? [] : ['it passes']);
  }
}

await Promise.all(redis.map((one) => one.start()));
await proxy.start(machines);
if (flags.guards && !unguardable) {
  console.log('# skipped: the guards of this binary cannot be switched off; a debug build has ORDERCAST_TEST_DISABLE');
} else if (flags.guards) await withoutGuards();
else {
  const needs = new Map(NEEDS_CLUSTER);
  for (const name of positionals.length > 0 ? positionals : SCENARIOS) {
    if (clustered || !needs.has(name) || process.env.CLUSTER_ANYWAY) await run(name);
    else console.log(`# skipped ${name}: this binary knows no --redis-url; ${needs.get(name)}`);
  }
}
results.end();
process.exit(results.failed > 0 ? 1 : 0);
