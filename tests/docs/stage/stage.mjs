// What the snippets of the documents leave to their reader: tokens, orders, and the things that a phone or a page has.
import { io as connect } from 'socket.io-client';
import { jwt } from '../../clients/support/server.mjs';

export const base = 'http://127.0.0.1:9001';
const LIMIT_MS = 10_000;
const secret = process.env.JWT_SECRET;
export const token = (sub, role) => jwt({ sub, role }, { secret });
export const headers = { authorization: `Bearer ${token('shop-backend', 'service')}`, 'content-type': 'application/json' };

const late = setTimeout(() => { console.error(`after ${LIMIT_MS} ms nothing had come of it`); process.exit(1); }, LIMIT_MS);
/** The snippet has done what it is for. */
export function done(...what) { clearTimeout(late); console.log(...what); process.exit(0); }

/** A REST call of the shop's back end, or of another user. */
export async function call(method, path, body, as = headers) {
  const response = await fetch(base + path, { method, headers: { ...headers, ...as }, body: body && JSON.stringify(body) });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text && JSON.parse(text);
}

/** An order of the customer c1, which the driver d1 is bringing. */
export async function order() {
  const { id } = await call('POST', '/orders', {
    customer: { id: 'c1', name: 'Clara' }, chef: { id: 'k1', name: 'Chiara' }, delivery: { address: 'Linden Lane 12', latitude: 47.144, longitude: 9.533 },
  });
  await call('PATCH', `/orders/${id}/status`, { status: 'ready_for_pickup' });
  await call('POST', `/orders/${id}/assign`, { driver: { id: 'd1', name: 'Dino' } });
  await call('PATCH', `/orders/${id}/status`, { status: 'picked_up' });
  return id;
}

/** A connected socket of a user. */
export async function socketOf(sub, role) {
  const socket = connect(`${base}/realtime`, { auth: { token: token(sub, role) } });
  await new Promise((resolve, reject) => { socket.once('connected', resolve); socket.once('connect_error', reject); });
  return socket;
}
