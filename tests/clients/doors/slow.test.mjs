// A slow or stalled reader at the older doors slows nobody else down. It gets only the newest position, but every change, in order.
// A reader that takes nothing for too long is cut.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { closeAll, connect } from '../support/client.mjs';
import { hangUpAll, onTheWay, RAW, visit } from '../support/doors.mjs';
import { as, eventually, people, Server } from '../support/server.mjs';

const STALL_MS = 1500;
const NO_LIMITS = { LOCATION_RATE_PER_SECOND: '0', SOCKET_REQUESTS_PER_SECOND: '0' };

const strict = await Server.start({ env: { ...NO_LIMITS, WRITE_STALL_MS: `${STALL_MS}` } });
const patient = await Server.start({ env: { ...NO_LIMITS, WRITE_STALL_MS: '60000' } });
after(() => Promise.all([strict.close(), patient.close()]));
after(closeAll);
after(hangUpAll);

/** An order of about 45 KB. */
const BIG = { items: Array.from({ length: 200 }, (_, i) => ({ name: `${i} ${'x'.repeat(190)}`, quantity: 1 })) };
/** The raw doors and the default namespace. */
const ALL = {
  ...RAW,
  'the default namespace': {
    follow: (server, user) => visit(server, { user, options: { reconnection: false } }), told: 'orderStatusUpdate',
    place: ({ location }) => location?.latitude,
  },
};
const transport = (line) => line.ws ?? line.socket.io.engine.transport.ws;

/** An order out for delivery, its customer at that door, and a driver who reports hundreds of fixes. */
async function scene(server, door, more) {
  const order = await onTheWay(server, more);
  await server.status(order.id, 'picked_up');
  const line = await door.follow(server, as(order.who.customer, 'customer'), order);
  const phone = await connect(server, { user: order.rider });
  const drive = (from, n) => Promise.all(Array.from({ length: n }, (_, i) => (
    phone.ask('driver:location', { latitude: 45 + (from + i) / 100_000, longitude: 13.6, orderId: order.id }))));
  return { order, line, drive };
}

for (const [name, door] of Object.entries(ALL).filter(([, { place }]) => place)) {
  test(`${name}: a client that pauses gets the newest positions and every change`, { timeout: 120_000 }, async () => {
    const FIXES = 4000;
    const { order, line, drive } = await scene(patient, door);
    const [begin, changes] = [line.events.length, line.of(door.told).length];
    transport(line).pause();
    for (let i = 0; i < FIXES; i += 100) {
      await drive(i, 100);
      if (i === FIXES / 2) await patient.status(order.id, 'in_transit');
    }
    transport(line).resume();
    const newest = 45 + (FIXES - 1) / 100_000;
    const places = () => line.events.slice(begin).map(({ payload }) => payload).filter((payload) => payload && door.place(payload))
      .map((payload) => ({ lat: door.place(payload), conflated: payload.conflated ?? 0 }));
    await line.until(() => places().at(-1)?.lat === newest, 'the newest place', 30_000);
    await line.count(door.told, changes + 1);
    assert.equal(line.of(door.told).length, changes + 1, 'the change, once');
    assert.ok(places().length < FIXES * 0.75, `${places().length} of ${FIXES} places came`);
    const lats = places().map(({ lat }) => lat);
    assert.deepEqual(lats, lats.toSorted((a, b) => a - b), 'never an older one after a newer one');
    assert.ok(places().some(({ conflated }) => conflated > 0), 'and it is said how many each stands for');
    assert.deepEqual([...line.of('(close)'), ...line.of('(disconnect)')], []);
  });
}

for (const [name, door] of Object.entries(ALL)) {
  test(`${name}: a client that never reads is cut, and nobody else notices`, { timeout: 120_000 }, async () => {
    const { order, line, drive } = await scene(strict, door, door.place ? {} : BIG);
    const reader = await connect(strict, { user: as(order.who.chef, 'chef') });
    const witness = await door.follow(strict, as(order.who.chef, 'chef'), order);
    const present = async () => (await strict.ok('GET', `/users/${order.who.customer.id}/presence`)).connections;
    assert.equal(await present(), 1);
    transport(line).pause();
    // enough to fill all buffers: positions, or, at a door without positions, the whole order at each change
    const drivers = [people().driver, people().driver];
    const say = door.place ? (i) => drive(i * 100, 100) : (i) => strict.assign(order.id, drivers[i % 2]);
    for (let i = 0; i < 200 && await present() === 1; i += 1) await say(i);
    await eventually(async () => await present() === 0, 'it to be cut', STALL_MS + 5000);
    transport(line).resume();
    const { seq } = await strict.status(order.id, 'delivered');
    await reader.next('order:status_update', (update) => update.seq === seq);
    const delivered = ({ status, data }) => /delivered/i.test(status ?? data.status);
    await witness.next(door.told, delivered);
    assert.deepEqual([...reader.of('(disconnect)'), ...witness.of('(disconnect)'), ...witness.of('(close)')], []);
  });
}
