// Clients that poll, or begin so: the proxy gives each of their requests to another node. One node dies, with the sessions it had.
import { setTimeout as pause } from 'node:timers/promises';
import { everyone } from './lib/crowd.mjs';
import { storm } from './lib/storm.mjs';

export const what = 'polling clients of versions 2, 3 and 4, and upgrades, every request to another node';

export async function run(t) {
  const cluster = await t.start();
  const { cast, clients } = everyone();
  const polling = clients.filter(({ transport }) => ['polling', 'upgrade'].includes(transport));
  await passedOn(t, cluster, { cast, clients: polling }, 15);
}

/** A storm in which a node dies and comes back, whose requests have to be passed on from node to node; of at least so many clients. */
export async function passedOn(t, cluster, who, least) {
  const { world } = await storm(t, who, {}, async (storming) => {
    for (let round = 0; round < (t.long ? 20 : 1); round += 1) {
      await pause(1_500);
      const node = t.random.pick(cluster.nodes);
      await node.kill9();
      storming.counts.kills += 1;
      await pause(500);
      await node.run();
      await cluster.sends();
    }
    await storming.goesOn('the last start');
  });
  const forwarded = (await Promise.all(cluster.nodes.map((node) => node.metric('forwarded_total')))).reduce((sum, n) => sum + n, 0);
  t.enough({ clients: [who.clients.length, least], recovered: [world.counts.recovered, 1], 'requests passed on': [forwarded, 10] });
}
