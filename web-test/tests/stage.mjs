// What the browser tests share: a demo server, a browser, and a page with an eye kept on it.
// The server's binary is in ORDERCAST_BIN. SCREENSHOTS=<dir> saves the pictures of the README.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export const BINARY = process.env.ORDERCAST_BIN ?? fileURLToPath(new URL('../../target/debug/ordercast', import.meta.url));
const CHROMIUM = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
export const SCREENSHOTS = process.env.SCREENSHOTS;
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
export const VIEWS = ['customer', 'chef', 'driver', 'admin'];
export const STATUSES = ['pending', 'payment_confirmed', 'accepted', 'preparing', 'ready_for_pickup', 'assigned_to_driver', 'picked_up', 'in_transit', 'delivered'];
const WAIT = 20_000;

export const id = (name) => `[data-testid="${name}"]`;

export class Stage {
  complaints = [];
  #env;
  #args;
  #server;
  #browser;
  #pages = [];

  constructor(env = {}, args = []) {
    this.#env = env;
    this.#args = args;
  }

  async open() {
    this.folder = await mkdtemp(join(tmpdir(), 'ordercast-page-'));
    this.origin = await this.startServer();
    this.#browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  }

  /** After each test: what a failed one leaves open must not complain into the next. */
  async clear() {
    await Promise.all(this.#pages.splice(0).map((page) => page.close()));
  }

  async close() {
    await this.#browser?.close();
    await this.stopServer('SIGTERM');
    if (this.folder) await rm(this.folder, { recursive: true, force: true });
  }

  /** Starts the server, again where it was before, and waits for the address it prints. */
  async startServer({ database = 'x.db' } = {}) {
    const listen = this.origin ? new URL(this.origin).host : '127.0.0.1:0';
    const server = spawn(BINARY, ['serve', '--demo', '--listen', listen, '--database-url', `sqlite://${join(this.folder, database)}?mode=rwc`, ...this.#args], {
      stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...this.#env },
    });
    this.#server = server;
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

  async stopServer(signal) {
    const server = this.#server;
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const ended = new Promise((resolve) => { server.once('exit', resolve); });
    server.kill(signal);
    await ended;
  }

  /**
   * Opens the page with an eye kept on the console and on where requests go, and every status the customer is shown written down.
   * Where it gets rough, the server goes away or refuses: what fails then is no complaint.
   */
  async page(options = {}, { rough = false } = {}) {
    const page = await this.#browser.newPage({ viewport: { width: 1440, height: 1000 }, ...options });
    this.#pages.push(page);
    page.setDefaultTimeout(WAIT);
    page.on('pageerror', (error) => this.complaints.push(`uncaught: ${error.message}`));
    page.on('console', (message) => {
      // While a server is gone or leaves, requests fail; and a poll that crosses the close of its refused session finds it gone.
      if (rough && /ERR_CONNECTION|ERR_EMPTY_RESPONSE|ERR_SOCKET|WebSocket connection/.test(message.text())) return;
      // The demo's orders go on by themselves: one may end while its tracking session is being begun.
      if (/409 \(Conflict\)/.test(message.text()) && message.location().url.endsWith('/tracking/start')) return;
      // Who is signed out asks once more with the old token.
      if (rough && /401 \(Unauthorized\)/.test(message.text())) return;
      if (rough && /400 \(Bad Request\)|503 \(Service Unavailable\)/.test(message.text()) && message.location().url.includes('/socket.io/')) return;
      if (message.type() === 'error') this.complaints.push(`console: ${message.text()} ${message.location().url}`);
    });
    const leaves = (url) => {
      const { protocol, host } = new URL(url);
      if (!['data:', 'blob:', 'about:'].includes(protocol) && host !== new URL(this.origin).host) this.complaints.push(`left the origin: ${url}`);
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
    await page.goto(`${this.origin}/`);
    return page;
  }
}

export const connected = (page, views = VIEWS) => Promise.all(views.map((view) => page.waitForSelector(`${id(`conn-${view}`)}[data-state="connected"]`, { state: 'attached' })));

/** Waits until the customer is shown this status of this order; if that fails, says what was on show and in the log. */
export async function shows(page, number, status) {
  try {
    await page.waitForSelector(`${id('customer-status')}[data-order="${number}"][data-status="${status}"]`);
  } catch {
    const shown = await page.locator(id('customer-status')).evaluateAll((all) => all.map(({ dataset }) => `${dataset.order} ${dataset.status}`));
    throw new Error(`the customer is not shown ${number} as ${status}, but ${shown}; newest first:\n${await logged(page)}`);
  }
}

/** The newest rows of the log, without positions. */
export async function logged(page) {
  const rows = await page.locator(id('log-row')).evaluateAll((all) => all.filter((row) => !row.dataset.event.includes('location')).slice(0, 60).map((row) => row.innerText.replace(/\s+/g, ' ').slice(0, 160)));
  return rows.join('\n');
}

/** Runs `press`, which places an order, and waits until the customer follows it. */
export async function place(page, press = () => page.click(id('customer-place-order'))) {
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

export async function picture(page, name) {
  if (!SCREENSHOTS) return;
  await mkdir(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, name), animations: 'disabled' });
}
