// A driver's reports: at once, later, with clocks that jump, and over a restart of the app.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { eventually } from '../../tests/clients/support/server.mjs';
import { Server, TestClock, as, connected, fix, join, people, proxyTo, sent, sleep, start, until } from './support.mjs';

let server;
before(async () => { server = await Server.start(); });
after(() => server.close());

/** A driver behind a proxy, with an order. */
async function driving(t, options, reporting) {
  const who = people();
  const { id } = await server.assigned(who);
  const proxy = await proxyTo(t, server);
  const client = join(t, proxy, as(who.driver, 'driver'), options);
  const reporter = client.driver(reporting);
  await connected(client);
  const packets = sent(client);
  return {
    id, who, proxy, client, reporter,
    batches: () => packets.filter(([name]) => name === 'driver:location_batch').map(([, { points }]) => points),
    lone: () => packets.filter(([name]) => name === 'driver:location').map(([, point]) => point),
    away: async (meanwhile) => {
      proxy.block();
      proxy.cut();
      await until(client.connection, ({ phase }) => phase === 'reconnecting');
      await meanwhile();
      proxy.unblock();
      await connected(client);
    },
  };
}

const north = (i) => fix({ latitude: 45.25 + i * 1e-5 });
const emptied = (reporter) => until(reporter, ({ waiting }) => waiting === 0);
const positions = async (id) => (await server.ok('GET', `/orders/${id}/positions`)).items;
const near = (at, wanted, within = 1500) => Math.abs(Date.parse(at) - wanted) < within;

test('a report goes out at once, and its answer says what became of it', async (t) => {
  const { reporter, lone, batches } = await driving(t);
  const told = await reporter.report(fix({ accuracy: null, recordedAt: null }));
  assert.deepEqual(told, { state: 'taken', shown: true, verdict: 'shown' });
  assert.equal('recordedAt' in lone()[0], false, 'its time was not to be told');
  const outcome = await reporter.report({ latitude: NaN, longitude: 1 });
  assert.deepEqual([outcome.state, outcome.error.code, outcome.error.member], ['refused', 'invalid_payload', 'latitude']);
  const wrong = await reporter.report(fix({ latitude: 200 }));
  assert.deepEqual([wrong.state, wrong.error.code, wrong.error.member], ['refused', 'invalid_payload', 'latitude']);
  const { taken, refused, waiting, verdict, last } = reporter.get();
  assert.deepEqual([taken, refused, waiting, verdict, last.latitude, batches().length], [1, 2, 0, 'shown', 200, 0]);
});

test('what is collected while away goes out in batches of 500, in order, once', async (t) => {
  const { reporter, batches, away, id } = await driving(t, {}, { capacity: 1100 });
  await away(async () => {
    for (let i = 0; i < 1200; i += 1) assert.equal((await reporter.report(north(i))).state, 'waiting');
    assert.deepEqual([reporter.get().waiting, reporter.get().dropped, reporter.get().last.latitude], [1100, 100, 45.25 + 1199e-5]);
  });
  await emptied(reporter);
  assert.deepEqual(batches().map((points) => points.length), [500, 500, 100]);
  const points = batches().flat();
  assert.equal(points[0].latitude, north(100).latitude, 'the oldest were dropped');
  assert.ok(points.every(({ recordedAt }, i) => i === 0 || recordedAt > points[i - 1].recordedAt), 'times rise');
  assert.deepEqual([reporter.get().taken, reporter.get().refused], [1100, 0]);
  await eventually(async () => (await positions(id)).length > 0, 'positions at the server');
});

test('many in one moment: the transport takes one, and the others go out together', async (t) => {
  const { reporter, batches, lone } = await driving(t);
  const outcomes = await Promise.all(Array.from({ length: 40 }, (_, i) => reporter.report(north(i))));
  await emptied(reporter);
  assert.deepEqual([lone().length, batches().map((points) => points.length)], [1, [39]]);
  assert.equal(outcomes.filter(({ state }) => state === 'waiting').length, 39);
});

test('the server’s rate is honoured: what it does not want now goes out in a batch, after the time that it said', async (t) => {
  const slow = await start(t, { env: { LOCATION_RATE_PER_SECOND: '1', LOCATION_BURST: '1' } });
  const who = people();
  await slow.assigned(who);
  const client = join(t, slow, as(who.driver, 'driver'));
  await connected(client);
  const packets = sent(client);
  const reporter = client.driver();
  let count = 0;
  let outcome;
  do outcome = await reporter.report(north(count++)); while (outcome.verdict !== 'rate_limited');
  assert.deepEqual([outcome.state, reporter.get().error.code, reporter.get().error.retryAfterMs > 0], ['taken', 'rate_limited', true]);
  for (const i of [count, count + 1]) assert.equal((await reporter.report(north(i))).state, 'waiting');
  await emptied(reporter);
  const batches = packets.filter(([name]) => name === 'driver:location_batch');
  assert.deepEqual(batches.at(-1)[1].points.map(({ latitude }) => latitude), [count, count + 1].map((i) => north(i).latitude));
  assert.deepEqual([reporter.get().taken, reporter.get().refused], [count + 2, 0]);
});

test('reports whose answers were lost are sent again', async (t) => {
  const { reporter, proxy, client, batches } = await driving(t);
  proxy.pause();
  const report = reporter.report(fix());
  proxy.block();
  proxy.cut();
  assert.equal((await report).state, 'waiting');
  proxy.resume();
  proxy.unblock();
  await connected(client);
  await emptied(reporter);
  assert.deepEqual([batches().length, reporter.get().taken], [1, 1]);
});

test('a wall clock that is wrong and jumps does not matter: times are the server’s', async (t) => {
  const clock = new TestClock();
  clock.ahead = 3_600_000;
  const { reporter, lone, batches, away } = await driving(t, { clock });
  await reporter.report(fix({ recordedAt: clock.now() }));
  assert.ok(near(lone()[0].recordedAt, Date.now()), 'an hour fast');
  clock.ahead = -7_200_000;
  await reporter.report(fix({ recordedAt: clock.now() }));
  assert.ok(near(lone()[1].recordedAt, Date.now()), 'two hours slow');
  assert.equal(reporter.get().refused, 0, 'no fix is from the future');
  await reporter.report(fix({ recordedAt: Date.now() }));
  assert.ok(near(lone()[2].recordedAt, Date.now()), 'the time of the GPS beside a wrong clock');

  const taken = [];
  await away(async () => {
    for (const ahead of [-7_200_000, 86_400_000, 0, -500_000]) {
      clock.ahead = ahead;
      taken.push(Date.now());
      await reporter.report(fix());
      await sleep(5);
    }
    // From the phone's store: five minutes old when it is reported.
    await reporter.report(fix({ recordedAt: clock.now() - 300_000 }));
  });
  await emptied(reporter);
  const [points] = batches();
  assert.ok(near(points[0].recordedAt, Date.now() - 300_000), 'what is old stays old, and comes first');
  taken.forEach((at, i) => assert.ok(near(points[i + 1].recordedAt, at), `fix ${i}: ${points[i + 1].recordedAt}`));
  assert.ok(points.every(({ recordedAt }, i) => i === 0 || recordedAt > points[i - 1].recordedAt));
});

test('positions wait over a restart of the app, for the same driver only', async (t) => {
  const kept = new Map();
  const storage = {
    getItem: async (key) => kept.get(key) ?? null,
    setItem: async (key, value) => { kept.set(key, value); },
    removeItem: async (key) => { kept.delete(key); },
  };
  const { reporter, away, client, proxy, who } = await driving(t, {}, { storage });
  proxy.block();
  proxy.cut();
  await until(client.connection, ({ phase }) => phase === 'reconnecting');
  const at = Date.now();
  for (let i = 0; i < 3; i += 1) await reporter.report(north(i));
  await client.close();
  assert.equal(JSON.parse(kept.get('ordercast:fixes')).fixes.length, 3);

  const other = join(t, server, as(people().driver, 'driver'));
  const stranger = other.driver({ storage: { ...storage, removeItem: () => {} } });
  await until(stranger, ({ dropped }) => dropped === 3);
  assert.equal(stranger.get().taken, 0);

  const again = join(t, server, as(who.driver, 'driver'));
  const packets = sent(again);
  const restarted = again.driver({ storage });
  await until(restarted, ({ taken }) => taken === 3);
  const [, { points }] = packets.find(([name]) => name === 'driver:location_batch');
  assert.deepEqual(points.map(({ latitude }) => latitude), [0, 1, 2].map((i) => north(i).latitude));
  assert.ok(points.every(({ recordedAt }) => near(recordedAt, at)), 'with their times');
  await restarted.save();
  assert.equal(kept.size, 0);

  const broken = join(t, server, as(who.driver, 'driver')).driver({ storage: { ...storage, getItem: () => '{' } });
  assert.equal((await until(broken, ({ error }) => error)).error.code, 'storage');
});

test('who is no driver is told so, and what waits is not sent for ever', async (t) => {
  const client = join(t, server, as(people().customer, 'customer'));
  await connected(client);
  const outcome = await client.driver().report(fix());
  assert.deepEqual([outcome.state, outcome.error.code], ['refused', 'forbidden']);
  assert.equal(client.driver().get().waiting, 0);
});
