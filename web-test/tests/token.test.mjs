// Tokens that end while the page is open: the demo's are replaced in time, one's own are shown to end.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, afterEach, before, test } from 'node:test';
import { promisify } from 'node:util';
import { BINARY, Stage, VIEWS, connected, id, place, shows } from './stage.mjs';

const JWT_SECRET = 'the-secret-of-the-token-test-of-the-page';
// The demo's tokens last twelve hours: the warning comes three seconds after they were made.
const limits = { TOKEN_WARNING_MS: String((12 * 3600 - 3) * 1000), TOKEN_GRACE_MS: '1500' };
// The demo takes no secret from the environment.
const stage = new Stage(limits, ['--jwt-secret', JWT_SECRET]);
before(() => stage.open());
afterEach(() => stage.clear());
after(() => stage.close());

const rows = (page, event, direction, view) => page.locator(`${id('log-row')}[data-event="${event}"][data-direction="${direction}"][data-view="${view}"]`);

test('a token that is about to expire is replaced on the live socket', async () => {
  const page = await stage.page();
  await connected(page);
  await page.fill(id('log-filter-event'), 'token:');
  for (const view of VIEWS) {
    await rows(page, 'token:expiring', 'in', view).first().waitFor();
    const answer = rows(page, 'token:refresh', 'ack', view).first();
    await answer.waitFor();
    assert.match(await answer.locator('.log-brief').textContent(), /^ok true\b.*expiresAt/);
    assert.equal(await page.getAttribute(id(`conn-${view}`), 'data-connects'), '1', 'the socket is the same one');
  }
  assert.ok(!/eyJ[\w-]{10,}/.test(await page.evaluate(() => document.documentElement.outerHTML)), 'no token anywhere on the page');
  const number = await place(page);
  await page.click(id('customer-cancel'));
  await shows(page, number, 'cancelled');
});

test('a token of one’s own is shown to expire, to have expired, and to be refused', async () => {
  const page = await stage.page({}, { rough: true });
  await connected(page);
  // The demo's own token is replaced first, so that the log holds a refresh that is not the one in question.
  await rows(page, 'token:refresh', 'ack', 'chef').first().waitFor();
  const { stdout } = await promisify(execFile)(BINARY, ['token', '--sub', 'chef-9', '--role', 'chef', '--ttl', '6s'], { env: { ...process.env, JWT_SECRET } });
  await page.click(id('open-connect'));
  await page.fill(id('token-chef'), stdout.trim());
  await page.click(id('connect-submit'));
  await page.waitForSelector('#head-chef .person[title="chef-9"]');
  await connected(page, ['chef']);
  const before = await rows(page, 'token:refresh', 'out', 'chef').count();
  await page.waitForSelector(`${id('token-note-chef')}[data-state="expiring"]`);
  await page.waitForSelector(`${id('token-note-chef')}[data-state="expired"]`);
  await page.waitForSelector(`${id('conn-chef')}[data-state="refused"]`);
  assert.match(await page.textContent(id('conn-chef')), /token_expired/);
  assert.equal(await rows(page, 'token:refresh', 'out', 'chef').count(), before, 'there is no other token to go on with');
});

test('no error in any console, and no request left the origin', () => {
  assert.deepEqual(stage.complaints, []);
});
