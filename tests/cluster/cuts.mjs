// The network between the machines is cut, without a word to either side.
import { setTimeout as pause } from 'node:timers/promises';
import { everyone } from './lib/crowd.mjs';
import { storm } from './lib/storm.mjs';

export const what = 'cuts between node and database, Redis, node and proxy, one-way too';

/** The other nodes go on within this time, also when the one that is cut off was in the middle of something. */
const OTHERS_MS = 8_000;
const HOLD_MS = 500;
const HOLD_LONG_MS = 20_000;

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
  t.enough({ cuts: [done, faults.length], recovered: [world.counts.recovered + world.counts.fresh, 0] });
}
