// Bad input at the raw doors. Each message gets an error, and the socket stays open where the protocol says so. Nobody else is affected:
// a witness at the same door is checked after each attack. For bad frames see websocket.test.mjs, for slow readers slow.test.mjs.
import assert from 'node:assert/strict';
import { after, afterEach, describe, test } from 'node:test';
import { closeAll } from '../support/client.mjs';
import { dial, hangUpAll, onTheWay, RAW, ring, visit } from '../support/doors.mjs';
import { as, eventually, people, Server } from '../support/server.mjs';

const STALL_MS = 1500;
const AT = { lat: 45.25, lng: 13.61 };

const server = await Server.start({ env: { LOCATION_RATE_PER_SECOND: '0', FLOOD_GRACE_MS: '500' } });
const unlimited = await Server.start({ env: {
  LOCATION_RATE_PER_SECOND: '0', SOCKET_REQUESTS_PER_SECOND: '0', MAX_SUBSCRIPTIONS: '3', WRITE_STALL_MS: `${STALL_MS}`,
} });
after(() => Promise.all([server.close(), unlimited.close()]));
afterEach(closeAll);
afterEach(hangUpAll);

/** A witness at the same door: it still hears of the order, and its requests are answered. */
async function bystander(on, door, order) {
  const line = await door.follow(on, order.rider, order);
  const steps = ['picked_up', 'in_transit', 'delivered'];
  return {
    async unharmed(what) {
      const heard = line.of(door.told).length;
      await on.status(order.id, steps.shift());
      await line.count(door.told, heard + 1);
      const asked = Date.now();
      await line.flush();
      assert.ok(Date.now() - asked < 1000, `${what}: the witness waited ${Date.now() - asked} ms`);
      assert.deepEqual(line.of('(close)'), [], what);
    },
  };
}

const DEEP = `${'['.repeat(30_000)}${']'.repeat(30_000)}`;
const NO_JSON = ['', ' ', 'hello', '{', '{"type":', '{"type":"ping"', '{"type":"ping"}}', "{'type':'ping'}", 'NaN', '\u0000', '{"type":"ping",}', DEEP.slice(1)];
const UNKNOWN = ['{}', '[]', 'null', '7', '"ping"', 'true', '{"type":null}', '{"type":7}', '{"type":["ping"]}', '{"type":""}', '{"type":"PING"}', '{"type":"no-such"}',
  '{"type":"__proto__"}', '{"type":"connected"}', '{"type":"order_update"}', '{"type":"orders:changed"}', '{"type":"initial_state"}', DEEP, `{"type":"${'x'.repeat(10_000)}"}`];

for (const [name, door] of Object.entries(RAW)) {
  describe(name, () => {
    test('A message that is not JSON, or not a request, gets an error, and the socket stays open', async () => {
      const order = await onTheWay(unlimited);
      const witness = await bystander(unlimited, door, order);
      const line = await door.follow(unlimited, order.rider, order);
      const { length } = line.messages;
      for (const text of NO_JSON) {
        const error = await line.ask(text, 'error');
        assert.deepEqual([error.code, Object.keys(error).toSorted()], ['malformed', ['code', 'message', 'type']], text.slice(0, 40));
      }
      for (const text of [...UNKNOWN, Buffer.from('{"type":"ping"}'), Buffer.from([0, 255, 254]), Buffer.alloc(0)]) {
        const error = await line.ask(text, 'error');
        assert.ok(['invalid_payload', 'malformed'].includes(error.code), `${`${text}`.slice(0, 40)}: ${JSON.stringify(error)}`);
        assert.ok(error.message.length > 0 && error.message.length < 500, 'a message that can be read');
        assert.doesNotMatch(error.message, /serde|panicked|line \d+ column/, 'it does not tell how it is made');
      }
      await line.flush();
      assert.equal(line.messages.length - length, NO_JSON.length + UNKNOWN.length + 3 + 1, 'one answer each');
      assert.deepEqual(line.of('(close)'), []);
      await witness.unharmed(name);
    });

    test('A message in fragments is put together', async () => {
      const order = await onTheWay(unlimited);
      const line = await door.follow(unlimited, order.rider, order);
      for (const part of ['{"ty', 'pe":', '']) line.ws.send(part, { fin: false });
      line.ws.send('"ping"}', { fin: true });
      await line.next('pong');
      for (const byte of '{"type":"ping"}') line.ws.send(byte, { fin: byte === '}' });
      await line.next('pong');
    });

    test('A message of over 64 KiB is answered, and one of over 256 KiB closes the sender\'s connection too; nobody else notices', async () => {
      const order = await onTheWay(unlimited);
      const witness = await bystander(unlimited, door, order);
      for (const size of [70_000, 260_000, 1_000_000]) {
        const line = await door.follow(unlimited, order.rider, order);
        const { code, limit, message } = await line.ask({ type: 'ping', x: 'x'.repeat(size) }, 'error');
        assert.deepEqual([code, limit], ['too_large', 65_536], `${size} bytes`);
        assert.match(message, /65536/);
        if (size > 262_144) assert.equal((await line.closed).code, 1009, `${size} bytes`);
        else await line.flush();
      }
      const parts = await door.follow(unlimited, order.rider, order);
      for (let i = 0; i < 30; i += 1) parts.ws.send('x'.repeat(10_000), { fin: false });
      assert.equal((await parts.closed).code, 1009, 'in fragments');
      const line = await door.follow(unlimited, order.rider, order);
      await line.ask({ type: 'ping', x: 'x'.repeat(60_000) }, 'pong');
      await witness.unharmed(name);
    });

    test('A client that floods on is told when to come back, and closed', async () => {
      const order = await onTheWay(server);
      const witness = await bystander(server, door, order);
      for (const message of [door.subscribe?.(order.id) ?? { type: 'location_update', location: AT }, { type: 'ping' }, 'no JSON']) {
        const line = await door.follow(server, order.rider, order);
        for (let i = 0; i < 5_000; i += 1) line.send(message);
        assert.deepEqual(await line.closed, { code: 1013, reason: 'Too many requests, try again in 5 seconds' });
      }
      await witness.unharmed(name);
    });

    test('A client that asks and never reads is cut, and nobody else notices', { timeout: 60_000 }, async () => {
      const order = await onTheWay(unlimited);
      const witness = await bystander(unlimited, door, order);
      const line = await door.follow(unlimited, order.rider, order);
      line.ws.pause();
      const present = async () => (await unlimited.ok('GET', `/users/${order.rider.sub}/presence`)).connections;
      // the buffers between client and server hold many answers
      for (let i = 0; i < 100 && await present() === 2; i += 1) {
        for (let n = 0; n < 2000; n += 1) line.send('{"type":"ping"}');
      }
      await witness.unharmed('while it does not read');
      await eventually(async () => await present() === 1, 'it to be cut', STALL_MS + 5000);
      line.ws.resume();
      const { code } = await line.closed;
      assert.ok([1013, 1006].includes(code), `closed with ${code}`);
      await witness.unharmed('afterwards');
    });
  });
}

for (const [name, door] of Object.entries(RAW).filter(([, { subscribe }]) => subscribe)) {
  test(`${name}: an error names the wrong member`, async () => {
    const order = await onTheWay(unlimited);
    const line = await door.follow(unlimited, order.rider, order);
    const wrong = [undefined, null, '', 7.5, ['a'], {}, 'no spaces', 'x'.repeat(129), '💥'];
    for (const message of wrong.flatMap((id) => [door.subscribe(id), door.unsubscribe(id)])) {
      const error = await line.ask(message, 'error');
      assert.deepEqual([error.code, error.member], ['invalid_payload', door.member], JSON.stringify(message).slice(0, 80));
      assert.ok(error.message.includes(door.member), error.message);
    }
    if (name === '/orders/track') {
      for (const since of [-1, 1.5, '1', {}]) {
        const error = await line.ask(door.subscribe(order.id, { since }), 'error');
        assert.deepEqual([error.code, error.member], ['invalid_payload', 'since'], since);
      }
    }
    await line.flush();
    assert.deepEqual(line.of('(close)'), []);
  });

  test(`${name}: 10,000 subscriptions stop at the limit of orders, and each gets an answer`, { timeout: 60_000 }, async () => {
    const user = as(people().customer, 'customer');
    const ids = [];
    for (let i = 0; i < 5; i += 1) ids.push((await unlimited.create({ ...people(), customer: { id: user.sub, name: 'Carla' } })).id);
    const line = await dial(unlimited, door.path({}), user);
    const read = () => line.messages.length;
    for (let i = 0; i < 10_000; i += 1) {
      line.send(door.subscribe(ids[i % 5]));
      if (i % 100 === 99) await line.flush(); // it reads while it asks
    }
    assert.ok(read() >= 10_000);
    const codes = new Set(line.of('error').map(({ code }) => code));
    assert.deepEqual([...codes], ['too_many']);
    assert.equal(line.of('error').length, 4000);
    assert.equal(line.of(door.told).length, 6000);
    // one slot is free again
    line.send(door.unsubscribe(ids[0]));
    line.send(door.subscribe(ids[3]));
    await line.count(door.told, 6001);
    await unlimited.status(ids[3], 'accepted');
    await unlimited.status(ids[0], 'accepted');
    await unlimited.status(ids[1], 'accepted');
    await line.count(door.told, 6003);
    await line.flush();
    assert.equal(line.of(door.told).length, 6003, 'of those that it follows, once each');
  });

  test(`${name}: a client may unsubscribe from an order it never subscribed to`, async () => {
    const order = await onTheWay(unlimited);
    const line = await dial(unlimited, door.path(order), order.rider);
    for (const id of [order.id, 'no-such-order']) line.send(door.unsubscribe(id));
    await line.flush();
    assert.deepEqual([...line.of('error'), ...line.of('(close)')], []);
  });
}

test('On the default namespace, a flood or a message of 20 MB closes the sender\'s connection, and nobody else notices', { timeout: 60_000 }, async () => {
  const order = await onTheWay(server);
  const user = as(order.who.customer, 'customer');
  const witness = await visit(server, { user });
  for (const client of ['4', '3', '2']) {
    const flood = await visit(server, { client, user: order.rider, options: { reconnection: false } });
    for (let i = 0; i < 5_000; i += 1) flood.send('trackingUpdate', { i });
    assert.match(await flood.next('(disconnect)'), /^transport (close|error)$/);
    const loud = await visit(server, { client, user: order.rider, options: { reconnection: false } });
    loud.send('trackingUpdate', { x: 'x'.repeat(1_000_000) });
    assert.equal((await loud.next('error')).code, 'too_large');
    loud.send('trackingUpdate', { x: 'x'.repeat(20_000_000) });
    assert.match(await loud.next('(disconnect)'), /^transport (close|error)$/);
  }
  const { seq } = await server.status(order.id, 'picked_up');
  await witness.next('orderStatusUpdate', (update) => update.seq === seq);
  assert.deepEqual(witness.of('(disconnect)'), []);
});

test('A handshake with a fault is refused with the reason', async () => {
  const order = await onTheWay(server);
  for (const door of Object.values(RAW)) {
    const line = ring(server, door.path(order), order.rider, { origin: 'http://evil.test' });
    assert.equal(await line.next('(refused)'), 403, 'a foreign origin');
  }
});
