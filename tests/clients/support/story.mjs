// One order and what each of its parties must hear of it, noted as it changes. So a test can check for exactly these events in this order.
import assert from 'node:assert/strict';

export const DURABLE = new Set(['order:new', 'order:available', 'order:withdrawn', 'order:status_update', 'driver:new_assignment', 'driver:unassigned']);

const orderOf = ({ payload }) => payload.orderId ?? payload.id;

export class Story {
  #entries = [];
  #driver = null;
  #offered = false;

  /** Creates an order of these people. */
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

  /** A status update goes to all parties, after the other events of the change. */
  #changed({ seq }) {
    this.seq = seq;
    const { customer, chef } = this.who;
    this.#note('order:status_update', seq, 'order', 'admin', customer.id, chef.id, this.#driver?.id);
  }

  #offer(status) {
    if (status !== 'ready_for_pickup') return;
    this.#note('order:available', null, 'drivers');
    this.#offered = true;
  }

  /** Drivers hear that what was offered is gone. */
  #withdraw() {
    if (this.#offered) this.#note('order:withdrawn', null, 'drivers');
    this.#offered = false;
  }

  async pay() { this.#changed(await this.server.pay(this.id)); }

  async status(status) {
    const answer = await this.server.status(this.id, status);
    this.#withdraw();
    this.#offer(status);
    this.#changed(answer);
  }

  async assign(driver) {
    const answer = await this.server.assign(this.id, driver);
    this.#note('driver:new_assignment', answer.seq, driver.id);
    if (this.#driver) this.#note('driver:unassigned', null, this.#driver.id);
    this.#driver = driver;
    this.#withdraw();
    this.#changed(answer);
  }

  /** Takes the driver off a ready order, so that it is available to all drivers again. */
  async unassign() {
    const answer = await this.server.unassign(this.id);
    this.#note('driver:unassigned', null, this.#driver.id);
    this.#driver = null;
    this.#offer(answer.status);
    this.#changed(answer);
  }

  /** What a socket in these rooms must have heard, as [name, seq]. `order` means that it follows the order; others are `admin`, `drivers` and user ids. */
  told(...rooms) {
    return this.#entries.filter(({ to }) => to.some((room) => rooms.includes(room))).map(({ name, seq }) => [name, seq]);
  }

  /** What the client has heard of the order, without snapshots. */
  heard(client) {
    return client.events
      .filter((event) => DURABLE.has(event.name) && orderOf(event) === this.id && !event.payload.snapshot)
      .map(({ name, payload }) => [name, payload.seq ?? null]);
  }

  /** Awaits all events that the client must hear, and checks that these came and no others. */
  async check(client, rooms, what) {
    const wanted = this.told(...rooms);
    let late = ''; // the comparison below names the missing events
    await client.until(() => this.heard(client).length >= wanted.length, `${wanted.length} events of ${this.id}`)
      .catch((error) => { late = `: ${error.message}`; });
    assert.deepEqual(this.heard(client), wanted, `${what}${late}`);
  }
}

/** `"12"` and `"12.0"` as numbers to compare: the last event of a position has the plain form. */
function place(offset) {
  const [, position, index = 'Infinity'] = /^(\d+)(?:\.(\d+))?$/.exec(offset) ?? assert.fail(`the offset is ${JSON.stringify(offset)}`);
  return [Number(position), Number(index)];
}

/** Checks that every durable event, live or recovered, has its offset as last argument, and that the offsets rise. */
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
