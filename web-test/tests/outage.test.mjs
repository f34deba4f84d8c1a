// Missing nothing, seen from the page: plugs are pulled, the server is killed, and every view is caught up with every event.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { problems } from './check.mjs';
import { Stage, VIEWS, connected, id, logged, picture, place, shows } from './stage.mjs';

const stage = new Stage();
before(() => stage.open());
afterEach(() => stage.clear());
after(() => stage.close());

/** Waits for a view's report of its absence. @returns what it says, and the numbers caught up with by order */
async function report(page, view) {
  const box = page.locator(`${id(`outage-${view}`)}[data-state="done"]`);
  await box.waitFor({ state: 'attached' }).catch(async () => { throw new Error(`the ${view} has no report:\n${await logged(page)}`); });
  return box.evaluate(({ dataset }, chips) => ({
    recovered: dataset.recovered,
    missing: dataset.missing,
    seqs: [...document.querySelectorAll(chips)].reduce((all, { dataset: { order, seq } }) => ({ ...all, [order]: [...(all[order] ?? []), Number(seq)] }), {}),
  }), `${id(`outage-${view}`)} [data-seq]`);
}

/** Pulls a plug for as long as the test needs: half a minute, or until it is put back. */
async function unplug(page, view) {
  await page.click(id(`plug-${view}`));
  await page.waitForSelector(`${id(`conn-${view}`)}[data-state="unplugged"]`);
  for (let i = 0; i < 2; i += 1) await page.click(id(`longer-${view}`));
}

/** Clicks an order one step on, and waits until the admin is shown it. */
async function step(page, number, button, status) {
  await page.click(id(`${button}-${number}`));
  await page.waitForSelector(`${id(`admin-order-${number}`)}[data-status="${status}"]`);
}

const marks = (page, view) => page.$$eval(`${id('log-row')}[data-view="${view}"] .has-mark`, (all) => all.map((mark) => mark.textContent));

test('the plug is pulled, the order goes on, and the customer is caught up with it event by event', async () => {
  const page = await stage.page();
  await connected(page);
  const number = await place(page);
  await page.click(id('log-clear'));
  await unplug(page, 'customer');
  await step(page, number, 'admin-verify', 'payment_confirmed');
  await step(page, number, 'chef-accept', 'accepted');
  await step(page, number, 'chef-prepare', 'preparing');
  await step(page, number, 'chef-ready', 'ready_for_pickup');
  await step(page, number, 'admin-assign', 'assigned_to_driver');
  await step(page, number, 'driver-pickup', 'picked_up');
  await step(page, number, 'driver-transit', 'in_transit');
  await shows(page, number, 'pending');
  assert.deepEqual(await problems(page), []);

  await page.click(id('plug-customer'));
  const { recovered, missing, seqs } = await report(page, 'customer');
  assert.deepEqual({ recovered, missing }, { recovered: 'yes', missing: '0' }, await logged(page));
  assert.deepEqual(seqs[number], [2, 3, 4, 5, 6, 7, 8]);
  await page.waitForSelector(`${id('admin-delivery')} [data-figure="Came back"][data-value*="recovered"]`);
  await picture(page, 'caught-up.png');
  await shows(page, number, 'in_transit');
  assert.deepEqual(await problems(page), []);

  // It follows the order as before, and never asked to: nobody else is sent positions.
  await page.click(id('driver-play'));
  await page.waitForFunction((n) => (window.places[n]?.size ?? 0) > 2, number);
  assert.equal(await page.locator(`${id('log-row')}[data-view="customer"][data-event="subscribe:order"]`).count(), 0);
  const noted = await marks(page, 'customer');
  assert.ok(noted.filter((mark) => mark === 'caught up').length >= 7, `${noted}`);
  assert.ok(!noted.some((mark) => /gap|repeat/.test(mark)), `neither gap nor repeat: ${noted}`);
  await page.click(id(`driver-deliver-${number}`));
  await shows(page, number, 'delivered');
  await page.click(id('dismiss-customer'));
  await page.waitForSelector(id('outage-customer'), { state: 'detached' });
});

test('a driver whose plug is out loses one order, gets another, and is told of both', async () => {
  const page = await stage.page();
  await connected(page);
  const reaches = (number, seq) => page.waitForSelector(`${id(`admin-order-${number}`)}[data-seq="${seq}"]`);
  const accepted = async () => {
    const number = await place(page);
    await step(page, number, 'admin-verify', 'payment_confirmed');
    await step(page, number, 'chef-accept', 'accepted');
    return number;
  };
  const lost = await accepted();
  await page.click(id(`admin-assign-${lost}`));
  await page.waitForSelector(id(`driver-order-${lost}`));
  await unplug(page, 'driver');
  await page.click(id(`admin-more-${lost}`));
  await page.click(id(`admin-unassign-${lost}`));
  await reaches(lost, 5);
  const gained = await accepted();
  await page.click(id(`admin-assign-${gained}`));
  await reaches(gained, 4);
  await step(page, gained, 'chef-prepare', 'preparing');
  assert.equal(await page.locator(id(`driver-order-${lost}`)).count(), 1, 'they do not know yet');

  await page.click(id('plug-driver'));
  const { recovered, missing, seqs } = await report(page, 'driver');
  assert.deepEqual({ recovered, missing, seqs }, { recovered: 'yes', missing: '0', seqs: { [gained]: [4, 5] } }, await logged(page));
  await page.waitForSelector(`${id(`driver-order-${gained}`)}[data-status="preparing"]`);
  assert.equal(await page.locator(id(`driver-order-${lost}`)).count(), 0, 'what is no longer theirs is gone');
  assert.ok(!(await marks(page, 'driver')).some((mark) => /gap|repeat/.test(mark)));
});

test('a driver who drives on without a connection collects positions, and sends them together afterwards', async () => {
  const page = await stage.page();
  await connected(page);
  const number = await place(page);
  await step(page, number, 'admin-verify', 'payment_confirmed');
  await step(page, number, 'chef-accept', 'accepted');
  await step(page, number, 'chef-prepare', 'preparing');
  await step(page, number, 'chef-ready', 'ready_for_pickup');
  await step(page, number, 'admin-assign', 'assigned_to_driver');
  await step(page, number, 'driver-pickup', 'picked_up');
  await page.click(id('driver-play'));
  await page.waitForFunction((n) => (window.places[n]?.size ?? 0) > 0, number);
  await unplug(page, 'driver');
  await page.locator(id('driver-waiting'), { hasText: '2 waiting' }).waitFor();
  const before = await page.evaluate((n) => window.places[n].size, number);
  await page.click(id('plug-driver'));
  await page.locator(`${id('log-row')}[data-view="driver"][data-event="driver:location_batch"][data-direction="ack"]`, { hasText: /ok true.*accepted ([2-9]|\d\d)/ }).first().waitFor();
  await page.waitForSelector(id('driver-waiting'), { state: 'detached' });
  await page.waitForFunction(([n, size]) => window.places[n].size > size, [number, before]);
  await page.click(id('driver-pause'));
  await page.click(id(`driver-transit-${number}`));
  await page.click(id(`driver-deliver-${number}`));
  await shows(page, number, 'delivered');
});

test('events carry their offset, which the log shows and no view minds', async () => {
  const page = await stage.page();
  await connected(page);
  const number = await place(page);
  await page.fill(id('log-filter-event'), 'order:new');
  await page.selectOption(id('log-filter-view'), 'chef');
  const row = page.locator(id('log-row'), { hasText: number });
  assert.match(await row.locator('.log-brief').textContent(), /^offset \d+/);
  await row.getByRole('button').click();
  assert.match(await row.locator('pre').textContent(), /"orderNumber"[^]*offset "\d+(\.\d+)?"/);
  await page.click(id('customer-cancel'));
  await shows(page, number, 'cancelled');
});

test('a plug that is left alone goes back in by itself; while it is out, nothing can be ordered', async () => {
  const page = await stage.page({ colorScheme: 'dark' });
  await connected(page);
  const connects = Number(await page.getAttribute(id('conn-customer'), 'data-connects'));
  await page.click(id('plug-customer'));
  await page.waitForSelector(`${id('conn-customer')}[data-state="unplugged"]`);
  await page.click(id('customer-place-order'));
  await page.getByRole('alert').getByText('cannot be reached').waitFor();
  assert.deepEqual(await problems(page), []);
  await page.waitForSelector(`${id('conn-customer')}[data-state="connected"][data-connects="${connects + 1}"]`);
  const { recovered, missing } = await report(page, 'customer');
  assert.deepEqual({ recovered, missing }, { recovered: 'yes', missing: '0' }, await logged(page));
  assert.deepEqual(await problems(page), []);
  const number = await place(page);
  await page.click(id('customer-cancel'));
  await shows(page, number, 'cancelled');
});

test('on polling alone it is the same', async () => {
  const page = await stage.page();
  await connected(page);
  await page.click(id('open-connect'));
  await page.selectOption(id('connect-transport'), 'polling');
  await page.click(id('connect-submit'));
  await page.waitForSelector(`${id('conn-customer')}[data-state="connected"][data-transport="polling"]`);
  await connected(page);
  const number = await place(page);
  await unplug(page, 'customer');
  await step(page, number, 'admin-verify', 'payment_confirmed');
  await step(page, number, 'chef-accept', 'accepted');
  await page.click(id('plug-customer'));
  const { recovered, missing, seqs } = await report(page, 'customer');
  assert.deepEqual({ recovered, missing, seqs: seqs[number] }, { recovered: 'yes', missing: '0', seqs: [2, 3] }, await logged(page));
  await page.click(id('customer-cancel'));
  await shows(page, number, 'cancelled');
});

test('the admin sees how many came back, as long as somebody looks', async () => {
  const page = await stage.page({ viewport: { width: 375, height: 800 } });
  const asked = [];
  page.on('request', (request) => request.url().endsWith('/metrics') && asked.push(request.url()));
  await connected(page);
  await page.click(id('plug-customer'));
  await page.waitForSelector(`${id('conn-customer')}[data-state="unplugged"]`);
  await page.click(id('plug-customer'));
  await report(page, 'customer');
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 375, 'the report scrolls nothing sideways');
  assert.deepEqual(asked, [], 'the admin is not on show');

  await page.click(id('tab-admin'));
  const figure = (name) => page.locator(`${id('admin-delivery')} [data-figure="${name}"]`);
  await figure('Came back').waitFor();
  const metrics = await (await fetch(`${stage.origin}/metrics`)).text();
  const counted = Number(/^ordercast_recoveries_total\{outcome="recovered"\} (\d+)/m.exec(metrics)[1]);
  assert.ok(counted > 0);
  assert.match(await figure('Came back').getAttribute('data-value'), new RegExp(`\\b${counted} recovered\\b`));
  for (const name of ['Replayed', 'Behind', 'Conflated', 'Stalled']) assert.match(await figure(name).getAttribute('data-value'), /^\d+$/);
});

test('an event that gets lost on the way is reported, and resync is obeyed', async () => {
  const page = await stage.page();
  await connected(page);
  await page.click(id('open-connect'));
  await page.selectOption(id('connect-transport'), 'websocket');
  await page.click(id('connect-submit'));
  let loses = () => false;
  const lines = [];
  await page.routeWebSocket(/socket\.io/, (line) => {
    lines.push(line);
    const server = line.connectToServer();
    server.onMessage((message) => loses(message) || line.send(message));
  });
  await page.reload();
  await connected(page);
  const number = await place(page);
  await unplug(page, 'customer');
  await step(page, number, 'admin-verify', 'payment_confirmed');
  await step(page, number, 'chef-accept', 'accepted');
  loses = (message) => message.includes('order:status_update') && message.includes(number) && message.includes('"seq":2');
  await page.click(id('plug-customer'));
  const { recovered, missing, seqs } = await report(page, 'customer');
  assert.deepEqual({ recovered, missing, seqs: seqs[number] }, { recovered: 'yes', missing: '1', seqs: [3] });

  const fetched = Promise.all(VIEWS.map(() => page.waitForRequest((request) => new URL(request.url()).pathname === '/orders' && request.method() === 'GET')));
  for (const line of lines) line.send('42/realtime,["resync",{"reason":"too_many_events"}]');
  await fetched;
  await page.click(id('customer-cancel'));
  await shows(page, number, 'cancelled');
});

for (const [signal, end] of [['SIGKILL', 'kill -9'], ['SIGTERM', 'a drain']]) {
  test(`${end} and a new start: every view is recovered, also the one whose plug was out`, async () => {
    const page = await stage.page({}, { rough: true });
    await connected(page);
    const number = await place(page);
    await step(page, number, 'admin-verify', 'payment_confirmed');
    await shows(page, number, 'payment_confirmed');
    await unplug(page, 'customer');
    await step(page, number, 'chef-accept', 'accepted');
    const others = VIEWS.filter((view) => view !== 'customer');
    const ended = stage.stopServer(signal);
    await Promise.all(others.map((view) => page.waitForSelector(`${id(`conn-${view}`)}[data-state="reconnecting"]`)));
    await ended;
    assert.equal(await stage.startServer(), stage.origin);
    await connected(page, others);
    for (const view of others) {
      const { recovered, missing } = await report(page, view);
      assert.deepEqual({ view, recovered, missing }, { view, recovered: 'yes', missing: '0' }, await logged(page));
    }
    await step(page, number, 'chef-prepare', 'preparing');
    await shows(page, number, 'payment_confirmed');
    await page.click(id('plug-customer'));
    const { recovered, missing, seqs } = await report(page, 'customer');
    assert.deepEqual({ recovered, missing, seqs: seqs[number] }, { recovered: 'yes', missing: '0', seqs: [3, 4] }, await logged(page));
    await shows(page, number, 'preparing');
  });
}

test('who is signed out by the back office signs in again, and goes on', async () => {
  const page = await stage.page({}, { rough: true });
  await connected(page);
  const answer = await page.evaluate(async () => {
    const { accounts } = await (await fetch('/page-config')).json();
    const response = await fetch(`/users/${accounts.driver.user.id}/sessions`, { method: 'DELETE', headers: { Authorization: `Bearer ${accounts.admin.token}` } });
    return response.json();
  });
  assert.equal(answer.disconnected, 1);
  await page.locator(`${id('log-row')}[data-view="driver"][data-event="disconnect"]`, { hasText: 'io server disconnect' }).waitFor();
  const { recovered, missing } = await report(page, 'driver');
  assert.deepEqual({ recovered, missing }, { recovered: 'yes', missing: '0' }, await logged(page));
  assert.equal(await page.getAttribute(id('conn-customer'), 'data-connects'), '1', 'nobody else is');
});

test('a server that does not know the session starts anew, and the page says so', async () => {
  const page = await stage.page({}, { rough: true });
  await connected(page);
  const number = await place(page);
  await page.waitForSelector(id(`chef-order-${number}`));
  await stage.stopServer('SIGKILL');
  await stage.startServer({ database: 'another.db' });
  await connected(page);
  for (const view of VIEWS) assert.equal((await report(page, view)).recovered, 'no', view);
  await page.waitForSelector(id(`chef-order-${number}`), { state: 'detached' });
});

test('no error in any console, and no request left the origin', () => {
  assert.deepEqual(stage.complaints, []);
});
