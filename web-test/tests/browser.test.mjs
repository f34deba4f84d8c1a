// The page in a real browser against the real server: `npm test`, with the server's binary in ORDERCAST_BIN.
// SCREENSHOTS=<dir> saves the pictures of the README.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const BINARY = process.env.ORDERCAST_BIN ?? fileURLToPath(new URL('../../target/debug/ordercast', import.meta.url));
const CHROMIUM = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
const SCREENSHOTS = process.env.SCREENSHOTS;
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const VIEWS = ['customer', 'chef', 'driver', 'admin'];
const STATUSES = ['pending', 'payment_confirmed', 'accepted', 'preparing', 'ready_for_pickup', 'assigned_to_driver', 'picked_up', 'in_transit', 'delivered'];
const WAIT = 20_000;

let folder;
let server;
let browser;
let origin;
const complaints = [];

const id = (name) => `[data-testid="${name}"]`;

/** Starts the server and waits for the address it prints. */
async function startServer(listen) {
  server = spawn(BINARY, ['serve', '--demo', '--listen', listen, '--database-url', `sqlite://${join(folder, 'x.db')}?mode=rwc`], { stdio: ['ignore', 'pipe', 'pipe'] });
  return new Promise((resolve, reject) => {
    let said = '';
    const hear = (chunk) => {
      said += chunk;
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said);
      if (found) resolve(found[0]);
    };
    server.stdout.on('data', hear);
    server.stderr.on('data', (chunk) => { said += chunk; });
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`the server ended with ${code}:\n${said}`)));
  });
}

async function stopServer(signal) {
  if (!server || server.exitCode !== null || server.signalCode !== null) return;
  const ended = new Promise((resolve) => { server.once('exit', resolve); });
  server.kill(signal);
  await ended;
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ordercast-page-'));
  origin = await startServer('127.0.0.1:0');
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
});

after(async () => {
  await browser?.close();
  await stopServer('SIGTERM');
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** Opens the page with an eye kept on the console and on where requests go, and every status the customer is shown written down. */
async function open(options = {}, { unreachable = false } = {}) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 1000 }, ...options });
  page.setDefaultTimeout(WAIT);
  page.on('pageerror', (error) => complaints.push(`uncaught: ${error.message}`));
  page.on('console', (message) => {
    // While a server is gone, requests fail; and a poll that crosses the close of its refused session finds it gone.
    if (unreachable && /ERR_CONNECTION|ERR_EMPTY_RESPONSE|ERR_SOCKET|WebSocket connection/.test(message.text())) return;
    if (unreachable && /400 \(Bad Request\)/.test(message.text()) && message.location().url.includes('/socket.io/')) return;
    if (message.type() === 'error') complaints.push(`console: ${message.text()} ${message.location().url}`);
  });
  const leaves = (url) => {
    const { protocol, host } = new URL(url);
    if (!['data:', 'blob:', 'about:'].includes(protocol) && host !== new URL(origin).host) complaints.push(`left the origin: ${url}`);
  };
  page.on('request', (request) => leaves(request.url()));
  page.on('websocket', (socket) => leaves(socket.url()));
  await page.addInitScript(() => {
    window.seen = {};
    window.places = {};
    new MutationObserver(() => {
      const shown = document.querySelector('[data-testid="customer-status"]');
      if (!shown) return;
      const { order, status } = shown.dataset;
      const statuses = (window.seen[order] ??= []);
      if (statuses.at(-1) !== status) statuses.push(status);
      const marker = document.querySelector('[data-testid="driver-marker"]');
      if (marker) (window.places[order] ??= new Set()).add(`${marker.dataset.latitude},${marker.dataset.longitude}`);
    }).observe(document, { subtree: true, childList: true, attributes: true });
  });
  await page.goto(`${origin}/`);
  return page;
}

const connected = (page, views = VIEWS) => Promise.all(views.map((view) => page.waitForSelector(`${id(`conn-${view}`)}[data-state="connected"]`, { state: 'attached' })));

/** Waits until the customer is shown this status of this order; if that fails, says what was on show and in the log. */
async function shows(page, number, status) {
  try {
    await page.waitForSelector(`${id('customer-status')}[data-order="${number}"][data-status="${status}"]`);
  } catch {
    const shown = await page.locator(id('customer-status')).evaluateAll((all) => all.map(({ dataset }) => `${dataset.order} ${dataset.status}`));
    const log = await page.locator(id('log-row')).evaluateAll((rows) => rows.filter((row) => !row.dataset.event.includes('location')).slice(0, 60).map((row) => row.innerText.replace(/\s+/g, ' ').slice(0, 160)));
    throw new Error(`the customer is not shown ${number} as ${status}, but ${shown}; newest first:\n${log.join('\n')}`);
  }
}

/** Runs `press`, which places an order, and waits until the customer follows it. */
async function place(page, press = () => page.click(id('customer-place-order'))) {
  const [response] = await Promise.all([
    page.waitForResponse((r) => r.request().method() === 'POST' && new URL(r.url()).pathname === '/orders'),
    press(),
  ]);
  assert.equal(response.status(), 201);
  assert.ok((await response.request().allHeaders())['idempotency-key'], 'an order carries an Idempotency-Key');
  const { orderNumber } = await response.json();
  await shows(page, orderNumber, 'pending');
  return orderNumber;
}

async function picture(page, name) {
  if (!SCREENSHOTS) return;
  await mkdir(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, name) });
}

test('with nothing clicked, an order is cooked, driven along the road and delivered', async (t) => {
  const opened = Date.now();
  const page = await open();
  await connected(page);
  const watched = await page.waitForFunction(() => Object.entries(window.seen).find(([, statuses]) => ['preparing', 'in_transit', 'delivered'].every((s) => statuses.includes(s)))?.[0], null, { timeout: 45_000 });
  t.diagnostic(`seen cooked, driven and delivered ${((Date.now() - opened) / 1000).toFixed(1)} s after opening the page`);
  const number = await watched.jsonValue();
  const { statuses, places } = await page.evaluate((n) => ({ statuses: window.seen[n], places: window.places[n]?.size ?? 0 }), number);
  const order = statuses.map((status) => STATUSES.indexOf(status));
  assert.deepEqual(order, [...order].sort((a, b) => a - b), `statuses only go forwards: ${statuses}`);
  assert.ok(places >= 5, `the driver was seen in ${places} places`);
  await page.close();
});

test('a whole delivery by clicking', async () => {
  const page = await open();
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

  for (const view of VIEWS) {
    assert.ok(await page.locator(`${id('log-row')}[data-view="${view}"][data-direction="in"]`).count() > 0, `the log has events of the ${view}`);
  }
  assert.ok(!/eyJ[\w-]{10,}/.test(await page.evaluate(() => document.documentElement.outerHTML)), 'no token anywhere on the page');
  await page.close();
});

test('the log opens a row, filters, pauses and clears', async () => {
  const page = await open();
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
  await page.close();
});

test('a cut connection returns by itself and misses nothing', async () => {
  const page = await open();
  await connected(page);
  const number = await place(page);
  await page.waitForSelector(id(`admin-verify-${number}`));
  const connects = Number(await page.getAttribute(id('conn-customer'), 'data-connects'));

  // Cut, and change the order while the customer is away.
  await page.evaluate(([cut, verify]) => {
    document.querySelector(cut).click();
    document.querySelector(verify).click();
  }, [id('cut-customer'), id(`admin-verify-${number}`)]);
  await page.waitForSelector(`${id('conn-customer')}[data-state="reconnecting"]`);
  await page.waitForSelector(`${id('conn-customer')}[data-state="connected"][data-connects="${connects + 1}"]`);
  await shows(page, number, 'payment_confirmed');
  await page.click(id(`chef-accept-${number}`));
  await shows(page, number, 'accepted');

  const marks = await page.$$eval(`${id('log-row')}[data-view="customer"][data-event="order:status_update"] .has-mark`, (all) => all.map((mark) => mark.textContent));
  assert.ok(!marks.some((mark) => /gap|repeat/.test(mark)), `neither gap nor repeat: ${marks}`);
  assert.ok(await page.locator(`${id('log-row')}[data-view="customer"][data-event="cut"]`).count() === 1);
  await page.click(id('customer-cancel'));
  await shows(page, number, 'cancelled');
  await page.close();
});

test('the page takes a server and tokens, and says why one is refused', async () => {
  const page = await open();
  await connected(page);
  const { accounts } = await page.evaluate(() => fetch('/page-config').then((r) => r.json()));
  await page.click(id('open-connect'));
  await page.fill(id('connect-server'), origin);
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
  await page.close();
});

test('at 375 px every view is reachable and nothing scrolls sideways', async () => {
  const page = await open({ viewport: { width: 375, height: 800 }, hasTouch: true, isMobile: true });
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
  await page.close();
});

test('the keyboard reaches everything, and shows where it is', async () => {
  const page = await open();
  await connected(page);
  const reached = new Set();
  const wanted = ['open-connect', 'cut-customer', 'customer-map', 'menu-0', 'customer-place-order', 'cut-chef', 'cut-driver', 'driver-speed-8', 'cut-admin', 'log-filter-view', 'log-filter-event', 'log-pings', 'log-pause', 'log-clear'];
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
  await page.close();
});

for (const colorScheme of ['light', 'dark']) {
  test(`names, structure and contrast hold in ${colorScheme}`, async () => {
    const page = await open({ colorScheme });
    await connected(page);
    const number = await place(page);
    await page.click(id(`admin-more-${number}`));
    const problems = await page.evaluate(check);
    assert.deepEqual(problems, []);
    await page.click(id('open-connect'));
    assert.deepEqual(await page.evaluate(check), []);
    await page.keyboard.press('Escape');
    await page.click(id('customer-cancel'));
    await shows(page, number, 'cancelled');
    await page.close();
  });
}

test('the server is killed and started again, and the page is back by itself', async () => {
  const page = await open({}, { unreachable: true });
  await connected(page);
  const number = await place(page);
  await page.click(id(`admin-verify-${number}`));
  await shows(page, number, 'payment_confirmed');
  await stopServer('SIGKILL');
  await Promise.all(VIEWS.map((view) => page.waitForSelector(`${id(`conn-${view}`)}[data-state="reconnecting"]`, { state: 'attached' })));
  assert.equal(await startServer(new URL(origin).host), origin);
  await connected(page);
  await page.click(id(`customer-select-${number}`));
  await shows(page, number, 'payment_confirmed');
  await page.click(id(`chef-accept-${number}`));
  await shows(page, number, 'accepted');
  await page.click(id('customer-cancel'));
  await shows(page, number, 'cancelled');
  await page.close();
});

test('no error in any console, and no request left the origin', () => {
  assert.deepEqual(complaints, []);
});

/** Runs in the page: what a screen reader or a tired eye would stumble over. */
function check() {
  const problems = [];
  const shown = (element) => element.checkVisibility({ visibilityProperty: true });
  const describe = (element) => `${element.tagName.toLowerCase()} ${element.dataset?.testid ?? element.id ?? ''} "${element.textContent.trim().slice(0, 30)}"`;
  const text = (element) => [...element.querySelectorAll('[aria-hidden="true"]')].reduce((all, hidden) => all.replace(hidden.textContent, ''), element.textContent).trim();
  const name = (element) => element.getAttribute('aria-label')
    || (element.getAttribute('aria-labelledby') ?? '').split(' ').map((ref) => document.getElementById(ref)?.textContent ?? '').join('')
    || [...(element.labels ?? [])].map((label) => label.textContent.trim()).join('')
    || (['INPUT', 'SELECT'].includes(element.tagName) ? '' : text(element));
  for (const element of document.querySelectorAll('button, input, select, textarea, summary, a[href], section, aside, nav, dialog, [role="progressbar"], [role="group"], [role="region"]')) {
    if (shown(element) && !name(element).trim()) problems.push(`no name: ${describe(element)}`);
  }
  for (const element of document.querySelectorAll('[onclick]')) problems.push(`inline handler: ${describe(element)}`);
  for (const image of document.querySelectorAll('img:not([alt])')) problems.push(`no alt: ${describe(image)}`);
  const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
  for (const repeated of new Set(ids.filter((one, i) => ids.indexOf(one) !== i))) problems.push(`id twice: ${repeated}`);
  for (const element of document.querySelectorAll('[aria-controls], [aria-describedby], label[for]')) {
    for (const ref of (element.getAttribute('aria-controls') ?? element.getAttribute('aria-describedby') ?? element.getAttribute('for')).split(' ')) {
      if (!document.getElementById(ref)) problems.push(`points nowhere: ${describe(element)} → ${ref}`);
    }
  }
  for (const [selector, wanted] of [['h1', 1], ['main', 1], ['nav[aria-label]', 1], ['[aria-live="polite"]', 1]]) {
    const count = document.querySelectorAll(selector).length;
    if (count !== wanted) problems.push(`${count} of ${selector}`);
  }
  if (!document.documentElement.lang) problems.push('no language');

  const parse = (value) => {
    const parts = value.match(/[\d.]+/g).map(Number);
    return value.startsWith('color(srgb') ? [parts[0] * 255, parts[1] * 255, parts[2] * 255, parts[3] ?? 1] : [parts[0], parts[1], parts[2], parts[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const background = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const layer = parse(getComputedStyle(at).backgroundColor);
      if (layer[3] > 0) layers.push(layer);
      if (layer[3] === 1) break;
    }
    return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const luminance = (rgb) => rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!own || !shown(element) || element.closest(':disabled, .sr, option, noscript, .skip')) continue;
    const style = getComputedStyle(element);
    const below = background(element);
    const [a, b] = [luminance(over(parse(style.color), below)), luminance(below)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) problems.push(`contrast ${ratio.toFixed(2)}: ${describe(element)}`);
  }
  return problems;
}
