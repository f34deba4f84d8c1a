// Socket.IO's default namespace (001_efd30879a7171744.txt): an admin updates a status by REST, and every page that may see the order
// shows it. Nobody else hears of it.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { closeAll, combos, connect, label, open } from '../support/client.mjs';
import { enter, heard, visit } from '../support/doors.mjs';
import { proxyTo } from '../support/recovery.mjs';
import { ADMIN, as, jwt, people, Server } from '../support/server.mjs';
import { check } from '../support/shapes.mjs';

const AT = { latitude: 45.25, longitude: 13.61 };
const ORDER_STATUS_UPDATE = {
  orderId: 'string', orderNumber: 'string', status: 'string', trackingNumber: 'string|null', seq: 'count', timestamp: 'time',
};
const TRACKING_UPDATE = {
  orderId: 'string', orderNumber: 'string', trackingNumber: 'string|null', status: 'string', statusHistory: 'array',
  'location?': 'object', 'estimatedDelivery?': 'time', timestamp: 'time',
};

const server = await Server.start({ env: { LOCATION_RATE_PER_SECOND: '0' } });
after(() => server.close());
after(closeAll);

const status = (id, to) => server.status(id, to, ADMIN);

/** What a page heard of an order, in short: [event, status, seq]. */
const short = (page, id) => heard(page, id).map(({ name, payload }) => [name, payload.status, payload.seq]);
/** The two messages of one status change. */
const changed = (to, seq) => [['orderStatusUpdate', to, seq], ['trackingUpdate', to, undefined]];

async function hears(page, id, wanted, what) {
  await page.until(() => heard(page, id).length >= wanted.length, `${what}: ${wanted.length} events`).catch(() => {}); // the comparison below tells more
  assert.deepEqual(short(page, id), wanted, what);
}

describe('An admin updates the status, and every page shows it', { concurrency: 3 }, () => {
  for (const combo of combos) {
    test(label(combo), { timeout: 60_000 }, async () => {
      const who = people();
      const stranger = people();
      const page = (user) => visit(server, { ...combo, user });
      const [customer, chef, driver, admin, backend] = await Promise.all([
        page(as(who.customer, 'customer')), page(as(who.chef, 'chef')), page(as(who.driver, 'driver')), page({ ...ADMIN, sub: `root-${who.chef.id}` }),
        page(as(who.chef, 'service'))]);
      const strangers = await Promise.all(['customer', 'chef', 'driver'].map((role) => page(as(stranger[role], role))));

      const { id, orderNumber } = await server.create(who, { trackingNumber: `TN-${who.customer.id}` });
      const steps = [
        ['payment_confirmed', (await server.pay(id)).seq],
        ['accepted', (await status(id, 'accepted')).seq],
        ['preparing', (await status(id, 'preparing')).seq],
        ['ready_for_pickup', (await status(id, 'ready_for_pickup')).seq],
        ['assigned_to_driver', (await server.assign(id, who.driver)).seq],
        ['picked_up', (await status(id, 'picked_up')).seq],
        ['in_transit', (await status(id, 'in_transit')).seq],
        ['delivered', (await status(id, 'delivered')).seq],
      ];
      assert.deepEqual(steps.map(([, seq]) => seq), steps.map((_, i) => i + 2));
      const all = steps.flatMap((step) => changed(...step));
      for (const [name, one, wanted] of [['customer', customer, all], ['chef', chef, all], ['admin', admin, all], ['service', backend, all], ['driver', driver, all.slice(8)]]) {
        await hears(one, id, wanted, name);
      }

      const { statusHistory } = await server.tracking(id, as(who.customer, 'customer'));
      for (const [i, [to]] of steps.entries()) {
        const update = customer.of('orderStatusUpdate')[i];
        const tracking = customer.of('trackingUpdate')[i];
        check(update, ORDER_STATUS_UPDATE, 'orderStatusUpdate');
        check(tracking, TRACKING_UPDATE, 'trackingUpdate');
        assert.deepEqual([update.orderNumber, update.trackingNumber], [orderNumber, `TN-${who.customer.id}`]);
        assert.deepEqual([tracking.orderNumber, tracking.trackingNumber], [orderNumber, `TN-${who.customer.id}`]);
        assert.deepEqual(tracking.statusHistory, statusHistory.slice(0, i + 2), `the history when it was ${to}`);
      }

      // each stranger gets an event of their own order afterwards, so nothing of this order is still on its way
      const other = await server.create(stranger);
      await status(other.id, 'ready_for_pickup');
      await server.assign(other.id, stranger.driver);
      for (const one of strangers) {
        await one.next('trackingUpdate', ({ status: now }) => now === 'assigned_to_driver');
        assert.deepEqual(heard(one, id), [], 'an order of others');
      }
      await hears(admin, other.id, [...changed('ready_for_pickup', 2), ...changed('assigned_to_driver', 3)], 'the admin, of the other order');
      assert.deepEqual([...heard(customer, other.id), ...heard(chef, other.id), ...heard(driver, other.id)], []);
      for (const one of [customer, chef, driver, admin, ...strangers]) {
        assert.deepEqual(one.of('(disconnect)'), []);
        const names = new Set(one.events.map(({ name }) => name));
        assert.ok([...names].every((name) => ['(connect)', 'orderStatusUpdate', 'trackingUpdate'].includes(name)), [...names].join());
      }
    });
  }

  test('A change that keeps the status is a trackingUpdate alone, and a missing tracking number is null', async () => {
    const who = people();
    const customer = await visit(server, { user: as(who.customer, 'customer') });
    const { id } = await server.create(who);
    await status(id, 'accepted');
    await server.pay(id); // the status is further already, so it stays
    await server.assign(id, who.driver); // it is not ready yet, so the status stays
    await status(id, 'ready_for_pickup'); // the driver is assigned already, so it becomes assigned_to_driver at once
    await server.unassign(id);
    await status(id, 'cancelled');
    const still = [['trackingUpdate', 'accepted', undefined]];
    await hears(customer, id, [...changed('accepted', 2), ...still, ...still, ...changed('ready_for_pickup', 5), ...changed('assigned_to_driver', 6),
      ...changed('ready_for_pickup', 7), ...changed('cancelled', 8)], 'the customer');
    for (const { payload } of heard(customer, id)) assert.equal(payload.trackingNumber, null);
  });

  test('The customer sees the driver\'s position while the driver has the order', async () => {
    const who = people();
    const { id } = await server.create(who);
    await status(id, 'accepted');
    await server.assign(id, who.driver);
    const [customer, admin] = await Promise.all([as(who.customer, 'customer'), { ...ADMIN, sub: `root-${id}` }].map((user) => visit(server, { user })));
    const phone = await connect(server, { user: as(who.driver, 'driver') });
    const drive = (latitude) => phone.ask('driver:location', { ...AT, latitude, orderId: id });
    const at = (latitude) => ({ location }) => location?.latitude === latitude;

    await drive(61.1);
    const seen = await admin.next('trackingUpdate', at(61.1));
    check(seen, TRACKING_UPDATE, 'trackingUpdate');
    check(seen.location, { latitude: 'number', longitude: 'number', timestamp: 'time' }, 'location');
    await status(id, 'ready_for_pickup');
    await drive(61.2);
    const { location, status: now, statusHistory } = await customer.next('trackingUpdate', at(61.2));
    // an admin gets changedBy too, so it is left out of the comparison
    const known = (await server.tracking(id)).statusHistory.map(({ status: word, timestamp }) => ({ status: word, timestamp }));
    assert.deepEqual(statusHistory.map(({ status: word, timestamp }) => ({ status: word, timestamp })), known);
    check(location, { latitude: 'number', longitude: 'number', timestamp: 'time' }, 'location');
    assert.deepEqual([location.longitude, now], [AT.longitude, 'assigned_to_driver']);
    const shown = heard(customer, id).filter(({ payload }) => payload.location).map(({ payload }) => payload.status);
    assert.deepEqual([...new Set(shown)], ['assigned_to_driver'], 'not before it is with the driver');
    await status(id, 'picked_up');
    const afterwards = await customer.next('trackingUpdate', (update) => update.status === 'picked_up');
    assert.equal(afterwards.location?.latitude, 61.2, 'a change tells the place too');
    await status(id, 'delivered');
    assert.equal((await customer.next('trackingUpdate', (update) => update.status === 'delivered')).location, undefined);
    assert.ok(customer.of('trackingUpdate').every(({ estimatedDelivery }) => !estimatedDelivery || Date.parse(estimatedDelivery) > Date.now() - 60_000));
  });

  test('A driver who loses the order hears no more of it, and a revoked session is disconnected', async () => {
    const [who, next] = [people(), people()];
    const [kept, lost] = [await server.assigned(who), await server.assigned(who)];
    const iat = Math.floor(Date.now() / 1000);
    const driver = await visit(server, { user: { ...as(who.driver, 'driver'), iat } });
    await server.assign(lost.id, next.driver);
    await status(lost.id, 'picked_up');
    await status(kept.id, 'picked_up');
    await driver.next('trackingUpdate', ({ orderId }) => orderId === kept.id);
    assert.deepEqual(heard(driver, lost.id), []);
    await server.ok('DELETE', `/users/${who.driver.id}/sessions`);
    await driver.next('(disconnect)');
  });

  test('A client with no token or a bad one gets connect_error and hears nothing', async () => {
    await Promise.all(combos.map(async (combo) => {
      for (const [token, code] of [[undefined, 'unauthorized'], ['not.a.token', 'unauthorized'],
        [jwt(ADMIN, { alg: 'none' }), 'unauthorized'], [jwt({ ...ADMIN, exp: 1 }), 'token_expired']]) {
        const page = enter(server, { ...combo, token, options: { reconnection: false } });
        const why = await page.refusal();
        assert.ok(why.startsWith(`${code}: `), `${label(combo)}, ${token}: ${why}`);
        assert.deepEqual(page.of('(connect)'), []);
        page.close();
      }
    }));
  });

  test('A page that sends a request is told that this namespace takes none', async () => {
    const who = people();
    const { id } = await server.create(who);
    await Promise.all(['4', '3', '2'].map(async (client) => {
      const page = await visit(server, { client, user: as(who.customer, 'customer') });
      for (const event of ['subscribe:order', 'orderStatusUpdate', 'driver:location', '💥']) {
        const answer = await page.request(event, { orderId: id, status: 'cancelled' });
        assert.equal(answer.ok, false, event);
        assert.ok(answer.error.code && answer.error.message, event);
        page.send(event, Buffer.from([0, 255]));
        assert.ok((await page.next('error')).code, `${event}, without an ack`);
      }
      assert.deepEqual(page.of('(disconnect)'), []);
    }));
    assert.equal((await server.order(id)).status, 'pending');
  });

  for (const combo of combos) {
    test(`${label(combo)}: a connected page hears every later change, 15 times in a row`, { timeout: 120_000 }, async () => {
      for (let round = 0; round < 15; round += 1) {
        const who = people();
        const pages = await Promise.all([1, 2, 3, 4].map(() => visit(server, { ...combo, user: as(who.customer, 'customer') })));
        const { id } = await server.create(who);
        const { seq } = await status(id, 'accepted');
        for (const page of pages) await hears(page, id, changed('accepted', seq), `a page in round ${round}`);
        for (const page of pages) page.close();
      }
    });

    // Version 2 is put into `/` on its way anywhere: there it hears nothing once it is in `/realtime` (rights.test.mjs counts its sockets).
    if (combo.client === '2') continue;
    test(`${label(combo)}: one connection joins / and /realtime, and hears both vocabularies`, { timeout: 120_000 }, async (t) => {
      // the second namespace may be joined before, during and after an upgrade
      for (let round = 0; round < (combo.transport === 'upgrade' ? 10 : 1); round += 1) await both(t, combo);
    });
  }
});

async function both(t, combo) {
  const who = people();
  // socket.io-client shares one connection per address; the proxy has an address of its own
  const proxy = await proxyTo(t, server);
  const options = { ...combo, user: as(who.customer, 'customer'), options: { forceNew: false } };
  const [page, app] = [enter(proxy, options), open(proxy, options)];
  assert.equal(page.socket.io, app.socket.io, 'one Manager');
  await app.next('connected');
  await page.next('(connect)');
  const { id } = await server.create(who);
  const { seq: first } = await status(id, 'accepted');
  await hears(page, id, changed('accepted', first), 'the page');
  if (combo.transport === 'upgrade') await app.upgraded();
  await app.ask('subscribe:order', { orderId: id });
  const { seq: second } = await status(id, 'preparing');
  await hears(page, id, [...changed('accepted', first), ...changed('preparing', second)], 'the page');
  await app.until(() => app.of('order:status_update').some(({ seq }) => seq === second), 'the app to hear of it');
  const live = app.of('order:status_update').filter(({ snapshot }) => !snapshot);
  assert.deepEqual(live.map(({ seq }) => seq), [first, second]);
  assert.deepEqual([page.of('order:status_update'), app.of('orderStatusUpdate')], [[], []], 'each namespace has its own words');
  if (combo.client !== '2') {
    // leaving one namespace keeps the other
    page.socket.disconnect();
    await status(id, 'ready_for_pickup');
    await app.next('order:status_update', ({ status: now }) => now === 'ready_for_pickup');
    assert.equal(heard(page, id).length, 4);
  }
  page.close();
  app.close();
}
