// The servers of cluster.mjs: nodes, Redis, PostgreSQL and haproxy, on loopback. Nodes and Redis have core 0, all else core 1.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { postgresDatabase, SECRET, Server } from '../../clients/support/server.mjs';

const TICKS = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
/** Not /tmp, which may be in memory, where fsync costs nothing. */
const WORK = mkdtempSync('/var/tmp/ordercast-bench-cluster.');
execFileSync('chmod', ['755', WORK]);
const { ORDERCAST_BIN: bin } = process.env;
export const clustered = execFileSync(bin, ['serve', '--help'], { encoding: 'utf8' }).includes('--redis-url');
const shell = (script) => execFileSync('bash', ['-c', `. tests/lib/postgres.sh && ${script}`], { env: { ...process.env, WORK }, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

export async function freePort() {
  const probe = net.createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

/** Seconds of CPU that a process has used. */
export function cpu(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

const children = new Set();
async function start(core, program, args, env, ready) {
  const child = spawn('taskset', ['-c', core, program, ...args], { env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  let output = '';
  await new Promise((resolve, reject) => {
    const look = (data) => {
      output = (output + data).slice(-5000);
      if (ready.test(output)) resolve();
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.once('exit', (code) => reject(new Error(`${program} ended with ${code}: ${output}`)));
  });
  return child;
}

export async function stop(child) {
  if (!children.delete(child) || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

export class Redis {
  async start() {
    this.port ??= await freePort();
    this.url = `redis://127.0.0.1:${this.port}`;
    this.child = await start('0', 'redis-server', ['--bind', '127.0.0.1', '--port', String(this.port), '--save', '', '--dir', WORK], {}, /Ready to accept/);
    return this;
  }
  stop() { return stop(this.child); }
  get pid() { return this.child.pid; }
}

let postgres;
/** Nodes of Ordercast on a new database. */
export async function ordercast(count, redis, env = {}) {
  if (!postgres) {
    shell('start_postgres');
    postgres = readFileSync(path.join(WORK, 'postgres.url'), 'utf8').trim();
    process.env.ORDERCAST_TEST_POSTGRES = postgres;
  }
  const database = postgresDatabase();
  const nodes = [];
  for (let i = 0; i < count; i += 1) {
    const [port, other] = [await freePort(), await freePort()];
    const child = await start('0', bin, ['serve', '--listen', `127.0.0.1:${port}`, '--jwt-secret', SECRET, '--database-url', database], {
      LOCATION_RATE_PER_SECOND: '0', SOCKET_REQUESTS_PER_SECOND: '0', TRUSTED_PROXIES: '127.0.0.1/32', RUST_LOG: 'warn',
      ...(clustered && { REDIS_URL: redis.url, REDIS_PREFIX: `${path.basename(database)}:`, CLUSTER_LISTEN: `127.0.0.1:${other}`, CLUSTER_ADVERTISE: `127.0.0.1:${other}` }),
      ...env,
    }, /listens on/);
    const node = Object.assign(new Server(), { base: `http://127.0.0.1:${port}`, port, process: child, database });
    nodes.push(node);
  }
  return nodes;
}

/** The bare relay with a Redis adapter: on socketioxide, or on Node with one of its two. */
export async function adapter(kind, count, redis) {
  const nodes = [];
  for (let i = 0; i < count; i += 1) {
    const port = await freePort();
    const [program, args] = kind === 'socketioxide' ? [path.join(path.dirname(bin), 'bare'), []] : ['node', ['tests/bench/peers/adapter.mjs']];
    const child = await start('0', program, args, { PORT: String(port), ADAPTER: kind, REDIS_URL: redis.url, NODE_ENV: 'production' }, /ready/);
    nodes.push({ base: `http://127.0.0.1:${port}`, port, process: child });
  }
  return nodes;
}

export async function haproxy(nodes) {
  const port = await freePort();
  const config = path.join(WORK, 'haproxy.cfg');
  writeFileSync(config, `
global
  maxconn 4000
defaults
  mode http
  option forwardfor
  option redispatch 1
  retries 2
  timeout connect 500ms
  timeout client 1m
  timeout server 1m
  timeout tunnel 1h
listen nodes
  bind 127.0.0.1:${port}
  server never 127.0.0.1:1 check inter 50ms
${nodes.map((node, i) => `  server node${i} 127.0.0.1:${node.port} check inter 100ms fall 2 rise 1`).join('\n')}
`);
  // the server that is never there says that the checks have begun
  const child = await start('1', 'haproxy', ['-db', '-f', config], {}, /never is DOWN/);
  return { base: `http://127.0.0.1:${port}`, process: child };
}

/** One row of a query. */
export const query = (database, sql) => execFileSync('psql', ['-qAt', '-F', ' ', database, '-c', sql], { encoding: 'utf8' }).trim().split(' ').map(Number);

export async function end() {
  for (const child of [...children]) await stop(child);
  if (postgres) shell('stop_postgres');
  rmSync(WORK, { recursive: true, force: true });
}
process.on('exit', () => { for (const child of children) child.kill('SIGKILL'); });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => end().finally(() => process.exit(130)));
export const keep = (file, line) => {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(line)}\n`, { flag: 'a' });
};
