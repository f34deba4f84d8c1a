// Prints the first line of a result file: date, machine and versions.  Usage: node header.mjs MEASURE ROUNDS
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';

const here = new URL('..', import.meta.url).pathname;
const run = (program, ...args) => {
  try {
    return execFileSync(program, args, { cwd: here, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
};
const npm = JSON.parse(readFileSync(`${here}/peers/package.json`)).dependencies;
const locked = readFileSync(`${here}/../../Cargo.lock`, 'utf8');
const crate = (name) => new RegExp(`name = "${name}"\nversion = "(.*)"`).exec(locked)?.[1];
const python = Object.fromEntries(readFileSync(`${here}/peers/requirements.txt`, 'utf8').trim().split('\n')
  .map((line) => line.split('==')));
const from = (versions, ...names) => Object.fromEntries(names.map((name) => [name, versions[name]]));

const [measure, rounds] = process.argv.slice(2);
console.log(JSON.stringify({
  header: true,
  measure,
  rounds: Number(rounds),
  date: new Date().toISOString(),
  commit: run('git', 'describe', '--always', '--dirty', '--exclude=*'),
  kernel: release(),
  cpu: cpus()[0].model,
  cores: cpus().length,
  memory_gb: Math.round(totalmem() / 2 ** 30),
  versions: {
    ordercast: run(process.env.ORDERCAST, '--version'),
    node: process.version,
    ...from(npm, 'socket.io', '@nestjs/core', '@nestjs/platform-socket.io', 'bun', '@socket.io/bun-engine', 'fastify',
      '@fastify/websocket', 'bufferutil'),
    python: run(`${process.env.VENV}/bin/python`, '--version'),
    ...from(python, 'fastapi', 'python-socketio', 'uvicorn', 'uvloop', 'websockets', 'httptools', 'orjson'),
    ...Object.fromEntries(['socketioxide', 'tokio-tungstenite', 'mio', 'tokio'].map((name) => [name, crate(name)])),
    postgres: run('psql', '--version'),
  },
}));
