// Clients of all kinds behind nginx, which gives each request to another node and does not ask whether nodes are ready.
import { everyone } from './lib/crowd.mjs';
import { Nginx } from './lib/services.mjs';
import { passedOn } from './polling.mjs';

export const what = 'clients behind nginx in place of haproxy, every request to another node';

export async function run(t) {
  const nginx = new Nginx();
  await nginx.start();
  const cluster = await t.start();
  cluster.base = nginx.base;
  await passedOn(t, cluster, everyone(), 20);
}
