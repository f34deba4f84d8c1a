// The parts of the page that need no browser: what an event does to an order, ways on the map, what the log may show.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OrderBook, nextStatus, shortNumber } from '../app/order.js';
import { Path, bearing, distance } from '../app/geo.js';
import { redact } from '../app/log.js';
import { resolve, whoIs } from '../app/config.js';

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
