// One node's clock is five seconds ahead, one's behind. Their monotonic clocks are right, as those of machines are.
import { execFileSync } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { connect } from '../clients/support/client.mjs';
import { as, jwt, people } from '../clients/support/server.mjs';
import { everyone } from './lib/crowd.mjs';
import { numberOf, place, Ride } from './lib/live.mjs';
import { storm } from './lib/storm.mjs';

export const what = 'clocks that are five seconds ahead and behind';

const LIBRARY = execFileSync('find', ['/usr/lib', '-name', 'libfaketimeMT.so.1'], { encoding: 'utf8' }).trim();
const wrong = (by) => ({ LD_PRELOAD: LIBRARY, FAKETIME: by, FAKETIME_DONT_FAKE_MONOTONIC: '1' });
/** What cluster time may be off by. */
const SKEW_MS = 500;
/** A login so long after a revocation that it must be good: the exception for tokens on their way ends. */
const LATER_MS = 3_100;
const ROUNDS = 3;
const SHOWN_MS = 2_000;

/** The clock of a process with these settings, in seconds off. */
const off = (env) => Number(execFileSync('date', ['+%s'], { env: { ...process.env, ...env }, encoding: 'utf8' })) - Math.floor(Date.now() / 1000);

const issued = (person) => jwt({ ...as(person, 'customer'), iat: Math.floor(Date.now() / 1000) });

/** Ends a person's sessions by a node whose clock is wrong: the old token is refused everywhere, one of after that is good. */
async function revocation({ nodes }, by) {
  const { customer } = people();
  const ask = (node, token) => node.call('GET', '/orders', undefined, null, { authorization: `Bearer ${token}` });
  const statuses = async (token) => (await Promise.all(nodes.map((node) => ask(node, token)))).map(({ status }) => status).join();
  const old = issued(customer);
  if (await statuses(old) !== '200,200,200') return ['the first token was not taken'];
  await by.ok('DELETE', `/users/${customer.id}/sessions`);
  await pause(LATER_MS);
  const [before, after] = [await statuses(old), await statuses(issued(customer))];
  return [
    ...(before === '401,401,401' ? [] : [`revoked by ${by.name}: the old token is answered ${before}`]),
    ...(after === '200,200,200' ? [] : [`revoked by ${by.name}: a later token is answered ${after}`]),
  ];
}

/** A driver reports to one node after the other, with the phone's time, which is right: all is shown, in order. */
async function hopping(cluster) {
  const { nodes } = cluster;
  const ride = await Ride.open(cluster, null, nodes);
  const [answers, unseen] = [[], []];
  for (const node of Array.from({ length: ROUNDS }, () => nodes).flat()) {
    const client = await connect(node, { user: ride.driver });
    ride.sent += 1;
    answers.push(await client.request('driver:location', { ...place(ride.sent), accuracy: 5, recordedAt: new Date().toISOString() }));
    const shown = (watcher) => watcher.client.next('driver:location_update', (dot) => numberOf(dot) === ride.sent, SHOWN_MS)
      .catch(() => unseen.push(`report ${ride.sent} on ${node.name} was not shown on ${watcher.node}`));
    await Promise.all(ride.watchers.map(shown));
    client.close();
  }
  const refused = answers.filter(({ ok }) => !ok).map(({ error }) => JSON.stringify(error));
  const problems = [...refused, ...unseen, ...ride.problems()];
  ride.end();
  return problems;
}

export async function run(t) {
  const [ahead, behind] = [wrong('+5s'), wrong('-5s')];
  t.check('the clocks are wrong', [off(ahead), off(behind)].filter((seconds) => Math.abs(Math.abs(seconds) - 5) > 1).map((seconds) => `by ${seconds} s`));
  const cluster = await t.start({ envs: { node2: ahead, node3: behind } });
  const [, fast, slow] = cluster.nodes;
  await storm(t, everyone(), { skewMs: SKEW_MS }, async () => {
    const found = await Promise.all([revocation(cluster, fast), revocation(cluster, slow)]);
    t.check('a revocation counts from when it was made', found.flat());
  });
  t.check('what a phone reports to any node is shown', await hopping(cluster));
}
