// Redis fails in every way: changes are told all the same, on every node, and live events come again.
import { setTimeout as pause } from 'node:timers/promises';
import { eventually } from '../clients/support/server.mjs';
import { everyone } from './lib/crowd.mjs';
import { Pulse, Ride } from './lib/live.mjs';
import { storm } from './lib/storm.mjs';
import { forge } from './lib/stranger.mjs';

export const what = 'Redis is killed, stopped, emptied and full, and strangers publish';

/** So many drivers that both Redis have some of their orders. */
const RIDES = 8;
const AWAY_MS = 1_000;
/** A change is told on every node within this time, without Redis: the log is polled. */
const TOLD_MS = 1_500;
/** Live events come again: a Redis that says nothing is noticed in 1.5 s, and looked for every 5 s at most. */
const BACK_MS = 7_000;
const NOTICED_MS = 3_000;

export async function run(t) {
  const cluster = await t.start();
  const { redis, random } = t;
  const { nodes, prefix } = cluster;
  const rides = [];
  const up = async () => (await Promise.all(nodes.map((node) => node.metric('bus_up')))).reduce((sum, n) => sum + n, 0);
  let forged = { frames: 0, channels: 0 };

  const faults = {
    'one is killed': [() => redis[0].kill(), () => redis[0].start()],
    'both are killed': [() => Promise.all(redis.map((one) => one.kill())), () => Promise.all(redis.map((one) => one.start()))],
    'one stands still': [async () => {
      const before = await up();
      redis[1].stop();
      await eventually(async () => await up() < before, 'the nodes to notice that it says nothing', NOTICED_MS);
    }, () => redis[1].go()],
    'another one takes its place, and it goes on listening': [
      () => Promise.all(redis.map((one) => one.replace())), null, () => redis.forEach((one) => one.buryOld()),
    ],
    'its subscriptions are killed': [() => Promise.all(redis.map((one) => one.ask('CLIENT', 'KILL', 'TYPE', 'pubsub')))],
    'it is emptied': [() => Promise.all(redis.map((one) => one.ask('FLUSHALL')))],
    'it is full': [
      () => Promise.all(redis.map((one) => one.ask('CONFIG', 'SET', 'maxmemory', '1'))),
      () => Promise.all(redis.map((one) => one.ask('CONFIG', 'SET', 'maxmemory', '0'))),
    ],
    'a stranger publishes': [async () => {
      for (const one of redis) {
        const { frames, channels } = await forge(one, prefix, random);
        forged = { frames: forged.frames + frames, channels: forged.channels + channels };
      }
    }],
  };
  const problems = [];
  const { world } = await storm(t, everyone(), {}, async (storming) => {
    const open = (i) => Ride.open(cluster, nodes[i % 3], [nodes[(i + 1) % 3], nodes[(i + 2) % 3]], storming);
    rides.push(...await Promise.all(Array.from({ length: RIDES }, (_, i) => open(i))));
    for (const ride of rides) ride.run();
    const pulse = await Pulse.open(nodes, storming);
    for (let round = 0; round < (t.long ? 10 : 1); round += 1) {
      for (const [fault, [breaks, mends, after]] of random.shuffled(Object.entries(faults))) {
        try {
          await breaks();
        } catch (error) {
          problems.push(`${fault}: ${error.message}`);
        }
        const told = await pulse.beat(random.pick(nodes), TOLD_MS);
        if (told === null) problems.push(`${fault}: a change was not told on all nodes in ${TOLD_MS} ms`);
        if (mends) await pause(t.long ? AWAY_MS : 0);
        await storming.goesOn(fault);
        await mends?.();
        const back = await Promise.all(rides.map((ride) => ride.arrives(BACK_MS)));
        const lost = back.filter((ms) => ms === null).length;
        if (lost > 0) problems.push(`${fault}: after ${BACK_MS} ms ${lost} of ${RIDES} drivers are still unseen on other nodes`);
        after?.();
        t.say(`${fault}: a change was told in ${told && Math.round(told)} ms; live again after ${lost ? 'never' : Math.round(Math.max(...back))} ms`);
      }
    }
  });
  t.check('changes are told without it, and live events come again', problems);
  t.check('no driver is seen where they were before, or never', rides.flatMap((ride) => ride.problems()));
  const refused = (await Promise.all(nodes.map((node) => node.metric('bus_forged_total')))).reduce((sum, n) => sum + n, 0);
  t.enough({
    dots: [rides.flatMap(({ watchers }) => watchers).reduce((sum, { dots }) => sum + dots.length, 0), 20 * RIDES],
    'forged frames': [forged.frames, 500], 'channels they were on': [forged.channels, RIDES], refused: [refused, RIDES], 'live events': [world.counts.live, 1],
  });
  for (const ride of rides) ride.end();
}
