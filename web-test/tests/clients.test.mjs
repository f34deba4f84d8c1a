// The five clients on the page: one order, five doors, each in its own words, with what really went over the line.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { DOORS, assigned, clients, frames, inState, move, order, shown, stands, tight, unfold } from './five.mjs';
import { problems } from './check.mjs';
import { Stage, connected, id, picture } from './stage.mjs';

const stage = new Stage();
before(() => stage.open());
afterEach(() => stage.clear());
after(() => stage.close());

test('what one client writes, all five are told, each in its own words', async () => {
  const page = await clients(stage);
  assert.deepEqual(await page.$$eval('.door h3', (all) => all.map((title) => title.textContent)), ['1Marketplace apps', '2Web shop', '3Shop app', '4Admin panel', '5Courier tracking']);
  const placed = await order(page);
  assert.match(await page.textContent(id('door-facts-tracking')), /^for a driver/);
  await move(page, 'realtime', 'payment_confirmed');
  await move(page, 'track', 'accepted');
  await move(page, 'default', 'preparing');
  await move(page, 'ws', 'ready_for_pickup');
  assert.match(await page.textContent(id('door-facts-tracking')), /^for a driver/);
  await page.click(id('clients-assign'));
  await stands(page, 'assigned_to_driver');
  await move(page, 'tracking', 'picked_up');
  await move(page, 'realtime', 'in_transit');

  await page.click(id('door-drive-tracking'));
  const hears = (door, text) => page.locator(`${id(`door-frames-${door}`)} [data-direction="in"] pre`, { hasText: text }).first().waitFor();
  await hears('realtime', '42/realtime,["driver:location_update"');
  await hears('track', '"type": "driver_location"');
  await hears('tracking', '"type": "location_update"');
  await unfold(page, 'default');
  await hears('default', /42\["trackingUpdate"[^]*"location": \{/);
  await move(page, 'track', 'delivered');

  await page.waitForSelector(`${id('clients-order')}[data-status="delivered"]`);
  for (const door of DOORS) assert.ok(await page.isDisabled(id(`door-move-${door}`)), `${door} has nothing to ask for any more`);
  for (const [door, ...names] of [
    ['realtime', '42/realtime,["order:status_update"', '43/realtime,'],
    ['default', '42["orderStatusUpdate"', '42["trackingUpdate"', '200 OK'],
    ['track', '"type": "order_update"', '"success": true'],
    ['ws', '"type": "order:updated"', '"type": "orders:changed"'],
    ['tracking', '"type": "status_change"', '"type": "initial_state"', '"tracking_id": "TRK-'],
  ]) {
    const heard = await frames(page, door);
    for (const name of names) assert.ok(heard.some((text) => text.includes(name)), `${door} hears ${name}`);
  }
  const said = async (door, text) => assert.ok((await frames(page, door, 'out')).some((frame) => frame.startsWith(text)), `${door} says ${text}`);
  await said('track', `PUT /api/orders/${placed}/status\n{"status": "delivered"}`);
  await said('tracking', `POST /tracking/start\n`);
  assert.ok(!/eyJ[\w-]{10,}/.test(await page.evaluate(() => document.documentElement.outerHTML)), 'no token anywhere on the page');
});

test('the frames are those on the wire, unchanged but for spaces', async () => {
  const page = await stage.page();
  const wire = { in: new Set(), out: new Set() };
  page.on('websocket', (socket) => socket
    .on('framereceived', ({ payload }) => wire.in.add(tight(String(payload))))
    .on('framesent', ({ payload }) => wire.out.add(tight(String(payload)))));
  await page.goto(`${stage.origin}/#clients`);
  await page.reload();
  await assigned(page);
  await move(page, 'tracking', 'picked_up');
  let compared = 0;
  for (const door of ['track', 'ws', 'tracking']) {
    await unfold(page, door);
    for (const direction of ['in', 'out']) {
      const raw = (await frames(page, door, direction)).filter((text) => text.startsWith('{'));
      for (const text of raw) assert.ok(wire[direction].has(tight(text)), `${door} shows what was not on the wire: ${text}`);
      compared += raw.length;
    }
  }
  for (const door of ['realtime', 'default']) {
    await unfold(page, door);
    for (const text of (await frames(page, door)).filter((one) => one.startsWith('42'))) {
      assert.ok(wire.in.has(tight(text)), `${door} shows what was not on the wire: ${text}`);
      compared += 1;
    }
  }
  assert.ok(compared > 20, `${compared} frames compared`);
});

test('the newest order is followed until one is picked; frames of others are counted, not shown', async () => {
  const page = await clients(stage);
  const newest = page.locator(id('clients-newest'));
  assert.equal(await newest.getAttribute('aria-pressed'), 'true');
  const placed = await order(page);
  assert.equal(await newest.getAttribute('aria-pressed'), 'false');
  // The demo's own orders go on meanwhile.
  await page.locator(id('door-others-ws'), { hasText: /[1-9]\d* of other orders/ }).waitFor();
  assert.equal(await page.getAttribute(id('clients-order'), 'data-id'), placed);
  for (const text of await frames(page, 'ws')) assert.ok(!text.includes('"orderId"') || text.includes(placed));
  await page.click(id('clients-cancel'));
  await page.waitForSelector(`${id('clients-order')}[data-status="cancelled"]`);
  await newest.click();
  await page.waitForFunction(([selector, before]) => document.querySelector(selector).dataset.id !== before, [id('clients-order'), placed]);
});

test('frames can be held still, and long ones unfold', async () => {
  const page = await clients(stage);
  await order(page);
  await page.click(id('door-pause-ws'));
  const held = await frames(page, 'ws');
  await move(page, 'track', 'accepted');
  await page.locator(id('door-pause-ws'), { hasText: /Resume \(\d+\)/ }).waitFor();
  assert.deepEqual(await frames(page, 'ws'), held);
  await page.click(id('door-pause-ws'));
  const long = (expanded) => page.locator(`${id('door-frames-ws')} li`, { hasText: 'order:updated', has: page.locator(`[aria-expanded="${expanded}"]`) }).first();
  const folded = await long(false).locator('pre').textContent();
  assert.throws(() => JSON.parse(folded), SyntaxError, 'it is folded');
  await long(false).getByRole('button').click();
  const { data } = JSON.parse(await long(true).locator('pre').textContent());
  assert.ok(data.items.length > 0);
  await page.click(id('clients-cancel'));
});

test('what is refused is said in that client’s panel', async () => {
  const page = await stage.page();
  await connected(page);
  const { accounts } = await page.evaluate(() => fetch('/page-config').then((r) => r.json()));
  await page.click(id('open-connect'));
  await page.fill(id('token-customer'), accounts.customer.token);
  await page.click(id('connect-submit'));
  await connected(page, ['customer']);
  await page.click(id('page-clients'));
  await order(page);
  assert.match(await page.textContent(id('door-facts-tracking')), /token of the admin or of this driver/);
  await page.click(id('door-move-realtime'));
  await page.locator(id('door-error-realtime'), { hasText: /./ }).waitFor();
  await page.click(id('door-move-track'));
  await page.locator(id('door-error-track'), { hasText: 'token of the back office' }).waitFor();
  assert.deepEqual((await shown(page)).slice(0, 2), ['pending', 'pending']);
});

test('the clients have an address, and the way back leads to the people', async () => {
  const page = await clients(stage);
  assert.equal(new URL(page.url()).hash, '#clients');
  assert.equal(await page.isVisible(id('view-customer')), false);
  await page.locator(id('summary'), { hasText: / of [45] connected/ }).waitFor();
  await page.goBack();
  await page.waitForSelector(id('view-customer'));
  assert.equal(await page.isVisible(id('view-clients')), false);
  await page.goForward();
  await page.waitForSelector(id('view-clients'));
  assert.equal(await page.getAttribute(id('door-state-track'), 'data-connects'), '1', 'they stay connected while nobody looks');
});

test('the keyboard reaches every client, shows where it is, and moves the order on', async () => {
  const page = await clients(stage);
  await order(page);
  const wanted = ['page-clients', 'clients-newest', 'clients-new', ...DOORS.slice(0, 4).flatMap((door) => [`door-plug-${door}`, `door-move-${door}`, `door-pause-${door}`, `door-frames-${door}`])];
  const reached = new Set();
  for (let i = 0; i < 150 && !wanted.every((name) => reached.has(name)); i += 1) {
    await page.keyboard.press('Tab');
    const focus = await page.evaluate(() => {
      const { dataset, tagName } = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return { name: dataset.testid ?? '', tag: tagName, visible: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1 };
    });
    if (focus.tag !== 'BODY') assert.ok(focus.visible, `focus is visible on ${focus.tag} ${focus.name}`);
    reached.add(focus.name);
  }
  assert.deepEqual(wanted.filter((name) => !reached.has(name)), [], 'not reached by Tab');
  await page.focus(id('door-move-ws'));
  await page.keyboard.press('Enter');
  await stands(page, 'accepted');
  assert.equal(await page.evaluate(() => document.activeElement.dataset.testid), 'door-move-ws', 'focus stays on the button that was pressed');
});

for (const [colorScheme, width] of [['light', 1440], ['dark', 1240], ['light', 900], ['dark', 375]]) {
  test(`names, structure and contrast hold in ${colorScheme}, and nothing scrolls sideways at ${width} px`, async () => {
    const page = await clients(stage, { colorScheme, viewport: { width, height: 900 } });
    await assigned(page);
    assert.deepEqual(await problems(page), []);
    for (const door of DOORS) assert.ok(await page.isVisible(id(`door-${door}`)), door);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= width);
    await page.click(id('clients-cancel'));
    await page.waitForSelector(`${id('clients-order')}[data-status="cancelled"]`);
    await inState(page, 'tracking', 'refused');
    assert.deepEqual(await problems(page), []);
  });
}

test('the demo’s driver is seen to move through every door that tells of it', async () => {
  const page = await clients(stage);
  const moves = (door, text) => page.waitForFunction(([selector, name]) => {
    const fixes = [...document.querySelectorAll(`${selector} [data-direction="in"] pre`)].filter((pre) => pre.textContent.includes(name));
    return fixes.length >= 3;
  }, [id(`door-frames-${door}`), text], { timeout: 60_000 });
  await Promise.all([moves('realtime', 'driver:location_update'), moves('default', 'trackingUpdate'), moves('track', 'driver_location'), moves('tracking', 'location_update')]);
  await picture(page, 'clients.png');
});

test('no error in any console, and no request left the origin', () => {
  assert.deepEqual(stage.complaints, []);
});
