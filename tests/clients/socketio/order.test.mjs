// Order under load: whatever a socket does with its subscriptions, and however often it loses its connection, the seqs of each order
// rise by one from the seq that it was told first.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { join, LIVELY, lose, proxyTo, start, TRANSPORTS } from '../support/recovery.mjs';
import { ADMIN, as, people, SERVICE } from '../support/server.mjs';

const ORDERS = 6;
const STEPS = 25;

// SEED repeats a run with the same steps, so it is printed.
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
console.log(`# SEED=${SEED}`);

/** Random numbers of its own for each socket, so that its steps do not depend on the timing of the others. */
function dice(number) {
  let seed = (SEED + number * 7_919) % 2_147_483_647;
  return (n) => {
    seed = (seed * 48_271 + 11) % 2_147_483_647;
    return Math.floor(seed / 2_147_483_647 * n);
  };
}

afterEach(closeAll);

/** Orders that two writers each change all the time until told to stop. Then it returns the last seq of each. */
async function busy(server, who) {
  const drivers = [people().driver, people().driver, people().driver];
  const orders = await Promise.all(Array.from({ length: ORDERS }, () => server.assigned(who)));
  let running = true;
  const writers = orders.flatMap(({ id }) => [0, 1].map(async (turn) => {
    for (let i = turn; running; i += 1) await server.assign(id, drivers[i % drivers.length]);
  }));
  return {
    ids: orders.map(({ id }) => id),
    begin: Object.fromEntries(orders.map(({ id, seq }) => [id, seq])),
    async stop() {
      running = false;
      await Promise.all(writers);
      return Object.fromEntries(await Promise.all(orders.map(async ({ id }) => [id, (await server.order(id)).seq])));
    },
  };
}

/**
 * Checks a socket's record. `hears` names the orders it hears without a subscription, and the seq before the first event. A subscription
 * adds an order or starts it again, an unsubscription removes it. In between, the seqs must rise by one.
 */
function verify(client, hears, what) {
  const next = new Map(Object.entries(hears).map(([id, seq]) => [id, seq + 1]));
  const asked = [...client.asked];
  let snapshot = null;
  for (const { name, payload } of client.events) {
    if (name === '(ack)') {
      const { event, orderId, since } = asked.shift();
      assert.equal(payload.ok, true, `${what}: ${JSON.stringify(payload)}`);
      if (event === 'unsubscribe:order') {
        if (!(orderId in hears)) next.delete(orderId);
      } else {
        snapshot = since === undefined ? { orderId, seq: payload.seq } : null;
        next.set(orderId, since === undefined ? payload.seq : since + 1);
      }
    } else if (name === 'order:status_update') {
      const { orderId, seq } = payload;
      assert.equal(seq, next.get(orderId), `${what}: ${orderId}`);
      assert.equal(payload.snapshot ?? false, snapshot?.orderId === orderId && snapshot.seq === seq, `${what}: ${orderId} at ${seq}: snapshot`);
      if (payload.snapshot) snapshot = null;
      next.set(orderId, seq + 1);
    }
  }
  assert.deepEqual(asked, [], `${what}: all were answered`);
  return next;
}

/** Subscribes, subscribes again and unsubscribes at random, with and without `since`. */
async function wander(client, ids, random) {
  client.asked = [];
  const last = (id) => client.of('order:status_update').findLast(({ orderId }) => orderId === id)?.seq;
  for (let step = 0; step < STEPS; step += 1) {
    const orderId = ids[random(ids.length)];
    const way = random(3);
    const since = way === 1 ? last(orderId) : undefined;
    const event = way === 2 ? 'unsubscribe:order' : 'subscribe:order';
    client.asked.push({ event, orderId, since });
    await client.request(event, { orderId, since });
    // sometimes the next request follows at once, sometimes after an event
    const { length } = client.events;
    if (random(2)) await client.until(() => client.events.length > length, 'any event', 100).catch(() => {});
  }
  // at the end it follows every order
  for (const orderId of ids) {
    client.asked.push({ event: 'subscribe:order', orderId });
    await client.request('subscribe:order', { orderId });
  }
}

test(`${combos.length * 3} sockets subscribe and unsubscribe at random while two writers change each of ${ORDERS} orders without a pause`, { timeout: 120_000 }, async (t) => {
  const { server } = await start(t, { env: { SOCKET_REQUESTS_PER_SECOND: '0' } });
  const who = people();
  const users = { watcher: SERVICE, admin: ADMIN, customer: as(who.customer, 'customer') };
  const orders = await busy(server, who);
  const sockets = await Promise.all(Object.entries(users).flatMap(([role, user]) => combos.map(async (combo) => (
    { what: `${label(combo)}, ${role}`, role, client: await connect(server, { ...combo, user }) }))));
  await Promise.all(sockets.map(({ client }, i) => wander(client, orders.ids, dice(i))));
  const ends = await orders.stop();
  await Promise.all(sockets.map(async ({ client, role, what }) => {
    for (const id of orders.ids) {
      await client.until(() => client.of('order:status_update').findLast((update) => update.orderId === id)?.seq >= ends[id], `${what}: the end of ${id}`);
    }
    // admins and parties hear an order without following it, beginning with their first event of it
    const hears = role === 'watcher' ? {} : Object.fromEntries(orders.ids.map((id) => {
      const first = client.events.find(({ name, payload }) => name === 'order:status_update' && payload.orderId === id && !payload.snapshot);
      return [id, first.payload.seq - 1];
    }));
    const next = verify(client, hears, what);
    for (const id of orders.ids) assert.equal(next.get(id), ends[id] + 1, `${what}: the end of ${id}`);
  }));
});

test('Sockets that lose one connection after the other still hear each order\'s changes in order', { timeout: 120_000 }, async (t) => {
  const { server } = await start(t, { env: LIVELY });
  const who = people();
  const orders = await busy(server, who);
  const users = { watcher: SERVICE, admin: ADMIN, customer: as(who.customer, 'customer') };
  const sockets = await Promise.all(TRANSPORTS.flatMap((transport) => Object.entries(users).map(async ([role, user]) => {
    const proxy = await proxyTo(t, server);
    const client = await join(proxy, transport, user);
    client.asked = [];
    for (const orderId of orders.ids) {
      client.asked.push({ event: 'subscribe:order', orderId });
      await client.request('subscribe:order', { orderId });
    }
    return { client, proxy, role, what: `${transport}, ${role}` };
  })));
  await Promise.all(sockets.map(async ({ client, proxy }, i) => {
    const random = dice(100 + i);
    for (let cut = 0; cut < 12; cut += 1) {
      const { length } = client.events;
      await client.until(() => client.events.length > length + random(40), 'some events');
      lose(proxy, client, random(4) ? 'cut' : 'sever');
    }
  }));
  const ends = await orders.stop();
  await Promise.all(sockets.map(async ({ client, role, what }) => {
    for (const id of orders.ids) {
      await client.until(() => client.of('order:status_update').findLast((update) => update.orderId === id)?.seq >= ends[id], `${what}: the end of ${id}`);
    }
    const greetings = client.of('connected').map(({ recovered }) => recovered);
    assert.deepEqual(greetings, [false, ...Array(greetings.length - 1).fill(true)], `${what}: recovered`);
    assert.ok(greetings.length > 3, `${what}: ${greetings.length} connections`);
    const hears = role === 'watcher' ? {} : Object.fromEntries(orders.ids.map((id) => {
      const first = client.events.find(({ name, payload }) => name === 'order:status_update' && payload.orderId === id && !payload.snapshot);
      return [id, first.payload.seq - 1];
    }));
    const next = verify(client, hears, what);
    for (const id of orders.ids) assert.equal(next.get(id), ends[id] + 1, `${what}: the end of ${id}`);
  }));
});
