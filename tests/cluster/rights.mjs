// Who has lost the right to see an order hears nothing of it a second after that was acknowledged: at no door, on no node, whatever fails.
import { setTimeout as pause } from 'node:timers/promises';
import { connect } from '../clients/support/client.mjs';
import { begin, trace, track, visit, watch } from '../clients/support/doors.mjs';
import { as, eventually, people } from '../clients/support/server.mjs';
import { isOf, quiet } from './lib/checks.mjs';
import { place, timed } from './lib/live.mjs';

/** So many doors must have heard of the order before anything fails. */
const DOORS = 8;

export const what = 'who lost a right hears nothing a second later, on any node';

const RIGHT_MS = 1_000;
const LISTEN_MS = 500;
/** How long things have failed when the right is lost. */
const BEFORE_MS = 200;
const PULSE_MS = 50;
/** The victim is on this node too, and it is the one that fails; the others do the work. */
const CUT = 1;

/** Every door of a user on a node, with what is heard there. */
async function doors(node, user, { order, session }) {
  const realtime = await connect(node, { user });
  await realtime.ask('subscribe:order', { orderId: order });
  const open = {
    '/realtime': realtime, '/': await visit(node, { user }), '/orders/track': await track(node, user, order), '/ws': await watch(node, user, order),
    '/ws/tracking': await trace(node, session, user),
  };
  return Object.entries(open).map(([door, client]) => ({ what: `${user.sub} at ${door} on ${node.name}`, heard: timed(client), client }));
}

/** An order on its way by a driver who reports on every node, with a tracking session. */
async function ride(cluster, who) {
  const { id: order } = await cluster.assigned(who);
  const rider = as(who.driver, 'driver');
  const { tracking_id: session } = await begin(cluster, rider, order);
  return { order, session, rider, who };
}

class Case {
  constructor(t, name, fails, mends = async () => {}) { Object.assign(this, { t, name, fails, mends }); }

  async run() {
    const { cluster } = this.t;
    const { nodes } = cluster;
    await cluster.ready();
    const [victims, others, lost] = await Promise.all([people(), people(), people()].map((who) => ride(cluster, who)));
    const of = (node, { who, ...its }) => doors(node, as(who.customer, 'customer'), its);
    const listening = (await Promise.all([...nodes.map((node) => of(node, victims)), of(nodes[0], others)])).flat();
    const [revoked, control] = [listening.slice(0, -5), listening.slice(-5)];
    const unassigned = await Promise.all(nodes.map(async (node) => {
      const client = await connect(node, { user: lost.rider });
      await client.ask('subscribe:order', { orderId: lost.order });
      return { what: `the former driver on ${node.name}`, heard: timed(client), client };
    }));
    const reporters = await Promise.all([victims, others].flatMap(({ rider }) => nodes.map((node) => connect(node, { user: rider }))));
    const spare = [people().driver, people().driver];
    let n = 0;
    const pulses = [];
    const pulse = setInterval(() => {
      n += 1;
      for (const { socket } of reporters) socket.volatile.emit('driver:location', place(n));
      // an order that goes from hand to hand changes as often as one likes; that of the former driver too
      if (n % 4 !== 0) return;
      for (const { order } of [others, this.taken && lost].filter(Boolean)) {
        pulses.push(nodes[0].call('POST', `/orders/${order}/assign`, { driver: spare[n / 4 % 2] }).catch(() => null));
      }
      pulses.push(nodes[2].call('POST', `/orders/${victims.order}/payment/verify`, { reference: `r${n}` }).catch(() => null));
    }, PULSE_MS);
    const told = () => revoked.filter(({ heard }) => heard.some(isOf([victims.order]))).length;
    await eventually(() => told() >= DOORS, 'the doors to hear of the order', 20_000);
    await this.fails();
    await pause(BEFORE_MS);
    // the order goes on to others by itself: the revoked customer must hear of none of it
    const [ended, taken] = await Promise.all([
      nodes[0].ok('DELETE', `/users/${victims.who.customer.id}/sessions`).then(() => performance.now()),
      nodes[2].ok('DELETE', `/orders/${lost.order}/assign`).then(() => { this.taken = true; return performance.now(); }),
    ]);
    const turns = ['in_transit', 'picked_up'].reverse();
    for (const status of turns) pulses.push(nodes[2].call('PATCH', `/orders/${victims.order}/status`, { status }).catch(() => null));
    const end = Math.max(ended, taken) + RIGHT_MS;
    await pause(end - performance.now() + LISTEN_MS / 2);
    await this.mends();
    await pause(LISTEN_MS / 2);
    clearInterval(pulse);
    await Promise.all(pulses);
    await this.t.net.heal();
    for (const { client } of [...listening, ...unassigned, ...reporters.map((client) => ({ client }))]) (client.hangUp ?? client.close).call(client);

    const problems = [
      ...revoked.flatMap(({ what: where, heard }) => quiet(heard, [victims.order], ended + RIGHT_MS).map((text) => `${where}: ${text}`)),
      ...unassigned.flatMap(({ what: where, heard }) => quiet(heard, [lost.order], taken + RIGHT_MS).map((text) => `${where}: ${text}`)),
    ];
    const after = control.reduce((sum, { heard }) => sum + heard.filter((item) => item.at > end && isOf([others.order])(item)).length, 0);
    this.t.check(`${this.name}: nothing is heard a second later`, problems);
    this.t.enough({ 'doors that had heard something before': [told(), DOORS], 'events that others heard meanwhile': [after, 5] });
  }
}

export async function run(t) {
  const { nodes } = await t.start();
  const { net, redis } = t;
  const { name } = nodes[CUT];
  const toRedis = () => Promise.all(['redis1', 'redis2'].map((one) => net.cut(name, one)));
  const cases = [
    new Case(t, 'all is well', async () => {}),
    new Case(t, `${name} is cut off from PostgreSQL`, () => net.cut(name, 'postgres')),
    new Case(t, `${name} is cut off from PostgreSQL and Redis`, () => Promise.all([net.cut(name, 'postgres'), toRedis()])),
    new Case(t, 'Redis is gone', () => Promise.all(redis.map((one) => one.kill())), () => Promise.all(redis.map((one) => one.start()))),
    new Case(t, `${name} was stopped, and wakes up`, async () => nodes[CUT].freeze(), async () => nodes[CUT].thaw()),
  ];
  for (let round = 0; round < (t.long ? 5 : 1); round += 1) {
    for (const one of t.random.shuffled(cases)) await one.run();
  }
}
