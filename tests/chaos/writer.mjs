// Leads order after order through its life over REST, whatever happens to the server, and notes what was acknowledged.
import { ADMIN, as, SERVICE } from '../clients/support/server.mjs';

const FINAL = new Set(['delivered', 'cancelled']);
const DELIVERY = { address: 'Ulica 2, Poreč', latitude: 45.2271, longitude: 13.5947 };
const THINK_MS = [20, 140];
const RETRY_MS = 40;
/** The server may take its time while a database is away, not for ever. */
const PATIENCE_MS = 40_000;

/** The steps of one order's life: [what, argument]. Most are delivered; some lose a driver, some their customer. */
function life(random, drivers) {
  const [first, second, third] = random.shuffled(drivers);
  const early = random.chance(0.2);
  const steps = [['pay'], ['accepted'], ...(early ? [['assign', first]] : []), ['preparing'], ['ready_for_pickup']];
  if (!early) steps.push(['assign', first]);
  if (random.chance(0.3)) steps.push(['unassign'], ['assign', second]);
  if (random.chance(0.3)) steps.push(['assign', third]);
  steps.push(['picked_up'], ['in_transit'], ['delivered']);
  const skipped = steps.filter(([what]) => !['preparing', 'in_transit', 'pay'].includes(what) || !random.chance(0.2));
  return random.chance(0.25) ? [...skipped.slice(0, random.below(skipped.length)), ['cancelled']] : skipped;
}

export class Writer {
  /** `world`: what all of the test share; `think`: shortest and longest time in ms between two changes. */
  constructor(world, random, name, think = THINK_MS) {
    Object.assign(this, { world, random, name, think });
    this.made = 0;
  }

  async run() {
    while (!this.world.closing) {
      const order = await this.#create();
      for (const [what, driver] of life(this.random, this.world.cast.drivers)) {
        if (this.world.closing) break;
        await this.#think();
        await this.#step(order, what, driver);
      }
      // the last change of an order that the end has surprised: after it nothing may be missing
      if (!FINAL.has(order.status)) await this.#step(order, 'cancelled');
    }
  }

  #think() { return new Promise((resolve) => { setTimeout(resolve, this.random.between(...this.think)); }); }

  async #create() {
    this.made += 1;
    const { cast, orders } = this.world;
    const [customer, chef] = [this.random.pick(cast.customers), this.random.pick(cast.chefs)];
    const order = { id: `${this.name}-${this.made}`, seq: 0, status: null, chef };
    orders.set(order.id, { customer: customer.id, chef: chef.id });
    const body = { id: order.id, customer, chef, delivery: DELIVERY };
    await this.#change(order, 'POST', '/orders', body, SERVICE, { 'idempotency-key': `key-${order.id}` });
    this.world.created(order.id, [customer.id, chef.id]);
    return order;
  }

  #step(order, what, driver) {
    const url = `/orders/${order.id}`;
    switch (what) {
      case 'pay': return this.#change(order, 'POST', `${url}/payment/verify`, { reference: 'r' });
      case 'assign': order.driver = driver; return this.#change(order, 'POST', `${url}/assign`, { driver }).then(() => this.world.assigned(order.id, driver));
      case 'unassign': order.driver = null; return this.#change(order, 'DELETE', `${url}/assign`);
      case 'cancelled': return this.#change(order, 'POST', `${url}/cancel`, {}, ADMIN);
      default: {
        const kitchen = ['accepted', 'preparing', 'ready_for_pickup'].includes(what);
        const by = kitchen ? as(order.chef, 'chef') : as(order.driver, 'driver');
        return this.#change(order, 'PATCH', `${url}/status`, { status: what }, by);
      }
    }
  }

  /** Asks until there is an answer. Without one nobody knows whether the change has happened; asking again is safe. */
  async #change(order, method, url, body, user = SERVICE, headers = {}) {
    const { world } = this;
    const deadline = Date.now() + PATIENCE_MS;
    for (let unclear = false; ; unclear = true) {
      if (Date.now() > deadline) throw new Error(`${method} ${url}: no answer in ${PATIENCE_MS} ms`);
      const troubled = world.troubled();
      const answer = await world.server.call(method, url, body, user, headers).catch(() => null);
      if (answer?.status < 300) {
        this.#acknowledged(order, answer.body);
        return;
      }
      const wentOn = answer?.status === 409 && unclear ? await this.#wentOn(order) : false;
      if (wentOn) return;
      if (answer && wentOn === false) {
        const { status } = answer;
        const excused = status === 503 || (status === 500 && (troubled || world.troubled()));
        if (!excused) throw new Error(`${method} ${url} said ${status} ${JSON.stringify(answer.body)}${unclear ? ', when asked again' : ''}`);
        world.refused(status);
      }
      world.counts.retries += 1;
      await world.up();
      await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
    }
  }

  /**
   * "Illegal" when asked again may mean that it went on beyond: ready, and to the driver who was assigned early. `undefined` when
   * the server is away again before it says so.
   */
  async #wentOn(order) {
    const { status, body } = await this.world.server.call('GET', `/orders/${order.id}`, undefined, SERVICE).catch(() => ({}));
    if (status !== 200) return undefined;
    if (body.seq <= order.seq) return false;
    Object.assign(order, { seq: body.seq, status: body.status });
    return true;
  }

  #acknowledged(order, { seq, status, driver }) {
    Object.assign(order, { seq, status });
    this.world.acknowledge({ order: order.id, seq, status, driver: driver?.id ?? null });
  }
}
