// The parts of the page that need no browser: what an event does to an order, ways on the map, what the log may show.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OrderBook, nextStatus, shortNumber } from '../app/order.js';
import { Path, bearing, distance } from '../app/geo.js';
import { Ledger } from '../app/ledger.js';
import { redact } from '../app/log.js';
import { delivery } from '../app/metrics.js';
import { byOrder, verdict } from '../app/outage.js';
import { resolve, whoIs } from '../app/config.js';
import { Frames, pretty, read } from '../app/clients/frames.js';
import { WORDS, nextWord } from '../app/clients/words.js';

const order = (change = {}) => ({ id: 'o1', orderNumber: 'RND-20261121-0007', status: 'accepted', seq: 3, createdAt: '2026-11-21T10:00:00.000Z', driver: null, ...change });

test('an order takes newer events only, once', () => {
  const book = new OrderBook();
  assert.equal(book.apply({ orderId: 'o1', seq: 1, status: 'pending' }), 'unknown');
  book.put(order());
  assert.equal(book.apply({ orderId: 'o1', seq: 3, status: 'pending' }), 'stale');
  assert.equal(book.apply({ orderId: 'o1', seq: 4, status: 'preparing' }), 'applied');
  assert.equal(book.apply({ orderId: 'o1', seq: 4, status: 'preparing' }), 'stale');
  book.put(order());
  assert.equal(book.get('o1').status, 'preparing', 'an older answer of REST does not undo an event');
});

test('a fresh list keeps what arrived while it was fetched', () => {
  const book = new OrderBook();
  book.put(order({ seq: 5, status: 'preparing' }));
  book.put(order({ id: 'gone' }));
  book.replace([order(), order({ id: 'o2', createdAt: '2026-11-21T11:00:00.000Z' })]);
  assert.deepEqual(book.list().map(({ id, seq }) => [id, seq]), [['o2', 3], ['o1', 5]]);
});

test('an unassigned order has no driver', () => {
  const book = new OrderBook();
  book.put(order({ status: 'assigned_to_driver', driver: { id: 'd', name: 'D' } }));
  book.apply({ orderId: 'o1', seq: 4, status: 'ready_for_pickup', previousStatus: 'assigned_to_driver' });
  assert.equal(book.get('o1').driver, null);
});

test('finished orders do not pile up', () => {
  const book = new OrderBook();
  book.put(order({ createdAt: '2026-11-20T00:00:00.000Z' }));
  for (let i = 0; i < 400; i += 1) book.put(order({ id: `d${i}`, status: 'delivered', createdAt: new Date(Date.UTC(2026, 10, 21, 0, i)).toISOString() }));
  assert.equal(book.list().length, 300);
  assert.ok(book.has('o1'), 'an active one stays, however old');
  assert.ok(book.has('d399') && !book.has('d0'));
});

test('what comes after a status', () => {
  assert.equal(nextStatus('pending'), 'payment_confirmed');
  assert.equal(nextStatus('in_transit'), 'delivered');
  assert.equal(nextStatus('delivered'), null);
  assert.equal(nextStatus('cancelled'), null);
  assert.equal(shortNumber('RND-20261121-0007'), '0007');
});

test('a path is travelled by metres and finds a point again', () => {
  const corner = new Path([[47, 9], [47.01, 9], [47.01, 9], [47.01, 9.02]]);
  assert.equal(corner.points.length, 3, 'a repeated point is dropped');
  assert.ok(Math.abs(corner.length - (distance([47, 9], [47.01, 9]) + distance([47.01, 9], [47.01, 9.02]))) < 1e-6);
  assert.deepEqual(corner.at(-5).point, [47, 9]);
  assert.deepEqual(corner.at(1e9).point, [47.01, 9.02]);
  assert.equal(Math.round(corner.at(10).heading), 0);
  assert.equal(Math.round(corner.at(corner.length - 10).heading), 90);
  for (const metres of [0, 300, 1500, corner.length]) {
    const { travelled, off } = corner.locate(corner.at(metres).point);
    assert.ok(Math.abs(travelled - metres) < 1 && off < 1, `${metres} → ${travelled}, ${off} m off`);
  }
  assert.deepEqual(corner.ahead(corner.length).at(-1), [47.01, 9.02]);
  assert.equal(Math.round(bearing([47, 9], [46.9, 9])), 180);
});

const jwt = (claims) => ['{"alg":"HS256"}', JSON.stringify(claims), 'x'].map((part) => Buffer.from(part).toString('base64url')).join('.');

test('the log shows no token, by name or by look', () => {
  const token = jwt({ sub: 'u1' });
  const shown = JSON.stringify(redact({ token, nested: [{ accessToken: 'abc', note: `Bearer ${token}` }], authorization: 'x', status: 'ok' }));
  assert.ok(!shown.includes(token) && !shown.includes('abc'), shown);
  assert.ok(shown.includes('"status":"ok"'));
});

test('a token’s owner is read in every accepted spelling', () => {
  assert.deepEqual(whoIs(jwt({ sub: 'u1', name: 'Zoë', role: 'driver' })), { id: 'u1', name: 'Zoë', role: 'driver', phone: undefined });
  assert.equal(whoIs(jwt({ user_id: 7, roles: ['chef'] })).id, '7');
  assert.equal(whoIs('nonsense'), null);
});

test('own tokens replace the demo’s, all of them', () => {
  const page = { accounts: { customer: { token: 't', user: { id: 'c' } }, chef: { token: 't', user: { id: 'k' } } }, restaurant: { id: 'k', latitude: 1, longitude: 2 }, home: null, route: null };
  assert.equal(resolve(page, null).accounts.chef.user.id, 'k');
  const own = resolve(page, { server: 'http://other:1/', tokens: { chef: jwt({ sub: 'k2', name: 'K' }) }, transport: 'polling' });
  assert.equal(own.server, 'http://other:1');
  assert.equal(own.accounts.customer, null);
  assert.equal(own.restaurant.id, 'k2');
});

const at = (seconds) => Date.UTC(2026, 10, 21, 10, 0, seconds);
const event = (seq, seconds, change = {}) => ({ orderId: 'o1', orderNumber: 'N1', seq, status: 'accepted', timestamp: new Date(at(seconds)).toISOString(), ...change });
const listed = (seq, id = 'o1') => ({ id, orderNumber: id === 'o1' ? 'N1' : 'N2', seq });

test('what is notable about an event', () => {
  const ledger = new Ledger(2);
  assert.deepEqual([event(4, 0, { snapshot: true }), event(5, 1), event(5, 1), event(8, 2), event(9, 3, { replayed: true })].map((e) => ledger.hear(e)),
    ['snapshot', undefined, 'repeat', 'gap of 2', 'replayed']);
  ledger.forget('o1');
  assert.equal(ledger.hear(event(20, 4)), undefined, 'an order given back and taken again begins where it is');
});

/** A customer who knows order o1 at seq 3, leaves at 10 and is back at 20. */
function away(recovered = true) {
  const ledger = new Ledger(2);
  ledger.learn([listed(2)]);
  ledger.hear(event(3, 5));
  ledger.leave(at(10));
  assert.equal(ledger.absence.state, 'away');
  ledger.back(at(20), recovered);
  return ledger;
}

test('an absence is over once every number the server has given is heard', () => {
  const ledger = away();
  assert.equal(ledger.hear(event(4, 12)), 'caught up');
  ledger.audit([listed(6), listed(2, 'o2')]);
  assert.equal(ledger.absence.state, 'checking');
  ledger.hear(event(5, 14));
  ledger.hear(event(2, 15, { orderId: 'o2', orderNumber: 'N2' }));
  assert.equal(ledger.absence.state, 'checking');
  assert.equal(ledger.hear(event(6, 21)), undefined, 'this one happened after the return');
  const { state, awayMs, recovered, count, events, missing } = ledger.absence;
  assert.deepEqual({ state, awayMs, recovered, count, missing }, { state: 'done', awayMs: 10_000, recovered: true, count: 3, missing: [] });
  assert.deepEqual(byOrder(events).map(({ orderNumber, events: own }) => [orderNumber, own.map(({ seq }) => seq)]), [['N1', [4, 5]], ['N2', [2]]]);
  assert.equal(verdict(ledger.absence).title, 'Back, and nothing was missed');
  assert.equal(verdict({ ...ledger.absence, count: 0 }).title, 'Back: its orders had not changed');
  assert.equal(ledger.hear(event(7, 22)), undefined);
  assert.equal(ledger.absence.count, 3, 'and nothing is added later');
});

test('what was missed may be sent ahead of the welcome', () => {
  const ledger = new Ledger(2);
  ledger.learn([listed(3)]);
  ledger.leave(at(10));
  assert.equal(ledger.hear(event(4, 12)), 'caught up');
  ledger.back(at(20), true);
  ledger.audit([listed(4)]);
  assert.deepEqual([ledger.absence.state, ledger.absence.count], ['done', 1]);
});

test('an event that never comes is missing: in the middle, at the end, at the start of a new order', () => {
  const ledger = away();
  ledger.hear(event(5, 12));
  ledger.audit([listed(6), listed(3, 'o2')]);
  ledger.hear(event(3, 13, { orderId: 'o2', orderNumber: 'N2' }));
  ledger.settle();
  assert.deepEqual(ledger.absence.missing.map(({ orderNumber, seq }) => `${orderNumber} ${seq}`), ['N1 4', 'N1 6', 'N2 2']);
  assert.deepEqual(verdict(ledger.absence), { whole: false, title: '3 changes missing', facts: [['Recovered', 'yes'], ['Away', '10 s'], ['Caught up with', '2 changes'], ['Missing', '3']] });
});

test('a driver joins orders half-way, and has no part in one taken away meanwhile', () => {
  const ledger = new Ledger(null);
  ledger.learn([listed(7)]);
  ledger.leave(at(10));
  ledger.back(at(20), true);
  ledger.forget('o1');
  ledger.hear(event(12, 15));
  ledger.hear(event(13, 16));
  ledger.audit([listed(13)]);
  assert.deepEqual(ledger.absence.missing, []);
  ledger.leave(at(30));
  ledger.back(at(40), true);
  ledger.audit([listed(13), listed(9, 'o2')]);
  ledger.settle();
  assert.deepEqual(ledger.absence.missing.map(({ orderNumber, seq }) => `${orderNumber} ${seq}`), ['N2 9'], 'an assignment that was not heard');
});

test('cut again while catching up, it is one absence; a new session owes nothing', () => {
  const ledger = away();
  ledger.hear(event(4, 12));
  ledger.leave(at(22));
  ledger.back(at(25), true);
  ledger.hear(event(5, 23));
  ledger.audit([listed(5)]);
  const { awayMs, count, missing } = ledger.absence;
  assert.deepEqual({ awayMs, count, missing }, { awayMs: 15_000, count: 2, missing: [] });
  ledger.dismiss();
  assert.equal(ledger.absence, null);

  const anew = away(false);
  anew.audit([listed(9)]);
  assert.equal(anew.absence.state, 'done');
  assert.equal(verdict(anew.absence).facts[0][1], 'no');
});

test('without a list to compare with, nothing is claimed', () => {
  const ledger = new Ledger(1);
  ledger.leave(at(10));
  ledger.back(at(11), true);
  ledger.audit([listed(4)]);
  ledger.settle();
  assert.equal(ledger.absence.missing, null);
  assert.equal(verdict(ledger.absence).whole, false);
});

test('the figures that matter are read from the metrics', () => {
  const text = `# HELP ordercast_recoveries What became of sessions.
# TYPE ordercast_recoveries counter
ordercast_recoveries_total{outcome="recovered"} 12
ordercast_recoveries_total{outcome="too_old"} 0
ordercast_recoveries_total{outcome="forged"} 2
ordercast_replayed_total 345
ordercast_conflated_total{kind="location"} 4
ordercast_conflated_total{kind="eta"} 3
ordercast_stalls_total 1
ordercast_sessions_behind 0
# EOF
`;
  assert.deepEqual(delivery(text), { recoveries: [['recovered', 12], ['forged', 2]], replayed: 345, conflated: 7, stalls: 1, behind: 0 });
  assert.equal(delivery('ordercast_trail_depth 0\n'), null);
});

test('a frame is laid out without a token of it being changed', () => {
  const exact = '{"lat":47.10,"big":12345678901234567890,"e":1E+2,"text":"a \\u00e9 \\" {x: [1, 2]}  ","none":null,"a":[],"o":{},"a":"twice"}';
  assert.equal(pretty(exact).replace(/"(?:[^"\\]|\\.)*"|\s+/g, (part) => (part[0] === '"' ? part : '')), exact);
  assert.equal(pretty('{"type":"pong"}'), '{"type": "pong"}');
  assert.equal(pretty('{"a":{"b":[1,2]},"c":"long enough to need lines"}', 20), '{\n  "a": {"b": [1, 2]},\n  "c": "long enough to need lines"\n}');
  assert.equal(pretty('["event",{"a":1,"b":"long enough"},"41"]', 20), '["event", {\n  "a": 1,\n  "b": "long enough"\n}, "41"]');
  for (const broken of ['[1,2', ']', '{"a":1}}', '']) assert.equal(pretty(broken), broken);
});

test('what a frame is about is read in every client’s form', () => {
  const order = 'o1';
  for (const [text, wanted] of [
    ['42/realtime,["order:status_update",{"orderId":"o1","status":"ready_for_pickup","seq":5},"9"]', { order, status: 'ready_for_pickup', seq: 5 }],
    ['43/realtime,0[{"ok":true,"orderId":"o1","status":"accepted","seq":3}]', { order, status: 'accepted', seq: 3 }],
    ['42["trackingUpdate",{"orderId":"o1","status":"picked_up"}]', { order, status: 'picked_up' }],
    ['{"type":"order_update","order_id":"o1","status":"ready","seq":5}', { order, status: 'ready', seq: 5 }],
    ['{"type":"order:updated","orderId":"o1","data":{"id":"o1","status":"READY","seq":5}}', { order, status: 'READY', seq: 5 }],
    ['{"type":"orders:changed","orderId":"o1","status":"READY"}', { order, status: 'READY' }],
    ['{"type":"status_change","data":{"tracking_id":"TRK-1","order_id":"o1","status":"ASSIGNED"}}', { order, session: 'TRK-1', status: 'ASSIGNED' }],
    ['200 OK\n{"tracking_id":"TRK-1","status":"IN_TRANSIT"}', { session: 'TRK-1', status: 'IN_TRANSIT' }],
    ['{"type":"pong"}', {}], ['2', {}], ['closed 1006', {}], ['{"type":', {}], ['null', {}], ['GET /orders/o1/tracking', {}],
  ]) {
    const about = Object.fromEntries(Object.entries(read(text)).filter(([, value]) => value !== undefined));
    assert.deepEqual(about, wanted, text);
  }
});

test('frames are bounded, hide tokens, and stand still while they are read', () => {
  const frames = new Frames();
  frames.add('out', '40/realtime,{"token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjIn0.sig-nature"}');
  assert.equal(frames.list[0].lines.join('\n'), '40/realtime,{"token": "[hidden]"}');
  for (let i = 0; i < 100; i += 1) frames.add('in', `{"n":${i}}`);
  assert.equal(frames.list.length, 40);
  assert.equal(frames.list[0].lines[0], '{"n": 99}');
  frames.pause();
  frames.add('in', '{"n":100}');
  assert.deepEqual([frames.list[0].lines[0], frames.list.length, frames.unseen], ['{"n": 99}', 40, 1]);
  frames.pause();
  assert.equal(frames.list[0].lines[0], '{"n": 100}');
  frames.add('in', `{"text":"${'x'.repeat(60_000)}"}`);
  assert.ok(frames.list[0].lines.join('').length < 17_000);
  assert.match(frames.list[0].lines.at(-1), /and 43627 characters more/);
  frames.add('in', '['.repeat(60_000));
  assert.equal(frames.list[0].lines.length, 2);
});

test('each client asks for the next step in its own words', () => {
  const steps = (words) => ['pending', 'payment_confirmed', 'accepted', 'preparing', 'ready_for_pickup', 'assigned_to_driver', 'picked_up', 'in_transit', 'delivered', 'cancelled'].map((status) => nextWord(words, status));
  assert.deepEqual(steps(WORDS.canonical), ['payment_confirmed', 'accepted', 'preparing', 'ready_for_pickup', 'assigned_to_driver', 'picked_up', 'in_transit', 'delivered', null, null]);
  assert.deepEqual(steps(WORDS.track), ['confirmed', 'confirmed', 'preparing', 'ready', 'out_for_delivery', 'out_for_delivery', 'delivered', 'delivered', null, null]);
  assert.deepEqual(steps(WORDS.ws), ['CONFIRMED', 'PREPARING', 'PREPARING', 'READY', 'OUT_FOR_DELIVERY', 'OUT_FOR_DELIVERY', 'DELIVERED', 'DELIVERED', null, null]);
  assert.deepEqual(steps(WORDS.tracking).slice(5), ['PICKED_UP', 'IN_TRANSIT', 'DELIVERED', null, null]);
});
