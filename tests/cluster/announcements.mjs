// Announcements to roles and to people, by any node, for sockets on all of them.
import { connect } from '../clients/support/client.mjs';
import { as, people } from '../clients/support/server.mjs';
import { once } from './lib/checks.mjs';

export const what = 'each socket hears an announcement once, whichever node was asked';

const ROUNDS = 10;

export async function run(t) {
  const cluster = await t.start();
  const { customer, chef } = people();
  const heard = [];
  for (const node of cluster.nodes) {
    for (const [person, role] of [[customer, 'customer'], [people().customer, 'customer'], [chef, 'chef']]) {
      heard.push({ node: node.name, person, role, client: await connect(node, { user: as(person, role) }) });
    }
  }
  const due = new Map(heard.map((one) => [one, []]));
  for (let n = 1; n <= ROUNDS * (t.long ? 20 : 1); n += 1) {
    const to = t.random.pick([{ role: 'customer' }, { role: 'chef' }, { userId: customer.id }]);
    await cluster.ok('POST', '/announcements', { ...to, event: 'news', data: { n } });
    for (const one of heard) if (to.role === one.role || to.userId === one.person.id) due.get(one).push(n);
  }
  // The last are for all: what was to come twice has come before them.
  const [last, end] = [ROUNDS * 1000, ROUNDS * 1000 + 1];
  for (const role of ['customer', 'chef']) for (const n of [last, end]) await cluster.ok('POST', '/announcements', { role, event: 'news', data: { n } });
  await Promise.all(heard.map(({ client }) => client.next('news', ({ n }) => n === end).catch(() => {})));
  const problems = heard.flatMap((one) => (
    once(one.client.of('news').map(({ n }) => n), [...due.get(one), last, end]).map((text) => `${one.role} ${one.person.id} on ${one.node}: ${text}`)));
  t.check(`${ROUNDS} announcements are heard by ${heard.length} sockets on ${cluster.nodes.length} nodes, once`, problems);
}
