// Who comes to another node is not told there how things stood before what they have heard already.
import { connect } from '../clients/support/client.mjs';
import { dial, watch } from '../clients/support/doors.mjs';
import { ADMIN, people } from '../clients/support/server.mjs';

export const what = 'no door of another node goes back behind what was heard';

const ORDERS = 6;
/** By then every node has told what there is. */
const LAST_MS = 3_000;

/** An order ends, which its watcher hears on one node; at each door of the next, it has ended too. */
async function one(cluster, i) {
  const [here, there] = [cluster.nodes[i % 3], cluster.nodes[(i + 1) % 3]];
  const { id: order } = await here.create(people());
  const [admin, known] = await Promise.all([watch(here, ADMIN, order), connect(there, { user: ADMIN })]);
  // the other node knows the order, as it was
  await known.ask('subscribe:order', { orderId: order });
  for (const status of ['accepted', 'cancelled']) await here.status(order, status);
  await admin.until(() => admin.of('order:updated').some(({ data }) => data.status === 'CANCELLED'), 'the end');

  const [track, ws, realtime] = await Promise.all([dial(there, '/orders/track', ADMIN), dial(there, '/ws', ADMIN), connect(there, { user: ADMIN })]);
  const told = [
    ['/orders/track', track.ask({ type: 'subscribe', order_id: order }, 'order_update').then(({ status }) => status)],
    ['/ws, on subscribing', ws.ask({ type: 'subscribe', orderId: order }, 'order:updated').then(({ data }) => data.status)],
    ['/realtime, subscribe:order', realtime.ask('subscribe:order', { orderId: order }).then(({ status }) => status)],
  ];
  const problems = [];
  for (const [door, status] of told) if (!/^cancelled$/i.test(await status)) problems.push(`${door}: ${await status}`);
  // an order made now is the last that is told: what was to come late has come before it
  const { id: last } = await there.create(people());
  await ws.until(() => ws.of('orders:changed').some(({ orderId }) => orderId === last), 'the last order', LAST_MS);
  const hints = ws.of('orders:changed').filter(({ orderId, status }) => orderId === order && status !== 'CANCELLED');
  if (hints.length > 0) problems.push(`/ws, orders:changed: ${hints.map(({ status }) => status)}`);
  const updates = realtime.of('order:status_update').filter(({ orderId, status }) => orderId === order && status !== 'cancelled');
  if (updates.length > 0) problems.push(`/realtime, order:status_update: ${updates.map(({ status }) => status)}`);
  for (const line of [admin, track, ws]) line.hangUp();
  for (const client of [known, realtime]) client.close();
  return problems.map((text) => `heard of its end on ${here.name}; then on ${there.name}, ${text}`);
}

export async function run(t) {
  const cluster = await t.start();
  const problems = [];
  for (let i = 0; i < ORDERS * (t.long ? 10 : 1); i += 1) problems.push(...await one(cluster, i));
  t.check('a new connection begins with what was heard on another node, or later', problems);
}
