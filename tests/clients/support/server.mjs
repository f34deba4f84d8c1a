// A real `ordercast serve` process, its tokens and its REST calls.
import { execFileSync, spawn } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

export const SECRET = 'client-tests-secret-of-more-than-32-bytes';
export const SERVICE = { sub: 'backend', role: 'service' };
export const ADMIN = { sub: 'root', role: 'admin' };
const READY_MS = 20_000;

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A hand-made JWT, so that a test can also make wrong ones. */
export function jwt(claims, { alg = 'HS256', secret = SECRET } = {}) {
  const exp = Math.floor(Date.now() / 1000) + 3600;
  const body = `${base64url({ alg, typ: 'JWT' })}.${base64url({ exp, ...claims })}`;
  if (alg === 'none') return `${body}.`;
  const hash = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' }[alg];
  return `${body}.${createHmac(hash, secret).update(body).digest('base64url')}`;
}

let counter = 0;
/** The parties of one order, with ids that no other test uses. */
export function people() {
  counter += 1;
  const id = `${counter}-${randomUUID().slice(0, 8)}`;
  return {
    customer: { id: `customer-${id}`, name: 'Carla Customer', phone: '+385 91 000 0001' },
    chef: {
      id: `chef-${id}`, name: 'Chiara Chef', businessName: 'Konoba', address: 'Trg 1, Višnjan',
      latitude: 45.2735, longitude: 13.7142,
    },
    driver: { id: `driver-${id}`, name: 'Dino Driver', phone: '+385 91 555 7788' },
    delivery: { address: 'Ulica 2, Poreč', latitude: 45.2271, longitude: 13.5947 },
  };
}

/** The claims of a person's token: `as(people.customer, 'customer')`. */
export const as = (person, role) => ({ sub: person.id, role, name: person.name });

/** Checks again and again until the result is truthy: for what the server does without telling anybody. */
export async function eventually(check, what, ms = 10_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms for ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

/** A new database in the PostgreSQL that tests/run started. */
export function postgresDatabase() {
  const base = process.env.ORDERCAST_TEST_POSTGRES;
  const name = `clients_${randomUUID().replaceAll('-', '')}`;
  execFileSync('psql', ['-qd', `${base}postgres`, '-c', `CREATE DATABASE ${name}`]);
  return base + name;
}

export class Server {
  output = '';
  /** What the binary is started with, and where it listens: a node of a cluster has a network of its own. */
  before = [];
  host = '127.0.0.1';
  /** Another binary than that of all tests. */
  bin;

  /** Starts a server on a free port, or `port`, with its own SQLite file, or `database`. `env` sets its flags. */
  static async start({ args = [], env = {}, database, port = 0 } = {}) {
    const server = new Server();
    server.args = args;
    server.env = env;
    server.dir = await mkdtemp(path.join(tmpdir(), 'ordercast-clients-'));
    server.database = database ?? `sqlite://${server.dir}/t.db?mode=rwc`;
    server.port = port;
    await server.run();
    return server;
  }

  /** Runs the process; again on the same port and database if called a second time. */
  async run() {
    const bin = this.bin ?? process.env.ORDERCAST_BIN;
    if (!bin) throw new Error('ORDERCAST_BIN must name the server binary (tests/run sets it)');
    const [program, ...args] = [
      ...this.before, bin, 'serve', '--listen', `${this.host}:${this.port}`, '--jwt-secret', SECRET,
      '--database-url', this.database, ...this.args,
    ];
    this.child = spawn(program, args, {
      cwd: this.dir,
      // Nothing of the caller's environment may configure the server under test.
      env: { PATH: process.env.PATH, DRAIN_MS: '300', ...this.env },
    });
    this.exited = once(this.child, 'exit').then(([code, signal]) => {
      this.exitedAt = Date.now();
      return code ?? signal;
    });
    this.base = await this.#address();
    this.port = Number(new URL(this.base).port);
    await this.#ready();
  }

  #address() {
    let stdout = '';
    return new Promise((resolve, reject) => {
      const fail = (why) => reject(new Error(`the server ${why}:\n${this.output}`));
      const timer = setTimeout(fail, READY_MS, 'did not print its address');
      this.child.on('error', fail);
      this.child.on('exit', (code) => fail(`ended with ${code} before it was ready`));
      this.child.stderr.on('data', (data) => { this.output += data; });
      this.child.stdout.on('data', (data) => {
        this.output += data;
        stdout += data;
        const found = /https?:\/\/[\d.]+:\d+(?=\D)/.exec(stdout);
        if (found) { clearTimeout(timer); resolve(found[0]); }
      });
    });
  }

  async #ready() {
    const { status } = await this.call('GET', '/ready', undefined, null);
    if (status !== 200) throw new Error(`GET /ready said ${status}`);
  }

  /** Sends SIGTERM; returns the exit code. */
  async stop() {
    this.child.kill('SIGTERM');
    return this.exited;
  }

  async kill9() {
    this.child.kill('SIGKILL');
    return this.exited;
  }

  async close() {
    await this.kill9();
    await rm(this.dir, { recursive: true, force: true });
  }

  /** One REST call. A `user` of null sends no token. It does not throw for any status. */
  async call(method, url, body, user = SERVICE, headers = {}) {
    const response = await fetch(this.base + url, {
      method,
      headers: {
        ...(user && { authorization: `Bearer ${jwt(user)}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    const json = /json/.test(response.headers.get('content-type') ?? '');
    return { status: response.status, headers: response.headers, body: json && text ? JSON.parse(text) : text };
  }

  /** A REST call that must succeed; returns its body. */
  async ok(method, url, body, user) {
    const answer = await this.call(method, url, body, user);
    if (answer.status >= 300) {
      throw new Error(`${method} ${url} said ${answer.status} ${JSON.stringify(answer.body)}`);
    }
    return answer.body;
  }

  create({ customer, chef, delivery }, more = {}, user = SERVICE) {
    return this.ok('POST', '/orders', { customer, chef, delivery, ...more }, user);
  }
  order(id, user) { return this.ok('GET', `/orders/${id}`, undefined, user); }
  tracking(id, user) { return this.ok('GET', `/orders/${id}/tracking`, undefined, user); }
  events(id, after = 0, user) {
    return this.ok('GET', `/orders/${id}/events?after=${after}&limit=200`, undefined, user);
  }
  status(id, status, user) { return this.ok('PATCH', `/orders/${id}/status`, { status }, user); }
  pay(id) { return this.ok('POST', `/orders/${id}/payment/verify`, { reference: 'ref-1' }); }
  assign(id, driver) { return this.ok('POST', `/orders/${id}/assign`, { driver }); }
  unassign(id) { return this.ok('DELETE', `/orders/${id}/assign`); }
  announce(body) { return this.ok('POST', '/announcements', body); }

  /** The sum of a metric's samples, or of those with a label such as `role="chef"`. */
  async metric(name, label) {
    const { body } = await this.call('GET', '/metrics', undefined, null);
    const labels = label ? `\\{[^}]*${label}[^}]*\\}` : '(?:\\{[^}]*\\})?';
    const samples = [...body.matchAll(new RegExp(`^ordercast_${name}${labels} (\\S+)$`, 'gm'))];
    return samples.reduce((sum, [, value]) => sum + Number(value), 0);
  }

  /** An order assigned to `who.driver`, so that fixes of that driver are shown. */
  async assigned(who) {
    const order = await this.create(who);
    await this.status(order.id, 'ready_for_pickup');
    return this.assign(order.id, who.driver);
  }
}
