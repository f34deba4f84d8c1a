// Wrong payloads in well-formed messages: the answer names the member, and the socket stays open.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { as, jwt, people, SERVICE, Server } from '../support/server.mjs';

const server = await Server.start({ env: { LOCATION_RATE_PER_SECOND: '0', SOCKET_REQUESTS_PER_SECOND: '0' } });
after(() => server.close());
afterEach(closeAll);

const AT = { latitude: 45, longitude: 13 };
// [event, payload, what the error message must name]
const WRONG = [
  ['driver:location', undefined],
  ['driver:location', null],
  ['driver:location', 'here'],
  ['driver:location', 45.1],
  ['driver:location', []],
  ['driver:location', {}, /latitude|longitude/],
  ['driver:location', { latitude: 45 }, /longitude/],
  ['driver:location', { ...AT, latitude: NaN }, /latitude/], // JSON makes it null
  ['driver:location', { ...AT, latitude: 'NaN' }, /latitude/],
  ['driver:location', { ...AT, latitude: '45' }, /latitude/],
  ['driver:location', { ...AT, longitude: Infinity }, /longitude/],
  ['driver:location', { ...AT, latitude: 90.0001 }, /latitude/],
  ['driver:location', { ...AT, latitude: -91 }, /latitude/],
  ['driver:location', { ...AT, longitude: 180.5 }, /longitude/],
  ['driver:location', { ...AT, longitude: -1e300 }, /longitude/],
  ['driver:location', { ...AT, heading: 'north' }, /heading/],
  ['driver:location', { ...AT, speed: 'fast' }, /speed/],
  ['driver:location', { ...AT, accuracy: {} }, /accuracy/],
  ['driver:location', { ...AT, recordedAt: 'yesterday' }, /recordedAt/],
  ['driver:location', { ...AT, recordedAt: 1700000000 }, /recordedAt/],
  ['driver:location', { ...AT, orderId: 12.5 }, /orderId/],
  ['driver:location', { ...AT, orderId: 'a b' }, /orderId/],
  ['driver:location', { ...AT, orderId: 'x'.repeat(129) }, /orderId/],
  ['driver:location_batch', { points: AT }, /points/],
  ['driver:location_batch', {}, /points/],
  ['driver:location_batch', { points: Array(501).fill(AT) }, /points/],
  ['subscribe:order', { orderId: null }, /orderId/],
  ['subscribe:order', { orderId: '' }, /orderId/],
  ['subscribe:order', { orderId: ['a'] }, /orderId/],
  ['subscribe:order', { orderId: 'a', since: -1 }, /since/],
  ['subscribe:order', { orderId: 'a', since: 1.5 }, /since/],
  ['order:status_update', { orderId: 'a' }, /status/],
  ['order:status_update', { orderId: 'a', status: 'accepted', expectedSeq: '3' }, /expectedSeq/],
  ['order:tracking', {}, /orderId/],
];

for (const combo of combos) {
  test(`${label(combo)}: wrong types, NaN and impossible positions are refused`, async () => {
    const who = people();
    await server.assigned(who);
    const driver = await connect(server, { ...combo, user: as(who.driver, 'driver') });
    for (const [event, payload, member] of WRONG) {
      const { ok, error } = await driver.request(event, payload);
      const what = `${event} ${JSON.stringify(payload)?.slice(0, 80)}`;
      assert.deepEqual([ok, error?.code], [false, 'invalid_payload'], what);
      if (member) assert.match(error.message, member, what);
      assert.doesNotMatch(error.message, /serde|line \d+ column|panicked/, `${what} leaks how it is made`);
    }
    assert.equal((await driver.request('driver:location')).error.code, 'invalid_payload', 'no payload at all');
    await driver.ask('driver:location', AT);
    assert.deepEqual(driver.of('(disconnect)'), []);
  });

  test(`${label(combo)}: bytes where text is expected are refused`, async () => {
    const who = people();
    await server.assigned(who);
    const driver = await connect(server, { ...combo, user: as(who.driver, 'driver') });
    const bytes = Buffer.from([0, 1, 2, 0xff]);
    for (const payload of [bytes, { ...AT, latitude: bytes }]) {
      const answer = await driver.request('driver:location', payload);
      assert.deepEqual([answer.ok, answer.error?.code], [false, 'invalid_payload']);
      driver.send('driver:location', payload);
      const told = await driver.next('error');
      assert.deepEqual([told.code, told.event], ['invalid_payload', 'driver:location']);
    }
    await driver.ask('driver:location', AT);
  });

  test(`${label(combo)}: an unknown event, or one of the server's own, does no harm`, async () => {
    const who = people();
    const { id: orderId } = await server.create(who);
    const client = await connect(server, { ...combo, user: as(who.customer, 'customer') });
    const other = await connect(server, { user: as(who.chef, 'chef') });
    const unknown = ['no:such', 'order:new', 'connected', 'driver:location_update', '__proto__', '💥'.repeat(50)];
    for (const event of unknown) client.send(event, { orderId });
    await client.ask('order:tracking', { orderId });
    const refused = client.of('error').map(({ code, member, event }) => [code, member, event]);
    assert.deepEqual(refused, unknown.map((event) => ['invalid_payload', 'event', event]));
    await other.ask('ping:latency', { t: 1 });
    assert.deepEqual(other.of('order:new'), [], 'nothing was passed on');
  });
}

test('A fix for another driver\'s order is not_found, and a fix from the future is clock_skew', async () => {
  const [who, other] = [people(), people()];
  const { id: orderId } = await server.assigned(other);
  await server.assigned(who);
  const driver = await connect(server, { user: as(who.driver, 'driver') });
  assert.equal((await driver.request('driver:location', { ...AT, orderId })).error.code, 'not_found');
  const recordedAt = new Date(Date.now() + 61_000).toISOString();
  assert.equal((await driver.request('driver:location', { ...AT, recordedAt })).error.code, 'clock_skew');
  const soon = new Date(Date.now() + 30_000).toISOString();
  await driver.ask('driver:location', { ...AT, recordedAt: soon });
});

test('REST refuses malformed JSON with 400, wrong members with 422, too much with 413, another content type with 415', async () => {
  const send = async (body, type = 'application/json') => {
    const response = await fetch(`${server.base}/orders`, {
      method: 'POST', body, headers: { 'content-type': type, authorization: `Bearer ${jwt(SERVICE)}` },
    });
    return { status: response.status, body: await response.json() };
  };
  const { customer, chef, delivery } = people();
  assert.equal((await send('{"customer":')).status, 400);
  assert.equal((await send('{}', 'text/plain')).status, 415);
  assert.equal((await send(JSON.stringify({ customer, chef, delivery, notes: 'x'.repeat(66_000) }))).status, 413);
  for (const [body, member] of [
    [{ customer, chef }, /delivery/],
    [{ customer, chef, delivery: { ...delivery, latitude: 91 } }, /delivery\.latitude/],
    [{ customer: { ...customer, id: 'two\nlines' }, chef, delivery }, /customer\.id/],
    [{ customer, chef, delivery, items: [{ name: 'x', quantity: -1 }] }, /items.*quantity/],
  ]) {
    const answer = await send(JSON.stringify(body));
    assert.equal(answer.status, 422, JSON.stringify(answer.body));
    assert.match(answer.body.detail, member);
  }
});
