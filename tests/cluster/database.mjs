// PostgreSQL restarts, politely and not, and stands still.
import { setTimeout as pause } from 'node:timers/promises';
import { pgCtl } from '../chaos/machines.mjs';
import { everyone } from './lib/crowd.mjs';
import { postgres } from './lib/services.mjs';
import { storm } from './lib/storm.mjs';

export const what = 'PostgreSQL restarts, and is stopped';

const FROZEN_MS = 3_000;

export async function run(t) {
  await t.start();
  const rounds = t.long ? 10 : 1;
  const { world } = await storm(t, everyone(), {}, async (storming) => {
    const { counts } = storming;
    for (let round = 0; round < rounds; round += 1) {
      for (const mode of t.random.shuffled(['fast', 'immediate'])) {
        await storming.goesOn('the last trouble');
        await storming.trouble(() => pgCtl('-m', mode, 'restart'));
        counts[`postgres ${mode}`] += 1;
      }
      await storming.goesOn('PostgreSQL was back');
      await storming.trouble(async () => {
        await postgres.stop();
        await pause(FROZEN_MS);
        await postgres.go();
      });
      counts.stalls += 1;
      await storming.goesOn('PostgreSQL went on');
    }
  });
  t.enough({ 'restarts of PostgreSQL': [world.counts['postgres fast'] + world.counts['postgres immediate'], 2 * rounds] });
}
