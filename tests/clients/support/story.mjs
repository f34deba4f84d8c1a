// One order, and what each of its parties must hear of it, written down as it changes: so a test can say "exactly this, in this order".
import assert from 'node:assert/strict';

export const DURABLE = new Set(['order:new', 'order:available', 'order:status_update', 'driver:new_assignment', 'driver:unassigned']);

const orderOf = ({ payload }) => payload.orderId ?? payload.id;

export class Story {
  #entries = [];
  #driver = null;

  /** An order of these people, created now. */
  static async begin(server, who, more) {
    const story = new Story();
    Object.assign(story, { server, who });
    const order = await server.create(who, more);
    story.id = order.id;
    story.#note('order:new', order.seq, who.chef.id, 'admin');
    story.seq = order.seq;
    return story;
  }

  #note(name, seq, ...to) { this.#entries.push({ name, seq, to }); }

  /** A status update goes to all parties, after what else the change means to somebody. */
  #changed({ seq }) {
    this.seq = seq;
    const { customer, chef } = this.who;
    this.#note('order:status_update', seq, 'order', 'admin', customer.id, chef.id, this.#driver?.id);
  }

  async pay() { this.#changed(await this.server.pay(this.id)); }

  async status(status) {
    const answer = await this.server.status(this.id, status);
    if (status === 'ready_for_pickup') this.#note('order:available', null, 'drivers');
    this.#changed(answer);
  }

  async assign(driver) {
    const answer = await this.server.assign(this.id, driver);
    this.#note('driver:new_assignment', answer.seq, driver.id);
    if (this.#driver) this.#note('driver:unassigned', null, this.#driver.id);
    this.#driver = driver;
    this.#changed(answer);
  }

  /** Takes the driver off an order that was ready: it is free for all drivers again. */
  async unassign() {
    const answer = await this.server.unassign(this.id);
    this.#note('driver:unassigned', null, this.#driver.id);
    this.#driver = null;
    if (answer.status === 'ready_for_pickup') this.#note('order:available', null, 'drivers');
    this.#changed(answer);
  }

  /** What a socket in these rooms (`order`: it follows the order; `admin`, `drivers`, a user's id) must have heard, as [name, seq]. */
  told(...rooms) {
    return this.#entries.filter(({ to }) => to.some((room) => rooms.includes(room))).map(({ name, seq }) => [name, seq]);
  }

  /** What the client has heard of it, snapshots apart. */
  heard(client) {
    return client.events
      .filter((event) => DURABLE.has(event.name) && orderOf(event) === this.id && !event.payload.snapshot)
      .map(({ name, payload }) => [name, payload.seq ?? null]);
  }

  /** Awaits all that the client must hear, and checks that it was that, exactly. */
  async check(client, rooms, what) {
    const wanted = this.told(...rooms);
    let late = ''; // what did not come in time is named by the comparison
    await client.until(() => this.heard(client).length >= wanted.length, `${wanted.length} events of ${this.id}`)
      .catch((error) => { late = `: ${error.message}`; });
    assert.deepEqual(this.heard(client), wanted, `${what}${late}`);
  }
}

/** `"12"` and `"12.0"`, comparable: what else stems from a position comes before its plain form. */
function place(offset) {
  const [, position, index = 'Infinity'] = /^(\d+)(?:\.(\d+))?$/.exec(offset) ?? assert.fail(`the offset is ${JSON.stringify(offset)}`);
  return [Number(position), Number(index)];
}

/** Every durable event that came live or was recovered carries its offset as last argument, and the offsets rise. */
export function rising(client, what) {
  let [position, index] = [0, 0];
  for (const { name, payload, rest } of client.events) {
    if (!DURABLE.has(name) || payload.snapshot || payload.replayed) continue;
    assert.equal(rest.length, 1, `${what}: ${name} carries ${JSON.stringify(rest)}`);
    const next = place(rest[0]);
    assert.ok(next[0] > position || (next[0] === position && next[1] > index), `${what}: ${rest[0]} after ${position}.${index}`);
    [position, index] = next;
    if (name === 'order:status_update') assert.equal(rest[0], String(payload.position), `${what}: the offset of a status update`);
  }
}
