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

test('A page of a listed origin connects', async () => {
  for (const client of ['4', '3', '2']) {
    for (const transport of ['websocket', 'polling', 'upgrade']) {
      const options = { extraHeaders: { origin: FRIEND } };
      const socket = await connect(listed, { client, transport, user: USER, options });
      await socket.ask('ping:latency', { t: 1 });
    }
  }
});
