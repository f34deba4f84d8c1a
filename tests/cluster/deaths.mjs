// Nodes die, stop and are told to go, under writers and clients of all of them.
import { setTimeout as pause } from 'node:timers/promises';
import { crowd } from './lib/crowd.mjs';
import { storm } from './lib/storm.mjs';

export const what = 'kill -9, SIGSTOP and SIGTERM of nodes under writers';

const WRITERS = 64;
/** So many that all of them make some hundred changes a second, which two cores can do beside the clients. */
const THINK_MS = [200, 800];
const FROZEN_MS = 3_000;

export async function run(t) {
  const { random } = t;
  const cluster = await t.start();
  const { nodes } = cluster;
  const { kills, clients } = t.long ? { kills: 30, clients: 500 } : { kills: 3, clients: 100 };
  const rounds = t.long ? 3 : 1;
  const order = Array.from({ length: Math.ceil(kills / nodes.length) }, () => random.shuffled(nodes)).flat().slice(0, kills);

  const { world } = await storm(t, crowd(clients), { writers: WRITERS, think: THINK_MS }, async (storming) => {
    for (const node of order) {
      await storming.goesOn(`the start of ${node.name}`);
      await pause(random.between(0, 300));
      await node.kill9();
      storming.counts.kills += 1;
      await pause(random.between(0, 300));
      await node.run();
      await cluster.sends();
    }
    for (const node of Array.from({ length: rounds }, () => random.pick(nodes))) {
      await storming.trouble(async () => {
        node.freeze();
        await pause(FROZEN_MS);
        node.thaw();
      });
      storming.counts.stalls += 1;
      await storming.goesOn(`${node.name} went on`);
    }
    for (const node of Array.from({ length: rounds }, () => nodes).flat()) {
      await node.stop();
      storming.counts.terminations += 1;
      await node.run();
      await cluster.sends();
    }
  });
  const { counts } = world;
  t.enough({
    kills: [counts.kills, kills], terminations: [counts.terminations, nodes.length * rounds], recovered: [counts.recovered, clients / 2],
    'returned to the raw doors': [counts.returned, 5],
  });
}
