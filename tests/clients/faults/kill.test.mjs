// Killed with -9 at random moments under writers: every acknowledged change is there, and order, history and log agree.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, people, postgresDatabase, SERVICE, Server } from '../support/server.mjs';

const KILLS = 6;
const WRITERS = 6;
/** How many acknowledged changes there are before each kill. */
const AT_STAKE = 20;
const STATUSES = ['payment_confirmed', 'accepted', 'preparing', 'ready_for_pickup', 'assigned_to_driver', 'picked_up',
  'in_transit', 'delivered'];

// SEED repeats a run with the same pauses, so it is printed.
let seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
console.log(`# SEED=${seed}`);
function random() {
  seed = (seed * 48_271 + 11) % 2_147_483_647;
  return seed / 2_147_483_647;
}

/** Takes one order after the other through its life, and notes what the server acknowledged for each: [seq, status]. */
async function write(server, acknowledged, running) {
  while (running.on) {
    const who = people();
    const answers = [];
    const note = ({ seq, status }) => { answers.push([seq, status]); running.changes += 1; };
    try {
      const order = await server.create(who);
      acknowledged.set(order.id, answers);
      note(order);
      for (const status of STATUSES) {
        const next = status === 'assigned_to_driver'
          ? await server.assign(order.id, who.driver)
          : await server.status(order.id, status);
        note(next);
      }
    } catch (error) {
      // Without an answer the change may have happened or not. Any answer but success is a fault.
      if (/said \d+/.test(error.message)) throw error;
      await running.restarted;
    }
  }
}

async function verify(server, acknowledged) {
  const positions = [];
  for (const [id, answers] of acknowledged) {
    const [order, tracking, { events, seq }] = await Promise.all([server.order(id), server.tracking(id), server.events(id)]);
    assert.equal(seq, order.seq, id);
    assert.deepEqual(events.map((event) => event.seq), Array.from({ length: order.seq }, (_, i) => i + 1), `${id}: the log`);
    assert.equal(events.at(-1).status, order.status, `${id}: the log ends as the order stands`);
    assert.deepEqual(tracking.statusHistory.map((row) => row.status), events.map((event) => event.status), `${id}: history and log`);
    assert.deepEqual([tracking.status, tracking.seq], [order.status, order.seq], id);
    for (const [at, status] of answers) assert.equal(events[at - 1]?.status, status, `${id}: acknowledged seq ${at}`);
    positions.push(...events.map((event) => event.position));
  }
  return positions;
}

async function killRepeatedly(t, database) {
  const server = await Server.start({ database });
  t.after(() => server.close());
  const acknowledged = new Map();
  for (let kill = 0; kill < KILLS; kill += 1) {
    let restarted;
    const running = { on: true, changes: 0, restarted: new Promise((resolve) => { restarted = resolve; }) };
    const writers = Array.from({ length: WRITERS }, () => write(server, acknowledged, running));
    await eventually(() => running.changes >= AT_STAKE, `${AT_STAKE} acknowledged changes`, 60_000);
    await new Promise((resolve) => { setTimeout(resolve, random() * 500); }); // a random moment is what this test is about
    await server.kill9();
    running.on = false;
    restarted();
    await Promise.all(writers);
    await server.run();
    await verify(server, acknowledged);
  }

  // An order whose creation got no answer counts too. All orders together fill the log without a gap.
  const known = new Map(acknowledged);
  for (let cursor = ''; cursor !== null;) {
    const page = await server.ok('GET', `/orders?limit=200${cursor && `&cursor=${encodeURIComponent(cursor)}`}`, undefined, SERVICE);
    for (const { id } of page.items) if (!known.has(id)) known.set(id, []);
    cursor = page.nextCursor ?? null;
  }
  const positions = (await verify(server, known)).sort((a, b) => a - b);
  assert.deepEqual(positions, positions.map((_, i) => i + 1), 'positions are 1, 2, 3… without a gap');
}

describe('Kill -9', { concurrency: 2 }, () => {
  test(`${KILLS} kills under ${WRITERS} writers lose nothing on SQLite`, { timeout: 180_000 }, (t) => killRepeatedly(t));
  test(`${KILLS} kills under ${WRITERS} writers lose nothing on PostgreSQL`, {
    timeout: 180_000,
    skip: !process.env.ORDERCAST_TEST_POSTGRES && 'ORDERCAST_TEST_POSTGRES is not set (tests/run sets it)',
  }, (t) => killRepeatedly(t, postgresDatabase()));
});
