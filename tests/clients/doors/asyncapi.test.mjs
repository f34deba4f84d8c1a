// /asyncapi.json: it is a good document, what comes through every door is as it says, and what it says can be sent.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Contract } from '../support/asyncapi.mjs';
import { closeAll, connect } from '../support/client.mjs';
import { begin, dial, hangUpAll, trace, visit } from '../support/doors.mjs';
import { ADMIN, as, jwt, people, SERVICE, Server } from '../support/server.mjs';

const server = await Server.start({ args: ['--legacy-open'], env: { LOCATION_RATE_PER_SECOND: '0' } });
after(() => server.close());
after(closeAll);
after(hangUpAll);
const contract = await Contract.of(server);

/** What a test of seconds cannot see, with the reason. */
const NEVER = {
  'realtime.orderSignal': 'the driver has to be silent for a minute; tests/it/plans.rs has its members',
};
/** What a request is refused with that cannot be read. */
const BAD = ['invalid_payload', 'malformed'];
/** The order of the examples. */
const ORDER = contract.requests('realtime').find(({ message }) => message.name === 'subscribe:order').message.examples[0].payload.orderId;
const AWAY = { latitude: 45.31, longitude: 13.76 };
const MINUTE = 60_000;

test('The document is as the specification says', () => contract.lint());

/** Sends all requests of a Socket.IO door as its examples have them; `instead` has payloads for some. */
async function ask(channel, client, instead = {}) {
  for (const { message, reference, answers } of contract.requests(channel)) {
    for (const payload of instead[message.name] ?? message.examples.map((example) => example.payload)) {
      const answer = await client.request(message.name, payload);
      const what = `${channel}: ${message.name} ${JSON.stringify(payload)}`;
      assert.ok(!BAD.includes(answer.error?.code), `${what} is answered ${JSON.stringify(answer)}`);
      contract.ack(answers, answer, what);
      contract.seen.add(reference);
    }
  }
}

/** The same at a raw door. Whatever a request is answered comes before the answer to the next one. */
async function say(channel, line) {
  for (const { message, reference } of contract.requests(channel)) {
    for (const { payload } of message.examples) {
      const before = line.of('error').length;
      line.send(payload);
      await line.flush();
      const refused = line.of('error').slice(before).filter(({ code }) => BAD.includes(code));
      assert.deepEqual(refused, [], `${channel}: ${JSON.stringify(payload)}`);
      contract.seen.add(reference);
    }
  }
}

test('What comes through every door is as the document says, and what it says can be sent', { timeout: 60_000 }, async () => {
  const who = people();
  const rider = as(who.driver, 'driver');
  const parties = { admin: ADMIN, service: SERVICE, chef: as(who.chef, 'chef'), driver: rider, customer: as(who.customer, 'customer') };
  const realtime = {};
  for (const [name, user] of Object.entries(parties)) realtime[name] = await connect(server, { user });
  const { admin, chef, driver, customer } = realtime;
  const notices = [await visit(server, { user: parties.customer, more: { recovery: true } }), await visit(server, { user: ADMIN }), await visit(server)];
  const full = { items: [{ name: 'Fuži', quantity: 2, unitPrice: 9.5 }], total: 19, currency: 'EUR', notes: 'Ring twice' };
  // Whoever is on the way now cannot be there in a minute.
  const scheduledFor = new Date(Date.now() + MINUTE).toISOString();
  await server.create(who, { id: ORDER, scheduledFor, ...full });

  // Tokens, a position from nowhere, and what has waited for its user.
  realtime.mortal = await connect(server, { token: jwt({ ...parties.customer, exp: Date.now() / 1000 + 3 }) });
  realtime.lost = await connect(server, { user: parties.customer, more: { position: 999_999_999 } });
  contract.announced.add('shift:ends').add('shift:changed');
  await server.announce({ role: 'driver', event: 'shift:ends', data: { at: 18 } });
  const absent = people();
  const { notificationId } = await server.announce({ userId: absent.driver.id, event: 'shift:changed', data: 'now', durable: true });
  realtime.late = await connect(server, { user: as(absent.driver, 'driver') });
  await realtime.late.next('shift:changed', (data) => data.notificationId === notificationId);

  // Requests of `/realtime`, by who may do what they ask for and by who may not.
  const token = [{ token: jwt(ADMIN) }];
  await ask('realtime', admin, { 'token:refresh': token });
  await ask('realtime', driver);
  await ask('realtime', realtime.late, { 'notification:ack': [{ id: notificationId, state: 'opened' }] });
  await customer.ask('order:seen', { orderId: ORDER, seq: 1 });
  await chef.next('order:receipt');
  customer.send('order:tracking', { orderId: 'no-such-order' });
  await customer.next('error');
  notices[0].send('subscribe:order', { orderId: ORDER });
  await notices[0].next('error');

  // Others who look: two links, and the raw doors.
  const shared = [];
  for (const scope of ['location', 'status']) {
    const link = await server.ok('POST', `/orders/${ORDER}/share-links`, { scope }, ADMIN);
    shared.push(await connect(server, { options: { auth: { share: link.token } } }));
  }
  const raw = { ordersTrack: [], ws: [], tracking: [] };
  for (const user of [parties.customer, ADMIN]) {
    raw.ordersTrack.push(await dial(server, '/orders/track', user));
    raw.ws.push(await dial(server, '/ws', user));
  }
  for (const line of raw.ordersTrack) await say('ordersTrack', line);
  for (const line of raw.ws) await say('ws', line);
  for (const client of shared) await ask('shared', client);
  await ask('shared', shared[0], { 'order:tracking': [{ orderId: 'no-such-order' }] });
  await raw.ordersTrack[0].ask({ type: 'subscribe', order_id: 'no-such-order' }, 'error');
  await raw.ws[0].ask({ type: 'subscribe' }, 'error');
  for (const line of raw.ordersTrack) line.send({ type: 'subscribe', order_id: ORDER });
  for (const line of raw.ws) line.send({ type: 'subscribe', orderId: ORDER });
  for (const client of [...shared, chef, driver, customer, admin]) client.send('subscribe:order', { orderId: ORDER });
  shared[0].send('app:state', { state: 'active' });
  await shared[0].next('error');

  // The order's life.
  await admin.ask('subscribe:fleet');
  await server.pay(ORDER);
  for (const status of ['preparing', 'ready_for_pickup']) await server.status(ORDER, status);
  await driver.next('order:available');
  await server.assign(ORDER, who.driver);
  await driver.next('order:withdrawn');
  await server.unassign(ORDER);
  await driver.next('driver:unassigned');
  await server.assign(ORDER, who.driver);
  const { tracking_id: session } = await begin(server, rider, ORDER);
  raw.tracking.push(await trace(server, session), await trace(server, session, rider));
  // The customer does not see the driver yet.
  await driver.ask('subscribe:order', { orderId: ORDER });
  await server.ok('PUT', `/drivers/${who.driver.id}/plan`, { stops: [{ orderId: ORDER, kind: 'dropoff', serviceSeconds: 60 }] }, ADMIN);
  await driver.next('driver:plan_update');
  await driver.ask('driver:location', AWAY);
  const { latitude, longitude } = who.chef;
  for (const speed of [5, 0]) await driver.ask('driver:location', { latitude, longitude, speed, heading: 90, accuracy: 8, orderId: ORDER });
  await customer.next('order:milestone');
  await admin.next('order:risk');
  for (const line of raw.tracking) await say('tracking', line);
  await server.status(ORDER, 'in_transit');
  await driver.ask('driver:location_batch', { points: [{ ...AWAY, orderId: ORDER }, { latitude: 91, longitude: 0 }, { ...AWAY, orderId: 'no-such-order' }] });
  await driver.ask('driver:location', { ...AWAY, speed: 8, heading: 90 });
  await raw.ordersTrack[0].next('driver_location');
  await customer.next('driver:location_update');
  await shared[0].next('driver:location_update');
  await shared[0].next('order:eta_update');
  await admin.next('fleet:positions');
  await driver.ask('order:status_update', { orderId: ORDER, status: 'failed', reason: 'nobody_home' });
  await server.status(ORDER, 'in_transit');
  await server.status(ORDER, 'delivered');

  // The same again, for one socket.
  await admin.ask('replay:order', { orderId: ORDER, speed: 600 });
  await admin.next('replay:end', ({ sent }) => sent > 0);

  // A tracking session that ends.
  const other = people();
  const { tracking_id: over } = await begin(server, as(other.driver, 'driver'), 'order-1002');
  const last = await trace(server, over);
  raw.tracking.push(last);
  await server.ok('POST', '/orders/order-1002/cancel', {}, ADMIN);
  const { code, reason } = await last.closed;
  assert.ok(contract.document.channels.tracking['x-close-codes'].some((close) => close.code === code && close.reason === reason), `${code} ${reason}`);

  await realtime.mortal.next('token:expired');
  await realtime.lost.next('resync');
  await customer.next('order:status_update', ({ status }) => status === 'delivered');
  for (const line of Object.values(raw).flat().filter((one) => one !== last)) await line.flush();

  const heard = { realtime: Object.values(realtime), shared, notices, ...raw };
  for (const [channel, all] of Object.entries(heard)) {
    for (const client of all) {
      for (const { name, payload, rest } of client.events.filter((event) => !event.name.startsWith('('))) {
        const isComplete = contract.event(channel, name, payload, rest);
        const isPlayed = client === admin && payload.replayed === true;
        const hasOffsets = channel === 'realtime' && client !== realtime.lost && !isPlayed;
        assert.ok(!hasOffsets || isComplete !== false, `${channel}: ${name} has no offset`);
      }
    }
  }
  assert.deepEqual(contract.unseen().toSorted(), Object.keys(NEVER).toSorted(), 'what is described and never seen');
});

test('What the document does not have is noticed', () => {
  const connected = { socketId: 's', userId: 'u', role: 'chef', recovered: false, position: 1, serverTime: '2026-11-28T18:04:05.120Z' };
  contract.event('realtime', 'connected', connected, []);
  for (const [name, payload, rest] of [
    ['order:eaten', {}, []], ['connected', { ...connected, more: 1 }, []], ['connected', { ...connected, role: 'king' }, []],
    ['connected', { ...connected, position: undefined }, []], ['connected', connected, ['41']],
  ]) assert.throws(() => contract.event('realtime', name, payload, rest), assert.AssertionError, name);
});
