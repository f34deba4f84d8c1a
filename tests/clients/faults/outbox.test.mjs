// A slow, stalled or dead reader affects only itself. Durable events wait for it in order, of live events it gets the newest.
// A reader that takes nothing for too long is cut, and comes back.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import WebSocket from 'ws';
import { closeAll, connect } from '../support/client.mjs';
import { joined, pollingUrl, within } from '../support/raw.mjs';
import { join, proxyTo, recovered, start } from '../support/recovery.mjs';
import { as, eventually, jwt, people } from '../support/server.mjs';
import { DURABLE, rising, Story } from '../support/story.mjs';

const STALL_MS = 1500;
/** For pauses that must not cut anybody, also on a slow machine. */
const PATIENT = { WRITE_STALL_MS: '60000', PING_INTERVAL_MS: '60000', PING_TIMEOUT_MS: '60000' };

after(closeAll);

/** An order of about 45 KB. Each assignment sends all of it to the driver. */
const BIG = { items: Array.from({ length: 200 }, (_, i) => ({ name: `${i} ${'x'.repeat(190)}`, quantity: 1 })) };

/** An order that is assigned back and forth between its driver and a rival, whose socket reads well. */
async function ballGame(server, who, more = BIG) {
  const rival = people().driver;
  const witness = await connect(server, { user: as(rival, 'driver') });
  const story = await Story.begin(server, who, more);
  await story.status('ready_for_pickup');
  return {
    story,
    /** Assigns it `rounds` times to each of the two. The rival has it in the end. */
    async play(rounds) {
      for (let i = 0; i < rounds; i += 1) {
        await story.assign(who.driver);
        await story.assign(rival);
      }
    },
    /** The witness has heard everything, and its requests are answered. */
    async unharmed(what) {
      await story.check(witness, [rival.id, 'drivers'], `${what}: the witness`);
      const asked = Date.now();
      await witness.ask('ping:latency', { t: 1 });
      assert.ok(Date.now() - asked < 1000, `${what}: the witness waited`);
      assert.deepEqual(witness.of('(disconnect)'), [], what);
    },
  };
}

/** Resolves when the user has no connection left; fails if that takes longer than `ms`. */
const left = (server, { id }, what, ms) => eventually(
  async () => !(await server.ok('GET', `/users/${id}/presence`)).online, `${what} to be gone`, ms);

/** A polling session that has joined, polled until its greeting came, and polls no more; its URL. */
async function unpolled(server, user, version = 4) {
  const url = await pollingUrl(server, version);
  const packet = version === 4 ? `40/realtime,${JSON.stringify({ token: jwt(user) })}` : `40/realtime?token=${jwt(user)},`;
  const headers = { 'content-type': 'text/plain;charset=UTF-8' };
  await fetch(url, { method: 'POST', headers, body: version === 4 ? packet : `${packet.length}:${packet}` });
  for (let text = ''; !text.includes('"connected"');) text = await (await fetch(url)).text();
  return url;
}

describe('Outbox', { concurrency: 3 }, () => {
  for (const version of [4, 3]) {
    test(`A WebSocket that takes nothing is closed within WRITE_STALL_MS + 2 s, Engine.IO ${version}`, { timeout: 60_000 }, async (t) => {
      const { server } = await start(t, { env: { WRITE_STALL_MS: `${STALL_MS}` } });
      const who = people();
      const game = await ballGame(server, who);
      const stalled = await Promise.all([1, 2, 3].map(() => joined(server, as(who.driver, 'driver'), version)));
      for (const ws of stalled) ws.pause();
      assert.equal(await server.metric('connections', 'role="driver"'), 4);
      await game.play(40);
      const flooded = Date.now();
      await game.unharmed('during the stall');
      await left(server, who.driver, 'the stalled sockets', STALL_MS + 2000 - (Date.now() - flooded));
      assert.equal(await server.metric('connections', 'role="driver"'), 1, 'the witness is left');
      assert.equal(await server.metric('stalls_total'), 3);
      assert.equal(await server.metric('sessions_behind'), 0);
      // the connections are closed, not only forgotten
      for (const ws of stalled) ws.resume();
      await Promise.all(stalled.map((ws) => within(ws.closed, 'the close')));
      await game.play(1);
      await game.unharmed('afterwards');
    });
  }

  test('A stock client that stalled comes back by itself and has missed nothing', { timeout: 60_000 }, async (t) => {
    const { server } = await start(t, { env: { WRITE_STALL_MS: `${STALL_MS}` } });
    const proxy = await proxyTo(t, server);
    const who = people();
    const clients = await Promise.all(['websocket', 'upgrade'].map(async (transport) => (
      { what: transport, client: await join(proxy, transport, as(who.driver, 'driver')) })));
    const game = await ballGame(server, who);
    await game.play(1);
    proxy.pause();
    await game.play(40);
    await left(server, who.driver, 'the stalled sockets', 10_000);
    await game.play(1);
    proxy.resume();
    for (const { client, what } of clients) {
      await game.story.check(client, [who.driver.id, 'drivers'], what);
      await recovered(client, what);
      assert.match(client.of('(disconnect)')[0], /^transport (close|error)$/, what);
      rising(client, what);
    }
    await game.unharmed('afterwards');
  });

  test('A shorter pause has no effect', { timeout: 60_000 }, async (t) => {
    const { server, proxy } = await start(t, { env: PATIENT });
    const who = people();
    const clients = await Promise.all([['4', 'websocket'], ['4', 'polling'], ['2', 'websocket'], ['2', 'polling']].map(async ([client, transport]) => (
      { what: `${client}, ${transport}`, client: await connect(proxy, { client, transport, user: as(who.driver, 'driver') }) })));
    const game = await ballGame(server, who);
    proxy.pause();
    await game.play(30);
    await game.unharmed('during the pause');
    proxy.resume();
    for (const { client, what } of clients) {
      await game.story.check(client, [who.driver.id, 'drivers'], what);
      assert.deepEqual(client.of('(disconnect)'), [], what);
      if (!what.startsWith('2')) rising(client, what); // version 2 gets no offsets
    }
  });

  test('A client that answers no heartbeat is closed, whether it reads or not', { timeout: 60_000 }, async (t) => {
    // long enough for the witness to answer on a busy machine
    const [INTERVAL, TIMEOUT] = [500, 2500];
    const { server } = await start(t, { env: { PING_INTERVAL_MS: `${INTERVAL}`, PING_TIMEOUT_MS: `${TIMEOUT}` } });
    const [mute, silent] = [people(), people()];
    const game = await ballGame(server, silent);
    // The mute sockets read and send nothing. The silent ones do not even read or poll.
    for (const version of [4, 3]) await joined(server, as(mute.driver, 'driver'), version);
    for (const version of [4, 3]) {
      await unpolled(server, as(silent.driver, 'driver'), version);
      (await joined(server, as(silent.driver, 'driver'), version)).pause();
    }
    await game.play(10);
    await left(server, mute.driver, 'the mute sockets', INTERVAL + TIMEOUT + 2000);
    await left(server, silent.driver, 'the silent sockets', INTERVAL + TIMEOUT + 2000);
    assert.equal(await server.metric('connections', 'role="driver"'), 1, 'the witness is left');
    await game.unharmed('afterwards');
  });

  for (const [version, transport] of [['4', 'websocket'], ['4', 'polling'], ['3', 'websocket'], ['2', 'websocket'], ['2', 'polling']]) {
    test(`socket.io-client ${version}, ${transport}: a client that pauses gets the newest live events and every durable event`, { timeout: 60_000 }, async (t) => {
      const FIXES = 400;
      const { server, proxy } = await start(t, { env: { ...PATIENT, LOCATION_RATE_PER_SECOND: '0', SOCKET_REQUESTS_PER_SECOND: '0' } });
      const who = people();
      const user = as(who.driver, 'driver');
      const delivery = await Story.begin(server, who);
      await delivery.status('ready_for_pickup');
      await delivery.assign(who.driver);
      const phone = await connect(server, { user });
      const reader = await connect(proxy, { client: version, transport, user });
      await reader.ask('subscribe:order', { orderId: delivery.id });
      await reader.next('order:status_update', (update) => update.snapshot);
      const begin = delivery.told(who.driver.id, 'drivers').length;
      const game = await ballGame(server, who);

      proxy.pause();
      await game.play(30);
      // so many small events that no buffer of packets holds them all
      for (let i = 0; i < FIXES; i += 1) {
        await phone.ask('driver:location', { latitude: 45, longitude: 13 + i / 10_000, orderId: delivery.id });
        if (i === FIXES / 2) await delivery.status('picked_up');
      }
      await delivery.status('in_transit');
      proxy.resume();

      const fixes = () => reader.of('driver:location_update');
      const heard = () => delivery.heard(reader);
      const wanted = delivery.told(who.driver.id, 'drivers').slice(begin);
      await game.story.check(reader, [who.driver.id, 'drivers'], 'the durable events');
      await reader.until(() => heard().length >= wanted.length, 'the durable events of the delivery');
      assert.deepEqual(heard(), wanted);
      await reader.until(() => fixes().at(-1)?.longitude === 13 + (FIXES - 1) / 10_000, 'the newest fix');
      assert.ok(fixes().length < FIXES, `${fixes().length} of ${FIXES} fixes came`);
      const places = fixes().map((fix) => fix.longitude);
      assert.deepEqual(places, places.toSorted((a, b) => a - b), 'never an older one after a newer one');
      assert.equal(fixes().reduce((sum, { conflated }) => sum + 1 + conflated, 0), FIXES, 'each is either shown or counted as skipped');
      assert.ok(await server.metric('conflated_total') >= FIXES - fixes().length);
      assert.deepEqual(reader.of('(disconnect)'), []);
      if (version !== '2') rising(reader, 'the reader'); // version 2 gets no offsets

      // from here on nothing is skipped
      await phone.ask('driver:location', { latitude: 46, longitude: 14, orderId: delivery.id });
      assert.equal((await reader.next('driver:location_update', (fix) => fix.latitude === 46)).conflated, 0);
      await game.unharmed('afterwards');
    });
  }

  test('An upgrade loses nothing that did not fit into the polling body before it', { timeout: 60_000 }, async (t) => {
    const { server } = await start(t);
    const who = people();
    const url = await unpolled(server, as(who.driver, 'driver'));
    const game = await ballGame(server, who);
    await game.play(20);
    const body = await (await fetch(url)).text();
    const ws = new WebSocket(url.replace('http', 'ws').replace('=polling', '=websocket'));
    t.after(() => ws.terminate());
    const seen = body.split('\u001e');
    const wanted = game.story.told(who.driver.id, 'drivers');
    const heard = () => seen.filter((packet) => packet.startsWith('42/realtime,["')).map((packet) => JSON.parse(packet.slice(packet.indexOf('['))))
      .filter(([name]) => DURABLE.has(name)).map(([name, payload]) => [name, payload.seq ?? null]);
    assert.ok(heard().length > 0 && heard().length < wanted.length, `${heard().length} of ${wanted.length} came by polling`);
    const done = new Promise((resolve) => {
      ws.on('open', () => ws.send('2probe'));
      ws.on('message', (data) => {
        if (`${data}` === '3probe') ws.send('5');
        else seen.push(`${data}`);
        if (heard().length >= wanted.length) resolve();
      });
    });
    await within(done, 'the rest').catch(() => {}); // the comparison below names what is missing
    assert.deepEqual(heard(), wanted);
  });

  test('A slow reader that never stalls gets everything in order', { timeout: 60_000 }, async (t) => {
    const { server, proxy } = await start(t, { env: { WRITE_STALL_MS: `${STALL_MS}` } });
    const who = people();
    const clients = await Promise.all([['4', 'websocket'], ['2', 'websocket']].map(async ([version, transport]) => (
      { what: version, client: await connect(proxy, { client: version, transport, user: as(who.driver, 'driver') }) })));
    const game = await ballGame(server, who);
    proxy.rate = 500_000;
    await game.play(30);
    for (const { client, what } of clients) {
      await game.story.check(client, [who.driver.id, 'drivers'], what);
      assert.deepEqual(client.of('(disconnect)'), [], what);
    }
    await game.unharmed('afterwards');
  });

  test('A server that is told to stop does not wait for stalled clients', { timeout: 60_000 }, async (t) => {
    const DRAIN = 1000;
    const { server } = await start(t, { env: { ...PATIENT, DRAIN_MS: `${DRAIN}` } });
    const who = people();
    const game = await ballGame(server, who);
    const user = as(who.driver, 'driver');
    for (const version of [4, 3]) {
      for (let i = 0; i < 2; i += 1) {
        (await joined(server, user, version)).pause();
        await unpolled(server, user, version);
      }
    }
    await game.play(30);
    assert.equal((await server.ok('GET', `/users/${who.driver.id}/presence`)).connections, 8, 'they are still there');
    const told = Date.now();
    assert.equal(await server.stop(), 0);
    assert.ok(server.exitedAt - told < DRAIN + 3000, `it took ${server.exitedAt - told} ms`);
  });
});
