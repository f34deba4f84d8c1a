// Two nodes on one PostgreSQL, and a proxy that sends every request to the other node than the one before. The real clients work on all
// transports: they connect, subscribe, hear, change to a WebSocket, and come back.
import assert from 'node:assert/strict';
import { after, afterEach, describe, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { Roundabout } from '../support/roundabout.mjs';
import { as, eventually, people, postgresDatabase, Server } from '../support/server.mjs';

const skip = !process.env.ORDERCAST_TEST_POSTGRES && 'ORDERCAST_TEST_POSTGRES is not set (tests/run sets it)';

afterEach(closeAll);

describe('clients without sticky sessions', { skip }, async () => {
  if (skip) return;
  const database = postgresDatabase();
  // One after the other: the first one migrates.
  const start = () => Server.start({ database, args: ['--cluster-listen', '127.0.0.1:0'] });
  const nodes = [await start(), await start()];
  const proxy = await Roundabout.start(nodes);
  after(async () => {
    proxy.close();
    await Promise.all(nodes.map((node) => node.close()));
  });
  const forwarded = async (outcome) => (await Promise.all(nodes.map((node) => node.metric('forwarded_total', `outcome="${outcome}"`))))
    .reduce((sum, count) => sum + count);

  for (const combo of combos) {
    test(label(combo), async () => {
      const [one, two] = nodes;
      const who = people();
      const { id } = await one.create(who);
      const before = [...proxy.sent];
      const passed = await forwarded('ok');
      const client = await connect(proxy, { ...combo, user: as(who.customer, 'customer') });
      await client.ask('subscribe:order', { orderId: id });
      if (combo.transport === 'upgrade') await client.upgraded();
      for (const [node, status] of [[one, 'accepted'], [two, 'preparing']]) {
        await node.status(id, status);
        await client.next('order:status_update', (update) => update.status === status);
        assert.equal((await client.request('ping:latency', { t: 1 })).ok, true);
      }
      if (combo.transport === 'polling') {
        assert.ok(proxy.sent.every((count, i) => count > before[i]), 'both nodes were asked');
      }
      if (combo.transport !== 'websocket') {
        assert.ok(await forwarded('ok') > passed, 'requests came to the wrong node, and worked');
      }
      // It loses its connection and comes back: on the other node, or on this one.
      const times = client.of('connected').length;
      client.socket.io.engine.close();
      await client.count('connected', times + 1);
      await client.ask('subscribe:order', { orderId: id });
      await two.status(id, 'ready_for_pickup');
      await client.next('order:status_update', (update) => update.status === 'ready_for_pickup' && !update.snapshot);
      assert.equal(await forwarded('unreachable') + await forwarded('refused') + await forwarded('unknown'), 0);
    });
  }

  test('a node is killed, and its clients come back on the other one', async () => {
    const who = people();
    const { id } = await nodes[0].create(who);
    const user = as(who.customer, 'customer');
    const clients = await Promise.all(Array.from({ length: 6 }, (_, i) => connect(proxy, { transport: ['polling', 'upgrade'][i % 2], user })));
    for (const client of clients) await client.ask('subscribe:order', { orderId: id, since: 1 });
    const counts = await Promise.all(nodes.map((node) => node.metric('connections')));
    assert.ok(counts.every((count) => count > 0), `both nodes have clients: ${counts}`);
    await nodes[1].kill9();
    // The proxy notices, as proxies do.
    proxy.servers = [nodes[0]];
    await nodes[0].status(id, 'accepted');
    for (const client of clients) await client.next('order:status_update', (update) => update.status === 'accepted', 60_000);
    await eventually(async () => await nodes[0].metric('connections') === clients.length, 'all clients are here');
  });
});
