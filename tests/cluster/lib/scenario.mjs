// One scenario, in a process of its own: what it leaves behind when it is not over in time goes with it. `main.mjs` starts it.
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { closeAll } from '../../clients/support/client.mjs';
import { hangUpAll } from '../../clients/support/doors.mjs';
import { Random } from '../../chaos/random.mjs';
import { Results } from '../../chaos/verdict.mjs';
import { Cluster } from './cluster.mjs';
import { Net } from './net.mjs';
import { HaProxy, postgres, Redis } from './services.mjs';

const [name, seed, long] = process.argv.slice(2);
const { ORDERCAST_TEST_DISABLE } = process.env;
const results = new Results();

/** What a scenario has: its chance, its cluster, and where to say what it has found. */
class Test {
  name = name;
  seed = Number(seed);
  long = long === 'long';
  random = new Random(this.seed).fork(name);
  net = new Net();
  redis = [new Redis('redis1'), new Redis('redis2')];
  #proxy = new HaProxy();
  #kept = [];
  #clusters = [];

  say(text) { console.log(`#   ${text}`); }
  check(what, problems, tell) { results.add(`${name}: ${what}`, problems, tell); }
  /** A storm that did not blow proves nothing. `wanted`: {what: [how much there was, how much there must be]}. */
  enough(wanted) {
    const poor = Object.entries(wanted).filter(([, [n, least]]) => !(n >= least)).map(([what, [n, least]]) => `${what}: ${n}, not ${least}`);
    this.check(`there was enough: ${Object.entries(wanted).map(([what, [n]]) => `${what} ${n}`).join(', ')}`, poor);
  }
  /** Whose records are evidence. */
  keep(apps) { this.#kept.push(...apps); }

  async begin() { await Promise.all([...this.redis.map((one) => one.start()), this.#proxy.start(['node1', 'node2', 'node3'])]); }

  /** Nodes on a new database. One after the other: they have the same addresses. */
  async start({ nodes, ...options } = {}) {
    this.cluster = new Cluster({
      ...options, env: { ...options.env, ...(ORDERCAST_TEST_DISABLE && { ORDERCAST_TEST_DISABLE }) },
      proxy: this.#proxy, redis: this.redis, net: this.net, name: `${name}${this.#clusters.length}`,
    });
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
    if (results.failed > 0) this.#evidence(this.#clusters.flatMap(({ nodes }) => nodes));
  }

  #evidence(nodes) {
    const dir = path.join(tmpdir(), `ordercast-cluster-${this.seed}`, name);
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir, { recursive: true });
    for (const node of nodes) appendFileSync(path.join(dir, `${node.name}.log`), node.log);
    for (const [i, { name: who, record }] of this.#kept.entries()) {
      writeFileSync(path.join(dir, `${i}.jsonl`), [JSON.stringify({ name: who }), ...record.map((item) => JSON.stringify(item))].join('\n'));
    }
    this.say(`the nodes' logs and each client's record are in ${dir}`);
    this.say(`again: tests/cluster/run --seed ${this.seed}${this.long ? ' --long' : ''} ${name}`);
  }
}

const test = new Test();
const started = Date.now();
try {
  const scenario = await import(`../${name}.mjs`);
  console.log(`# ${name}: ${scenario.what}; seed ${seed}`);
  await test.begin();
  await scenario.run(test);
} catch (error) {
  test.check('it came to its end', [error.stack]);
}
await test.end();
test.say(`${((Date.now() - started) / 1000).toFixed(1)} s`);
process.exit(results.failed > 0 ? 1 : 0);
