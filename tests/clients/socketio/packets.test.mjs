// Socket.IO packet by packet, over polling and over a WebSocket: joining, refusals, and the order of packets.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask, connections, frame, gone, join, meanwhile, named, nextTwo, opened, Polling, read, somebody, TRANSPORTS, Wire } from '../support/engineio.mjs';
import { as, eventually, jwt, people, Server } from '../support/server.mjs';
import { Story } from '../support/story.mjs';

const server = await Server.start({ env: { SOCKET_REQUESTS_PER_SECOND: '0' } });
after(() => server.close());

const BINARY = 2;

for (const transport of Object.keys(TRANSPORTS)) {
  test(`${transport}: CONNECT is answered with sid and pid, then comes connected`, async () => {
    const user = somebody();
    const { greeting: [reply, hello], hello: { sid: engine } } = await opened(server, transport, user);
    const { type, data } = read(reply);
    assert.equal(type, '0');
    assert.deepEqual(Object.keys(data), ['sid', 'pid']);
    assert.ok(data.pid.length > 20 && data.sid, reply);
    const { data: [name, { socketId, userId }] } = read(hello);
    assert.deepEqual([name, socketId, userId], ['connected', data.sid, user.sub]);
    // the pid brings back the same session on another connection
    const back = await opened(server, transport, user, { pid: data.pid, offset: '0' });
    assert.notEqual(back.hello.sid, engine);
    assert.equal(read(back.greeting[0]).data.pid, data.pid);
    assert.notEqual(read(back.greeting[0]).data.sid, data.sid);
  });

  test(`${transport}: a refused client is told why, and may try again on the same connection`, async () => {
    const user = somebody();
    const session = await opened(server, transport);
    for (const [packet, wanted] of [
      ['40/realtime,', /^44\/realtime,\{"message":"unauthorized: /],
      ['40/realtime', /^44\/realtime,\{"message":"unauthorized: /],
      ['40/realtime,{"token":7}', /^44\/realtime,\{"message":"unauthorized: /],
      ['40/realtime,{bad', /^44\/realtime,\{"message":"unauthorized: /],
      [join({ ...user, exp: 1 }), /^44\/realtime,\{"message":"token_expired: /],
      [join(user, { position: -1 }), /^44\/realtime,\{"message":"invalid_payload: /],
      ['40{}', /^44\{"message":"unauthorized: /],
      ['40/nowhere,', /^44\/nowhere,\{"message":"Invalid namespace"\}$/],
    ]) {
      await session.send(packet);
      assert.match(await session.next(), wanted, packet);
    }
    assert.equal(await connections(server, user), 0);
    await session.send(join(user));
    assert.deepEqual((await nextTwo(session)).map((packet) => named(packet).slice(0, 12)), ['40/realtime,', 'connected']);
    // a second CONNECT makes no second socket; after a DISCONNECT the client may join again
    await session.send(join(user));
    await session.send(ask('ping:latency', { t: 1 }, 1));
    assert.equal(read(await session.next()).ack, '1');
    assert.equal(await connections(server, user), 1);
    await session.send('41/realtime,');
    await gone(server, user, transport);
    await session.send(join(user));
    assert.deepEqual((await nextTwo(session)).map((packet) => named(packet).slice(0, 12)), ['40/realtime,', 'connected']);
    assert.equal(await connections(server, user), 1);
  });

  test(`${transport}: packets before CONNECT and malformed packets end the session`, async () => {
    for (const packet of [ask('ping:latency', {}), '41/realtime,', '43/realtime,1[]', '44/realtime,{}', '4', '47', '4abc', 'x']) {
      const session = await opened(server, transport);
      await session.send(packet);
      if (transport === 'websocket') {
        assert.deepEqual(await session.rest(), [], packet);
      } else {
        await eventually(async () => (await session.poll()).status === 400, `the end after ${packet}`);
      }
    }
  });

  test(`${transport}: packets without a meaning are ignored, before and after CONNECT`, async () => {
    const session = await opened(server, transport);
    const stray = ['0{}', '5', '6', '3probe'];
    for (const packet of stray) await session.send(packet);
    await session.send(join(somebody()));
    assert.equal(named((await nextTwo(session))[1]), 'connected');
    const nameless = ['[7,{}]', '[-1.5]', '1[7]', '', '12'].map((rest) => `42/realtime,${rest}`);
    for (const packet of [...stray, ...nameless, '43/realtime,5[]', '43/realtime,[]']) {
      await session.send(packet);
      await session.send(ask('ping:latency', { t: 1 }, 9));
      assert.equal(read(await session.next()).ack, '9', packet);
    }
    // In one body or one write with requests.
    await session.send(ask('ping:latency', { t: 1 }, 10), '6', '42/realtime,[7]', ask('ping:latency', { t: 1 }, 11), '5', ask('ping:latency', { t: 1 }, 12));
    for (const ack of ['10', '11', '12']) assert.equal(read(await session.next()).ack, ack);
  });

  test(`${transport}: an ack number of any length comes back as it was sent`, async () => {
    for (const version of [4, 3]) {
      const user = somebody();
      const session = await (transport === 'polling' ? Polling.open(server, version) : Wire.open(server, { version }));
      if (transport === 'websocket') await session.next();
      if (version === 3) await session.next();
      await session.send(version === 3 ? `40/realtime?token=${jwt(user)},` : join(user));
      await nextTwo(session);
      for (const ack of ['0', '9007199254740993', '9223372036854775808', '12345678901234567890', '99999999999999999999', '9'.repeat(38)]) {
        await session.send(ask('ping:latency', { t: 'é😀' }, ack));
        const { type, ack: answered, data: [answer] } = read(await session.next());
        assert.deepEqual([type, answered, answer.t], ['3', ack, 'é😀'], `version ${version}`);
        // A refusal, too, and several in one poll.
        await session.send(ask('nonsense', {}, ack), ask('ping:latency', { t: 2 }, ack));
        const both = [read(await session.next()), read(await session.next())];
        assert.deepEqual(both.map((one) => [one.ack, one.data[0].ok]), [[ack, false], [ack, true]]);
      }
      session.cut?.();
    }
  });

  test(`${transport}: a binary payload is refused by name, and wrong attachments end the session`, async () => {
    const user = somebody();
    const attachment = (session) => (transport === 'polling' ? session.send('bAQID') : session.write(frame(Buffer.of(1, 2, 3), { opcode: BINARY })));
    const session = await opened(server, transport, user);
    await session.send('451-/realtime,5["driver:location",{"_placeholder":true,"num":0}]');
    await attachment(session);
    const { type, ack, data: [answer] } = read(await session.next());
    assert.deepEqual([type, ack, answer.ok, answer.error.code], ['3', '5', false, 'invalid_payload']);
    await session.send(ask('ping:latency', { t: 1 }, 6));
    assert.equal(read(await session.next()).ack, '6', 'it goes on');
    await attachment(session);
    await gone(server, user, 'an attachment of nothing');
    const greedy = await opened(server, transport, user);
    await greedy.send('4599-/realtime,["driver:location",{"_placeholder":true,"num":0}]');
    await gone(server, user, 'too many attachments');
  });

  test(`${transport}: a close packet ends the session`, async () => {
    const user = somebody();
    if (transport === 'websocket') {
      const wire = await opened(server, transport, user);
      await wire.send('1');
      assert.deepEqual(await wire.rest(), []);
    } else {
      // Poll and packet travel side by side. Whichever comes first, the poll is answered and the next one is refused.
      for (const overtaken of [false, true]) {
        const session = await opened(server, transport, user);
        const last = overtaken ? undefined : session.poll();
        await session.send('1');
        const { status, packets } = await (last ?? session.poll());
        assert.deepEqual([status, packets], [200, ['6']], overtaken ? 'a poll that came too late' : 'a poll beside it');
        assert.equal((await session.poll()).status, 400);
        assert.equal(await session.send(ask('ping:latency', {}, 1)), 400);
      }
    }
    await gone(server, user, transport);
  });

  test(`${transport}: CONNECT's reply comes first, then connected, then events, also while events happen`, async () => {
    const who = people();
    const story = await Story.begin(server, who);
    await story.status('ready_for_pickup');
    const rival = people().driver;
    const user = as(who.customer, 'customer');
    let [turns, back] = [0, undefined];
    await meanwhile(() => story.assign((turns += 1) % 2 ? who.driver : rival), async () => {
      for (let i = 0; i < 20; i += 1) {
        const session = await opened(server, transport);
        await session.send(join(user, back));
        const reply = read(await session.next());
        assert.equal(reply.type, '0');
        const { data: [hello, { recovered, position }] } = read(await session.next());
        assert.deepEqual([hello, recovered], ['connected', i > 0]);
        const offsets = [];
        for (let n = 0; n < 5; n += 1) {
          const { data: [name, update, offset] } = read(await session.next());
          assert.deepEqual([name, update.orderId, offset], ['order:status_update', story.id, `${update.position}`]);
          offsets.push(update.position);
        }
        assert.deepEqual(offsets, offsets.map((_, n) => position + 1 + n), 'from where the socket begins, one after the other');
        back = { pid: reply.data.pid, offset: `${offsets.at(-1)}` };
        // half of the clients say goodbye, half disappear
        if (i % 2) await session.send('1'); else session.cut?.();
      }
    });
  });

  test(`${transport}: acks come in the order of the requests, each before the events of later ones`, async () => {
    const who = people();
    const { id: orderId, seq } = await server.assigned(who);
    const driver = await opened(server, transport, as(who.driver, 'driver'));
    const at = { latitude: 45.2, longitude: 13.6, orderId };
    // in polling, all of them in one body
    await driver.send(ask('subscribe:order', { orderId }, 1), ask('driver:location', at, 2), ask('ping:latency', { t: 3 }, 3),
      ask('order:status_update', { orderId, status: 'picked_up' }, 4), ask('subscribe:order', { orderId: 'nothing' }, 5), ask('driver:location', at), ask('nonsense', {}));
    const seen = [];
    while (seen.filter((packet) => /^42\/realtime,\["error"/.test(packet)).length < 1
      || seen.filter((packet) => named(packet) === 'driver:location_update').length < 2) seen.push(await driver.next());
    const place = (name) => seen.findIndex((packet) => named(packet) === name);
    const acks = seen.map((packet, i) => ({ ...read(packet), i })).filter(({ type }) => type === '3');
    assert.deepEqual(acks.map(({ ack, data: [{ ok }] }) => [ack, ok]), [['1', true], ['2', true], ['3', true], ['4', true], ['5', false]]);
    assert.equal(acks[0].data[0].seq, seq);
    assert.equal(acks[0].i, 0);
    const updates = seen.filter((packet) => named(packet) === 'order:status_update').map((packet) => read(packet).data[1]);
    assert.deepEqual(updates.map((update) => [update.seq, update.snapshot]), [[seq, true], [seq + 1, undefined]]);
    assert.equal(place('order:status_update'), 1, 'the snapshot is next to its ack');
    assert.ok(place('driver:location_acknowledged') > acks[1].i);
    assert.equal(seen.filter((packet) => named(packet) === 'driver:location_acknowledged').length, 2);
  });
}
