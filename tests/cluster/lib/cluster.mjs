// Three nodes of one database behind the proxy, for one scenario.
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { eventually, postgresDatabase, Server, SERVICE } from '../../clients/support/server.mjs';
import { clustered } from './binary.mjs';
import { ADDRESS, on } from './net.mjs';
import { FORWARD_PORT, PORT } from './services.mjs';

const NODES = ['node1', 'node2', 'node3'];
const STOP_MS = 15_000;
/** Of the proxy, which has lost the node in the middle of an answer: nobody knows what has become of the request. */
const UNANSWERED = new Set([502, 504]);
const ENV = {
  // so short that half-dead connections are noticed within the test
  PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '1500', WRITE_STALL_MS: '2000', DRAIN_MS: '600',
  // an app that comes back asks for all it wants at once, and comes back often here
  LOCATION_RATE_PER_SECOND: '0', SOCKET_REQUESTS_PER_SECOND: '0',
  TRUSTED_PROXIES: `${ADDRESS.proxy}/32`,
  RUST_LOG: process.env.RUST_LOG ?? 'info',
};

/** An order that no writer has made is part of the log too, and staff follow it as any other. */
export function adopt(world, order, { customer, chef }) {
  world?.orders.set(order, { customer: customer.id, chef: chef.id });
  world?.created(order, [customer.id, chef.id]);
}

class Node extends Server {
  /** Set while its end is ours. */
  told = false;
  log = '';

  constructor(cluster, name, env) {
    super();
    Object.assign(this, { cluster, name, host: ADDRESS[name], port: PORT, before: on(name), args: [], database: cluster.database });
    this.env = { ...ENV, ...cluster.env, ...env };
  }

  async run() {
    this.dir ??= await mkdtemp(path.join(process.env.WORK, `${this.name}-`));
    this.log += this.output;
    this.output = '';
    this.told = false;
    const running = super.run();
    this.up = running;
    const { child } = this;
    this.exited?.then((code) => { if (!this.told && child === this.child) this.cluster.fault(`${this.name} ended by itself with ${code}`); });
    await running;
  }

  async kill9() {
    this.told = true;
    return super.kill9();
  }

  freeze() { this.child.kill('SIGSTOP'); }
  /** None of its threads runs any more. */
  frozen() {
    const tasks = `/proc/${this.child.pid}/task`;
    const stands = (task) => readFileSync(`${tasks}/${task}/stat`, 'utf8').split(') ').at(-1).startsWith('T');
    return eventually(() => readdirSync(tasks).every(stands), `${this.name} to stand still`);
  }

  thaw() { this.child.kill('SIGCONT'); }

  /** SIGTERM; it must end by itself, with 0. */
  async stop() {
    this.told = true;
    const late = new Promise((resolve) => { setTimeout(resolve, STOP_MS, 'nothing').unref(); });
    const code = await Promise.race([super.stop(), late]);
    if (code === 'nothing') await super.kill9();
    if (code !== 0) this.cluster.fault(`SIGTERM of ${this.name} ended in ${code}`);
  }
}

export class Cluster {
  faults = [];
  #base = 0;

  /** `env`: settings of all nodes; `envs`: of each. */
  constructor({ proxy, redis, net, env = {}, envs = {}, name = '' }) {
    Object.assign(this, { proxy, redis, net, base: proxy.base, database: postgresDatabase() });
    this.env = { ...(clustered && { REDIS_URL: redis.map(({ url }) => url).join(','), REDIS_PREFIX: `${name}:` }), ...env };
    this.prefix = `${name}:`;
    this.nodes = NODES.map((node) => new Node(this, node, {
      ...(clustered && { CLUSTER_LISTEN: `${ADDRESS[node]}:${FORWARD_PORT}`, CLUSTER_ADVERTISE: `${ADDRESS[node]}:${FORWARD_PORT}` }), ...envs[node],
    }));
  }

  fault(text) { this.faults.push(text); }

  /** Starts those nodes, all at once, and awaits that the proxy uses them. */
  async start(nodes = this.nodes) {
    await Promise.all(nodes.map((node) => node.run()));
    await this.sends(nodes);
    return this;
  }

  sends(nodes = this.nodes) { return this.proxy.sends(nodes.map(({ name }) => name)); }

  /** A REST call through the proxy. It throws when the proxy has got no answer. */
  async call(...args) {
    const answer = await Server.prototype.call.apply(this, args);
    if (UNANSWERED.has(answer.status) && typeof answer.body === 'string') throw new Error(`the proxy said ${answer.status}`);
    return answer;
  }

  ok(...args) { return Server.prototype.ok.apply(this, args); }

  /** Every node takes clients. */
  ready() {
    const is = async (node) => (await node.call('GET', '/ready', undefined, null)).status === 200;
    return eventually(async () => (await Promise.all(this.nodes.map(is))).every(Boolean), 'every node to be ready');
  }

  /** The node whose turn it is. */
  next() {
    this.#base = (this.#base + 1) % this.nodes.length;
    return this.nodes[this.#base];
  }

  /** An order of these people at a driver, and so that fixes of that driver are shown. */
  async assigned({ customer, chef, driver, delivery }, world) {
    const order = await this.ok('POST', '/orders', { customer, chef, delivery }, SERVICE);
    adopt(world, order.id, { customer, chef });
    await this.ok('PATCH', `/orders/${order.id}/status`, { status: 'ready_for_pickup' });
    return this.ok('POST', `/orders/${order.id}/assign`, { driver });
  }

  async close() {
    await this.net.heal();
    await Promise.all(this.nodes.map(async (node) => {
      if (!node.child) return;
      node.thaw();
      await node.close();
      node.log += node.output;
    }));
  }
}
