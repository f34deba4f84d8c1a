// The network between the machines is cut, without a word to either side.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { eventually, people } from '../clients/support/server.mjs';
import { everyone } from './lib/crowd.mjs';
import { storm } from './lib/storm.mjs';

export const what = 'cuts between node and database, Redis, node and proxy, one-way too';

/** The other nodes go on within this time, also when the one that is cut off was in the middle of something. */
const OTHERS_MS = 8_000;
/** A transaction of a node that is away has ended by then. */
const ENDED_MS = 5_000;
const HOLD_MS = 250;
const HOLD_LONG_MS = 20_000;

/** A session of psql that has the head of the log, until it is told to give it back. */
async function holdHead({ database }) {
  const psql = spawn('psql', ['-qAt', database], { stdio: ['pipe', 'pipe', 'inherit'] });
  psql.stdin.write('BEGIN; SELECT position FROM log_head FOR UPDATE;\n');
  await once(psql.stdout, 'data');
  return { release: async () => { psql.stdin.end('COMMIT;\n'); await once(psql, 'exit'); } };
}

/** A node goes away between two statements of a transaction that has the head of the log: no other node can write until PostgreSQL ends it. */
async function midTransaction({ cluster }, node, others, goes, comes) {
  const head = await holdHead(cluster);
  const waiting = node.call('POST', '/orders', people()).catch(() => null);
  const waits = `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND client_addr = '${node.host}' AND query LIKE '%log_head%'`;
  // by a session of its own: within a transaction the view does not change
  await eventually(async () => execFileSync('psql', ['-qAt', cluster.database, '-c', waits], { encoding: 'utf8' }).trim() !== '0', `${node.name} to wait for the log`);
  await goes(node);
  await head.release();
  const started = performance.now();
  const written = await Promise.race([Promise.all(others.map((other) => other.create(people()))), pause(ENDED_MS, null)]).catch(() => null);
  const ms = performance.now() - started;
  await comes(node);
  await waiting;
  return written ? { ms } : { ms, problem: `nobody could write for ${Math.round(ms)} ms` };
}

export async function run(t) {
  const cluster = await t.start();
  const { random } = t;
  const [a, b, c] = random.shuffled(cluster.nodes).map(({ name }) => name);
  const cut = (...pairs) => () => Promise.all(pairs.map((pair) => t.net.cut(...pair)));
  const deafen = (from, to) => () => t.net.deafen(from, to);
  const faults = [
    [`${a} and PostgreSQL`, cut([a, 'postgres']), true],
    [`what ${b} says to PostgreSQL`, deafen(b, 'postgres'), true],
    [`what PostgreSQL says to ${c}`, deafen('postgres', c), true],
    [`${b} and one Redis`, cut([b, 'redis1'])],
    [`${c} and both Redis`, cut([c, 'redis1'], [c, 'redis2'])],
    [`what Redis says to ${a}`, deafen('redis1', a)],
    [`${b}, PostgreSQL and both Redis`, cut([b, 'postgres'], [b, 'redis1'], [b, 'redis2']), true],
    [`${a} and ${b}`, cut([a, b])],
    [`${c} and the proxy`, cut([c, 'proxy'])],
  ];
  let done = 0;
  const { world } = await storm(t, everyone(), {}, async (storming) => {
    const { counts } = storming;
    for (let round = 0; round < (t.long ? 4 : 1); round += 1) {
      for (const [between, act, database] of random.shuffled(faults)) {
        const hold = async () => {
          const started = Date.now();
          await act();
          await storming.goesOn(`a cut: ${between}`, OTHERS_MS);
          t.say(`${between}: the others go on after ${Date.now() - started} ms`);
          await pause(t.long ? random.between(HOLD_MS, HOLD_LONG_MS) : HOLD_MS);
          await t.net.heal();
        };
        if (database) await storming.trouble(hold);
        else await hold();
        counts.cuts += 1;
        done += 1;
        await cluster.sends();
        await storming.goesOn(`the end of a cut: ${between}`);
      }
    }
  });
  const nodes = random.shuffled(cluster.nodes);
  for (const [i, [name, goes, comes]] of [
    ['is cut off', (node) => t.net.cut(node.name, 'postgres'), () => t.net.heal()], ['is stopped', (node) => node.freeze(), (node) => node.thaw()],
  ].entries()) {
    const { ms, problem } = await midTransaction(t, nodes[i], nodes.toSpliced(i, 1), goes, comes);
    t.check(`a node ${name} in the middle of a transaction: the others write ${Math.round(ms)} ms later`, problem ? [problem] : []);
    await cluster.sends();
  }
  t.enough({ cuts: [done, faults.length], recovered: [world.counts.recovered + world.counts.fresh, 0] });
}
