// What the tests of the five clients share: opening them, an order of their own, and what each is told of it.

import { connected, id } from './stage.mjs';

export const DOORS = ['realtime', 'default', 'track', 'ws', 'tracking'];
const WORDS = {
  pending: ['pending', 'pending', 'pending', 'PENDING', ''],
  payment_confirmed: ['payment_confirmed', 'payment_confirmed', 'pending', 'CONFIRMED', ''],
  accepted: ['accepted', 'accepted', 'confirmed', 'CONFIRMED', ''],
  preparing: ['preparing', 'preparing', 'preparing', 'PREPARING', ''],
  ready_for_pickup: ['ready_for_pickup', 'ready_for_pickup', 'ready', 'READY', ''],
  assigned_to_driver: ['assigned_to_driver', 'assigned_to_driver', 'ready', 'READY', 'ASSIGNED'],
  picked_up: ['picked_up', 'picked_up', 'out_for_delivery', 'OUT_FOR_DELIVERY', 'PICKED_UP'],
  in_transit: ['in_transit', 'in_transit', 'out_for_delivery', 'OUT_FOR_DELIVERY', 'IN_TRANSIT'],
  delivered: ['delivered', 'delivered', 'delivered', 'DELIVERED', 'DELIVERED'],
};

export const inState = (page, door, state) => page.waitForSelector(`${id(`door-state-${door}`)}[data-state="${state}"]`);

/** Opens the clients and waits until those who can be are connected. */
export async function clients(stage, options, rough) {
  const page = await stage.page(options, rough);
  await connected(page);
  const narrow = page.viewportSize().width < 820;
  await page.click(id(narrow ? 'tab-clients' : 'page-clients'));
  await Promise.all(DOORS.slice(0, 4).map((door) => inState(page, door, 'connected')));
  return page;
}

export const shown = (page) => page.$$eval('[data-testid^="door-status-"]', (all) => all.map(({ dataset }) => dataset.status));

/** Waits until each client is told of this status in its own words. */
export async function stands(page, status, but = {}) {
  const wanted = WORDS[status].map((word, i) => but[DOORS[i]] ?? word);
  await page.waitForFunction((words) => JSON.stringify([...document.querySelectorAll('[data-testid^="door-status-"]')].map(({ dataset }) => dataset.status)) === JSON.stringify(words), wanted)
    .catch(async () => { throw new Error(`not ${wanted}, but ${await shown(page)}\n${await page.locator(id('doors')).innerText().catch(() => '')}`); });
}

/** Asks for the next step the way this client does. */
export async function move(page, door, status, but) {
  await page.click(id(`door-move-${door}`));
  await stands(page, status, but);
}

/** Places an order that nobody else moves on. @returns its id */
export async function order(page) {
  const [response] = await Promise.all([
    page.waitForResponse((r) => r.request().method() === 'POST' && new URL(r.url()).pathname === '/orders'),
    page.click(id('clients-new')),
  ]);
  const placed = (await response.json()).id;
  await page.waitForSelector(`${id('clients-order')}[data-id="${placed}"]`);
  await stands(page, 'pending');
  return placed;
}

/** An order with a driver, whose tracking session has begun. */
export async function assigned(page) {
  const placed = await order(page);
  await page.click(id('door-move-realtime'));
  await stands(page, 'payment_confirmed');
  await move(page, 'track', 'accepted');
  await move(page, 'default', 'preparing');
  await move(page, 'ws', 'ready_for_pickup');
  await page.click(id('clients-assign'));
  await inState(page, 'tracking', 'connected');
  await stands(page, 'assigned_to_driver');
  return placed;
}

export const frames = (page, door, direction = 'in') => page.$$eval(`${id(`door-frames-${door}`)} [data-direction="${direction}"] pre`, (all) => all.map((pre) => pre.textContent));

/** Unfolds all frames of a client. */
export const unfold = (page, door) => page.waitForFunction((selector) => {
  const folded = document.querySelectorAll(selector);
  for (const button of folded) button.click();
  return folded.length === 0;
}, `${id(`door-frames-${door}`)} [aria-expanded="false"]`);

/** What is left of a frame without the spaces it was laid out with. */
export const tight = (text) => text.replace(/"(?:[^"\\]|\\.)*"|\s+/g, (part) => (part[0] === '"' ? part : ''));
