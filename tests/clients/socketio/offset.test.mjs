// Who gets the offset as one more last argument of durable events. A handler with one parameter fails on a second argument in some
// languages, so nobody gets it who cannot use it.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, combos, label, open } from '../support/client.mjs';
import { opened } from '../support/engineio.mjs';
import { gone, start } from '../support/recovery.mjs';
import { as, jwt, people, Server } from '../support/server.mjs';

const server = await Server.start();
after(() => server.close());
afterEach(closeAll);

const NAMES = { '/realtime': 'order:status_update', '/': 'orderStatusUpdate' };

/** What follows the payload of a change, for a client that says `more` as it connects. */
async function rest(namespace, { more, ...combo }) {
  const who = people();
  const { id } = await server.create(who);
  const client = open(server, { ...combo, namespace, user: as(who.customer, 'customer'), more });
  await client.next('(connect)');
  // Version 2 is in the default namespace first, and its greeting says when it is in the other one.
  if (namespace === '/realtime') await client.next('connected');
  await server.status(id, 'accepted');
  const about = ({ name, payload }) => name === NAMES[namespace] && payload.orderId === id && !payload.replayed;
  const event = await client.until(() => client.events.find(about), NAMES[namespace]);
  client.close();
  return event.rest.map((argument) => typeof argument);
}

for (const combo of combos) {
  test(`${label(combo)}: an offset in /realtime for Engine.IO 4, none in the default namespace`, async () => {
    assert.deepEqual(await rest('/realtime', combo), combo.client === '2' ? [] : ['string']);
    assert.deepEqual(await rest('/', combo), []);
    // Who brings a position keeps count without offsets.
    assert.deepEqual(await rest('/realtime', { ...combo, more: { position: 0 } }), []);
    assert.deepEqual(await rest('/', { ...combo, more: { position: 0, recovery: true } }), []);
    assert.deepEqual(await rest('/', { ...combo, more: { recovery: true } }), combo.client === '2' ? [] : ['string']);
  });
}

test('In the default namespace an offset is asked for with recovery: true or a pid, and with nothing else', async () => {
  for (const [more, wanted] of [
    [{ recovery: true }, ['string']], [{ pid: 'of another server' }, ['string']],
    [{ recovery: false }, []], [{ recovery: 'true' }, []], [{ recovery: 1 }, []], [{ recovery: null, pid: null }, []], [{ offset: '1' }, []],
  ]) assert.deepEqual(await rest('/', { client: '4', transport: 'websocket', more }), wanted, JSON.stringify(more));
});

test('Packet by packet, on both transports, also in a second namespace of one connection', async () => {
  for (const transport of ['websocket', 'polling']) {
    const who = people();
    const user = as(who.customer, 'customer');
    const { id } = await server.create(who);
    const session = await opened(server, transport, user);
    await session.send(`40${JSON.stringify({ token: jwt(user) })}`);
    assert.match(await session.next(), /^40\{"sid"/);
    await server.status(id, 'accepted');
    const packets = [await session.next(), await session.next(), await session.next()].sort();
    assert.deepEqual(packets.map((packet) => JSON.parse(packet.slice(packet.indexOf('['))).slice(2).map((last) => typeof last)), [['string'], [], []], transport);
  }
});

test('A page that did not ask is back after its first loss, misses nothing and gets offsets from then on', { timeout: 60_000 }, async (t) => {
  const { server: own, proxy } = await start(t);
  for (const transport of ['websocket', 'polling']) {
    const who = people();
    const { id } = await own.create(who);
    const page = open(proxy, {
      transport, namespace: '/', user: as(who.customer, 'customer'), options: { reconnectionDelay: 20, reconnectionDelayMax: 60, timeout: 2000 },
    });
    await page.next('(connect)');
    const seqs = () => page.of('orderStatusUpdate').map(({ seq }) => seq);
    const told = (seq) => page.until(() => seqs().includes(seq), `${transport}: seq ${seq}`);
    await told((await own.status(id, 'accepted')).seq);
    await gone(proxy, [{ client: page }], () => proxy.cut(), () => own.status(id, 'preparing'));
    await page.count('(connect)', 2);
    assert.equal(page.socket.recovered, true);
    // The server cannot know what of its first connection the page has, and tells it again.
    await told(3);
    assert.deepEqual([...new Set(seqs())], [2, 3], transport);
    const before = seqs().length;
    await told((await own.status(id, 'ready_for_pickup')).seq);
    await gone(proxy, [{ client: page }], () => proxy.cut(), () => own.status(id, 'cancelled'));
    await page.count('(connect)', 3);
    await told(5);
    assert.deepEqual(seqs().slice(before), [4, 5], `${transport}: from its first offset on, each once`);
    page.close();
  }
});

test('A client that recovers and keeps its position is back in its rooms, and hears what follows that position', { timeout: 60_000 }, async (t) => {
  const { server: own, proxy } = await start(t);
  for (const transport of ['websocket', 'polling']) {
    const who = people();
    const user = as(who.customer, 'customer');
    const { id } = await own.create(who);
    const updates = () => client.of('order:status_update');
    let position = 0;
    const client = open(proxy, { transport, options: {
      reconnectionDelay: 20, reconnectionDelayMax: 60, timeout: 2000, auth: (give) => give({ token: jwt(user), position }),
    } });
    client.socket.on('order:status_update', (update, ...more) => { position = update.position; assert.deepEqual(more, []); });
    await client.next('connected');
    await client.ask('subscribe:order', { orderId: id });
    // An announcement that ends with a text leaves a false offset behind in this client.
    await own.announce({ userId: who.customer.id, event: 'notice', data: 'a text' });
    await own.status(id, 'accepted');
    await client.until(() => updates().some(({ seq }) => seq === 2), 'a change');
    await gone(proxy, [{ client }], () => proxy.cut(), () => own.status(id, 'preparing'));
    await client.count('connected', 2);
    assert.equal(client.of('connected')[1].recovered, true, transport);
    await own.status(id, 'ready_for_pickup');
    await client.until(() => updates().some(({ seq }) => seq === 4), 'the end');
    assert.deepEqual(updates().map(({ seq }) => seq).slice(-3), [2, 3, 4], `${transport}: each once`);
    client.close();
  }
});
