// Which browser pages may talk to the server.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, connect } from '../support/client.mjs';
import { upgradeStatus } from '../support/raw.mjs';
import { Server } from '../support/server.mjs';

const FRIEND = 'http://a.test';
const FOE = 'http://evil.test';
const USER = { sub: 'browser', role: 'customer' };

const listed = await Server.start({ args: ['--cors-origin', `${FRIEND},http://b.test`] });
const none = await Server.start();
const any = await Server.start({ args: ['--cors-origin', '*'] });
after(() => Promise.all([listed, none, any].map((server) => server.close())));
afterEach(closeAll);

/** What a browser would see: the origin that a polling handshake, or its preflight, allows. */
async function allowed(server, origin, { method = 'GET', path = '/socket.io/?EIO=4&transport=polling' } = {}) {
  const response = await fetch(server.base + path, {
    method,
    headers: { origin, ...(method === 'OPTIONS' && {
      'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization,content-type',
    }) },
  });
  await response.text();
  return response.headers.get('access-control-allow-origin');
}

test('A listed origin is allowed for polling, preflight and REST, a foreign one is not', async () => {
  for (const origin of [FRIEND, 'http://b.test']) {
    assert.equal(await allowed(listed, origin), origin);
    assert.equal(await allowed(listed, origin, { method: 'OPTIONS' }), origin);
    assert.equal(await allowed(listed, origin, { method: 'OPTIONS', path: '/orders' }), origin);
    assert.equal(await allowed(listed, origin, { path: '/orders' }), origin, 'a refusal must be readable too');
  }
  for (const origin of [FOE, 'null', 'http://a.test.evil.test', 'https://a.test']) {
    assert.equal(await allowed(listed, origin), null, origin);
    assert.equal(await allowed(listed, origin, { method: 'OPTIONS' }), null, origin);
  }
});

test('The default allows no other origin, and * allows every origin', async () => {
  assert.equal(await allowed(none, FRIEND), null);
  assert.ok(['*', FOE].includes(await allowed(any, FOE)));
});

test('A WebSocket from a foreign page is refused, because CORS would not stop it', async () => {
  for (const version of [4, 3]) {
    assert.equal(await upgradeStatus(listed, { origin: FOE, version }), 403);
    assert.equal(await upgradeStatus(none, { origin: FOE, version }), 403);
    assert.equal(await upgradeStatus(listed, { origin: FRIEND, version }), 101);
    assert.equal(await upgradeStatus(any, { origin: FOE, version }), 101);
    assert.equal(await upgradeStatus(none, { version }), 101, 'apps that are no browser send no Origin');
    assert.equal(await upgradeStatus(none, { origin: none.base, version }), 101, 'the page that the server serves itself');
  }
});

const APPS = ['capacitor://localhost', 'ionic://localhost', 'tauri://localhost', 'app://-', 'chrome-extension://abcdefghijklmnopabcdefghijklmnop',
  'moz-extension://1b2c3d4e-0000-4000-8000-123456789abc', 'file://', 'null'];

test('Origins of apps are allowed where they are listed', async () => {
  const apps = await Server.start({ args: ['--cors-origin', APPS.join(', ')] });
  try {
    for (const origin of APPS) {
      assert.equal(await allowed(apps, origin), origin);
      assert.equal(await allowed(apps, origin, { method: 'OPTIONS', path: '/orders' }), origin);
      assert.equal(await upgradeStatus(apps, { origin }), 101, origin);
      assert.equal(await upgradeStatus(apps, { origin, url: `${apps.base.replace('http', 'ws')}/ws?token=x` }), 101, `${origin} at /ws`);
      assert.equal(await upgradeStatus(none, { origin }), 403, origin);
      assert.equal(await upgradeStatus(none, { origin, host: 'localhost' }), 403, `${origin} is not the page that the server serves`);
    }
    assert.equal(await upgradeStatus(apps, { origin: 'tauri://elsewhere' }), 403);
  } finally {
    await apps.close();
  }
});

test('The server’s own page may connect, however its origin and the host are written', async () => {
  const url = `${none.base.replace('http', 'ws')}/ws?token=x`;
  for (const [origin, host] of [['https://x.test', 'x.test:443'], ['http://x.test', 'x.test:80'], ['https://x.test', 'X.TEST'], ['https://x.test:443', 'x.test'],
    ['http://x.test:9001', 'X.test:9001'], ['http://[::1]', '[::1]:80']]) {
    assert.equal(await upgradeStatus(none, { origin, host }), 101, `${origin} at ${host}`);
    assert.equal(await upgradeStatus(none, { origin, host, url }), 101, `${origin} at ${host}, /ws`);
  }
  for (const [origin, host] of [['https://x.test:8443', 'x.test'], ['https://y.test', 'x.test:443'], ['http://x.test', 'x.test:443']]) {
    assert.equal(await upgradeStatus(none, { origin, host }), 403, `${origin} at ${host}`);
  }
});

test('A page of a listed origin connects', async () => {
  for (const client of ['4', '3', '2']) {
    for (const transport of ['websocket', 'polling', 'upgrade']) {
      const options = { extraHeaders: { origin: FRIEND } };
      const socket = await connect(listed, { client, transport, user: USER, options });
      await socket.ask('ping:latency', { t: 1 });
    }
  }
});
