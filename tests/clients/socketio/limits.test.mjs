// The default limits, and the order in which the requests of one socket are handled.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { as, people, Server } from '../support/server.mjs';

const server = await Server.start();
const unlimited = await Server.start({ env: { SOCKET_REQUESTS_PER_SECOND: '0', LOCATION_RATE_PER_SECOND: '0' } });
after(() => Promise.all([server.close(), unlimited.close()]));
after(closeAll);

const AT = { latitude: 45.2, longitude: 13.6 };
const [RATE, BURST, FIXES] = [2, 10, 30];

/** Sends more fixes at once than allowed. The burst passes; of the rest, the rate lets through only as many as the elapsed time permits. */
async function tooMany(drivers) {
  const began = Date.now();
  const answers = await Promise.all(Array.from({ length: FIXES }, (_, i) => drivers[i % drivers.length].request('driver:location', AT)));
  const refused = answers.filter((answer) => !answer.ok);
  const least = FIXES - BURST - Math.ceil(RATE * (Date.now() - began) / 1000);
  assert.ok(least > 0 && refused.length >= least, `${refused.length} of ${FIXES} were refused, not ${least}`);
  return { answers, refused };
}

describe('Limits', { concurrency: 4 }, () => {
  for (const combo of combos) {
    test(`${label(combo)}: a burst of 10 fixes passes, then rate_limited says when to retry`, async () => {
      const who = people();
      await server.assigned(who);
      const driver = await connect(server, { ...combo, user: as(who.driver, 'driver') });
      const { answers, refused } = await tooMany([driver]);
      assert.deepEqual(answers.slice(0, BURST).map((answer) => answer.ok), Array(BURST).fill(true));
      for (const { error } of refused) {
        assert.equal(error.code, 'rate_limited');
        assert.ok(Number.isInteger(error.retryAfterMs) && error.retryAfterMs > 0 && error.retryAfterMs <= 1000, JSON.stringify(error));
      }
      // after that time one more passes
      await new Promise((resolve) => { setTimeout(resolve, refused.at(-1).error.retryAfterMs + 20); });
      await driver.ask('driver:location', AT);
      assert.deepEqual(driver.of('(disconnect)'), []);
    });

    test(`${label(combo)}: 50 mixed requests are answered in the order sent`, async () => {
      const who = people();
      const { id: orderId } = await unlimited.assigned(who);
      const driver = await connect(unlimited, { ...combo, user: as(who.driver, 'driver') });
      // slow requests (a commit, a database read) between fast ones (memory only): they would overtake each other if handled in parallel
      const kinds = [
        ['order:status_update', { orderId, status: 'picked_up' }], ['ping:latency', { t: 1 }], ['order:tracking', { orderId }],
        ['driver:location', AT], ['subscribe:order', { orderId }], ['unsubscribe:order', { orderId }],
        ['order:status_update', { orderId, status: 'in_transit' }], ['subscribe:order', {}],
      ];
      const order = [];
      await Promise.all(Array.from({ length: 50 }, (_, i) => driver.request(...kinds[i % kinds.length]).then((answer) => {
        order.push(i);
        const refused = i % kinds.length === 7 || (i >= kinds.length && i % kinds.length === 0);
        assert.equal(answer.ok, !refused, `request ${i}: ${JSON.stringify(answer)}`);
      })));
      assert.deepEqual(order, Array.from({ length: 50 }, (_, i) => i));
    });
  }

  test('The limit on fixes is per driver, not per socket', async () => {
    const who = people();
    await server.assigned(who);
    const [one, two] = await Promise.all(['4', '2'].map((client) => connect(server, { client, user: as(who.driver, 'driver') })));
    await tooMany([one, two]);
  });
});
