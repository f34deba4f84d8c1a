// Rights that end: live sockets lose sight of an order within a second, and for good.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { closeAll, combos, connect, label, open } from '../support/client.mjs';
import { start } from '../support/recovery.mjs';
import { ADMIN, as, jwt, people, SERVICE } from '../support/server.mjs';

const AT = { latitude: 45.25, longitude: 13.61 };

afterEach(closeAll);

/** Waits for the next full second: a token issued then is newer, because `iat` has whole seconds. */
const nextSecond = () => new Promise((resolve) => { setTimeout(resolve, 1020 - (Date.now() % 1000)); });

const seconds = () => Math.floor(Date.now() / 1000);

test('DELETE /users/{id}/sessions closes the sockets and revokes the tokens, also after a kill -9', { timeout: 60_000 }, async (t) => {
  const { server } = await start(t);
  const user = { ...as(people().customer, 'customer'), iat: seconds() };
  const dated = jwt(user);
  const undated = jwt({ ...user, iat: undefined });
  const sockets = await Promise.all(combos.map(async (combo) => ({ what: label(combo), combo, client: await connect(server, { ...combo, token: dated }) })));
  const bystander = await connect(server, { user: as(people().customer, 'customer') });
  const revoke = (caller, id = user.sub) => server.call('DELETE', `/users/${id}/sessions`, undefined, caller);

  for (const caller of [user, as(people().driver, 'driver'), as(people().chef, 'chef')]) assert.equal((await revoke(caller)).status, 403);
  assert.equal((await revoke(null)).status, 401);
  await bystander.ask('ping:latency', { t: 1 });

  const asked = Date.now();
  const { status, body } = await revoke(SERVICE);
  assert.deepEqual([status, body], [200, { userId: user.sub, disconnected: combos.length }]);
  for (const { client, what } of sockets) assert.equal(await client.next('(disconnect)'), 'io server disconnect', what);
  assert.ok(Date.now() - asked < 1000, `it took ${Date.now() - asked} ms`);
  assert.deepEqual(await server.ok('GET', `/users/${user.sub}/presence`), { userId: user.sub, online: false, connections: 0 });

  const refused = async (when) => {
    for (const token of [dated, undated]) {
      await Promise.all(sockets.map(async ({ combo, what }) => {
        const visitor = open(server, { ...combo, token });
        const why = await visitor.refusal();
        assert.ok(why.startsWith('unauthorized: '), `${when}, ${what}: ${why}`);
        visitor.close();
      }));
      const response = await fetch(`${server.base}/orders`, { headers: { authorization: `Bearer ${token}` } });
      assert.equal(response.status, 401, when);
    }
  };
  await refused('at once');
  await nextSecond();
  const fresh = jwt({ ...user, iat: seconds() });
  const client = await connect(server, { token: fresh });
  await server.kill9();
  await server.run();
  await refused('after a kill -9');
  await client.count('connected', 2);
  assert.deepEqual(await server.ok('GET', '/orders', undefined, { ...user, iat: seconds() }), { items: [], nextCursor: null });
  await bystander.count('connected', 2);

  // A user without sockets: nobody is disconnected, and the issued tokens end all the same.
  const absent = as(people().customer, 'customer');
  assert.deepEqual((await revoke(ADMIN, absent.sub)).body, { userId: absent.sub, disconnected: 0 });
  assert.equal((await server.call('GET', '/orders', undefined, absent)).status, 401);
});

test('Sessions that were revoked while a client was away stay revoked when it comes back', { timeout: 60_000 }, async (t) => {
  const { server, proxy } = await start(t);
  const user = { ...as(people().customer, 'customer'), iat: seconds() };
  const clients = await Promise.all(['websocket', 'polling'].map((transport) => connect(proxy, { transport, user })));
  proxy.block();
  proxy.cut();
  await Promise.all(clients.map((client) => client.next('(disconnect)')));
  await server.ok('DELETE', `/users/${user.sub}/sessions`);
  proxy.unblock();
  await Promise.all(clients.map((client) => client.until(
    () => client.of('(refused)').some(({ message }) => message?.startsWith('unauthorized: ')), 'the refusal')));
  for (const client of clients) assert.equal(client.of('connected').length, 1);
});

for (const combo of combos) {
  test(`${label(combo)}: a driver hears nothing more of an order that went to another driver`, async (t) => {
    const { server } = await start(t, { env: { LOCATION_RATE_PER_SECOND: '0' } });
    const [who, other] = [people(), people()];
    const mine = await server.assigned(who);
    const ends = {
      unassigned: (id) => server.unassign(id),
      reassigned: (id) => server.assign(id, other.driver),
    };
    const former = await connect(server, { ...combo, user: as(who.driver, 'driver') });
    const next = await connect(server, { user: as(other.driver, 'driver') });
    for (const [way, end] of Object.entries(ends)) {
      const { id: orderId } = await server.assigned(who);
      await former.ask('subscribe:order', { orderId });
      await former.next('order:status_update', (update) => update.snapshot && update.orderId === orderId);
      await end(orderId);
      const { orderId: lost } = await former.next('driver:unassigned', undefined, 1000);
      assert.equal(lost, orderId, way);
      const { length } = former.events;

      if (way === 'unassigned') await server.assign(orderId, other.driver);
      await next.ask('driver:location', { ...AT, orderId });
      await server.status(orderId, 'picked_up');
      for (const [event, payload] of [['subscribe:order', { orderId }], ['order:tracking', { orderId }],
        ['order:status_update', { orderId, status: 'in_transit' }], ['driver:location', { ...AT, orderId }]]) {
        assert.equal((await former.request(event, payload)).error?.code, 'not_found', `${way}: ${event}`);
      }
      // the driver's own order changes afterwards, so nothing of the other one is still on its way
      await server.status(mine.id, way === 'unassigned' ? 'picked_up' : 'in_transit');
      await former.next('order:status_update', (update) => update.orderId === mine.id);
      const after = former.events.slice(length).filter(({ name }) => !['(ack)', 'order:available', 'order:withdrawn'].includes(name));
      assert.deepEqual(after.map(({ payload }) => payload.orderId), [mine.id], way);
    }
  });

  test(`${label(combo)}: a customer sees the driver until the delivery, and not after it`, async (t) => {
    const { server } = await start(t, { env: { LOCATION_RATE_PER_SECOND: '0' } });
    const who = people();
    const customer = await connect(server, { ...combo, user: as(who.customer, 'customer') });
    const driver = await connect(server, { user: as(who.driver, 'driver') });
    const marker = await server.assigned(who);
    await customer.ask('subscribe:order', { orderId: marker.id });
    for (const end of ['delivered', 'cancelled']) {
      const { id: orderId } = await server.assigned(who);
      await customer.ask('subscribe:order', { orderId });
      await driver.ask('driver:location', { ...AT, orderId });
      await customer.next('driver:location_update', (fix) => fix.orderId === orderId);
      await server.status(orderId, end);
      const update = await customer.next('order:status_update', ({ orderId: id, status }) => id === orderId && status === end, 1000);
      assert.equal(update.driver?.phone, undefined, `${end}: the phone`);
      const { length } = customer.events;

      await driver.request('driver:location', { ...AT, latitude: 45.3, orderId });
      await driver.ask('driver:location', { ...AT, latitude: 45.4 }); // for all active orders of the driver, which is the other one
      await customer.next('driver:location_update', (fix) => fix.orderId === marker.id && fix.latitude === 45.4);
      const fixes = customer.events.slice(length).filter(({ name }) => name === 'driver:location_update');
      assert.deepEqual(fixes.map(({ payload }) => payload.orderId), [marker.id], end);
      const { status, driverLatitude, driverPhone } = await customer.ask('order:tracking', { orderId });
      assert.deepEqual([status, driverLatitude, driverPhone], [end, undefined, undefined], end);
    }
  });
}
