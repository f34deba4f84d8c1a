// The page in a real browser against the real server: `npm test`, with the server's binary in ORDERCAST_BIN.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { problems } from './check.mjs';
import { SCREENSHOTS, STATUSES, Stage, VIEWS, connected, id, picture, place, shows } from './stage.mjs';

const stage = new Stage();
before(() => stage.open());
afterEach(() => stage.clear());
after(() => stage.close());

test('with nothing clicked, an order is cooked, driven along the road and delivered', async (t) => {
  const opened = Date.now();
  const page = await stage.page();
  await connected(page);
  const watched = await page.waitForFunction(() => Object.entries(window.seen).find(([, statuses]) => ['preparing', 'in_transit', 'delivered'].every((s) => statuses.includes(s)))?.[0], null, { timeout: 45_000 });
  t.diagnostic(`seen cooked, driven and delivered ${((Date.now() - opened) / 1000).toFixed(1)} s after opening the page`);
  const number = await watched.jsonValue();
  const { statuses, places } = await page.evaluate((n) => ({ statuses: window.seen[n], places: window.places[n]?.size ?? 0 }), number);
  const order = statuses.map((status) => STATUSES.indexOf(status));
  assert.deepEqual(order, [...order].sort((a, b) => a - b), `statuses only go forwards: ${statuses}`);
  assert.ok(places >= 5, `the driver was seen in ${places} places`);
});

test('a whole delivery by clicking', async () => {
  const page = await stage.page();
  await connected(page);
  const number = await place(page);

  await page.click(id(`admin-verify-${number}`));
  await shows(page, number, 'payment_confirmed');
  await page.click(id(`chef-accept-${number}`));
  await shows(page, number, 'accepted');
  await page.click(id(`chef-prepare-${number}`));
  await shows(page, number, 'preparing');
  await page.click(id(`chef-ready-${number}`));
  await shows(page, number, 'ready_for_pickup');
  await page.click(id(`admin-assign-${number}`));
  await shows(page, number, 'assigned_to_driver');
  assert.match(await page.textContent(id('customer-driver')), /\S/);
  await page.click(id(`driver-pickup-${number}`));
  await shows(page, number, 'picked_up');
  await page.click(id(`driver-transit-${number}`));
  await shows(page, number, 'in_transit');

  await page.click(id('driver-speed-8'));
  await page.click(id('driver-play'));
  await page.waitForFunction((n) => (window.places[n]?.size ?? 0) > 10, number);
  await page.waitForSelector(`${id('customer-eta')}[data-minutes]`);
  await page.waitForSelector(id('customer-range'));
  assert.match(await page.textContent(id('customer-range')), /\d\d:\d\d to \d\d:\d\d · (by road|as the crow flies)/);
  await page.waitForSelector(id('driver-verdict'));
  assert.equal(await page.textContent(id('driver-verdict')), 'Shown');
  if (SCREENSHOTS) await page.waitForFunction((drive) => Number(document.querySelector(drive).dataset.progress) > 0.4, id('driver-drive'), { timeout: 60_000 });
  await picture(page, 'desktop.png');
  await page.click(id('driver-pause'));
  await page.waitForSelector(id('driver-play'));
  await page.click(id('driver-play'));
  await page.waitForSelector(`${id('driver-drive')}[data-arrived="true"]`, { timeout: 120_000 });
  assert.ok(Number(await page.getAttribute(id('driver-drive'), 'data-acked')) > 3, 'positions are acknowledged');
  await page.click(id(`driver-deliver-${number}`));
  await shows(page, number, 'delivered');

  assert.deepEqual(await page.evaluate((n) => window.seen[n], number), STATUSES, 'the customer saw every status once, in order');
  const steps = await page.$$eval(`${id('customer-timeline')} > li`, (rows) => rows.map((row) => [row.dataset.status, row.dataset.state, row.lastElementChild.textContent]));
  assert.deepEqual(steps.map(([status]) => status), STATUSES);
  for (const [status, , time] of steps) assert.match(time, /^\d\d:\d\d:\d\d$/, `${status} has its time`);
  assert.equal(await page.getAttribute(id(`admin-order-${number}`), 'data-status'), 'delivered');

  // The delivery again: each position with its verdict, and the ETAs against the arrival.
  await page.click(id(`admin-replay-${number}`));
  await page.waitForSelector('.replay-dot');
  assert.match(await page.textContent(id('replay-facts')), /^(\d+) of \1 verdicts and (\d+) of \2 places are those of then/);
  await page.locator('.replay-dot').last().click({ force: true });
  assert.match(await page.textContent(id('replay-verdict')), /^\d\d:\d\d:\d\d: shown/);
  await page.waitForSelector('.replay-chart');
  await page.click(id('replay-play'));
  await page.waitForFunction(() => Number(document.getElementById('replay-at').value) > 2);
  await page.keyboard.press('Escape');

  for (const view of VIEWS) {
    assert.ok(await page.locator(`${id('log-row')}[data-view="${view}"][data-direction="in"]`).count() > 0, `the log has events of the ${view}`);
  }
  assert.ok(!/eyJ[\w-]{10,}/.test(await page.evaluate(() => document.documentElement.outerHTML)), 'no token anywhere on the page');
});

test('the log opens a row, filters, pauses and clears', async () => {
  const page = await stage.page();
  await connected(page);
  await page.fill(id('log-filter-event'), 'connected');
  await page.selectOption(id('log-filter-view'), 'chef');
  const rows = page.locator(id('log-row'));
  await rows.first().waitFor();
  assert.deepEqual(await rows.evaluateAll((all) => [...new Set(all.map((row) => `${row.dataset.view} ${row.dataset.event}`))]), ['chef connected']);
  await rows.first().getByRole('button').click();
  assert.match(await rows.first().locator('pre').textContent(), /"role": "chef"/);
  await page.fill(id('log-filter-event'), '');
  await page.selectOption(id('log-filter-view'), '');
  await page.click(id('log-pause'));
  const shown = await rows.count();
  const number = await place(page);
  assert.equal(await rows.count(), shown, 'a paused log stands still');
  await page.click(id('log-pause'));
  await page.waitForFunction(([selector, n]) => document.querySelectorAll(selector).length > n, [id('log-row'), shown]);
  await page.click(id('customer-cancel'));
  await shows(page, number, 'cancelled');
  await page.fill(id('log-filter-event'), 'no such event');
  await page.click(id('log-clear'));
  assert.equal(await rows.count(), 0);
});

test('the page takes a server and tokens, and says why one is refused', async () => {
  const page = await stage.page();
  await connected(page);
  const { accounts } = await page.evaluate(() => fetch('/page-config').then((r) => r.json()));
  await page.click(id('open-connect'));
  await page.fill(id('connect-server'), stage.origin);
  await page.selectOption(id('connect-transport'), 'websocket');
  await page.fill(id('token-chef'), accounts.chef.token);
  await page.fill(id('token-admin'), 'not.a.token');
  await page.click(id('connect-submit'));
  await connected(page, ['chef']);
  await page.waitForSelector(`${id('conn-admin')}[data-state="refused"]`);
  assert.match(await page.textContent(id('conn-admin')), /unauthorized/);
  assert.equal(await page.getAttribute(id('conn-customer'), 'data-state'), 'off');
  assert.equal(await page.textContent(id('transport-chef')), 'websocket');
  await page.reload();
  await connected(page, ['chef']);
  await page.click(id('open-connect'));
  await page.click(id('connect-demo'));
  await connected(page);
});

test('at 375 px every view is reachable and nothing scrolls sideways', async () => {
  const page = await stage.page({ viewport: { width: 375, height: 800 }, hasTouch: true, isMobile: true });
  await connected(page);
  for (const tab of [...VIEWS, 'log']) {
    await page.click(id(`tab-${tab}`));
    await page.waitForSelector(id(`view-${tab}`));
    for (const other of [...VIEWS, 'log']) assert.equal(await page.isVisible(id(`view-${other}`)), other === tab, `${other} while ${tab} is chosen`);
    const { wide, width } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, width: window.innerWidth }));
    assert.ok(wide <= 375 && width === 375, `${tab} is ${wide} px wide in ${width}`);
  }
  await page.click(id('tab-customer'));
  const number = await place(page);
  await page.click(id('customer-cancel'));
  await shows(page, number, 'cancelled');
  if (SCREENSHOTS) {
    await page.click(`${id('tab-customer')}`);
    await page.waitForSelector(`${id('customer-status')}[data-status="in_transit"]`, { timeout: 60_000 });
    await page.waitForFunction(() => Object.values(window.places).some((places) => places.size > 20));
    await picture(page, 'mobile.png');
  }
});

test('the keyboard reaches everything, and shows where it is', async () => {
  const page = await stage.page();
  await connected(page);
  const reached = new Set();
  const wanted = ['open-connect', 'plug-customer', 'customer-map', 'menu-0', 'customer-place-order', 'plug-chef', 'plug-driver', 'driver-speed-8', 'plug-admin', 'log-filter-view', 'log-filter-event', 'log-pings', 'log-pause', 'log-clear'];
  for (let i = 0; i < 120 && !wanted.every((name) => reached.has(name)); i += 1) {
    await page.keyboard.press('Tab');
    const focus = await page.evaluate(() => {
      const element = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(element);
      return { name: element.dataset.testid ?? element.id ?? '', tag: element.tagName, visible: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1 };
    });
    if (focus.tag !== 'BODY') assert.ok(focus.visible, `focus is visible on ${focus.tag} ${focus.name}`);
    reached.add(focus.name);
  }
  assert.deepEqual(wanted.filter((name) => !reached.has(name)), [], 'not reached by Tab');

  const number = await place(page, async () => {
    await page.focus(id('customer-place-order'));
    await page.keyboard.press('Enter');
  });
  assert.equal(await page.evaluate(() => document.activeElement.dataset.testid), 'customer-place-order', 'focus stays on the button that was pressed');
  await page.focus(id('customer-cancel'));
  await page.keyboard.press('Space');
  await shows(page, number, 'cancelled');
});

for (const colorScheme of ['light', 'dark']) {
  test(`names, structure and contrast hold in ${colorScheme}`, async () => {
    const page = await stage.page({ colorScheme });
    await connected(page);
    const number = await place(page);
    await page.click(id(`admin-more-${number}`));
    assert.deepEqual(await problems(page), []);
    await page.click(id('open-connect'));
    assert.deepEqual(await problems(page), []);
    await page.keyboard.press('Escape');
    await page.click(id('customer-cancel'));
    await shows(page, number, 'cancelled');
    });
}

test('no error in any console, and no request left the origin', () => {
  assert.deepEqual(stage.complaints, []);
});
