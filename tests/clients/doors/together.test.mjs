// One order seen through all five doors at once. Each status, set through each way of writing, is heard at each door in that door's
// words, in order, once. The same holds for the driver's positions.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { closeAll, connect } from '../support/client.mjs';
import { begin, hangUpAll, heard, install, onTheWay, trace, track, visit, watch, WORDS } from '../support/doors.mjs';
import { ADMIN, as, people, Server } from '../support/server.mjs';

const AT = { latitude: 45.25, longitude: 13.61 };

const server = await Server.start({ env: { LOCATION_RATE_PER_SECOND: '0' } });
after(() => server.close());
after(closeAll);
after(hangUpAll);

/** Whether this door has a word that means exactly this status, so that it can set it. */
const asks = (door, status) => {
  const word = WORDS[status][door];
  const means = { OUT_FOR_DELIVERY: 'in_transit', CONFIRMED: 'accepted', READY: 'ready_for_pickup', PENDING: 'pending' };
  return word !== null && (door === 'tracking' || (means[word.toUpperCase()] ?? status) === status);
};
const WRITERS = {
  '/realtime': { can: () => true, set: ({ staff, id }, status) => staff.ask('order:status_update', { orderId: id, status }) },
  'PATCH /orders/{id}/status': { can: () => true, set: ({ id }, status) => server.status(id, status, ADMIN) },
  'PUT /api/orders/{id}/status': {
    can: (status) => asks('track', status),
    set: ({ id }, status) => server.ok('PUT', `/api/orders/${id}/status`, { status: WORDS[status].track }, ADMIN),
  },
  'PATCH /api/v1/orders/{id}/status': {
    can: (status) => asks('ws', status),
    set: ({ id }, status) => server.ok('PATCH', `/api/v1/orders/${id}/status`, { status: WORDS[status].ws }, ADMIN),
  },
  'POST /tracking/update/{id}': {
    can: (status) => asks('tracking', status),
    set: ({ session, rider }, status) => server.ok('POST', `/tracking/update/${session}`, { lat: 45.2, lng: 13.6, status: WORDS[status].tracking }, rider),
  },
  '/ws/tracking/{id}': {
    can: (status) => asks('tracking', status),
    set: ({ reporter }, status) => reporter.ask({ type: 'location_update', location: { lat: 45.2, lng: 13.6, status: WORDS[status].tracking } }, 'status_change'),
  },
};

/** The order's customer at every door. The tracking session is added with the driver. */
async function cast() {
  const who = people();
  const { id } = await server.create(who);
  const user = as(who.customer, 'customer');
  const doors = {
    realtime: await connect(server, { user }), page: await visit(server, { user }),
    track: await track(server, user, id), ws: await watch(server, user, id),
  };
  await doors.realtime.ask('subscribe:order', { orderId: id });
  await doors.realtime.next('order:status_update', ({ snapshot }) => snapshot);
  return { who, id, user, doors, staff: await connect(server, { user: ADMIN }), rider: as(who.driver, 'driver') };
}

/** Assigns the driver and starts a tracking session. */
async function assign(one) {
  await server.assign(one.id, one.who.driver);
  one.session = (await begin(server, one.rider, one.id)).tracking_id;
  one.doors.tracking = await trace(server, one.session, one.user);
  one.reporter = await trace(server, one.session, one.rider);
}

/** Checks what each door said of an order that went through these states: [[status, seq], …] from the first change on. */
async function verify({ id, doors: { realtime, page, track: line, ws, tracking } }, statuses) {
  const changes = statuses.map((status, i) => [status, i + 2]);
  const last = statuses.length + 1;
  await realtime.until(() => realtime.of('order:status_update').some(({ seq }) => seq === last), '/realtime to hear the last');
  assert.deepEqual(realtime.of('order:status_update').filter(({ snapshot }) => !snapshot).map(({ status, seq }) => [status, seq]), changes, '/realtime');

  const updates = () => heard(page, id).filter(({ name }) => name === 'orderStatusUpdate').map(({ payload }) => [payload.status, payload.seq]);
  await page.until(() => heard(page, id).at(-1)?.payload.status === statuses.at(-1) && heard(page, id).at(-1).name === 'trackingUpdate', 'the page to hear the last');
  assert.deepEqual(updates(), changes, 'the default namespace');
  const shown = heard(page, id).filter(({ name, payload }) => name === 'trackingUpdate' && !isPlace(page, payload)).map(({ payload }) => payload.status);
  assert.deepEqual(shown, statuses, 'the default namespace, trackingUpdate');

  await line.next('order_update', ({ seq }) => seq === last);
  assert.deepEqual(line.of('order_update').map(({ status, seq }) => [status, seq]), [['pending', 1], ...changes.map(([status, seq]) => [WORDS[status].track, seq])], '/orders/track');

  await ws.next('order:updated', ({ data }) => data.seq === last);
  assert.deepEqual(ws.of('order:updated').map(({ data }) => [data.status, data.seq]), [['PENDING', 1], ...changes.map(([status, seq]) => [WORDS[status].ws, seq])], '/ws');
  await ws.count('orders:changed', changes.length);
  assert.deepEqual(ws.of('orders:changed').map(({ status }) => status), statuses.map((status) => WORDS[status].ws), '/ws, orders:changed');

  if (!tracking) return;
  const words = statuses.slice(statuses.indexOf('assigned_to_driver') + 1).map((status) => WORDS[status].tracking).filter((word) => word);
  await tracking.count('status_change', words.length);
  assert.deepEqual(tracking.of('status_change').map(({ data }) => data.status), words, '/ws/tracking');
}

/** A trackingUpdate about a position only: its history is as long as that of the one before it. */
function isPlace(page, payload) {
  const all = page.of('trackingUpdate').filter(({ orderId }) => orderId === payload.orderId);
  const before = all[all.indexOf(payload) - 1];
  return before !== undefined && before.statusHistory.length === payload.statusHistory.length;
}

const LIFE = ['accepted', 'preparing', 'ready_for_pickup', 'assigned_to_driver', 'picked_up', 'in_transit', 'delivered'];

describe('Every status, set through every door', { concurrency: 2 }, () => {
  for (const [door, writer] of Object.entries(WRITERS)) {
    test(`A status set through ${door} is heard through all five`, { timeout: 60_000 }, async () => {
      const one = await cast();
      let own = 0;
      for (const status of LIFE) {
        if (status === 'assigned_to_driver') await assign(one);
        else if (writer.can(status)) { await writer.set(one, status); own += 1; }
        else await server.status(one.id, status);
      }
      assert.ok(own >= 3, `${door} set ${own} of them`);
      await verify(one, LIFE);
    });
  }

  for (const [way, cancel] of Object.entries({
    '/realtime': ({ staff, id }) => staff.ask('order:status_update', { orderId: id, status: 'cancelled' }),
    'POST /orders/{id}/cancel': ({ id, user }) => server.ok('POST', `/orders/${id}/cancel`, {}, user),
    'PUT /api/orders/{id}/status': ({ id, user }) => server.ok('PUT', `/api/orders/${id}/status`, { status: 'cancelled' }, user),
    'POST /api/v1/orders/{id}/cancel': ({ id, user }) => server.ok('POST', `/api/v1/orders/${id}/cancel`, {}, user),
  })) {
    test(`An order cancelled through ${way} is cancelled at every door`, { timeout: 60_000 }, async () => {
      const one = await cast();
      await server.pay(one.id);
      await server.status(one.id, 'accepted');
      await cancel(one);
      await verify(one, ['payment_confirmed', 'accepted', 'cancelled']);
    });
  }

  test('A payment verified through /api/v1 shows at every door', { timeout: 60_000 }, async () => {
    const one = await cast();
    await server.ok('POST', `/api/v1/orders/${one.id}/payment/verify`, { reference: 'pay_1' }, one.user);
    const { events } = await server.events(one.id);
    await verify(one, events.slice(1).map(({ status }) => status));
    assert.equal((await server.order(one.id)).status, 'accepted');
  });
});

test('Every REST view shows every change in its own words', { timeout: 60_000 }, async () => {
  const one = await cast();
  const look = async (status) => {
    const read = (path, user = one.user) => server.ok('GET', path, undefined, user);
    const [order, tracking, old, v1, list] = await Promise.all([read(`/orders/${one.id}`), read(`/orders/${one.id}/tracking`),
      read(`/api/orders/${one.id}`), read(`/api/v1/orders/${one.id}`), read('/api/v1/orders')]);
    assert.deepEqual([order.status, tracking.status, old.order.status, v1.data.status, list.data[0].status],
      [status, status, WORDS[status].track, WORDS[status].ws, WORDS[status].ws]);
    assert.deepEqual([tracking.seq, old.order.seq, v1.data.seq, list.data[0].seq], Array(4).fill(order.seq));
    if (one.session) assert.equal((await read(`/tracking/${one.session}`, null)).status, WORDS[status].tracking);
  };
  await look('pending');
  for (const status of LIFE) {
    if (status === 'assigned_to_driver') await assign(one);
    else await server.status(one.id, status);
    await look(status);
  }
});

test('The driver\'s position, reported through each door, shows at each door that has positions', { timeout: 60_000 }, async () => {
  const one = await cast();
  for (const status of ['accepted', 'ready_for_pickup']) await server.status(one.id, status);
  await assign(one);
  await server.status(one.id, 'picked_up');
  const phone = await connect(server, { user: one.rider });
  const ways = {
    '/realtime': (latitude) => phone.ask('driver:location', { ...AT, latitude, orderId: one.id }),
    'POST /tracking/update/{id}': (lat) => server.ok('POST', `/tracking/update/${one.session}`, { lat, lng: AT.longitude }, one.rider),
    '/ws/tracking/{id}': (lat) => one.reporter.ask({ type: 'location_update', location: { lat, lng: AT.longitude } }, 'location_update', ({ data }) => data.current_location?.lat === lat),
  };
  const places = [];
  for (const round of [1, 2]) {
    for (const [i, report] of Object.values(ways).entries()) {
      places.push(61 + round / 10 + i / 100);
      await report(places.at(-1));
    }
  }
  const { realtime, page, track: line, ws, tracking } = one.doors;
  const last = places.at(-1);
  await realtime.next('driver:location_update', ({ latitude }) => latitude === last);
  await page.next('trackingUpdate', ({ location }) => location?.latitude === last);
  await line.next('driver_location', ({ lat }) => lat === last);
  await tracking.next('location_update', ({ data }) => data.current_location?.lat === last);
  await ws.flush();
  const distinct = (list) => list.filter((place, i) => place !== undefined && place !== list[i - 1]);
  assert.deepEqual(realtime.of('driver:location_update').map(({ latitude }) => latitude), places, '/realtime');
  assert.deepEqual(distinct(page.of('trackingUpdate').map(({ location }) => location?.latitude)), places, 'the default namespace');
  assert.deepEqual(line.of('driver_location').map(({ lat }) => lat), places, '/orders/track');
  assert.deepEqual(distinct(tracking.of('location_update').map(({ data }) => data.current_location?.lat)), places, '/ws/tracking');
  assert.ok(!JSON.stringify(ws.messages).includes('61.1'), '/ws has no places');
  const { driverLatitude } = await server.tracking(one.id, one.user);
  assert.equal(driverLatitude, last);
});

test('A driver who loses the order loses it at every door', { timeout: 60_000 }, async () => {
  const who = people();
  const { id } = await server.assigned(who);
  const rider = as(who.driver, 'driver');
  const app = await connect(server, { user: rider });
  await app.ask('subscribe:order', { orderId: id });
  const [page, line, ws] = [await visit(server, { user: rider }), await track(server, rider, id), await watch(server, rider, id)];
  const kept = await server.assigned(who);
  await server.assign(id, people().driver);
  await server.status(id, 'picked_up');
  await server.status(kept.id, 'picked_up');
  await page.next('orderStatusUpdate', ({ orderId }) => orderId === kept.id);
  await line.flush();
  await ws.flush();
  assert.deepEqual(heard(page, id), [], 'the default namespace');
  assert.equal(line.of('order_update').at(-1).seq, 3, '/orders/track');
  assert.equal(ws.of('order:updated').at(-1).data.seq, 3, '/ws');
  for (const [one, message] of [[line, { type: 'subscribe', order_id: id }], [ws, { type: 'subscribe', orderId: id }]]) {
    assert.equal((await one.ask(message, 'error', ({ code }) => code === 'not_found')).code, 'not_found');
  }
});

test('On SIGTERM every door closes in a way that makes clients reconnect, and they miss nothing', { timeout: 60_000 }, async (t) => {
  const own = await Server.start();
  t.after(() => own.close());
  const { id, who, session, rider } = await onTheWay(own);
  const user = as(who.customer, 'customer');
  const page = await visit(own, { user });
  const apps = {
    track: await install(own, '/orders/track', user, (app) => app.send({ type: 'subscribe', order_id: id, since: app.of('order_update').at(-1)?.seq })),
    ws: await install(own, '/ws', user, (app) => app.send({ type: 'subscribe', orderId: id })),
    tracking: await install(own, `/ws/tracking/${session}`, rider, () => {}),
  };
  await Promise.all([apps.track.next('order_update'), apps.ws.next('order:updated'), apps.tracking.next('initial_state')]);
  assert.equal(await own.stop(), 0);
  for (const [door, app] of Object.entries(apps)) assert.deepEqual(await app.closed, { code: 1001, reason: 'Server going away' }, door);
  await page.next('(disconnect)');
  await own.run();
  const { seq } = await own.status(id, 'picked_up', ADMIN);
  assert.equal((await apps.track.next('order_update', (update) => update.seq === seq, 20_000)).status, 'out_for_delivery');
  assert.equal((await apps.ws.next('order:updated', ({ data }) => data.seq === seq, 20_000)).data.status, 'OUT_FOR_DELIVERY');
  await apps.tracking.until(() => apps.tracking.messages.some(({ data }) => data?.status === 'PICKED_UP'), 'the session to be picked up', 20_000);
  await page.next('orderStatusUpdate', (update) => update.seq === seq, 20_000);
  assert.equal(apps.track.of('order_update').filter((update) => update.seq === seq).length, 1);
});
