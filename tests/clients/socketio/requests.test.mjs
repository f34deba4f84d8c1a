// Every request of the "Client → server" table from every client: its answer, and its refusal with and without an ack.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { start } from '../support/recovery.mjs';
import { as, people, SERVICE, Server } from '../support/server.mjs';
import * as shapes from '../support/shapes.mjs';

const server = await Server.start();
after(() => server.close());
afterEach(closeAll);

const POINT = { latitude: 45.25, longitude: 13.65 };
const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();

for (const combo of combos) {
  test(`${label(combo)}: subscribe, track, unsubscribe and ping are answered`, async () => {
    const who = people();
    const { id: orderId, seq } = await server.create(who);
    const client = await connect(server, { ...combo, user: SERVICE });

    const { t, serverTime } = await client.ask('ping:latency', { t: 12345.5 });
    assert.equal(t, 12345.5);
    assert.ok(Math.abs(Date.parse(serverTime) - Date.now()) < 5000);

    const tracking = await client.ask('order:tracking', { orderId });
    const { ok, ...rest } = tracking;
    shapes.check(rest.tracking ?? rest, shapes.TRACKING, 'order:tracking');

    const subscribed = await client.ask('subscribe:order', { orderId });
    assert.deepEqual([subscribed.orderId, subscribed.seq, subscribed.status], [orderId, seq, 'pending']);
    const snapshot = await client.next('order:status_update');
    shapes.check(snapshot, shapes.STATUS_UPDATE, 'the snapshot');
    assert.deepEqual([snapshot.snapshot, snapshot.seq, snapshot.status], [true, seq, 'pending']);

    const changed = await server.status(orderId, 'accepted');
    const live = await client.next('order:status_update');
    assert.deepEqual([live.seq, live.snapshot, live.replayed], [changed.seq, undefined, undefined]);

    await client.ask('unsubscribe:order', { orderId });
    await server.status(orderId, 'preparing');
    await client.ask('subscribe:order', { orderId, since: changed.seq });
    const replayed = await client.next('order:status_update');
    assert.deepEqual([replayed.seq, replayed.status, replayed.replayed, replayed.snapshot],
      [changed.seq + 1, 'preparing', true, undefined]);
  });

  test(`${label(combo)}: a driver reports fixes, one by one and in a batch`, async () => {
    const who = people();
    const { id: orderId } = await server.assigned(who);
    const driver = await connect(server, { ...combo, user: as(who.driver, 'driver') });
    const watcher = await connect(server, { user: as(who.customer, 'customer') });
    await watcher.ask('subscribe:order', { orderId });

    const { receivedAt } = await driver.ask('driver:location', { ...POINT, recordedAt: ago(600) });
    assert.ok(Math.abs(Date.parse(receivedAt) - Date.now()) < 5000);
    const noted = await driver.next('driver:location_acknowledged');
    assert.deepEqual(noted.orderIds, [orderId], 'without orderId: every active order of the driver');
    assert.equal((await watcher.next('driver:location_update')).latitude, POINT.latitude);

    driver.send('driver:location', { ...POINT, latitude: 45.26, orderId, recordedAt: ago(590) });
    await driver.next('driver:location_acknowledged');
    assert.equal((await watcher.next('driver:location_update')).latitude, 45.26);

    const points = [
      { ...POINT, latitude: 45.31, recordedAt: ago(500) },
      { ...POINT, latitude: 145.3, recordedAt: ago(490) },
      { ...POINT, latitude: 45.33, recordedAt: ago(480) },
      { ...POINT, latitude: 45.34, recordedAt: ago(-3600) },
    ];
    const batch = await driver.ask('driver:location_batch', { points });
    assert.equal(batch.accepted, 2);
    assert.deepEqual(batch.rejected.map(({ index, code, member }) => [index, code, member]), [[1, 'invalid_payload', 'latitude'], [3, 'clock_skew', 'recordedAt']]);
    for (const { member, message } of batch.rejected) assert.ok(message.includes(member), message);
    assert.equal((await watcher.next('driver:location_update')).latitude, 45.33, 'only the newest is shown live');

    await driver.ask('driver:location', { ...POINT, latitude: 45.99, recordedAt: ago(3600) });
    await driver.ask('driver:location', { ...POINT, latitude: 45.35, recordedAt: ago(1) });
    assert.equal((await watcher.next('driver:location_update')).latitude, 45.35, 'a late fix is kept out of the live stream');
    const { driverLatitude, lastLocationUpdate } = await watcher.ask('order:tracking', { orderId })
      .then((answer) => answer.tracking ?? answer);
    assert.equal(driverLatitude, 45.35);
    assert.ok(!Number.isNaN(Date.parse(lastLocationUpdate)));
  });

  test(`${label(combo)}: statuses are set over the socket, within the rules`, async () => {
    const who = people();
    const { id: orderId, seq } = await server.create(who);
    const chef = await connect(server, { ...combo, user: as(who.chef, 'chef') });

    const change = (payload) => chef.request('order:status_update', { orderId, ...payload });
    const done = await change({ status: 'accepted', note: 'at once', expectedSeq: seq });
    assert.deepEqual(done, { ok: true, orderId, status: 'accepted', seq: seq + 1 });
    assert.deepEqual(await change({ status: 'accepted' }), done, 'asking again changes nothing');
    const refusals = [
      [{ status: 'preparing', expectedSeq: seq }, 'stale_seq'],
      [{ status: 'picked_up' }, 'illegal_transition'], // only the driver may set it
      [{ status: 'baked' }, 'invalid_payload'],
      [{ status: 7 }, 'invalid_payload'],
      [{ orderId: 'nobody-knows', status: 'accepted' }, 'not_found'],
    ];
    for (const [payload, code] of refusals) {
      const { ok, error } = await change(payload);
      assert.deepEqual([ok, error?.code], [false, code], JSON.stringify(payload));
      assert.ok(error.message);
      // without an ack the same refusal comes as an `error` event
      chef.send('order:status_update', { orderId, ...payload });
      const event = await chef.next('error');
      shapes.check(event, shapes.ERROR, 'error', { open: true });
      assert.deepEqual([event.code, event.event], [code, 'order:status_update']);
    }
    await server.status(orderId, 'cancelled');
    assert.equal((await change({ status: 'preparing' })).error.code, 'illegal_transition');
  });

  test(`${label(combo)}: each request is refused by name, with an ack and without`, async () => {
    const [who, other] = [people(), people()];
    const { id: foreign } = await server.create(other);
    const client = await connect(server, { ...combo, user: as(who.customer, 'customer') });
    const requests = [
      ['subscribe:order', { orderId: foreign }, 'not_found'],
      ['subscribe:order', { orderId: 'nobody-knows' }, 'not_found'],
      ['subscribe:order', {}, 'invalid_payload', 'orderId'],
      ['subscribe:order', { orderId: foreign, since: 'x' }, 'invalid_payload', 'since'],
      ['unsubscribe:order', { orderId: 5.5 }, 'invalid_payload', 'orderId'],
      ['order:tracking', { orderId: foreign }, 'not_found'],
      ['order:status_update', { orderId: foreign, status: 'cancelled' }, 'not_found'],
      ['driver:location', POINT, 'forbidden'],
      ['driver:location_batch', { points: [POINT] }, 'forbidden'],
    ];
    for (const [event, payload, code, member] of requests) {
      const { ok, error } = await client.request(event, payload);
      assert.deepEqual([ok, error?.code], [false, code], `${event} ${JSON.stringify(payload)}`);
      if (member) assert.ok(error.message.includes(member), `${error.message} should name ${member}`);
      client.send(event, payload);
      const told = await client.next('error');
      assert.deepEqual([told.code, told.event, told.message], [code, event, error.message]);
    }
    assert.equal(client.of('error').length, requests.length, 'a request with an ack callback has no error event besides');
    await client.ask('ping:latency', { t: 0 });
  });
}

test('A socket may follow 100 orders, and the 101st is refused', async (t) => {
  const { server: own } = await start(t, { env: { SOCKET_REQUESTS_PER_SECOND: '0' } });
  const who = people();
  const client = await connect(own, { user: as(who.customer, 'customer') });
  const ids = [];
  for (let i = 0; i < 101; i += 1) ids.push((await own.create(who)).id);
  for (const [i, orderId] of ids.entries()) {
    const answer = await client.request('subscribe:order', { orderId });
    assert.equal(answer.ok, i < 100, `subscription ${i + 1}: ${JSON.stringify(answer)}`);
    if (i === 100) assert.equal(answer.error.code, 'too_many');
  }
});
