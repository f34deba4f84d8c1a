// In headless Chromium, on a page of another origin: the file for pages without a bundler, and the React hook in StrictMode.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { Server, as, jwt, people } from './support.mjs';

const { chromium } = createRequire(new URL('../../web-test/package.json', import.meta.url))('playwright-core');
const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const files = new Map();
let server;
let site;
let browser;

before(async () => {
  site = createServer(({ url }, response) => {
    const body = files.get(url) ?? '<!doctype html><title>A shop</title><main id="app"></main>';
    response.writeHead(200, { 'content-type': files.has(url) ? 'text/javascript' : 'text/html' }).end(body);
  }).listen(0, '127.0.0.1');
  await once(site, 'listening');
  site.origin = `http://127.0.0.1:${site.address().port}`;
  files.set('/browser.js', await readFile(new URL('../dist/browser.js', import.meta.url)));
  [server, browser] = await Promise.all([
    Server.start({ env: { CORS_ORIGIN: site.origin } }),
    chromium.launch({ executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium', args: FLAGS }),
  ]);
});
after(async () => {
  await browser?.close();
  await server?.close();
  site.close();
});

/** A page of the shop. Whatever it throws or logs as an error fails the test, but for the network that is taken away. */
async function open(t) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => message.type() === 'error' && !/ERR_INTERNET_DISCONNECTED/.test(message.text()) && complaints.push(message.text()));
  await page.goto(site.origin);
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints, []);
  });
  return { context, page };
}

test('without a bundler: a page follows its order through a lost network, and a driver reports', async (t) => {
  const who = people();
  const { id } = await server.create(who);
  const { context, page } = await open(t);
  await page.addScriptTag({ url: `${server.base}/socket.io/socket.io.js` });
  await page.evaluate(async ({ base, token, id: orderId }) => {
    const { connect } = await import('/browser.js');
    window.updates = [];
    window.client = connect(base, { token, socket: { reconnectionDelay: 50, reconnectionDelayMax: 100 } });
    window.order = window.client.order(orderId);
    window.order.subscribe((state) => { window.state = state; });
    window.order.onUpdate((update) => window.updates.push(update.seq));
  }, { base: server.base, token: jwt(as(who.customer, 'customer')), id });
  await page.waitForFunction(() => window.state.phase === 'live');
  await context.setOffline(true);
  await page.evaluate(() => window.client.socket.io.engine.close());
  await page.waitForFunction(() => window.state.phase === 'reconnecting');
  await server.status(id, 'accepted');
  await server.status(id, 'ready_for_pickup');
  await server.assign(id, who.driver);
  await context.setOffline(false);
  await page.waitForFunction(() => window.state.seq === 4 && window.state.phase === 'live');
  assert.deepEqual(await page.evaluate(() => [window.updates, window.state.tracking.status, window.client.socket.recovered]), [[2, 3, 4], 'assigned_to_driver', true]);

  const told = await page.evaluate(async ({ base, token }) => {
    const { connect } = await import('/browser.js');
    const driver = connect(base, { token, socket: { transports: ['websocket'] } });
    await new Promise((resolve) => { driver.on('connected', resolve); });
    return driver.driver({ storage: localStorage }).report({ latitude: 45.25, longitude: 13.65, recordedAt: null });
  }, { base: server.base, token: jwt(as(who.driver, 'driver')) });
  assert.deepEqual(told, { state: 'taken', shown: true, verdict: 'shown' });
  await page.waitForFunction(() => window.state.location?.latitude === 45.25);
});

test('useOrder: a component shows an order, another one after it, and leaves when it goes', async (t) => {
  const who = people();
  const orders = await Promise.all([server.create(who), server.create(who)]);
  const source = `
    import { StrictMode, createElement as h, useState } from 'react';
    import { createRoot } from 'react-dom/client';
    import { connect } from 'ordercast-client';
    import { OrdercastProvider, useConnection, useOrder } from 'ordercast-client/react';
    export function start(base, token, first) {
      window.requests = [];
      const client = connect(base, { token, socket: { transports: ['websocket'] }, trace: ({ direction, event, payload }) => direction === 'out' && window.requests.push(event + ' ' + payload.orderId) });
      function Order({ id }) {
        const { phase, tracking } = useOrder(id);
        return h('p', { id: 'order' }, phase + ' ' + (tracking?.orderId ?? '') + ' ' + (tracking?.status ?? '') + ' ' + useConnection().phase);
      }
      function App() {
        const [id, show] = useState(first);
        window.show = show;
        return id ? h(Order, { id }) : h('p', { id: 'order' }, 'nothing');
      }
      createRoot(document.getElementById('app')).render(h(StrictMode, null, h(OrdercastProvider, { client }, h(App))));
    }`;
  const { outputFiles: [bundle] } = await build({
    stdin: { contents: source, resolveDir: fileURLToPath(new URL('..', import.meta.url)) }, bundle: true, format: 'esm', write: false, logLevel: 'error', define: { 'process.env.NODE_ENV': '"development"' },
  });
  files.set('/app.js', bundle.contents);
  const { page } = await open(t);
  const shows = (text) => page.locator('#order', { hasText: text }).waitFor();
  await page.evaluate(async ([base, token, id]) => (await import('/app.js')).start(base, token, id), [server.base, jwt(as(who.customer, 'customer')), orders[0].id]);
  await shows(`live ${orders[0].id} pending connected`);
  await server.status(orders[0].id, 'accepted');
  await shows(`live ${orders[0].id} accepted connected`);
  await page.evaluate((id) => window.show(id), orders[1].id);
  await shows(`live ${orders[1].id} pending connected`);
  await page.evaluate(() => window.show(null));
  await shows('nothing');
  await page.waitForFunction(() => window.requests.length >= 4);
  const requests = await page.evaluate(() => window.requests);
  assert.deepEqual([...requests].sort(), [`subscribe:order ${orders[0].id}`, `subscribe:order ${orders[1].id}`, `unsubscribe:order ${orders[0].id}`, `unsubscribe:order ${orders[1].id}`].sort(), 'each once, although StrictMode mounts twice');
});
