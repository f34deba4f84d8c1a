// TLS without a proxy: every client on every transport, much that waits for a slow one, and certificates that are renewed.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import tls from 'node:tls';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { ADMIN, as, eventually, people, Server } from '../support/server.mjs';

// `fetch` takes no certificates; the clients are given the right one.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
const trusting = (name) => ({ options: { ca: readFileSync(file(`${name}.pem`)) } });

let dir, server;
const file = (name) => path.join(dir, name);
function makeCertificate(name) {
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', file(`${name}.key`), '-out', file(`${name}.pem`)],
  { stdio: 'ignore' });
}
function install(name) {
  writeFileSync(file('cert.pem'), readFileSync(file(`${name}.pem`)));
  writeFileSync(file('key.pem'), readFileSync(file(`${name}.key`)));
}
/** The name in the certificate that a new connection gets. */
async function presented() {
  const socket = tls.connect({ host: '127.0.0.1', port: server.port });
  await once(socket, 'secureConnect');
  const { subject } = socket.getPeerCertificate();
  socket.destroy();
  return subject.CN;
}

before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'ordercast-tls-'));
  ['old', 'new'].forEach(makeCertificate);
  install('old');
  server = await Server.start({ args: ['--tls-cert', file('cert.pem'), '--tls-key', file('key.pem')] });
});
afterEach(closeAll);
after(async () => {
  await server.close();
  await rm(dir, { recursive: true, force: true });
});

for (const combo of combos) {
  test(`${label(combo)} comes by TLS`, async () => {
    assert.match(server.base, /^https:/);
    const who = people();
    const { id } = await server.assigned(who);
    const customer = await connect(server, { ...combo, ...trusting('old'), user: as(who.customer, 'customer') });
    const driver = await connect(server, { ...combo, ...trusting('old'), user: as(who.driver, 'driver') });
    await customer.ask('subscribe:order', { orderId: id });
    await server.status(id, 'picked_up');
    await customer.next('order:status_update', (update) => update.status === 'picked_up');
    await driver.ask('driver:location', { latitude: 45.2, longitude: 13.5, orderId: id });
    assert.equal((await customer.next('driver:location_update')).latitude, 45.2);
  });
}

test('A client that does not read for a while misses nothing', async () => {
  const admin = await connect(server, { transport: 'websocket', ...trusting('old'), user: ADMIN });
  const raw = admin.socket.io.engine.transport.ws._socket;
  raw.pause();
  const made = [];
  // Far more than the kernel and the server keep for one connection.
  for (let n = 0; n < 300; n += 1) made.push((await server.create(people(), { notes: `${n} ${'x'.repeat(1900)}` })).id);
  raw.resume();
  const seen = await admin.count('order:new', made.length);
  assert.deepEqual(seen.map((order) => order.id), made);
  // A long answer, in one piece.
  const { body } = await server.call('GET', '/orders?limit=200', undefined, ADMIN);
  assert.equal(body.items.length, 200);
});

test('The certificate is the one in the file, and without TLS nobody is served', async () => {
  const answer = await new Promise((resolve, reject) => {
    const options = { ca: readFileSync(file('old.pem')), rejectUnauthorized: true, agent: false };
    https.get(`${server.base}/health`, options, resolve).on('error', reject);
  });
  assert.equal(answer.statusCode, 200);
  answer.resume();
  const plain = net.connect({ host: '127.0.0.1', port: server.port });
  plain.write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n');
  let said = '';
  plain.on('data', (data) => { said += data.toString('latin1'); });
  await once(plain, 'close');
  assert.doesNotMatch(said, /HTTP/);
});

test('A new certificate is taken over, and one that cannot be used is not', async () => {
  assert.equal(await presented(), 'old');
  const stays = await connect(server, { transport: 'websocket', ...trusting('old'), user: ADMIN });
  writeFileSync(file('cert.pem'), 'nothing');
  await eventually(() => server.output.includes('keeping the old certificate'), 'a warning', 20_000);
  assert.equal(await presented(), 'old');
  install('new');
  await eventually(async () => await presented() === 'new', 'the new certificate', 20_000);
  await stays.ask('ping:latency', {});
});
