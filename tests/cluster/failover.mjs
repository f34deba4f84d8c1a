// A standby of PostgreSQL that lags takes over: what it does not have is lost, but nobody goes on as if it were not.
import { connect } from '../clients/support/client.mjs';
import { ADMIN, eventually, people } from '../clients/support/server.mjs';
import { pgShell } from '../chaos/machines.mjs';

export const what = 'a standby of PostgreSQL that lags takes over';

const ORDERS = 6;
const [KEPT, LOST, AFTER] = [['accepted'], ['preparing', 'ready_for_pickup'], ['preparing', 'ready_for_pickup']];
const AGAIN_MS = 30_000;
const OPTIONS = { reconnectionDelay: 50, reconnectionDelayMax: 300 };

/** An admin who writes down at which place of the log it heard what. */
async function listener(node) {
  const client = await connect(node, { user: ADMIN, options: OPTIONS });
  const heard = [];
  client.socket.onAny((name, payload, ...rest) => {
    const place = rest.findLast((one) => /^\d+(\.\d+)?$/.test(one));
    if (place) heard.push({ place, text: `${name} ${payload.orderId ?? payload.id} ${payload.seq} ${payload.status}` });
  });
  return { node, client, heard };
}

export async function run(t) {
  const cluster = await t.start();
  const { nodes } = cluster;
  const listeners = await Promise.all(nodes.map(listener));
  const orders = await Promise.all(Array.from({ length: ORDERS }, (_, i) => nodes[i % nodes.length].create(people())));
  const lead = async (statuses, some = orders) => {
    for (const status of statuses) await Promise.all(some.map(({ id }, i) => nodes[i % nodes.length].status(id, status)));
  };
  const hear = (status, order, who = listeners) => Promise.all(who.map(({ client }) => (
    client.next('order:status_update', (event) => event.orderId === order.id && event.status === status, AGAIN_MS))));
  await lead(KEPT);
  await pgShell('copy_postgres');
  const told = hear(LOST.at(-1), orders.at(-1));
  await lead(LOST);
  await told;
  // Not recovered: that is how a stock client learns that it has to ask for the present state.
  const back = ({ client }) => eventually(() => client.of('connected').length > 1, 'a listener to come back', AGAIN_MS);
  const anew = listeners.map((one) => back(one).then(() => !one.client.of('connected').at(-1).recovered, () => false));
  await pgShell('promote_postgres');

  // Written as soon as that is possible again.
  const begun = performance.now();
  const [first] = orders;
  await eventually(async () => (await nodes[0].call('PATCH', `/orders/${first.id}/status`, { status: AFTER[0] })).status === 200, 'the nodes to write again', AGAIN_MS);
  t.say(`changes are accepted ${Math.round(performance.now() - begun)} ms after the promotion`);
  const again = await Promise.all(anew);
  t.check('who had heard what is lost is told to begin anew', again.flatMap((yes, i) => (yes ? [] : [`${nodes[i].name}: it was recovered, or never came back`])));
  const last = hear(AFTER.at(-1), first);
  await lead(AFTER.slice(1), [first]);
  await lead(AFTER, orders.slice(1));
  t.check('all go on', await last.then(() => [], (error) => [error.message]));

  const places = new Map();
  const problems = [];
  for (const { node, heard } of listeners) {
    for (const { place, text } of heard) {
      const before = places.get(place) ?? text;
      if (before !== text) problems.push(`${place} on ${node.name}: ${text}; elsewhere, or before: ${before}`);
      places.set(place, before);
    }
  }
  t.check('no place in the log has two events', problems);
  const states = await Promise.all(orders.map(({ id }) => nodes[1].order(id)));
  t.check('all orders are where they were led', states.flatMap(({ id, status }) => (status === AFTER.at(-1) ? [] : [`${id} is ${status}`])));
  const lost = (await Promise.all(nodes.map((node) => node.metric('log_lost_total')))).reduce((sum, n) => sum + n, 0);
  t.enough({ 'events that are counted as lost': [lost, ORDERS * LOST.length], 'places heard': [places.size, ORDERS * 4] });
  for (const { client } of listeners) client.close();
}
