// An app that was away sends everything at once when it comes back. No limit may cost it its session, or anything durable.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { as, people, Server } from '../support/server.mjs';

const server = await Server.start();
after(() => server.close());
afterEach(closeAll);

const fix = (i) => ({ latitude: 47.146 + i / 1e5, longitude: 9.525, recordedAt: new Date(Date.now() - 10 + i).toISOString() });

for (const combo of combos) {
  for (const collected of [51, 600]) {
    test(`${label(combo)}: comes back with ${collected} positions, a delivery and what it follows`, { timeout: 60_000 }, async () => {
      const who = people();
      const { id: orderId } = await server.assigned(who);
      const driver = await connect(server, { ...combo, user: as(who.driver, 'driver') });
      const customer = await connect(server, { user: as(who.customer, 'customer') });
      await customer.ask('subscribe:order', { orderId });
      driver.socket.io.engine.close();
      await driver.next('(disconnect)');
      for (let i = 0; i < collected; i += 1) driver.send('driver:location', fix(i));
      const answers = [
        driver.request('order:status_update', { orderId, status: 'picked_up' }),
        ...Array.from({ length: 60 }, () => driver.request('order:tracking', { orderId })),
        driver.request('order:status_update', { orderId, status: 'delivered' }),
      ];
      for (const answer of await Promise.all(answers)) assert.equal(answer.ok, true, JSON.stringify(answer));
      await customer.next('order:status_update', ({ status }) => status === 'delivered');
      const refused = driver.of('error').filter(({ code }) => code === 'rate_limited');
      assert.ok(refused.length > 0 && refused.every(({ retryAfterMs }) => retryAfterMs > 0), JSON.stringify(refused[0]));
      assert.equal(driver.of('(disconnect)').length, 1, JSON.stringify(driver.of('(disconnect)')));
    });
  }

  test(`${label(combo)}: 500 points with all their digits fit; what is too long is answered and the socket stays`, { timeout: 60_000 }, async () => {
    const driver = await connect(server, { ...combo, user: as(people().driver, 'driver') });
    const point = (i) => ({
      latitude: 47.14612345678901 + i / 1e7, longitude: 9.525123456789012 + i / 1e7, speed: 12.345678901234567 + i / 1e6,
      heading: 123.45678901234567, accuracy: 5.123456789012345, recordedAt: new Date(Date.now() - 1000 * i).toISOString(),
    });
    const points = (n) => Array.from({ length: n }, (_, i) => point(i));
    assert.deepEqual(await driver.request('driver:location_batch', { points: points(500) }), { ok: true, accepted: 500, rejected: [] });
    for (const [event, payload, limit] of [
      ['driver:location_batch', { points: points(2000) }, 262_144], ['driver:location_batch', { points: points(20_000) }, 262_144],
      ['ping:latency', { t: 'x'.repeat(70_000) }, 65_536], ['ping:latency', { t: 'é'.repeat(1_000_000) }, 65_536],
    ]) {
      const { ok, error } = await driver.request(event, payload);
      assert.deepEqual([ok, error.code, error.limit], [false, 'too_large', limit], `${event} ${limit}`);
      driver.send(event, payload);
      assert.deepEqual((({ code, event: name }) => [code, name])(await driver.next('error')), ['too_large', event]);
    }
    await driver.ask('ping:latency', { t: 1 });
    assert.deepEqual(driver.of('(disconnect)'), []);
  });
}
