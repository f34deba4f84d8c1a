// A customer's app with a push address.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';

process.env.JWT_SECRET ??= randomBytes(32).toString('hex');
execFileSync('ordercast', { env: { ...process.env, NOTIFY_KEY: randomBytes(32).toString('hex') } });
const { base, done, order, socketOf, token } = await import('./stage.mjs');

globalThis.orderId = await order();
globalThis.headers = { authorization: `Bearer ${token('c1', 'customer')}`, 'content-type': 'application/json' };
globalThis.token = 'what-firebase-gave-to-the-app';
globalThis.seq = 1;
globalThis.socket = await socketOf('c1', 'customer');
const real = fetch;
globalThis.fetch = async (path, init) => {
  const answer = await real(base + path, init);
  if (!answer.ok) throw new Error(`${init.method} ${path}: ${answer.status} ${await answer.text()}`);
};
globalThis.AppState = { addEventListener: (event, listener) => listener('background') };
globalThis.socket.on('error', (error) => { throw new Error(JSON.stringify(error)); });
// The chef is told who has seen it, once all of the snippet has been carried out.
const chef = await socketOf('k1', 'chef');
chef.on('order:receipt', ({ seenSeq }) => { if (seenSeq) done(`seen up to ${seenSeq}`); });
