// The checks of checks.mjs, checked: nothing is found in what is good, and in each that is not, what is wrong with it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { heardOf, once, quiet, tooMany } from './lib/checks.mjs';

const dots = (...numbers) => numbers.map((n) => ({ n }));

test('places', () => {
  assert.deepEqual(heardOf(dots(1, 2, 5), 5), []);
  assert.equal(heardOf(dots(1, 3, 2), 5).length, 1, 'goes back');
  assert.equal(heardOf(dots(1, 1), 5).length, 1, 'twice');
  assert.equal(heardOf(dots(1, 6), 5).length, 1, 'forged');
  assert.equal(heardOf(dots(NaN), 5).length, 1, 'no place at all');
});

test('silence', () => {
  const heard = [
    { at: 10, name: 'order:status_update', payload: { orderId: 'a' } }, { at: 30, name: 'location_update', payload: { data: { order_id: 'a' } } },
    { at: 40, name: 'order:status_update', payload: { orderId: 'b' } }, { at: 50, name: 'pong', payload: {} },
  ];
  assert.deepEqual(quiet(heard, ['a'], 30), []);
  assert.equal(quiet(heard, ['a'], 20).length, 1);
});

test('once', () => {
  assert.deepEqual(once([1, 2, 3], [1, 2, 3]), []);
  for (const wrong of [[1, 3], [1, 2, 2, 3], [1, 2, 3, 4], [2, 1, 3]]) assert.equal(once(wrong, [1, 2, 3]).length > 0, true, `${wrong}`);
});

test('rates', () => {
  const every = (ms, n, from = 0) => Array.from({ length: n }, (_, i) => from + i * ms);
  assert.deepEqual(tooMany([...every(1, 10), ...every(500, 20, 500)], 2, 10), []);
  assert.equal(tooMany(every(1, 12), 2, 10).length, 1, 'a burst');
  assert.equal(tooMany(every(250, 40), 2, 10).length, 1, 'a rate');
});
