// The upgrade from polling to a WebSocket, packet by packet: no packet is lost, repeated or out of order, and a failed upgrade leaves
// nothing behind.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { ask, connections, frame, gone, join, meanwhile, named, Polling, read, somebody, Wire } from '../support/engineio.mjs';
import { as, eventually, people, Server } from '../support/server.mjs';
import { Story } from '../support/story.mjs';

// So long that a session has begun before its first ping, also on a busy machine.
const INTERVAL_MS = 1500;
const TIMEOUT_MS = 1000;

const server = await Server.start();
const quick = await Server.start({ env: { PING_INTERVAL_MS: `${INTERVAL_MS}`, PING_TIMEOUT_MS: `${TIMEOUT_MS}` } });
after(() => Promise.all([server.close(), quick.close()]));

/** A polling session that has joined and has its greeting. */
async function joined(user, at = server) {
  const session = await Polling.open(at);
  await session.send(join(user));
  assert.deepEqual([read(await session.next()).type, named(await session.next())], ['0', 'connected']);
  return session;
}

/** A WebSocket whose probe for that session was answered. */
async function probed({ server: at, sid }) {
  const wire = await Wire.open(at, { sid });
  await wire.send('2probe');
  assert.equal(await wire.next(), '3probe');
  return wire;
}

/** The seqs of the next `count` status updates. */
async function heard(session, count) {
  const seqs = [];
  while (seqs.length < count) {
    const packet = await session.next();
    if (named(packet) === 'order:status_update') seqs.push(read(packet).data[1].seq);
    else assert.equal(packet, '6', 'nothing else comes');
  }
  return seqs;
}

/** An order that is assigned back and forth between two drivers; each step is a status update. */
async function restless() {
  const who = people();
  const story = await Story.begin(server, who);
  await story.status('ready_for_pickup');
  const rival = people().driver;
  let turns = 0;
  return {
    user: as(who.customer, 'customer'),
    story,
    step: () => story.assign((turns += 1) % 2 ? who.driver : rival),
  };
}

const rising = (from, count) => Array.from({ length: count }, (_, i) => from + i);

test('The pending poll is answered, and events at each step of the upgrade come once and in order', async () => {
  for (let round = 0; round < 5; round += 1) {
    const { user, story, step } = await restless();
    const session = await joined(user);
    const from = story.seq + 1;
    await step();
    const polled = await heard(session, 1);
    const pending = session.poll();
    const wire = await probed(session);
    assert.deepEqual((await pending).packets, ['6']);
    await step(); // between probe and upgrade no poll is pending, and the WebSocket may not be written to yet
    assert.deepEqual((await session.poll()).packets, ['6'], 'a poll meanwhile is let go as well');
    await step();
    await wire.send('5');
    await step();
    await step();
    assert.deepEqual([...polled, ...await heard(wire, 4)], rising(from, 5));
    await wire.send(ask('ping:latency', { t: 1 }, 1));
    assert.equal(read(await wire.next()).ack, '1');
    assert.equal(await connections(server, user), 1);
    // the session has only the WebSocket now
    assert.equal((await session.poll()).status, 400);
    assert.equal(await session.send(ask('ping:latency', { t: 2 }, 2)), 400);
    const second = await Wire.open(server, { sid: session.sid });
    assert.deepEqual(await second.rest(), []);
    await step();
    assert.deepEqual(await heard(wire, 1), [from + 5]);
    wire.cut();
    await gone(server, user, 'after the cut');
  }
});

test('Forty upgrades in a stream of events lose nothing', { timeout: 120_000 }, async () => {
  const { user, step } = await restless();
  await meanwhile(step, () => Promise.all(Array.from({ length: 40 }, async (_, i) => {
    const session = await joined(user);
    const seqs = await heard(session, 2);
    // the last poll may still bring events
    const last = session.fetch();
    const wire = await probed(session);
    await last;
    const polled = session.waiting.filter((packet) => packet !== '6');
    seqs.push(...await heard({ next: () => polled.shift() }, polled.length));
    await wire.send('5');
    seqs.push(...await heard(wire, 10));
    assert.deepEqual(seqs, rising(seqs[0], seqs.length), `session ${i}`);
    wire.cut();
  })));
  await gone(server, user, 'all of them');
});

test('A CONNECT before, during and after the upgrade is answered before any event', async () => {
  for (const when of ['posted, not polled', 'on the WebSocket', 'on the WebSocket, in one write with the move']) {
    const { user, story, step } = await restless();
    const session = await Polling.open(server);
    if (when === 'posted, not polled') await session.send(join(user));
    const wire = await probed(session);
    await step();
    await wire.send('5', ...(when.includes('one write') ? [join(user)] : []));
    if (when === 'on the WebSocket') await wire.send(join(user));
    const reply = read(await wire.next());
    assert.deepEqual([reply.type, typeof reply.data.pid], ['0', 'string'], when);
    const { data: [hello, { position }] } = read(await wire.next());
    assert.equal(hello, 'connected', when);
    await step();
    const { data: [name, update] } = read(await wire.next());
    assert.equal(name, 'order:status_update', when);
    // events start at the announced position, be it before or after the first step
    assert.equal(update.position, position + 1, when);
    assert.ok(update.seq >= story.seq - 1, when);
    await wire.send(ask('subscribe:order', { orderId: story.id }, 1));
    if (update.seq < story.seq) assert.deepEqual(await heard(wire, 1), [story.seq], when);
    assert.equal(read(await wire.next()).ack, '1', when);
    wire.cut();
  }
});

const FAILURES = {
  'closed before the probe': async (wire) => wire.cut(),
  'closed before the move': async (wire) => { await wire.send('2probe'); await wire.next(); wire.cut(); },
  'a close frame before the move': async (wire) => { await wire.send('2probe'); await wire.next(); await wire.write(frame('', { opcode: 8 })); },
  'no probe but a message': async (wire) => wire.send(ask('ping:latency', { t: 1 }, 1)),
  'no probe but a move': async (wire) => wire.send('5'),
  'another probe': async (wire) => wire.send('2prob'),
  'two probes': async (wire) => wire.send('2probe', '2probe'),
  'a probe and a message': async (wire) => wire.send('2probe', ask('ping:latency', { t: 1 }, 1)),
  'a binary probe': async (wire) => wire.write(frame('2probe', { opcode: 2 })),
  'a frame that is none': async (wire) => wire.write(frame('2probe', { masked: false })),
  'half a frame': async (wire) => { await wire.write(frame('2probe').subarray(0, 5)); wire.cut(); },
};

describe('Slow and failed upgrades', { concurrency: true }, () => {
  test('No ping comes before the interval, whenever the upgrade happens, and later ones come over the WebSocket', async () => {
    await Promise.all([false, true].map(async (polls) => {
      const user = somebody();
      await Promise.all(Array.from({ length: 10 }, async () => {
        const began = Date.now();
        const session = polls ? await joined(user, quick) : await Polling.open(quick);
        const wire = await probed(session);
        await wire.send('5');
        if (!polls) {
          await wire.send(join(user));
          await wire.next();
          await wire.next();
        }
        for (let round = 1; round <= 2; round += 1) {
          assert.equal(await wire.next(), '2');
          assert.ok(Date.now() - began >= round * INTERVAL_MS, `ping ${round} after ${Date.now() - began} ms, ${polls ? 'polled' : 'not polled'}`);
          if (round === 1) await wire.send('3');
        }
        assert.deepEqual(await wire.rest(), [], 'silence ends it');
      }));
      await gone(quick, user, 'after the silence');
    }));
  });

  test('An upgrade that is begun and abandoned times out, and the client polls on', { timeout: 60_000 }, async () => {
    const { user, story, step } = await restless();
    const [silent, half] = [await joined(user), await joined(user)];
    const wires = [await Wire.open(server, { sid: silent.sid }), await probed(half)];
    await step();
    await Promise.all([silent, half].map(async (session) => assert.deepEqual(await heard(session, 1), [story.seq])));
    await eventually(() => wires.every((wire) => wire.gone), 'both WebSockets to be closed', 20_000);
    await step();
    for (const session of [silent, half]) assert.deepEqual(await heard(session, 1), [story.seq]);
  });

  for (const [what, fail] of Object.entries(FAILURES)) {
    for (const pending of [true, false]) {
      test(`After a failed upgrade, ${what}, ${pending ? 'with' : 'without'} a pending poll, the client polls on and may upgrade later`, async () => {
        const { user, story, step } = await restless();
        const session = await joined(user);
        const poll = pending && session.fetch();
        const wire = await Wire.open(server, { sid: session.sid });
        await fail(wire);
        assert.ok((await wire.rest()).every((packet) => packet === '3probe'), 'nothing of the session shows there');
        const from = story.seq + 1;
        await step();
        await poll;
        assert.deepEqual(await heard(session, 1), [from]);
        await session.send(ask('ping:latency', { t: 1 }, 1));
        assert.equal(read(await session.next()).ack, '1');
        // a cut may take a moment to be noticed; until then another WebSocket is refused
        const next = await eventually(() => probed(session).catch(() => false), 'another try');
        await step();
        await next.send('5');
        await step();
        assert.deepEqual(await heard(next, 2), [from + 1, from + 2]);
        next.cut();
        await gone(server, user, what);
      });
    }
  }
});

test('An upgrade that is cut at its last step leaves nothing behind', async () => {
  const user = somebody();
  for (let i = 0; i < 30; i += 1) {
    const session = await joined(user);
    const pending = i % 2 && session.poll();
    const wire = await probed(session);
    await wire.send('5');
    wire.cut();
    await pending;
  }
  await gone(server, user, 'all of them');
});

test('Of two upgrades of one session one is refused, and the other goes on', async () => {
  for (const [first, second] of [[[], []], [['2probe'], []], [['2probe'], ['2probe']], [['2probe', '5'], []], [['2probe', '5'], ['2probe', '5']]]) {
    const { user, story, step } = await restless();
    const session = await joined(user);
    const one = await Wire.open(server, { sid: session.sid });
    await one.send(...first);
    const other = await Wire.open(server, { sid: session.sid });
    await other.send(...second);
    assert.deepEqual(await other.rest(), [], 'it is shown nothing');
    await one.send(...['2probe', '5'].slice(first.length));
    assert.equal(await one.next(), '3probe');
    await step();
    assert.deepEqual(await heard(one, 1), [story.seq]);
    assert.equal(await connections(server, user), 1);
    one.cut();
    await gone(server, user, 'after the cut');
  }
});

test('No connection stays open after all these upgrades', async () => {
  const before = await server.metric('http_connections');
  const user = somebody();
  for (const fail of Object.values(FAILURES)) {
    const session = await joined(user);
    await fail(await Wire.open(server, { sid: session.sid }));
    await session.send('1');
  }
  await gone(server, user, 'all of them');
  await eventually(async () => await server.metric('http_connections') <= before, 'the connections to be closed');
});
