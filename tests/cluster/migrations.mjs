// Nodes that start at once on a database without a table.
import { people } from '../clients/support/server.mjs';

export const what = 'nodes that start at once on an empty database';

export async function run(t) {
  const rounds = t.long ? 20 : 2;
  const problems = [];
  for (let round = 0; round < rounds; round += 1) {
    const cluster = await t.start();
    // Each of them can write, and the positions of their events are one row.
    const orders = await Promise.all(cluster.nodes.map((node) => node.create(people())));
    const events = await Promise.all(orders.map(({ id }, i) => cluster.nodes[(i + 1) % cluster.nodes.length].events(id)));
    const positions = events.flatMap(({ events: list }) => list.map(({ position }) => position)).sort((a, b) => a - b);
    if (positions.join() !== '1,2,3') problems.push(`the positions are ${positions}`);
    await cluster.close();
  }
  t.check(`${rounds} times: all are ready, all can write, and it is one log`, problems);
}
