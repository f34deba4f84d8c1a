// Webhooks as other systems take them: verified by the libraries of Standard Webhooks and of Svix, and after `kill -9`.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Webhook as Standard } from 'standardwebhooks';
import { Webhook as Svix } from 'svix';
import { ADMIN, Server, eventually, people } from '../support/server.mjs';

const env = { OUTBOUND_ALLOW: '127.0.0.0/8' };

/** Another system: what it was told, and what it answers. */
class Other {
  told = [];
  answers = () => 200;
  #server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => { body += chunk; });
    request.on('end', () => {
      this.told.push({ headers: request.headers, body, json: JSON.parse(body) });
      response.writeHead(this.answers(this.told.length)).end();
    });
  });

  async open() {
    await new Promise((resolve) => { this.#server.listen(0, '127.0.0.1', resolve); });
    this.url = `http://127.0.0.1:${this.#server.address().port}/hook`;
    return this;
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

let other;
let folder;
before(async () => {
  other = await new Other().open();
  folder = await mkdtemp(path.join(tmpdir(), 'ordercast-webhooks-'));
});
after(async () => {
  other.close();
  await rm(folder, { recursive: true, force: true });
});

const order = (id) => {
  const { customer, chef, delivery } = people();
  return { id, customer, chef, delivery };
};

test('both libraries verify what is sent, and refuse what was changed', async (t) => {
  const server = await Server.start({ env });
  t.after(() => server.close());
  const { body: hook, status } = await server.call('POST', '/webhooks', { url: other.url, events: ['order.*'] }, ADMIN);
  assert.equal(status, 201);
  await server.call('POST', '/orders', order('w1'));
  await server.call('PATCH', '/orders/w1/status', { status: 'accepted' });
  await eventually(() => other.told.length >= 2, 'two messages');
  for (const { headers, body, json } of other.told) {
    for (const library of [new Standard(hook.secret), new Svix(hook.secret)]) {
      assert.deepEqual(library.verify(body, headers), json);
      assert.throws(() => library.verify(body.replace('w1', 'w2'), headers), /No matching signature/);
      assert.throws(() => library.verify(body, { ...headers, 'webhook-timestamp': '1' }), /too old/);
    }
  }
  assert.deepEqual(other.told.map(({ json }) => json.type), ['order.created', 'order.status_changed']);
  assert.equal(other.told[1].json.data.previousStatus, 'pending');
});

test('nothing is lost and nothing gets another id when the server is killed', async () => {
  other.told.length = 0;
  const database = `sqlite://${path.join(folder, 'kill.db')}?mode=rwc`;
  let server = await Server.start({ env, database });
  await server.call('POST', '/webhooks', { url: other.url, events: ['order.created'] }, ADMIN);
  const ids = Array.from({ length: 60 }, (_, number) => `k${number}`);
  for (const [round, id] of ids.entries()) {
    assert.equal((await server.call('POST', '/orders', order(id))).status, 201);
    if (round % 20 === 10) {
      await server.kill9();
      server = await Server.start({ env, database });
    }
  }
  const seen = () => new Map(other.told.map(({ json, headers }) => [json.data.order.id, headers['webhook-id']]));
  await eventually(() => seen().size === ids.length, 'every order', 30_000);
  // What was told twice, because nobody had written down that it was taken, has the same id.
  const keys = new Map();
  for (const { json, headers } of other.told) {
    const key = keys.get(json.data.order.id) ?? headers['webhook-id'];
    assert.equal(headers['webhook-id'], key);
    keys.set(json.data.order.id, key);
  }
  await server.close();
});
