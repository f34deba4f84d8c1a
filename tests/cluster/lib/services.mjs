// What stands beside the nodes: Redis, PostgreSQL and the proxy, each on a machine of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { eventually } from '../../clients/support/server.mjs';
import { ADDRESS, on, pidsOn } from './net.mjs';
import { REDIS_PORT, Resp } from './resp.mjs';

const READY_MS = 5000;
export const PORT = 9001;
export const FORWARD_PORT = 9101;
/** Of a Redis that was replaced. */
const OLD_PORT = 6380;

/** Runs a program on a machine and resolves when it has said that it is ready. */
async function start(machine, args, ready) {
  const child = spawn(on(machine)[0], [...on(machine).slice(1), ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH } });
  let output = '';
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${args[0]} was not ready:\n${output}`)), READY_MS);
    const look = (data) => {
      output = (output + data).slice(-20_000);
      if (ready.test(output)) { clearTimeout(timer); resolve(); }
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.once('exit', (code) => { clearTimeout(timer); reject(new Error(`${args[0]} ended with ${code}:\n${output}`)); });
  });
  return child;
}

export class Redis {
  constructor(machine) { Object.assign(this, { machine, host: ADDRESS[machine], url: `redis://${ADDRESS[machine]}:${REDIS_PORT}` }); }

  async start() {
    this.child = await start(this.machine, [
      'redis-server', '--bind', this.host, '--port', String(REDIS_PORT), '--protected-mode', 'no', '--save', '', '--appendonly', 'no',
      '--dir', process.env.WORK, '--client-output-buffer-limit', 'pubsub', '64mb', '16mb', '30',
    ], /Ready to accept connections/);
  }

  async kill() {
    const gone = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await gone;
  }

  stop() { this.child.kill('SIGSTOP'); }
  go() { this.child.kill('SIGCONT'); }

  /**
   * Another Redis takes its address, as after a failover. Who listens goes on listening to this one, which has nothing to say any more: only
   * who publishes is sent away. `buryOld` ends it.
   */
  async replace() {
    this.old = this.child;
    await this.ask('CONFIG', 'SET', 'port', String(OLD_PORT));
    await this.start();
    await this.#askAt(OLD_PORT, 'CLIENT', 'KILL', 'TYPE', 'normal');
  }

  buryOld() { this.old.kill('SIGKILL'); }

  /** One command. */
  ask(...args) { return this.#askAt(REDIS_PORT, ...args); }

  async #askAt(port, ...args) {
    const resp = await Resp.open(this.host, { port });
    try {
      return await resp.ask(...args);
    } finally {
      resp.close();
    }
  }
}

/** Stops and continues all processes of PostgreSQL, which have no group in common. */
export const postgres = {
  async signal(name) {
    for (const pid of await pidsOn('postgres')) {
      try { process.kill(pid, name); } catch { /* it has ended meanwhile */ }
    }
  },
  stop() { return this.signal('SIGSTOP'); },
  go() { return this.signal('SIGCONT'); },
};

/** haproxy in front of the nodes: every request and connection goes to the next, nothing sticks. */
export class HaProxy {
  base = `http://${ADDRESS.proxy}:${PORT}`;
  #admin = `${process.env.WORK}/haproxy.sock`;

  async start(machines) {
    const config = path.join(process.env.WORK, 'haproxy.cfg');
    writeFileSync(config, `
global
  maxconn 8000
  stats socket ${this.#admin} mode 600 level admin
defaults
  mode http
  balance roundrobin
  option forwardfor
  option httpchk GET /ready
  http-check expect status 200
  option redispatch 1
  retries 2
  retry-on conn-failure
  timeout connect 500ms
  timeout check 400ms
  timeout client 1m
  timeout server 1m
  timeout tunnel 1h
  timeout queue 5s
listen nodes
  bind ${ADDRESS.proxy}:${PORT}
  default-server check inter 100ms fastinter 50ms fall 2 rise 1
${machines.map((machine) => `  server ${machine} ${ADDRESS[machine]}:${PORT}`).join('\n')}
`);
    // Everything is down when it starts, which it says, and which is how we know that it has.
    this.child = await start('proxy', ['haproxy', '-db', '-f', config], /is DOWN|New worker/);
  }

  /** Which servers it sends clients to. */
  async #up() {
    const socket = net.connect(this.#admin);
    socket.end('show stat\n');
    let text = '';
    for await (const data of socket) text += data;
    return text.split('\n').map((line) => line.split(',')).filter(([, name, ...rest]) => ADDRESS[name] && rest.includes('UP')).map(([, name]) => name);
  }

  /** Resolves when it sends clients to exactly these machines. */
  sends(machines, ms = 10_000) {
    return eventually(async () => {
      const up = await this.#up();
      return up.length === machines.length && machines.every((machine) => up.includes(machine));
    }, `the proxy to use ${machines}`, ms);
  }
}

/** nginx beside haproxy, with the configuration of `deploy/`, but in turn: every request goes to the next node. */
export class Nginx {
  #port = PORT + 1;
  base = `http://${ADDRESS.proxy}:${this.#port}`;

  async start() {
    const config = path.join(process.env.WORK, 'nginx.conf');
    const text = readFileSync(new URL('../../../deploy/nginx.conf', import.meta.url), 'utf8')
      .replace(/ordercast-(\d):\d+/g, (_, n) => `${ADDRESS[`node${n}`]}:${PORT}`)
      .replace('least_conn;', '')
      .replace('listen 8080', `listen ${ADDRESS.proxy}:${this.#port}`)
      .replaceAll(' /tmp/nginx', ` ${process.env.WORK}/nginx`)
      .replace('error_log stderr warn', 'error_log stderr notice');
    writeFileSync(config, `daemon off;\n${text}`);
    this.child = await start('proxy', ['nginx', '-e', 'stderr', '-c', config], /start worker processes/);
  }
}
