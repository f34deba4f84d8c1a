// The five clients when something breaks: a plug, the server, a session, a driver taken away. They come back as their own code does.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { DOORS, assigned, clients, frames, inState, move, shown, stands } from './five.mjs';
import { problems } from './check.mjs';
import { Stage, id } from './stage.mjs';

const stage = new Stage();
before(() => stage.open());
afterEach(() => stage.clear());
after(() => stage.close());

test('plugs are pulled, the order goes on, and who is back knows where it stands', async () => {
  const page = await clients(stage);
  await assigned(page);
  const out = ['realtime', 'default', 'track', 'tracking'];
  for (const door of out) {
    await page.click(id(`door-plug-${door}`));
    await inState(page, door, 'unplugged');
  }
  assert.deepEqual(await problems(page), []);
  await page.click(id('door-move-track'), { force: true }); // nothing goes through
  await page.click(id('door-move-ws'));
  await page.waitForSelector(`${id('door-status-ws')}[data-status="OUT_FOR_DELIVERY"]`);
  assert.deepEqual(await shown(page), ['assigned_to_driver', 'assigned_to_driver', 'ready', 'OUT_FOR_DELIVERY', 'ASSIGNED']);
  assert.equal((await frames(page, 'track', 'out')).filter((text) => text.startsWith('PUT') && text.includes('out_for_delivery')).length, 0);
  for (const door of out.slice(1)) await page.click(id(`door-plug-${door}`));
  await Promise.all(DOORS.map((door) => inState(page, door, 'connected'))); // the first one goes back by itself
  await stands(page, 'in_transit');
  for (const door of DOORS) assert.equal(await page.getAttribute(id(`door-state-${door}`), 'data-connects'), door === 'ws' ? '1' : '2', door);
  await move(page, 'tracking', 'delivered');
});

test('kill -9 and a new start: all five come back by themselves, and hear on', async () => {
  const page = await clients(stage, {}, { rough: true });
  await assigned(page);
  await move(page, 'track', 'in_transit');
  await stage.stopServer('SIGKILL');
  await page.locator(id('door-facts-track'), { hasText: 'next try after 4 s' }).waitFor();
  const noted = await frames(page, 'track', 'state');
  assert.deepEqual(noted.slice(0, 3).map((text) => text.trim()), ['closed 1006', 'closed 1006', 'closed 1006']);
  await stage.startServer();
  await Promise.all(DOORS.map((door) => inState(page, door, 'connected')));
  await stands(page, 'in_transit');
  await move(page, 'tracking', 'delivered');
});

test('who is signed out by the back office signs in again, in every client of theirs', async () => {
  const page = await clients(stage, {}, { rough: true });
  await assigned(page);
  const connects = (door) => page.getAttribute(id(`door-state-${door}`), 'data-connects').then(Number);
  const before = await connects('ws');
  const answer = await page.evaluate(async () => {
    const { accounts } = await (await fetch('/page-config')).json();
    const response = await fetch(`/users/${accounts.customer.user.id}/sessions`, { method: 'DELETE', headers: { Authorization: `Bearer ${accounts.admin.token}` } });
    return response.json();
  });
  assert.ok(answer.disconnected >= 4, `${answer.disconnected} connections of the customer`);
  for (const door of ['default', 'track', 'tracking']) {
    await page.waitForFunction(([selector]) => Number(document.querySelector(selector).dataset.connects) > 1, [id(`door-state-${door}`)]);
    await inState(page, door, 'connected');
  }
  assert.ok((await frames(page, 'track', 'state')).includes('closed 1008 Session ended'));
  assert.equal(await connects('ws'), before, 'nobody else is');
  await stands(page, 'assigned_to_driver');
  await move(page, 'tracking', 'picked_up');
});

test('an order that loses its driver ends the session, and another driver’s is begun', async () => {
  const page = await clients(stage);
  const placed = await assigned(page);
  const states = page.locator(`${id('door-frames-tracking')} pre`, { hasText: 'initial_state' });
  const session = async () => /"tracking_id": "(TRK-\w+)"/.exec(await states.first().textContent())[1];
  await states.waitFor();
  const first = await session();
  const assignment = (method, body) => page.evaluate(async ([path, call, driver]) => {
    const { accounts } = await (await fetch('/page-config')).json();
    const headers = { Authorization: `Bearer ${accounts.admin.token}`, ...(driver ? { 'Content-Type': 'application/json' } : {}) };
    return (await fetch(path, { method: call, headers, body: driver && JSON.stringify({ driver }) })).status;
  }, [`/orders/${placed}/assign`, method, body]);
  assert.equal(await assignment('DELETE'), 200);
  await stands(page, 'ready_for_pickup');
  await inState(page, 'tracking', 'waiting');
  assert.match(await page.textContent(id('door-facts-tracking')), /^for a driver/);
  assert.equal(await assignment('POST', { id: 'driver-2', name: 'Donata Driver' }), 200);
  await stands(page, 'assigned_to_driver');
  await states.nth(1).waitFor();
  assert.notEqual(await session(), first);
  await page.click(id('clients-cancel'));
  await page.waitForSelector(`${id('clients-order')}[data-status="cancelled"]`);
  await inState(page, 'tracking', 'refused');
  assert.equal(await page.textContent(id('door-facts-tracking')), 'Session expired');
});

test('no error in any console, and no request left the origin', () => {
  assert.deepEqual(stage.complaints, []);
});
