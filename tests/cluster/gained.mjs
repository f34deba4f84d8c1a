// Who has gained a right can use it at once, on any node: what was acknowledged holds everywhere.
import { connect } from '../clients/support/client.mjs';
import { begin, dial } from '../clients/support/doors.mjs';
import { ADMIN, as, people } from '../clients/support/server.mjs';

export const what = 'who has gained a right can use it at once, on any node';

const ORDERS = 8;

/** An order is known on all nodes before its driver is; then the driver comes to another node than the one that assigned it. */
async function one(cluster, admins, i) {
  const { nodes } = cluster;
  const who = people();
  const rider = as(who.driver, 'driver');
  const by = nodes[i % nodes.length];
  const elsewhere = nodes[(i + 1) % nodes.length];
  const { id: order } = await by.create(who);
  await by.status(order, 'ready_for_pickup');
  await Promise.all(admins.map((admin) => admin.next('order:status_update', ({ orderId, status }) => orderId === order && status === 'ready_for_pickup')));
  for (const admin of admins) await admin.ask('subscribe:order', { orderId: order });
  const driver = await connect(elsewhere, { user: rider });
  await by.assign(order, who.driver);
  const answers = await Promise.all([
    driver.request('subscribe:order', { orderId: order }).then(({ ok, error }) => ok || `subscribe:order: ${error.code}`),
    elsewhere.call('GET', `/orders/${order}`, undefined, rider).then(({ status }) => status === 200 || `GET /orders/{id}: ${status}`),
    begin(by, rider, order).then(async ({ tracking_id: session }) => {
      const line = await dial(elsewhere, `/ws/tracking/${session}`);
      const [state, close] = [() => line.of('initial_state').length > 0, () => line.of('(close)')[0]];
      return line.until(() => state() || (close() && `a new tracking session: ${close().reason}`), 'an answer');
    }),
    driver.request('driver:location', { orderId: order, latitude: 45, longitude: 13 }).then(({ ok, error }) => ok || `driver:location: ${error.code}`),
  ]);
  driver.close();
  return answers.filter((answer) => answer !== true).map((text) => `assigned by ${by.name}, on ${elsewhere.name}: ${text}`);
}

export async function run(t) {
  const cluster = await t.start();
  const admins = await Promise.all(cluster.nodes.map((node) => connect(node, { user: ADMIN })));
  const problems = [];
  for (let i = 0; i < ORDERS * (t.long ? 10 : 1); i += 1) problems.push(...await one(cluster, admins, i));
  t.check('a driver follows and reports at once, and a tracking session can be opened', problems);
}
