// Subscribing to an order that changes all the time: from the ack on, every change comes once and in order.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { as, people, SERVICE, Server } from '../support/server.mjs';
import { gapless } from '../support/shapes.mjs';

const server = await Server.start({ env: { SOCKET_REQUESTS_PER_SECOND: '0' } });
after(() => server.close());
afterEach(closeAll);

const ROUNDS = 6;

/** Assigns the order to one driver after the other without a pause, until told to stop. */
function writer(orderId, drivers) {
  let running = true;
  let seq = 0;
  const work = (async () => {
    for (let i = 0; running; i += 1) ({ seq } = await server.assign(orderId, drivers[i % drivers.length]));
    return seq;
  })();
  return { stop: () => { running = false; return work; }, get seq() { return seq; } };
}

/** Checks the events after the last `(ack)`; returns the last seq. */
function followed(client, orderId, { since, seq }, what) {
  const from = client.events.findLastIndex((event) => event.name === '(ack)');
  const updates = client.events.slice(from)
    .filter((event) => event.name === 'order:status_update' && event.payload.orderId === orderId)
    .map((event) => event.payload);
  gapless(updates, since === undefined ? seq : since + 1, what);
  for (const [i, update] of updates.entries()) {
    assert.equal(update.snapshot ?? false, since === undefined && i === 0, `${what}: snapshot at ${i}`);
    // events older than the answer are marked as replayed
    if (since !== undefined && update.seq <= seq) assert.equal(update.replayed, true, `${what}: replayed at ${i}`);
    if (since === undefined) assert.equal(update.replayed, undefined, `${what}: replayed at ${i}`);
  }
  return updates.at(-1)?.seq ?? since;
}

for (const party of [SERVICE, null]) {
  const name = party ? 'A watcher, who hears the order only by subscribing,' : 'The customer, who hears it anyway,';
  test(`${name} gets every change once and in order from the ack on, on every client and transport`, { timeout: 120_000 }, async () => {
    const who = people();
    const { id: orderId } = await server.assigned(who);
    const sockets = await Promise.all(combos.flatMap((combo) => [undefined, 'since'].map(async (mode) => ({
      mode, what: `${label(combo)}${mode ? ', since' : ''}`,
      client: await connect(server, { ...combo, user: party ?? as(who.customer, 'customer') }),
    }))));
    const writing = writer(orderId, [who.driver, people().driver, people().driver]);

    await Promise.all(sockets.map(async ({ client, mode, what }) => {
      let last = 1; // the creation has seq 1 and is no status update
      for (let round = 0; round < ROUNDS; round += 1) {
        const since = mode && last;
        const { seq } = await client.ask('subscribe:order', { orderId, since });
        const goal = seq + 20;
        await client.until(() => client.of('order:status_update').some((update) => update.seq >= goal && !update.snapshot),
          `${what}: seq ${goal}`);
        last = followed(client, orderId, { since, seq }, `${what}, round ${round}`);
        await client.ask('unsubscribe:order', { orderId });
      }
    }));

    // the last subscription stays until the writer has stopped, so that the end is checked too
    const ends = await Promise.all(sockets.map(async ({ client, what }) => ({
      client, what, ack: await client.ask('subscribe:order', { orderId }),
    })));
    const final = await writing.stop();
    await Promise.all(ends.map(async ({ client, what, ack }) => {
      await client.until(() => client.of('order:status_update').some((update) => update.seq === final), `${what}: the end`);
      assert.equal(followed(client, orderId, { seq: ack.seq }, what), final);
    }));
  });
}
