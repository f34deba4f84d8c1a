// The shell lines under "Testing" in 002_2917022c08c0c4bc.txt, unchanged except for port and order id: bash, curl, python3 and wscat
// against `--demo`.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { after, test } from 'node:test';
import { eventually, people, Server } from '../support/server.mjs';

const GET_A_TOKEN = String.raw`TOKEN=$(curl -s http://localhost:7001/api/v1/auth/login \
  -H "Content-Type: application/json" \
  -d '{"email":"admin@martly.dev","password":"admin123"}' \
  | python3 -c "import sys,json; print(json.load(sys.stdin)['data']['accessToken'])")`;
const CONNECT_VIA_WSCAT = 'wscat -c "ws://localhost:7001/ws?token=$TOKEN"';
const SUBSCRIBE = '{"type":"subscribe","orderId":"<order-id>"}';
const CHANGE_THE_STATUS = String.raw`curl -X PATCH http://localhost:7001/api/v1/orders/<order-id>/status \
  -H "Authorization: Bearer $TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"status":"CONFIRMED"}'`;

const server = await Server.start({ args: ['--demo'] });
after(() => server.close());
const login = (email, password, on = server) => on.call('POST', '/api/v1/auth/login', { email, password }, null);

const PATH = `${path.join(import.meta.dirname, '..', 'node_modules', '.bin')}:${process.env.PATH}`;
const WAIT_MS = 20_000;

/** A shell; `lines` are its output. */
class Terminal {
  lines = [];
  #looks = new Set();

  constructor(script) {
    this.child = spawn('bash', ['-c', script.replaceAll('localhost:7001', `localhost:${server.port}`)], { env: { ...process.env, PATH } });
    this.ended = once(this.child, 'close').then(([code]) => code);
    this.child.stdin.on('error', () => {}); // it may have ended already
    let text = '';
    this.errors = '';
    this.child.stderr.on('data', (data) => { this.errors += data; });
    this.child.stdout.on('data', (data) => {
      text += data;
      const lines = text.split('\n');
      text = lines.pop();
      this.lines.push(...lines);
      for (const look of this.#looks) look();
    });
  }

  type(line) { this.child.stdin.write(`${line}\n`); }

  /** The first message that matches. */
  message(match, what) {
    return new Promise((resolve, reject) => {
      const look = () => {
        // wscat's prompt may stand before a message
        const found = this.lines.filter((line) => line.includes('{')).map((line) => JSON.parse(line.slice(line.indexOf('{')))).find(match);
        if (!found) return;
        clearTimeout(timer);
        this.#looks.delete(look);
        resolve(found);
      };
      const timer = setTimeout(() => reject(new Error(`waited for ${what} in\n${this.lines.join('\n')}\n${this.errors}`)), WAIT_MS);
      this.#looks.add(look);
      look();
    });
  }
}

test('With a token, wscat subscribes and shows order:updated and orders:changed after a change', { timeout: 120_000 }, async (t) => {
  const wscat = new Terminal(`${GET_A_TOKEN}\n${CONNECT_VIA_WSCAT}`);
  t.after(() => wscat.child.stdin.end()); // as Ctrl+D does
  const { sub } = await admin();
  await eventually(async () => (await server.ok('GET', `/users/${sub}/presence`)).online, 'wscat to be connected', WAIT_MS);

  const { id } = await server.create(people());
  const about = (type, seen) => (message) => message.type === type && message.orderId === id && seen(message);
  await wscat.message(about('orders:changed', ({ status }) => status === 'PENDING'), 'the new order');
  wscat.type(SUBSCRIBE.replace('<order-id>', id));
  await wscat.message(about('order:updated', ({ data }) => data.status === 'PENDING'), 'how it stands');

  const other = new Terminal(`${GET_A_TOKEN}\n${CHANGE_THE_STATUS.replace('<order-id>', id)}; echo`);
  assert.equal(await other.ended, 0, other.errors);
  const { success, data } = JSON.parse(other.lines.join('\n'));
  assert.deepEqual([success, data.id, data.status], [true, id, 'CONFIRMED']);
  const updated = await wscat.message(about('order:updated', (message) => message.data.status === 'CONFIRMED'), 'order:updated');
  assert.deepEqual(updated.data, data);
  await wscat.message(about('orders:changed', ({ status }) => status === 'CONFIRMED'), 'orders:changed');

  wscat.child.stdin.end();
  assert.equal(await wscat.ended, 0, wscat.errors);
  await eventually(async () => !(await server.ok('GET', `/users/${sub}/presence`)).online, 'wscat to be gone');
});

/** The claims of the demo admin's token. */
async function admin() {
  const { body } = await login('admin@martly.dev', 'admin123');
  return JSON.parse(Buffer.from(body.data.accessToken.split('.')[1], 'base64url'));
}

test('The login takes only demo users with their passwords, and only in the demo', async (t) => {
  const { status, body } = await login('admin@martly.dev', 'admin123');
  assert.deepEqual([status, body.success, body.data.user.role], [200, true, 'admin']);
  assert.equal(body.data.user.email, 'admin@martly.dev');
  for (const [email, password] of [['admin@martly.dev', 'admin'], ['nobody@martly.dev', 'admin123'], ['admin@martly.dev', '']]) {
    assert.equal((await login(email, password)).status, 401, `${email} ${password}`);
  }
  const real = await Server.start();
  t.after(() => real.close());
  assert.equal((await login('admin@martly.dev', 'admin123', real)).status, 404);
});
