// Clients at five doors through the proxy, while orders change on all nodes.
import { setTimeout as pause } from 'node:timers/promises';
import { everyone } from './lib/crowd.mjs';
import { storm } from './lib/storm.mjs';

export const what = 'clients at five doors, and nothing fails';

export async function run(t) {
  await t.start();
  await storm(t, everyone(), {}, () => pause(t.long ? 30_000 : 3_000));
}
