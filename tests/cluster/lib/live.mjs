// Drivers who move, and who watches them from other nodes. Each place has a number, so that a dot that goes back is seen.
import { setTimeout as pause } from 'node:timers/promises';
import { connect } from '../../clients/support/client.mjs';
import { ADMIN, as, people } from '../../clients/support/server.mjs';
import { heardOf } from './checks.mjs';
import { adopt } from './cluster.mjs';

const REPORT_MS = 100;
const [LATITUDE, LONGITUDE, STEP] = [45.2, 13.5, 1e-5];
/** No library waits before its first try to come back longer than a scenario does. */
const OPTIONS = { reconnectionDelay: 30, reconnectionDelayMax: 250, timeout: 3000 };

export const place = (n) => ({ latitude: LATITUDE, longitude: LONGITUDE + n * STEP });
export const numberOf = ({ longitude }) => Math.round((longitude - LONGITUDE) / STEP);

/** A driver with an order, on a node, and its customer on others. */
export class Ride {
  sent = 0;
  /** For each watcher {node, dots: [{n, at}]}. */
  watchers = [];

  /** `world`: whose log the order is part of. */
  static async open(cluster, from, to, world) {
    const ride = new Ride();
    const who = people();
    Object.assign(ride, { who, order: (await cluster.assigned(who, world)).id, driver: as(who.driver, 'driver') });
    ride.socket = from && await ride.drive(from);
    ride.watchers = await Promise.all(to.map((node) => ride.watch(node)));
    return ride;
  }

  drive(node) { return connect(node, { user: this.driver, options: OPTIONS }); }

  async watch(node) {
    const client = await connect(node, { user: as(this.who.customer, 'customer'), options: OPTIONS });
    await client.ask('subscribe:order', { orderId: this.order });
    const watcher = { node: node.name, client, dots: [] };
    client.socket.on('driver:location_update', (dot) => {
      watcher.dots.push({ n: numberOf(dot), at: performance.now() });
      watcher.look?.();
    });
    return watcher;
  }

  /** Where the driver is now, told to the node of that socket. */
  report(socket = this.socket) {
    this.sent += 1;
    socket.socket.volatile.emit('driver:location', place(this.sent));
  }

  run() {
    this.timer = setInterval(() => this.report(), REPORT_MS);
    return this;
  }

  /** All watchers have heard of a place that was reported from now on: the time until then, or null after `ms`. */
  async arrives(ms) {
    const [from, started] = [this.sent, performance.now()];
    const heard = await Promise.all(this.watchers.map((watcher) => Promise.race([
      new Promise((resolve) => { watcher.look = () => { if (watcher.dots.at(-1).n > from) resolve(true); }; }),
      pause(ms, false),
    ])));
    return heard.every(Boolean) ? performance.now() - started : null;
  }

  problems() { return this.watchers.flatMap(({ node, dots }) => heardOf(dots, this.sent).map((text) => `${this.order} on ${node}: ${text}`)); }

  end() {
    clearInterval(this.timer);
    this.socket?.close();
    for (const { client } of this.watchers) client.close();
  }
}

/** An admin on each node, who must hear of every new order, whoever else is away. */
export class Pulse {
  static async open(nodes, world) {
    const pulse = Object.assign(new Pulse(), { world });
    pulse.admins = await Promise.all(nodes.map((node) => connect(node, { user: ADMIN, options: OPTIONS })));
    return pulse;
  }

  /** An order is made by one node: how long until the others have told of it, or null after `ms`. */
  async beat(node, ms) {
    const who = people();
    const order = await node.create(who);
    adopt(this.world, order.id, who);
    const started = performance.now();
    try {
      await Promise.all(this.admins.map((admin) => admin.next('order:new', ({ id }) => id === order.id, ms)));
      return performance.now() - started;
    } catch {
      return null;
    }
  }
}

/** `client` with the times at which it heard what: [{at, name, payload}]. */
export function timed(client) {
  const heard = [];
  const record = client.record.bind(client);
  client.record = (name, payload, rest) => {
    heard.push({ at: performance.now(), name, payload });
    record(name, payload, rest);
  };
  return heard;
}
