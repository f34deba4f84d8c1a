// One session, claimed on two nodes at once: it has one holder afterwards, and what the other one still writes does not count.
import { setTimeout as pause } from 'node:timers/promises';
import { as, people, SERVICE } from '../clients/support/server.mjs';
import { once } from './lib/checks.mjs';
import { Claim } from './lib/claim.mjs';

export const what = 'one session claimed on two nodes at once';

const SESSIONS = 10;
const STEPS = ['accepted', 'preparing', 'ready_for_pickup'];
const LATER = ['picked_up', 'in_transit', 'delivered'];
/** The former holder is told to go within this time. */
const SUPERSEDED_MS = 1_000;
const HEARD_MS = 3_000;

const change = (cluster, order, statuses) => statuses.reduce(
  (before, status) => before.then(() => cluster.ok('PATCH', `/orders/${order}/status`, { status })), Promise.resolve(),
);

/** A customer loses the connection, an order goes on, and two connections claim the session at the same moment. */
async function twice(cluster, one, other) {
  const who = people();
  const user = as(who.customer, 'customer');
  const former = new Claim(cluster.next(), user);
  await former.settled();
  const { id: order } = await cluster.ok('POST', '/orders', { customer: who.customer, chef: who.chef, delivery: who.delivery });
  await change(cluster, order, STEPS.slice(0, 1));
  await former.until(() => former.updates(order).length === 1, HEARD_MS);
  former.cut();
  await change(cluster, order, STEPS.slice(1));

  const session = { pid: former.pid, offset: former.offset };
  const claims = [new Claim(one, user, session), new Claim(other, user, session)];
  await Promise.all(claims.map((claim) => claim.settled()));
  const both = performance.now();
  await Promise.race(claims.map((claim) => claim.over(SUPERSEDED_MS)));
  const open = claims.filter(({ state }) => state === 'joined');
  const problems = open.length === 1 ? [] : [`${open.length} of both hold the session after ${Math.round(performance.now() - both)} ms`];
  await change(cluster, order, LATER);
  await Promise.all(open.map((claim) => claim.until(() => claim.updates(order).at(-1)?.payload.status === 'delivered', HEARD_MS)));
  for (const claim of open) {
    const seqs = [former, claim].flatMap((its) => its.updates(order).map(({ payload }) => payload.seq));
    problems.push(...once(seqs, [2, 3, 4, 5, 6, 7]).map((text) => `on ${claim.node.name}: ${text}`));
  }
  for (const claim of claims) {
    const late = claim.updates(order).filter(({ at }) => at > both + SUPERSEDED_MS);
    if (!open.includes(claim) && late.length > 0) problems.push(`${claim.node.name} went on telling: ${late.length}`);
    claim.cut();
  }
  return problems;
}

/**
 * A holder is stopped with a subscription before it that it has not read; meanwhile the session is taken over. When it goes on, what it
 * writes must not count: who resumes the session next follows what the last holder followed.
 */
async function queued(cluster, [first, second, third]) {
  const [followed, unheard] = await Promise.all([people(), people()].map((who) => cluster.ok('POST', '/orders', who)));
  const holder = new Claim(first, SERVICE);
  await holder.settled();
  if (!(await holder.ask('subscribe:order', { orderId: followed.id }))?.ok) return ['the subscription was refused'];
  await change(cluster, followed.id, ['accepted']);
  await holder.until(() => holder.updates(followed.id).some(({ payload }) => payload.status === 'accepted'), HEARD_MS);
  first.freeze();
  await first.frozen();
  const answer = holder.ask('subscribe:order', { orderId: unheard.id });
  const session = { pid: holder.pid, offset: holder.offset };
  const next = new Claim(second, SERVICE, session);
  await next.settled();
  first.thaw();
  const problems = (await answer)?.ok ? ['a holder that was superseded could still subscribe'] : [];
  if (!await holder.over(SUPERSEDED_MS)) problems.push('the former holder is still there');
  next.cut();
  holder.cut();
  await pause(100);
  const last = new Claim(third, SERVICE, { pid: next.pid, offset: next.offset });
  await last.settled();
  await Promise.all([change(cluster, unheard.id, ['accepted']), change(cluster, followed.id, ['preparing'])]);
  const resumed = await last.until(() => last.updates(followed.id).some(({ payload }) => payload.status === 'preparing'), HEARD_MS);
  if (!resumed) problems.push('the session does not follow its order any more');
  if (last.updates(unheard.id).length > 0) problems.push('the session follows what a superseded holder asked for');
  last.cut();
  return problems;
}

export async function run(t) {
  const cluster = await t.start();
  for (let round = 0; round < (t.long ? 10 : 1); round += 1) {
    const [a, b, c] = t.random.shuffled(cluster.nodes);
    const found = await Promise.all(Array.from({ length: SESSIONS }, (_, i) => twice(cluster, ...(i % 2 ? [a, b] : [b, c]))));
    t.check(`${SESSIONS} sessions are held once each, and miss nothing`, found.flat());
    t.check('what a superseded holder writes does not count', await queued(cluster, [c, a, b]));
    await cluster.sends();
  }
}
