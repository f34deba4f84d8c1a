// Clients of all kinds behind nginx, which gives each request to another node and does not ask whether nodes are ready.
import { setTimeout as pause } from 'node:timers/promises';
import { everyone } from './lib/crowd.mjs';
import { Nginx } from './lib/services.mjs';
import { storm } from './lib/storm.mjs';

export const what = 'clients behind nginx in place of haproxy, every request to another node';

export async function run(t) {
  const nginx = new Nginx();
  await nginx.start();
  const cluster = await t.start();
  cluster.base = nginx.base;
  const { cast, clients } = everyone();
  const { world } = await storm(t, { cast, clients }, {}, async (storming) => {
    await pause(1_500);
    const node = t.random.pick(cluster.nodes);
    await node.kill9();
    storming.counts.kills += 1;
    await pause(500);
    await node.run();
    await cluster.sends();
    await storming.goesOn('the start');
  });
  const forwarded = (await Promise.all(cluster.nodes.map((node) => node.metric('forwarded_total')))).reduce((sum, n) => sum + n, 0);
  t.enough({ clients: [clients.length, 20], recovered: [world.counts.recovered, 1], 'requests passed on': [forwarded, 10] });
}
