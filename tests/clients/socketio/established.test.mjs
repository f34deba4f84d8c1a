// Established clients: once a client on a WebSocket has joined, the server talks to it without socketioxide. No client may notice.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { closeAll, combos, connect, label, open } from '../support/client.mjs';
import { enter } from '../support/doors.mjs';
import { ask, connections, frame, gone, join, named, nextTwo, opened, read, somebody } from '../support/engineio.mjs';
import { as, eventually, jwt, people, Server } from '../support/server.mjs';
import { Story } from '../support/story.mjs';
import { knock } from '../support/websocket.mjs';

const server = await Server.start({ env: { SOCKET_REQUESTS_PER_SECOND: '0' } });
after(async () => { closeAll(); await server.close(); });

const count = () => server.metric('established');
const established = (n) => eventually(async () => await count() === n, `${n} established`);
const nobody = () => established(0);

for (const combo of combos) {
  test(`${label(combo)}: a client is established, unless it polls or speaks Engine.IO 3, and hears everything either way`, async () => {
    await nobody();
    const who = people();
    const story = await Story.begin(server, who);
    const app = await connect(server, { ...combo, user: as(who.customer, 'customer') });
    const stays = combo.client === '2' || combo.transport === 'polling';
    if (!stays) await established(1);
    await app.ask('subscribe:order', { orderId: story.id });
    await story.status('ready_for_pickup');
    await app.until(() => app.of('order:status_update').some(({ status }) => status === 'ready_for_pickup'), 'the change');
    assert.equal(await count(), stays ? 0 : 1);
    app.close();
    await nobody();
  });
}

for (const client of ['4', '3']) {
  test(`socket.io-client ${client}: a second namespace joins the same connection, and each may be left and joined again`, async () => {
    await nobody();
    const who = people();
    const options = { client, user: as(who.customer, 'customer'), options: { forceNew: false } };
    const app = await connect(server, options);
    await established(1);
    const { id: engine } = app.socket.io.engine;
    const page = enter(server, options);
    await page.next('(connect)');
    const story = await Story.begin(server, who);
    await app.ask('subscribe:order', { orderId: story.id });
    await story.status('ready_for_pickup');
    await page.next('orderStatusUpdate', ({ status }) => status === 'ready_for_pickup');
    app.socket.disconnect();
    await eventually(async () => await connections(server, { sub: who.customer.id }) === 1, 'one of two left');
    app.socket.connect();
    await app.count('connected', 2);
    await app.ask('ping:latency', { t: 1 });
    assert.equal(app.socket.io.engine.id, engine, 'the connection is the same');
    assert.deepEqual(page.of('(disconnect)'), []);
    page.close();
    app.close();
    await nobody();
  });
}

test('A joined client cannot join twice, a refused one is told why, and one that left may come back', async () => {
  await nobody();
  const user = somebody();
  const wire = await opened(server, 'websocket', user);
  const { pid } = read(wire.greeting[0]).data;
  await established(1);
  await wire.send(join(user), ask('ping:latency', { t: 1 }, 1));
  assert.equal(read(await wire.next()).ack, '1', 'a second CONNECT is answered by nothing');
  for (const [packet, wanted] of [
    ['40{}', /^44\{"message":"unauthorized: /],
    [`40{"token":"${jwt({ ...user, exp: 1 })}"}`, /^44\{"message":"token_expired: /],
    ['40/nowhere,{"a":1}', /^44\/nowhere,\{"message":"Invalid namespace"\}$/],
  ]) {
    await wire.send(packet);
    assert.match(await wire.next(), wanted, packet);
  }
  assert.equal(await connections(server, user), 1);
  await wire.send('41/realtime,');
  await gone(server, user, 'after DISCONNECT');
  await wire.send(join(user, { pid, offset: '0' }));
  const [reply, hello] = await nextTwo(wire);
  assert.deepEqual([read(reply).data.pid, named(hello)], [pid, 'connected'], 'the same session');
  const { data: [, { socketId }] } = read(hello);
  assert.equal(socketId, read(reply).data.sid);
  assert.notEqual(socketId, read(wire.greeting[0]).data.sid);
  await wire.send(ask('ping:latency', { t: 2 }, 2));
  assert.equal(read(await wire.next()).ack, '2');
  assert.equal(await count(), 1, 'all the time');
  wire.cut();
  await nobody();
  await gone(server, user, 'after a cut');
});

test('A message in many frames is read, and attachments are refused by name', async () => {
  await nobody();
  const wire = await opened(server, 'websocket', somebody());
  await established(1);
  const message = ask('ping:latency', { t: 'x'.repeat(300) }, 1);
  await wire.write(Buffer.concat([frame(message.slice(0, 9), { fin: false }), frame(message.slice(9), { opcode: 0 })]));
  assert.equal(read(await wire.next()).ack, '1');
  await wire.send('451-/realtime,2["driver:location",{"_placeholder":true,"num":0}]');
  await wire.write(frame(Buffer.of(1, 2, 3), { opcode: 2 }));
  const { ack, data: [answer] } = read(await wire.next());
  assert.deepEqual([ack, answer.error.code], ['2', 'invalid_payload']);
  assert.equal(await count(), 1);
  wire.cut();
  await nobody();
});

test('A packet that no client sends ends the session, and nobody else notices', async () => {
  await nobody();
  const other = await connect(server, { user: somebody() });
  for (const packet of ['42/realtime,["ping:latency"', '42/elsewhere,["x"]', '42["x"]', '451-/realtime,["x"]', '4', '47', 'x', '41/elsewhere,', '41', '431[]', '1']) {
    const user = somebody();
    const wire = await opened(server, 'websocket', user);
    await established(2);
    if (packet.startsWith('45')) await wire.send(packet, ask('ping:latency', {}, 1));
    else await wire.send(packet);
    assert.deepEqual(await wire.rest(), [], packet);
    await gone(server, user, packet);
    await established(1);
  }
  await other.ask('ping:latency', { t: 1 });
  other.close();
});

test('A token that only the first poll carried, as browsers send it, is good for a namespace joined after the upgrade', async () => {
  await nobody();
  const user = somebody();
  const authorization = `Bearer ${jwt(user)}`;
  const app = await connect(server, { transport: 'upgrade', options: { transportOptions: { polling: { extraHeaders: { authorization } } } } });
  await established(1);
  const page = app.socket.io.socket('/');
  await new Promise((resolve, reject) => { page.once('connect', resolve).once('connect_error', reject); });
  assert.equal(await connections(server, user), 2);
  app.close();
  await nobody();
});

test('Packets in the same write as the handshake, whole or in part, are handled, and the client is established', async () => {
  await nobody();
  for (const part of [Infinity, 1, 5, 20]) {
    const user = somebody();
    const hello = frame(join(user));
    const wire = await knock(server, { path: '/socket.io/?EIO=4&transport=websocket' }, { after: hello.subarray(0, part) });
    if (part < hello.length) await wire.write(hello.subarray(part));
    const packets = [await wire.next(), await wire.next(), await wire.next()];
    assert.deepEqual(packets.map((packet) => packet.slice(0, 2)), ['0{', '40', '42'], part);
    await established(1);
    await wire.send(`40{"token":"${jwt(user)}"}`, ask('ping:latency', { t: 1 }, 1));
    const both = [await wire.next(), await wire.next()].map((packet) => packet.slice(0, 2)).toSorted();
    assert.deepEqual(both, ['40', '43'], part);
    assert.equal(await connections(server, user), 2);
    wire.cut();
    await gone(server, user, `${part} bytes at once`);
    await nobody();
  }
});

test('A client that joins two namespaces at once is in both', async () => {
  await nobody();
  const user = somebody();
  const token = jwt(user);
  const wire = await opened(server, 'websocket');
  await wire.send(join(user), `40{"token":"${token}"}`);
  const packets = [await wire.next(), await wire.next(), await wire.next()];
  assert.deepEqual(packets.map((packet) => packet.slice(0, 4)).sort(), ['40/r', '40{"', '42/r']);
  await wire.send(ask('ping:latency', { t: 1 }, 1));
  assert.equal(read(await wire.next()).ack, '1');
  assert.equal(await count(), 1);
  wire.cut();
  await gone(server, user, 'after a cut');
});

test('A page on the default namespace alone is established', async () => {
  await nobody();
  const who = people();
  const page = enter(server, { user: as(who.customer, 'customer') });
  await page.next('(connect)');
  await established(1);
  const app = open(server, { user: as(who.customer, 'customer') });
  await established(2);
  page.close();
  app.close();
  await nobody();
});
