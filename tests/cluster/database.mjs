// PostgreSQL restarts, politely and not, and stands still. Drivers are seen to move all the same, as long as nobody has lost a right
// that a node does not know of.
import { setTimeout as pause } from 'node:timers/promises';
import { pgCtl } from '../chaos/machines.mjs';
import { everyone } from './lib/crowd.mjs';
import { Ride } from './lib/live.mjs';
import { postgres } from './lib/services.mjs';
import { storm } from './lib/storm.mjs';

export const what = 'PostgreSQL restarts, and is stopped';

const FROZEN_MS = 3_000;
/** So long after PostgreSQL stands still a node has nothing left but what others tell it. */
const CUT_OFF_MS = 1_500;
const SEEN_MS = 1_000;

/** Nobody changes anything while PostgreSQL stands still: then live events go on between all nodes. */
async function quiet(t, cluster) {
  const [from, ...to] = cluster.nodes;
  const ride = (await Ride.open(cluster, from, to)).run();
  const before = await ride.arrives(FROZEN_MS);
  await postgres.stop();
  await pause(CUT_OFF_MS);
  const seen = await ride.arrives(SEEN_MS);
  await postgres.go();
  const problems = [[before, 'before'], [seen, 'while']].filter(([ms]) => ms === null)
    .map(([, when]) => `${when} PostgreSQL stood still, the driver was not seen on all nodes`);
  t.check('drivers are seen to move while it stands still', [...problems, ...ride.problems()]);
  ride.end();
}

export async function run(t) {
  const cluster = await t.start();
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
  await quiet(t, cluster);
  t.enough({ 'restarts of PostgreSQL': [world.counts['postgres fast'] + world.counts['postgres immediate'], 2 * rounds] });
}
