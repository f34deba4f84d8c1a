// Nodes are replaced one by one, under writers and clients of all of them: by a newer version if ORDERCAST_OLD names an older one, which
// also starts again on what the newer one has migrated.
import { readFileSync } from 'node:fs';
import { crowd } from './lib/crowd.mjs';
import { storm } from './lib/storm.mjs';

export const what = 'nodes are replaced one by one, by a newer version if there is an older one';

const [WRITERS, CLIENTS, THINK_MS] = [16, 60, [100, 400]];
const { ORDERCAST_OLD: old } = process.env;
/** Versions that do not say this do not start on what a newer one has migrated. */
const returns = !old || readFileSync(old).includes('a newer version has removed what this one uses');

export async function run(t) {
  if (!old) t.say('ORDERCAST_OLD names no older server: all nodes have the same version');
  const cluster = await t.start({ nodes: (all) => all.nodes.map((node) => Object.assign(node, { bin: old })) });
  const { nodes } = cluster;
  const replace = async (storming, node, bin) => {
    await node.stop();
    storming.counts.terminations += 1;
    node.bin = bin;
    await node.run();
    await cluster.sends();
    await storming.goesOn(`${node.name} was replaced`);
  };
  const { world } = await storm(t, crowd(t.long ? 300 : CLIENTS), { writers: WRITERS, think: THINK_MS }, async (storming) => {
    await storming.goesOn('the start');
    await replace(storming, nodes[0]);
    if (returns) await replace(storming, nodes[0], old);
    for (const node of nodes) await replace(storming, node);
  });
  const { counts } = world;
  t.enough({ replaced: [counts.terminations, nodes.length + (returns ? 2 : 1)], recovered: [counts.recovered, (t.long ? 300 : CLIENTS) / 2] });
}
