// How tracking sessions end (003_63c82b99cdd90de3.txt). They expire an hour after the delivery or a day after the start, here sooner.
// The order service is told of the delivery until it accepts the call.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { after, describe, test } from 'node:test';
import { begin, hangUpAll, ring, trace } from '../support/doors.mjs';
import { ADMIN, as, people, Server } from '../support/server.mjs';

const AT = { lat: 45.25, lng: 13.61 };
const EXPIRED = { code: 1008, reason: 'Session expired' };

after(hangUpAll);

let count = 0;
const rider = () => as(people().driver, 'driver');
const unheard = () => `ORD-${count += 1}`;
const update = (on, id, body, user) => on.call('POST', `/tracking/update/${id}`, body, user);

async function start(t, env) {
  const server = await Server.start({ env: { LOCATION_RATE_PER_SECOND: '0', ...env } });
  t.after(() => server.close());
  return server;
}

/** The session is over for everybody: open sockets, new sockets and REST calls. */
async function over(server, id, user, line, what) {
  assert.deepEqual(await line.closed, EXPIRED, what);
  const last = line.messages.at(-1);
  assert.deepEqual([last.type, last.message], ['error', 'Tracking session expired'], what);
  for (const one of [undefined, user]) assert.deepEqual(await ring(server, `/ws/tracking/${id}`, one).closed, EXPIRED, what);
  const { status, body } = await server.call('GET', `/tracking/${id}`, undefined, null);
  assert.deepEqual([status, body.status, body.statusCode], [410, 410, 410], what);
  assert.equal((await update(server, id, AT, user)).status, 410, what);
}

describe('expiry', { concurrency: 3 }, () => {
  test('A session expires some time after the delivery, not before, whichever door delivered', async (t) => {
    const TTL = 1000;
    const server = await start(t, { TRACKING_DELIVERED_TTL_MS: `${TTL}` });
    await Promise.all(['its own', 'PATCH /orders/{id}/status', 'PUT /api/orders/{id}/status'].map(async (door) => {
      const [user, order] = [rider(), unheard()];
      const { tracking_id: id } = await begin(server, user, order);
      const bystander = await begin(server, user, unheard());
      const [line, other] = [await trace(server, id), await trace(server, bystander.tracking_id)];
      const asked = Date.now();
      if (door === 'its own') assert.equal((await update(server, id, { ...AT, status: 'DELIVERED' }, user)).body.status, 'DELIVERED');
      else if (door.startsWith('PATCH')) await server.status(order, 'delivered');
      else await server.ok('PUT', `/api/orders/${order}/status`, { status: 'delivered' }, ADMIN);
      await line.next('status_change', ({ data }) => data.status === 'DELIVERED');
      assert.equal((await server.call('GET', `/tracking/${id}`, undefined, null)).status, 200, `${door}: it can still be looked at`);
      await over(server, id, user, line, door);
      assert.ok(Date.now() - asked >= TTL - 50, `${door}: ${Date.now() - asked} ms`);
      // the other sessions go on
      await update(server, bystander.tracking_id, AT, user);
      await other.next('location_update');
      assert.deepEqual(other.of('(close)'), []);
    }));
    const { total_active_sessions: active, status_distribution: statuses } = await server.ok('GET', '/stats/tracking', undefined, ADMIN);
    assert.deepEqual([active, statuses.DELIVERED], [3, 0]);
  });

  test('A session expires some time after its start, whatever happens in it, and a new one may be started', async (t) => {
    const TTL = 1500;
    const server = await start(t, { TRACKING_TTL_MS: `${TTL}` });
    const [user, order] = [rider(), unheard()];
    const asked = Date.now();
    const { tracking_id: id } = await begin(server, user, order);
    const line = await trace(server, id, user);
    await update(server, id, { ...AT, status: 'IN_TRANSIT' }, user);
    await line.next('status_change');
    await over(server, id, user, line, 'the session');
    assert.ok(Date.now() - asked >= TTL - 50, `${Date.now() - asked} ms`);
    assert.equal((await server.call('GET', `/tracking/rider/${user.sub}`, undefined, user)).status, 404);
    assert.equal((await server.order(order)).status, 'in_transit', 'the order goes on');
    const again = await begin(server, user, order);
    assert.notEqual(again.tracking_id, id);
    assert.equal(again.status, 'IN_TRANSIT');
  });

  test('A session ends at once when the order is cancelled or goes to another rider', async (t) => {
    const server = await start(t);
    for (const end of [(order) => server.status(order, 'cancelled'), (order) => server.unassign(order), (order) => server.assign(order, people().driver)]) {
      const [user, order] = [rider(), unheard()];
      const { tracking_id: id } = await begin(server, user, order);
      const line = await trace(server, id);
      await end(order);
      await over(server, id, user, line, `${end}`);
    }
  });

  test('A session that expired while the server was killed has ended after the restart', async (t) => {
    const server = await start(t, { TRACKING_DELIVERED_TTL_MS: '300' });
    const [user, order] = [rider(), unheard()];
    const { tracking_id: id } = await begin(server, user, order);
    await update(server, id, { ...AT, status: 'DELIVERED' }, user);
    await server.kill9();
    await server.run();
    // some of its time may be left: then the socket is closed when it expires
    await over(server, id, user, ring(server, `/ws/tracking/${id}`), 'after the restart');
  });
});

/** The order service of a shop. It refuses the first `refusals` calls of each order, each in another way, and then accepts. */
async function orderService(t, refusals) {
  const calls = [];
  const looks = new Set();
  const service = http.createServer(async (request, response) => {
    let text = '';
    for await (const data of request) text += data;
    const call = { method: request.method, url: request.url, key: request.headers['idempotency-key'], type: request.headers['content-type'], body: JSON.parse(text) };
    const before = calls.filter(({ url }) => url === call.url).length;
    call.accepted = before >= refusals();
    calls.push(call);
    if (call.accepted) response.writeHead(before % 2 ? 204 : 200).end();
    else if (before % 3 === 0) request.socket.destroy();
    else response.writeHead(before % 3 === 1 ? 503 : 409).end('not now');
    for (const look of looks) look();
  });
  service.listen(0, '127.0.0.1');
  await once(service, 'listening');
  t.after(() => { service.closeAllConnections(); service.close(); });
  return {
    calls,
    url: `http://127.0.0.1:${service.address().port}`,
    of: (order) => calls.filter(({ url }) => url.endsWith(`/orders/${order}/status`)),
    until: (check, what) => new Promise((resolve, reject) => {
      const look = () => { if (check()) { clearTimeout(timer); looks.delete(look); resolve(); } };
      const timer = setTimeout(() => reject(new Error(`waited for ${what}; the calls were ${JSON.stringify(calls)}`)), 30_000);
      looks.add(look);
      look();
    }),
  };
}

describe('The order service is told of the delivery', { concurrency: 3 }, () => {
  test('The server calls until one call is accepted, with one idempotency key, whichever door delivered, and for nothing else', { timeout: 60_000 }, async (t) => {
    const service = await orderService(t, () => 3);
    const server = await start(t, { ORDER_SERVICE_URL: `${service.url}/shop`, ORDER_SERVICE_RETRY_MS: '50' });
    const user = rider();
    const orders = [unheard(), unheard(), unheard()];
    const sessions = [];
    for (const order of orders) sessions.push((await begin(server, user, order)).tracking_id);
    const untracked = await server.assigned(people());
    const cancelled = unheard();
    await begin(server, user, cancelled);

    const from = Math.floor(Date.now() / 1000);
    await server.status(untracked.id, 'delivered');
    await server.status(cancelled, 'cancelled');
    await update(server, sessions[0], { ...AT, status: 'IN_TRANSIT' }, user);
    await update(server, sessions[0], { ...AT, status: 'DELIVERED' }, user);
    await server.status(orders[1], 'delivered');
    await server.ok('PATCH', `/api/v1/orders/${orders[2]}/status`, { status: 'DELIVERED' }, ADMIN);
    await service.until(() => orders.every((order) => service.of(order).some(({ accepted }) => accepted)), 'all to be accepted');
    await update(server, sessions[0], { ...AT, status: 'DELIVERED' }, user); // the rider's retry is no second delivery
    // one more order: when its call has come, no call of the others is still on its way
    const last = unheard();
    const { tracking_id: id } = await begin(server, user, last);
    await update(server, id, { ...AT, status: 'DELIVERED' }, user);
    await service.until(() => service.of(last).some(({ accepted }) => accepted), 'the last');

    const keys = [];
    for (const order of [...orders, last]) {
      const calls = service.of(order);
      const { deliveredAt } = await server.tracking(order);
      assert.deepEqual(calls.map(({ accepted }) => accepted), [false, false, false, true], order);
      for (const { method, url, key, type, body } of calls) {
        assert.deepEqual([method, url, key], ['POST', `/shop/orders/${order}/status`, calls[0].key]);
        assert.match(type, /^application\/json/);
        assert.deepEqual(body, { status: 'DELIVERED', delivered_at: Math.floor(Date.parse(deliveredAt) / 1000) });
        assert.ok(body.delivered_at >= from);
      }
      assert.ok(calls[0].key, 'it has a key');
      keys.push(calls[0].key);
    }
    assert.equal(new Set(keys).size, keys.length, 'a key an order');
    assert.deepEqual([...service.of(untracked.id), ...service.of(cancelled)], []);
    assert.equal(service.calls.length, 16);
  });

  test('The calls go on after kill -9 and after the service was down', { timeout: 60_000 }, async (t) => {
    let refusals = Infinity;
    const service = await orderService(t, () => refusals);
    const server = await start(t, { ORDER_SERVICE_URL: service.url, ORDER_SERVICE_RETRY_MS: '50' });
    const [user, order] = [rider(), unheard()];
    const { tracking_id: id } = await begin(server, user, order);
    const { status } = await update(server, id, { ...AT, status: 'DELIVERED' }, user);
    assert.equal(status, 200, 'the delivery does not wait for the order service');
    for (const tries of [1, 2, 3]) {
      await service.until(() => service.of(order).length >= tries, `${tries} tries`);
      await server.kill9();
      await server.run();
    }
    const { length } = service.of(order);
    await service.until(() => service.of(order).length > length, 'it goes on after the restart');
    refusals = 0;
    await service.until(() => service.of(order).some(({ accepted }) => accepted), 'it to be accepted');
    for (const restart of [false, true]) {
      if (restart) {
        await server.kill9();
        await server.run();
      }
      const next = unheard();
      const { tracking_id: another } = await begin(server, user, next);
      await update(server, another, { ...AT, status: 'DELIVERED' }, user);
      await service.until(() => service.of(next).some(({ accepted }) => accepted), 'the next order\'s');
    }
    const calls = service.of(order);
    assert.equal(new Set(calls.map(({ key }) => key)).size, 1, 'one key in all lives of the server');
    assert.ok(calls.findIndex(({ accepted }) => accepted) >= 3, `${calls.length} calls`);
    assert.equal(calls.filter(({ accepted }) => accepted).length, 1, 'accepted once');
  });
});
