// Connections lost at the worst moments: while coming back, while catching up, between two events of one change.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { closeAll } from '../support/client.mjs';
import { away, gone, join, LIVELY, lose, proxyTo, recovered, start, TRANSPORTS } from '../support/recovery.mjs';
import { as, people, SERVICE } from '../support/server.mjs';
import { rising, Story } from '../support/story.mjs';

afterEach(closeAll);

test('A client recovers whose connection is lost again and again while it comes back', async (t) => {
  const { server } = await start(t, { env: LIVELY });
  const drivers = [people().driver, people().driver];
  await Promise.all(TRANSPORTS.map(async (transport) => {
    const proxy = await proxyTo(t, server);
    const story = await Story.begin(server, people());
    const client = await join(proxy, transport, SERVICE);
    await client.ask('subscribe:order', { orderId: story.id });
    await story.status('accepted');
    // the cuts are spread over the whole way back: handshake, upgrade, greeting, first events
    for (let cut = 0; cut < 24; cut += 1) {
      proxy.cut();
      await story.assign(drivers[cut % 2]);
      await new Promise((resolve) => { setTimeout(resolve, 4 * cut); });
    }
    await story.check(client, ['order'], transport);
    await recovered(client, transport);
    rising(client, transport);
  }));
});

test('A client recovers whose connection is cut as soon as it is back, five times', async (t) => {
  const { server } = await start(t, { env: LIVELY });
  await Promise.all(TRANSPORTS.map(async (transport) => {
    const proxy = await proxyTo(t, server);
    const story = await Story.begin(server, people());
    const client = await join(proxy, transport, SERVICE);
    await client.ask('subscribe:order', { orderId: story.id });
    let left = 5;
    client.socket.on('connect', () => { if (left > 0) { left -= 1; lose(proxy, client); } });
    await gone(proxy, [{ client }], () => proxy.cut(), async () => {
      for (const status of ['accepted', 'preparing', 'ready_for_pickup']) await story.status(status);
    });
    await client.count('(connect)', 7);
    await story.check(client, ['order'], transport);
    await recovered(client, transport);
  }));
});

test('A slow reader recovers from three cuts while it catches up on many events', { timeout: 120_000 }, async (t) => {
  const { server } = await start(t, { env: LIVELY });
  const CHANGES = 100;
  const drivers = [people().driver, people().driver];
  const orders = await Promise.all(Array.from({ length: 6 }, () => server.assigned(people())));
  const total = orders.length * CHANGES;
  const clients = await Promise.all(TRANSPORTS.map(async (what) => {
    const proxy = await proxyTo(t, server);
    const client = await join(proxy, what, SERVICE);
    for (const { id: orderId } of orders) await client.ask('subscribe:order', { orderId });
    await client.count('order:status_update', orders.length);
    proxy.block();
    proxy.cut();
    await client.count('(disconnect)', 1);
    return { proxy, client, what };
  }));
  await Promise.all(orders.map(async ({ id }) => {
    for (let i = 0; i < CHANGES; i += 1) await server.assign(id, drivers[i % 2]);
  }));
  await Promise.all(clients.map(async ({ proxy, client, what }) => {
    const missed = () => client.of('order:status_update').filter((update) => !update.snapshot);
    proxy.rate = 200_000;
    proxy.unblock();
    for (let cuts = 1; cuts <= 3; cuts += 1) {
      const next = missed().length + total / 10;
      await client.until(() => missed().length >= next, `${what}: ${next} of ${total}`, 30_000);
      assert.ok(missed().length < total, `${what}: the cut came too late`);
      lose(proxy, client);
      await client.count('(disconnect)', cuts + 1);
    }
    proxy.rate = Infinity;
    await client.until(() => missed().length >= total, `${what}: all ${total}`, 30_000);
    await recovered(client, what, 4);
    rising(client, what);
    for (const { id, seq } of orders) {
      assert.deepEqual(missed().filter((update) => update.orderId === id).map((update) => update.seq),
        Array.from({ length: CHANGES }, (_, i) => seq + 1 + i), `${what}: ${id}`);
    }
  }));
});

test('A cut between two events of one position loses neither', { timeout: 60_000 }, async (t) => {
  const { server } = await start(t, { env: LIVELY });
  await Promise.all(TRANSPORTS.map(async (transport) => {
    const proxy = await proxyTo(t, server);
    const who = people();
    const client = await join(proxy, transport, as(who.driver, 'driver'));
    const rooms = [who.driver.id, 'drivers'];
    const story = await Story.begin(server, who);
    await story.status('ready_for_pickup');
    await story.check(client, rooms, transport);
    // Each event named here is followed by another one of the same position. First both come live, then as missed events.
    const assign = { change: () => story.assign(who.driver), first: 'driver:new_assignment' };
    const unassign = { change: () => story.unassign(), first: 'driver:unassigned' };
    for (const { change, first } of [assign, unassign, assign]) {
      if (transport === 'upgrade') await client.upgraded();
      const cut = proxy.cutAfter(first);
      await change();
      await cut;
      await story.check(client, rooms, `${transport}, live`);
    }
    for (const { change, first } of [unassign, assign, unassign]) {
      let cut;
      await gone(proxy, [{ client }], () => proxy.cut(), async () => {
        await change();
        cut = proxy.cutAfter(first);
      });
      await cut;
      await story.check(client, rooms, `${transport}, missed`);
    }
    await recovered(client, transport);
    rising(client, transport);
    // A polling body that is cut is lost whole. On a WebSocket the first event must have come through alone.
    const alone = client.events.filter(({ name }, i) => [assign.first, unassign.first].includes(name) && client.events[i + 1].name === '(disconnect)');
    const least = { websocket: 6, upgrade: 3, polling: 0 }[transport];
    assert.ok(alone.length >= least, `${transport}: cut in between ${alone.length} times`);
    assert.equal(client.of('(disconnect)').length, 9, `${transport}: how often it was cut`);
  }));
});

test('A snapshot or a replay does not move the place from which a client recovers', { timeout: 60_000 }, async (t) => {
  const { server } = await start(t);
  const drivers = [people().driver, people().driver];
  const old = await server.assigned(people());
  for (let i = 0; i < 200; i += 1) await server.assign(old.id, drivers[i % 2]);
  await Promise.all(TRANSPORTS.map(async (transport) => {
    const proxy = await proxyTo(t, server);
    const story = await Story.begin(server, people());
    const client = await join(proxy, transport, SERVICE);
    const updates = () => client.of('order:status_update').filter((update) => update.orderId === old.id && !update.snapshot);
    await client.ask('subscribe:order', { orderId: story.id });
    await story.status('accepted');
    await story.check(client, ['order'], transport);

    // a snapshot of an order whose last event is older than this client's last one
    await client.ask('subscribe:order', { orderId: old.id });
    await client.next('order:status_update', (update) => update.snapshot && update.orderId === old.id);
    await away(proxy, [{ client, what: transport }], () => proxy.cut(), () => story.status('preparing'));
    await story.check(client, ['order'], `${transport}, after the snapshot`);
    assert.deepEqual(updates(), [], `${transport}: nothing of the old order is new`);
    await client.ask('unsubscribe:order', { orderId: old.id });

    // the whole past of that order, cut in the middle
    proxy.rate = 200_000;
    const { seq } = await client.ask('subscribe:order', { orderId: old.id, since: 1 });
    await client.until(() => updates().length >= 30, `${transport}: the past`);
    await away(proxy, [{ client, what: transport }], () => proxy.cut(), () => story.status('ready_for_pickup'));
    proxy.rate = Infinity;
    await story.check(client, ['order'], `${transport}, after the replay`);
    await client.until(() => updates().length >= seq - 1, `${transport}: ${seq - 1} updates, not only ${updates().length}`);
    assert.deepEqual(updates().map((update) => update.seq), Array.from({ length: seq - 1 }, (_, i) => i + 2), transport);
  }));
});
