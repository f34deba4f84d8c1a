// The server goes away and comes back on the same port and database. Clients reconnect by themselves.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { as, people, SERVICE, Server } from '../support/server.mjs';
import { gapless } from '../support/shapes.mjs';

const server = await Server.start();
after(() => server.close());
afterEach(closeAll);

const WAYS = {
  'a SIGTERM': async () => assert.equal(await server.stop(), 0, 'the exit code after SIGTERM'),
  'a kill -9': () => server.kill9(),
};

for (const [way, end] of Object.entries(WAYS)) {
  test(`After ${way} and a restart, every client returns, subscribes again and misses nothing`, { timeout: 60_000 }, async () => {
    const who = people();
    const { id: orderId } = await server.assigned(who);
    const sockets = await Promise.all(combos.map(async (combo) => {
      const client = await connect(server, { ...combo, user: SERVICE });
      const follow = async (since) => ({ since, ...await client.ask('subscribe:order', { orderId, since }) });
      await follow();
      await client.next('order:status_update', (update) => update.snapshot);
      // as an app does: at each later `connect` it asks for everything after its last seq
      client.socket.on('connect', () => {
        client.back = follow(client.of('order:status_update').at(-1).seq);
        client.back.catch(() => {});
      });
      return { client, what: label(combo) };
    }));
    const driver = await connect(server, { user: as(who.driver, 'driver') });
    await driver.ask('driver:location', { latitude: 45.21, longitude: 13.61 });
    const before = await server.status(orderId, 'picked_up');
    await Promise.all(sockets.map(({ client }) => client.next('order:status_update', (update) => update.seq === before.seq)));

    await end();
    await Promise.all(sockets.map(({ client }) => client.next('(disconnect)')));
    await server.run();
    const after = await server.status(orderId, 'in_transit');
    assert.equal(after.seq, before.seq + 1);

    await Promise.all(sockets.map(async ({ client, what }) => {
      await client.count('connected', 2, 20_000);
      await client.until(() => client.back, `${what}: the return`);
      const ack = await client.back;
      // quick clients are back before the change above
      const status = ack.seq === before.seq ? 'picked_up' : 'in_transit';
      assert.deepEqual([ack.orderId, ack.status, ack.tracking.status], [orderId, status, status], what);
      await client.next('order:status_update', (update) => update.seq === after.seq);
    }));
    const last = await server.status(orderId, 'delivered');
    for (const { client, what } of sockets) {
      await client.next('order:status_update', (update) => update.seq === last.seq);
      const [snapshot, ...rest] = client.of('order:status_update');
      gapless(rest, snapshot.seq + 1, what);
    }

    const tracking = await server.tracking(orderId, as(who.customer, 'customer'));
    assert.deepEqual([tracking.status, tracking.seq], ['delivered', last.seq]);
    assert.deepEqual(tracking.statusHistory.map((row) => row.status),
      ['pending', 'ready_for_pickup', 'assigned_to_driver', 'picked_up', 'in_transit', 'delivered']);
    const fresh = await connect(server, { user: SERVICE });
    assert.equal((await fresh.ask('subscribe:order', { orderId })).seq, last.seq);
  });
}

test('The last position of a driver is still known after a restart', async () => {
  const who = people();
  const { id: orderId } = await server.assigned(who);
  const driver = await connect(server, { user: as(who.driver, 'driver') });
  await driver.ask('driver:location', { latitude: 45.2345, longitude: 13.6789 });
  driver.close();
  assert.equal(await server.stop(), 0);
  await server.run();
  const { driverLatitude, driverLongitude } = await server.tracking(orderId);
  assert.deepEqual([driverLatitude, driverLongitude], [45.2345, 13.6789]);
});
