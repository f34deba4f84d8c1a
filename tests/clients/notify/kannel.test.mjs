// SMS through Kannel, as an operator would run it: its bearerbox and smsbox, and its fake SMSC in place of a network.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Server, eventually, people } from '../support/server.mjs';

const KEY = 'ab'.repeat(32);
const PHONE = '+41790000001';
const FAKESMSC = '/usr/lib/kannel/test/fakesmsc';

/** Ports that nobody uses now. */
async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => resolve(server));
  })));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => { server.close(resolve); })));
  return ports;
}

const children = [];
/** Starts a program; what it says is in `said`. */
function start(program, args) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  child.said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { child.said += data; });
  children.push(child);
  return child;
}

let folder;
let server;
let network;
let smscPort;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'ordercast-kannel-'));
  const [admin, boxes, smsc, sendsms, own] = await freePorts(5);
  smscPort = smsc;
  const url = `http://127.0.0.1:${own}`;
  const inbound = execFileSync(process.env.ORDERCAST_BIN, ['sms-address', '--notify-key', KEY, '--public-url', url, '--sms-provider', 'http']).toString().trim();
  const config = path.join(folder, 'kannel.conf');
  await writeFile(config, `
group = core
admin-port = ${admin}
admin-password = admin
smsbox-port = ${boxes}
box-allow-ip = "127.0.0.1"
log-level = 1

group = smsc
smsc = fake
smsc-id = FAKE
port = ${smsc}
connect-allow-ip = 127.0.0.1

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = ${sendsms}
global-sender = 13013

group = sendsms-user
username = ordercast
password = secret

group = sms-service
keyword = default
catch-all = true
max-messages = 0
get-url = "${inbound}?from=%p&text=%a"
`);
  // A text in another alphabet has to arrive, too.
  await writeFile(path.join(folder, 'en.ftl'), 'tracking-started-sms = Заказ { $number }: { $link }\n');
  const bearerbox = start('/usr/sbin/bearerbox', [config]);
  await eventually(() => /MAIN: Start-up done/.test(bearerbox.said), 'bearerbox');
  const smsbox = start('/usr/sbin/smsbox', [config]);
  await eventually(() => /Connected to bearerbox/.test(smsbox.said), 'smsbox');
  network = start(FAKESMSC, ['-H', '127.0.0.1', '-r', String(smsc), '-m', '1', '+41790000099 13013 text hello']);
  await eventually(() => /Got message|sent/.test(bearerbox.said + network.said), 'the network');
  server = await Server.start({
    port: own,
    env: {
      NOTIFY_KEY: KEY, SMS_PROVIDER: 'http', PUBLIC_URL: url, TEXTS_DIR: folder, SMS_RATE_PER_SECOND: '50',
      SMS_HTTP_URL: `http://127.0.0.1:${sendsms}/cgi-bin/sendsms?username=ordercast&password=secret`,
    },
  });
});

after(async () => {
  await server?.close();
  for (const child of children.reverse()) child.kill('SIGKILL');
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** How many texts of customers have come to the server. */
const heard = () => server.output.match(/"route":"\/hooks\/sms\/\{provider\}\/inbound\/\{secret\}"/g)?.length ?? 0;

/** Somebody sends a text to the shop. The fake network speaks to one phone at a time. */
async function text(words) {
  const before = heard();
  network.kill('SIGKILL');
  network = start(FAKESMSC, ['-H', '127.0.0.1', '-r', String(smscPort), '-m', '1', `${PHONE} 13013 text ${words}`]);
  await eventually(() => heard() > before, `${words} to come`);
}

const lines = async (order) => (await server.call('GET', `/orders/${order}/notifications`)).body.items;

/** An order of somebody with that phone is on its way. */
async function underWay(id) {
  const { customer, chef, delivery } = people();
  await server.call('POST', '/orders', { id, customer: { ...customer, phone: PHONE }, chef, delivery });
  await server.call('PATCH', `/orders/${id}/status`, { status: 'picked_up' });
  return eventually(async () => (await lines(id)).find(({ kind, state }) => kind === 'order.on_the_way' && !['due', 'sending', 'held'].includes(state)), `a text about ${id}`);
}

test('a link is sent when tracking starts, and the network says that it arrived', async () => {
  const started = await server.call('POST', '/tracking/start', { order_id: 't1', dropoff_lat: 47.1, dropoff_lng: 9.5, phone: PHONE }, { sub: 'rider', role: 'driver' });
  assert.equal(started.status, 200);
  // Two bytes for each letter, and those of ASCII as themselves: %04%17 is З.
  await eventually(() => network.said.includes('ucs-2 %04%17%04'), 'the text in another alphabet');
  const line = await eventually(async () => (await lines('t1')).find(({ state }) => state === 'delivered'), 'the report of the network');
  assert.equal(line.channel, 'sms');
});

test('STOP is honoured, and START', async () => {
  await text('STOP');
  assert.equal((await underWay('stopped')).state, 'opted_out');
  await text('START');
  const line = await underWay('started');
  assert.ok(['sent', 'delivered'].includes(line.state), JSON.stringify(line));
});
