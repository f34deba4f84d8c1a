// Clients behind the proxy, writers on all nodes, and something that happens to the nodes meanwhile; then the verdict of the chaos test.
import { isDeepStrictEqual } from 'node:util';
import { setTimeout as pause } from 'node:timers/promises';
import { explain } from '../../chaos/checker.mjs';
import { checkApp } from '../../chaos/doors-checker.mjs';
import { Orders, Track } from '../../chaos/followers.mjs';
import { checkLog, readLog } from '../../chaos/log.mjs';
import { Page } from '../../chaos/page.mjs';
import { Tracker } from '../../chaos/tracker.mjs';
import { settle } from '../../chaos/verdict.mjs';
import { Watcher } from '../../chaos/watcher.mjs';
import { World } from '../../chaos/world.mjs';
import { Writer } from '../../chaos/writer.mjs';

const APPS = { '/realtime': Watcher, '/': Page, '/orders/track': Track, '/ws': Orders, '/ws/tracking': Tracker };
const CONNECT_MS = 15_000;
const SETTLE_MS = 20_000;
const SAME_MS = 10_000;
const AGAIN_MS = 100;
const WRITERS = 8;

/** Every node has the same log in the end. Returns it, or what they disagree about. */
async function logs(cluster, orders) {
  for (const deadline = Date.now() + SAME_MS; ;) {
    const [first, ...others] = await Promise.all(cluster.nodes.map((node) => readLog(node, orders)));
    if (others.every((other) => isDeepStrictEqual(other, first))) return { log: first, problems: [] };
    if (Date.now() > deadline) return { log: first, problems: ['their logs are not the same'] };
    await pause(AGAIN_MS);
  }
}

/**
 * `who`: {cast, clients}; `act(world)` is what happens, and when it is over, the writers come to their end. `skewMs`: how wrong the
 * nodes' clocks may be.
 */
export async function storm(t, who, { writers = WRITERS, think, skewMs = 0 }, act) {
  const { cluster, random } = t;
  const world = new World({ cast: who.cast, server: cluster });
  world.watchers = who.clients.map((client) => Object.assign(new APPS[client.door](client, world.counts, random.fork(client.name)), { skewMs }));
  t.keep(world.watchers);
  const outside = new Set(world.watchers);
  await Promise.race([
    Promise.all(world.watchers.map((app) => app.connect(cluster.base).then(() => outside.delete(app)))),
    pause(CONNECT_MS, undefined, { ref: false }),
  ]);
  if (outside.size > 0) throw new Error(`not connected in ${CONNECT_MS} ms: ${[...outside].map(({ name }) => name).join('; ')}`);
  const writing = Array.from({ length: writers }, (_, i) => new Writer(world, random.fork(`writer ${i}`), `w${i}`, think))
    .map((writer) => writer.run().catch((error) => world.fault(`${writer.name}: ${error.message}`)));
  try {
    await act(world);
  } finally {
    world.closing = true;
    await Promise.all(writing);
  }
  const { log, problems } = await logs(cluster, world.orders);
  await settle(world.watchers, log, SETTLE_MS);
  const { counts, acknowledged, watchers } = world;
  const shown = Object.entries(counts).filter(([, n]) => n > 0).map(([name, n]) => `${name} ${n}`);
  t.say(`acknowledged ${acknowledged.length}, orders ${world.orders.size}, ${shown.join(', ')}`);
  t.check(
    `${acknowledged.length} acknowledged changes are in the log, it has no gap, and all nodes have the same`,
    [...problems, ...checkLog(log, acknowledged)], (problem) => (typeof problem === 'string' ? problem : explain(problem)),
  );
  t.check('nothing was refused without need', world.faults);
  const wrong = watchers.flatMap((app) => checkApp(app, log).map((problem) => ({ app, problem })));
  t.check(
    `${watchers.length} clients have heard what was theirs, in order, once: ${counts.events} events`,
    wrong, ({ app, problem }) => explain(problem, app, log),
  );
  t.enough({ changes: [acknowledged.length, writers], events: [counts.events, watchers.length] });
  return { world, log };
}

