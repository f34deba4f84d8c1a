// A thousand events at once reach every healthy client, all of them and in order, on every version and transport.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { as, people, SERVICE, Server } from '../support/server.mjs';
import { gapless } from '../support/shapes.mjs';

const server = await Server.start({ env: { SOCKET_REQUESTS_PER_SECOND: '0', LOCATION_RATE_PER_SECOND: '0' } });
after(() => server.close());
afterEach(closeAll);

const BURST = 1000;
const LANES = 20;
const WRITERS = 8;
// Older clients put everything they send into one polling request. Its answers, two for each fix, wait for the next poll, and the
// server keeps only 256 waiting packets (MAX_SOCKET_BUFFER).
const LOT = 100;
const everyone = () => Promise.all(combos.map(async (combo) => {
  const client = await connect(server, { ...combo, user: SERVICE });
  if (combo.transport === 'upgrade') await client.upgraded();
  return { what: label(combo), polls: combo.transport === 'polling', client };
}));

test('1,000 announcements from 20 concurrent callers arrive', { timeout: 60_000 }, async () => {
  const sockets = await everyone();
  await Promise.all(Array.from({ length: LANES }, async (_, lane) => {
    for (let n = 0; n < BURST / LANES; n += 1) {
      await server.announce({ role: 'service', event: 'burst', data: { lane, n } });
    }
  }));
  for (const { client, what } of sockets) {
    const got = await client.count('burst', BURST);
    assert.equal(got.length, BURST, what);
    for (let lane = 0; lane < LANES; lane += 1) {
      const numbers = got.filter((data) => data.lane === lane).map((data) => data.n);
      assert.deepEqual(numbers, numbers.map((_, i) => i), `${what}: caller ${lane}`);
    }
  }
});

test('1,000 changes are replayed at once, and live ones follow', { timeout: 120_000 }, async () => {
  const who = people();
  const { id: orderId } = await server.assigned(who);
  // each writer has two drivers, so that every assignment is a change
  await Promise.all(Array.from({ length: WRITERS }, async () => {
    const drivers = [people().driver, people().driver];
    for (let i = 0; i < BURST / WRITERS; i += 1) await server.assign(orderId, drivers[i % 2]);
  }));
  const sockets = await everyone();
  await Promise.all(sockets.map(({ client }) => client.ask('subscribe:order', { orderId, since: 1 })));
  const { seq } = await server.assign(orderId, people().driver);
  for (const { client, what } of sockets) {
    const updates = await client.count('order:status_update', seq - 1);
    gapless(updates, 2, what);
  }
});

/** Of 1,000 fixes a WebSocket client gets all. A polling client may skip some, and is told how many. */
function checkFixes(fixes, polls, what) {
  const numbers = fixes.map((fix) => Math.round((fix.longitude - 13) * 10_000));
  if (!polls) assert.deepEqual(numbers, Array.from({ length: BURST }, (_, n) => n), what);
  let before = -1;
  for (const [i, { conflated }] of fixes.entries()) {
    assert.equal(numbers[i], before + 1 + conflated, `${what}: ${numbers[i]} after ${before}, conflated ${conflated}`);
    before = numbers[i];
  }
  assert.equal(before, BURST - 1, `${what}: the newest is the last`);
}

test('1,000 fixes sent without a pause are shown in the order sent', { timeout: 60_000 }, async () => {
  const who = people();
  const { id: orderId } = await server.assigned(who);
  const sockets = await everyone();
  await Promise.all(sockets.map(({ client }) => client.ask('subscribe:order', { orderId })));
  for (const combo of combos) {
    const driver = await connect(server, { ...combo, user: as(who.driver, 'driver') });
    for (let n = 0; n < BURST; n += LOT) {
      await Promise.all(Array.from({ length: LOT }, (_, i) => driver.ask('driver:location',
        { latitude: 45, longitude: 13 + (n + i) / 10_000 })));
      // on a busy machine a reader may be behind and skip some too
      await Promise.all(sockets.filter(({ polls }) => !polls).map(({ client, what }) => client.until(
        () => client.of('driver:location_update').length >= n + LOT, `${what}: ${n + LOT} fixes`)));
    }
    await driver.count('driver:location_acknowledged', BURST);
    for (const { client, what, polls } of sockets) {
      await client.until(() => client.of('driver:location_update').at(-1)?.longitude === 13 + (BURST - 1) / 10_000, `${what}: the last fix`);
      checkFixes(client.of('driver:location_update'), polls, `${what} watching, ${label(combo)} driving`);
      client.events.length = 0;
    }
    driver.close();
  }
});
