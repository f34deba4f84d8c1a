// The log of the database: read over REST when all is over; what it means for each user; whether it is whole.
// It maps order ids to {customer, chef, events: [{seq, position, status, driver, time}]}.
import { setTimeout as pause } from 'node:timers/promises';
import { ADMIN } from '../clients/support/server.mjs';

/** Less than an order has events, so that the pages are turned. */
const PAGE = 8;
const AT_ONCE = 8;
const PATIENCE_MS = 15_000;
const AGAIN_MS = 200;

/** `orders` maps the ids of all orders, also of those whose creation was never answered, to their {customer, chef}. */
export async function readLog(server, orders) {
  const log = new Map();
  const left = [...orders];
  const read = async () => {
    for (let next = left.pop(); next; next = left.pop()) {
      const [order, { customer, chef }] = next;
      const events = await eventsOf(server, order);
      if (events.length > 0) log.set(order, { customer, chef, events });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, read));
  return log;
}

async function eventsOf(server, order) {
  const events = [];
  for (let after = 0; ;) {
    const url = `/orders/${order}/events?after=${after}&limit=${PAGE}`;
    const { status, body } = await patiently(() => server.call('GET', url, undefined, ADMIN));
    if (status === 404) return [];
    if (status !== 200) throw new Error(`GET ${url} said ${status}`);
    for (const event of body.events) {
      events.push({
        seq: event.seq, position: event.position, status: event.status, driver: event.driver?.id ?? null, time: Date.parse(event.timestamp),
      });
    }
    if (body.events.length < PAGE) return events;
    after = body.seq;
  }
}

/** The storm is over, but a server on a busy machine may still say "later". */
async function patiently(ask) {
  for (const deadline = Date.now() + PATIENCE_MS; ;) {
    const answer = await ask();
    if (answer.status !== 503 || Date.now() > deadline) return answer;
    await pause(AGAIN_MS);
  }
}

/** What an update is called at the doors of Socket.IO. */
export const UPDATES = { '/realtime': 'order:status_update', '/': 'orderStatusUpdate' };

/** What the log holds for that user at that door: the seqs of their updates by order, and all other durable events by position. */
export function expected(log, { user, role, door }) {
  const updates = new Map();
  const others = [];
  for (const [order, { customer, chef, events }] of log) {
    const seqs = [];
    events.forEach((event, i) => {
      const { position } = event;
      const former = events[i - 1];
      const other = (name) => others.push({ name, order, position });
      if (i === 0) {
        if (door !== '/' && (role === 'admin' || (role === 'chef' && chef === user))) other('order:new');
        return;
      }
      const mine = { customer: customer === user, chef: chef === user, driver: event.driver === user }[role] ?? true;
      if (door === '/') {
        if (mine && event.status !== former.status) seqs.push(event.seq);
        if (mine) other('trackingUpdate');
        return;
      }
      if (mine) seqs.push(event.seq);
      if (role !== 'driver') return;
      if (event.driver === user && former.driver !== user) other('driver:new_assignment');
      if (former.driver === user && event.driver !== user) other('driver:unassigned');
      if (event.status === 'ready_for_pickup' && former.status !== event.status && !event.driver) other('order:available');
      const isOffered = ({ status, driver: carrier }) => status === 'ready_for_pickup' && !carrier;
      if (isOffered(former) && !isOffered(event)) other('order:withdrawn');
    });
    if (seqs.length > 0) updates.set(order, seqs);
  }
  return { updates, others };
}

/** Every change that was acknowledged must be in the log as it was told; the log must have no gap. */
export function checkLog(log, acknowledged) {
  const problems = [];
  for (const { order, seq, status, driver } of acknowledged) {
    const event = log.get(order)?.events[seq - 1];
    if (event?.seq !== seq || event.status !== status || event.driver !== driver) {
      problems.push({ kind: 'lost', order, text: `acknowledged: seq ${seq} ${status} ${driver}; the log has ${JSON.stringify(event)}` });
    }
  }
  for (const [order, { events }] of log) {
    const seqs = events.map((event) => event.seq);
    if (seqs.some((seq, i) => seq !== i + 1)) problems.push({ kind: 'log', order, text: `its seqs are ${seqs}` });
  }
  const positions = [...log.values()].flatMap(({ events }) => events.map((event) => event.position)).sort((a, b) => a - b);
  const hole = positions.findIndex((position, i) => position !== i + 1);
  if (hole >= 0) problems.push({ kind: 'log', text: `positions: at ${hole + 1} there is ${positions[hole]}` });
  return problems;
}
