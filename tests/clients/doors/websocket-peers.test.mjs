// Bad peers at each raw WebSocket door: a client that is silent, stalls, disappears or is told that the server stops affects nobody else
// and leaves nothing behind.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { connections, gone, meanwhile, somebody } from '../support/engineio.mjs';
import { tcp, within } from '../support/raw.mjs';
import { as, eventually, jwt, people, Server } from '../support/server.mjs';
import {
  answers, asking, atEach, closing, dismissed, doorsOf, enter, framed, headOf, knock, OPCODE, request, said, startTracking,
} from '../support/websocket.mjs';

const LIMIT = 65_536;
const INTERVAL_MS = 500;
const TIMEOUT_MS = 1500;
const STALL_MS = 1500;

const UNLIMITED = { SOCKET_REQUESTS_PER_SECOND: '0', LOCATION_RATE_PER_SECOND: '0' };
const server = await Server.start({ env: UNLIMITED });
const quick = await Server.start({ env: { ...UNLIMITED, PING_INTERVAL_MS: `${INTERVAL_MS}`, PING_TIMEOUT_MS: `${TIMEOUT_MS}` } });
const slow = await Server.start({ env: { ...UNLIMITED, WRITE_STALL_MS: `${STALL_MS}`, SOCKET_SEND_BUFFER_BYTES: '8192' } });
after(() => Promise.all([server, quick, slow].map((one) => one.close())));
const [doors, quickDoors, slowDoors] = await Promise.all([server, quick, slow].map(doorsOf));
const before = { connections: await server.metric('connections'), http: await server.metric('http_connections') };
const each = atEach(server, doors);

/** A subscription in the words of every door. */
const subscribe = (order) => framed(JSON.stringify({ type: 'subscribe', order_id: order, orderId: order }));

/** Reads until a message matches. */
async function hears(wire, wanted) {
  for (;;) {
    const message = await said(wire);
    if (wanted(message)) return message;
  }
}

/** It has read everything so far, and its request is answered. */
async function caughtUp(wire) {
  await wire.write(framed(asking()));
  await hears(wire, ({ type }) => type === 'pong');
}

// --- a client that closes amid events

test('After its close frame the server sends nothing more, however many events wait', { timeout: 60_000 }, async () => {
  for (let round = 0; round < 30; round += 1) {
    const session = await startTracking(server, `goodbye-${round}`);
    const wire = await knock(server, { path: `/ws/tracking/${session.tracking_id}` });
    assert.equal((await said(wire)).type, 'initial_state');
    const updates = Array.from({ length: 30 }, (_, i) => (
      server.ok('POST', `/tracking/update/${session.tracking_id}`, { lat: 45 + i / 1000, lng: 13.5 })));
    for (let heard = 0; heard <= round % 6; heard += 1) await said(wire);
    await wire.write(framed(closing(1000), { opcode: OPCODE.close }));
    const opcodes = [];
    for (let frame = await wire.frame(); frame; frame = await wire.frame()) opcodes.push(frame.opcode);
    assert.equal(opcodes.indexOf(OPCODE.close), opcodes.length - 1, `frames of round ${round}: ${opcodes}`);
    await Promise.all(updates);
  }
});

// --- a client that disappears

const BROKEN_OFF = {
  'between messages': framed(asking()), 'in a head': framed(asking()).subarray(0, 3), 'in a frame': framed(asking()).subarray(0, 9),
  'in a long frame': headOf(LIMIT), 'between pieces': framed('{', { fin: false }), 'after a close frame': framed(closing(1000), { opcode: OPCODE.close }),
};

each('A connection may be half closed or reset at any point', async ({ door, user, open }) => {
  for (const [what, bytes] of Object.entries(BROKEN_OFF)) {
    for (const end of [(wire) => wire.socket.end(), (wire) => wire.cut()]) {
      const wire = await open();
      await wire.write(bytes);
      end(wire);
      await within(wire.ended, `the end, ${what}`);
    }
  }
  await gone(server, user, 'all of them');
  // the same before there is an answer
  const head = request(server, door.path, { token: jwt(user) });
  for (const bytes of [head.slice(0, 40), head, Buffer.concat([Buffer.from(head), subscribe('parcel')])]) {
    const socket = net.connect(server.port, '127.0.0.1').resume();
    socket.on('error', () => {});
    socket.end(bytes);
    await within(once(socket, 'close'), 'the end of what was half closed at once');
  }
});

/** Sends these bytes and disappears some ms later, by a reset or a close. No signal tells what the server is waiting for at that moment, hence the times. */
async function breaksOff(bytes, ms, reset) {
  const socket = net.connect(server.port, '127.0.0.1').resume();
  socket.on('error', () => {});
  await within(once(socket, 'connect'), 'a connection');
  socket.write(bytes);
  await pause(ms);
  if (reset) socket.resetAndDestroy();
  else socket.destroy();
}

each('A connection cut at any point of its opening leaves no session', async ({ door, user }) => {
  const token = jwt(user);
  const head = Buffer.from(request(server, door.path, { token }));
  const asked = Buffer.concat([head, subscribe('parcel'), framed(asking())]);
  const rounds = [
    ...Array.from({ length: Math.ceil(asked.length / 8) }, (_, i) => () => tcp(server, asked.subarray(0, 1 + i * 8))),
    ...Array.from({ length: 150 }, (_, i) => () => breaksOff(i % 2 ? head : asked, i % 15, i % 3)),
    ...Array.from({ length: 20 }, () => async () => (await knock(server, door, { token })).cut()),
    ...Array.from({ length: 20 }, () => async () => (await enter(server, door, { user, after: subscribe('parcel') })).cut()),
  ];
  // a busy database makes the waits in the server longer
  await meanwhile(() => server.create(people()), async () => {
    while (rounds.length) await Promise.all(rounds.splice(0, 20).map((round) => round()));
  });
});

// --- a silent client

atEach(quick, quickDoors)('Pings come after the interval and not before, and a client that answers them or says anything stays', async ({ user, open }) => {
  const began = Date.now();
  const wires = { pongs: await open(), texts: await open(), silent: await open() };
  const until = began + 2 * (INTERVAL_MS + TIMEOUT_MS);
  await Promise.all(Object.entries(wires).map(async ([how, wire]) => {
    for (let round = 1; how === 'silent' ? round === 1 : Date.now() < until; round += 1) {
      const got = await wire.frame('a ping');
      assert.equal(got?.opcode, OPCODE.ping, how);
      assert.ok(Date.now() - began >= round * INTERVAL_MS, `${how}: ping ${round} after ${Date.now() - began} ms`);
      if (how === 'pongs') await wire.write(framed(got.payload, { opcode: OPCODE.pong }));
      if (how === 'texts') await answers(wire, how);
    }
  }));
  await within(wires.silent.ended, 'the end of the silent one');
  assert.equal(await connections(quick, user), 2, 'the others stay');
});

test('A client that does not even read is given up as well', async () => {
  const user = somebody();
  for (const door of quickDoors) (await enter(quick, door, { user })).socket.pause();
  assert.equal(await connections(quick, user), quickDoors.length);
  await gone(quick, user, 'after the silence');
});

// --- a client that stalls

const BIG = { items: Array.from({ length: 200 }, (_, i) => ({ name: `${i} ${'x'.repeat(240)}`, quantity: 1 })) };
const FIXES = 2500;
const AT_ONCE = 200;
const TOSSES = 20;

/** An order on its way with more events than a connection can buffer: its rider reports again and again. */
async function chattering() {
  const who = people();
  const { id } = await slow.assigned(who);
  const { tracking_id: session } = await startTracking(slow, id, who.driver.id);
  await slow.status(id, 'picked_up');
  const path = `/ws/tracking/${session}`;
  const fixes = Array.from({ length: FIXES }, (_, i) => ({ type: 'location_update', location: { lat: 45, lng: 13 + i / 10_000 } }));
  return {
    id,
    path,
    async flood() {
      const rider = await enter(slow, { path, hello: 'initial_state' }, { user: as(who.driver, 'driver') });
      while (fixes.length > 0) {
        await rider.write(Buffer.concat(fixes.splice(0, AT_ONCE).map((fix) => framed(JSON.stringify(fix)))));
        await caughtUp(rider);
      }
      rider.cut();
    },
  };
}

/** A big order that is assigned back and forth; each assignment sends all of it. */
async function tossed() {
  const { id } = await slow.create(people(), BIG);
  await slow.status(id, 'ready_for_pickup');
  const drivers = [people().driver, people().driver];
  return { id, async flood() { for (let i = 0; i < TOSSES; i += 1) await slow.assign(id, drivers[i % 2]); } };
}

const delivered = ({ status, data }) => (status ?? data?.status)?.toLowerCase() === 'delivered';

test('A client that takes nothing is cut after WRITE_STALL_MS, and another client of the same order is served at once', { timeout: 60_000 }, async () => {
  const user = { sub: 'watcher', role: 'admin' };
  let cut = 0;
  for (const [i, make] of [chattering, tossed, chattering].entries()) {
    const order = await make();
    const door = { ...slowDoors[i], ...(slowDoors[i].name === '/ws/tracking' && { path: order.path }) };
    const watch = async () => {
      const wire = await enter(slow, door, { user, after: i === 2 ? '' : subscribe(order.id) });
      await caughtUp(wire);
      return wire;
    };
    const [witness, ...stalled] = [await watch(), await watch(), await watch()];
    for (const wire of stalled) wire.socket.pause();
    await order.flood();
    const changed = Date.now();
    await slow.status(order.id, 'delivered');
    await hears(witness, delivered);
    assert.ok(Date.now() - changed < 1000, `${door.name}: the witness waited ${Date.now() - changed} ms`);
    await eventually(async () => await connections(slow, user) === 1, `${door.name}: the stalled ones to be cut`);
    cut += stalled.length;
    assert.equal(await slow.metric('stalls_total'), cut, door.name);
    for (const wire of stalled) wire.socket.resume();
    await Promise.all(stalled.map((wire) => within(wire.ended, 'the end')));
    await caughtUp(witness);
    witness.cut();
    await gone(slow, user, door.name);
  }
  assert.equal(await slow.metric('sessions_behind'), 0);
});

atEach(slow, slowDoors)('A client that sends pings and does not read the pongs is cut as well', async ({ door, user, open }) => {
  const witness = await open();
  const socket = net.connect(slow.port, '127.0.0.1').pause();
  socket.on('error', () => {});
  const ended = new Promise((resolve) => { socket.once('close', resolve); });
  socket.write(request(slow, door.path, { token: jwt(user) }));
  const pings = Buffer.concat(Array.from({ length: 1000 }, () => framed('x'.repeat(125), { opcode: OPCODE.ping })));
  const wrote = (async () => { while (!socket.destroyed) await new Promise((resolve) => { socket.write(pings, resolve); }); })();
  await within(Promise.all([ended, wrote]), 'the end');
  await answers(witness, 'the witness');
});

// --- a server that stops

test('A stopping server accepts nobody and closes with 1001, whether the client answers or not', { timeout: 60_000 }, async (t) => {
  const DRAIN_MS = 2000;
  const at = await Server.start({ env: { DRAIN_MS: `${DRAIN_MS}` } });
  t.after(() => at.close());
  const all = await doorsOf(at);
  const user = somebody();
  const wires = [];
  for (const door of [...all, ...all]) wires.push({ door, wire: await enter(at, door, { user }) });
  const told = Date.now();
  const stopped = at.stop();
  await eventually(async () => (await at.call('GET', '/ready', undefined, null)).status === 503, '/ready to say 503', 1000);
  for (const door of all) {
    const late = await knock(at, door, { token: jwt(user) });
    assert.equal(late.status, 503, door.name);
    late.cut();
  }
  await Promise.all(wires.map(async ({ door, wire }, i) => {
    if (i < all.length) {
      const { code, reason } = await dismissed(wire, door.name);
      assert.deepEqual([code, reason], [1001, 'Server going away'], door.name);
    } else {
      const { opcode, payload } = await wire.frame('a close frame');
      assert.deepEqual([opcode, payload.readUInt16BE()], [OPCODE.close, 1001], door.name);
      await within(wire.ended, `${door.name}: the end, though the close frame was not answered`);
    }
  }));
  assert.equal(await stopped, 0);
  assert.ok(Date.now() - told < DRAIN_MS + 3000, `the exit took ${Date.now() - told} ms`);
});

test('Nothing is left of all these connections', async () => {
  await eventually(async () => await server.metric('connections') === before.connections, 'the sessions to be over');
  await eventually(async () => await server.metric('http_connections') <= before.http, 'the connections to be closed');
  assert.equal(await server.metric('sessions_behind'), 0);
});
