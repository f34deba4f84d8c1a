// Clients of other languages and runtimes, each a small program that does the same: it connects, follows an order and gets an answer, hears
// every change in order, loses its connection, comes back by itself and has missed nothing.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Recorder } from '../support/client.mjs';
import { start } from '../support/recovery.mjs';
import { as, jwt, people } from '../support/server.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const SCRIPT = at('../programs/client.mjs');
const PYTHON = at('../programs/client.py');
const ALL = ['websocket', 'polling', 'upgrade'];
const { ORDERCAST_PYTHON: python, ORDERCAST_PYTHON_4: packages, ORDERCAST_RUST_CLIENT: rust } = process.env;
const node = (library) => ({ command: [process.execPath, SCRIPT, library] });

/** `offset`: how many arguments a change has in /realtime. `missing` is what has to be installed first; tests/run does. */
const PROGRAMS = {
  'socket.io-client 4.8': { ...node('socket.io-client'), offset: 2 },
  'socket.io-client 4.5': { ...node('socket.io-client-45'), offset: 2 },
  'socket.io-client 3.1': { ...node('socket.io-client-3'), offset: 2 },
  'socket.io-client 2.5': { ...node('socket.io-client-2'), offset: 1 },
  'socket.io-client 4.8 in Bun': { command: [at('../node_modules/.bin/bun'), SCRIPT, 'socket.io-client'], offset: 2 },
  'ws 8': { ...node('ws'), transports: ['websocket'], namespaces: ['/orders/track'], offset: 1 },
  'ws in Bun': { command: [at('../node_modules/.bin/bun'), SCRIPT, 'ws'], transports: ['websocket'], namespaces: ['/orders/track'], offset: 1 },
  'python-socketio 5': { command: [python, PYTHON], missing: !python, offset: 2 },
  'python-socketio 4.6': { command: [python, PYTHON], env: { PYTHONPATH: packages }, missing: !python || !packages, offset: 1 },
  'rust_socketio 0.6': { command: [rust], missing: !rust || !existsSync(rust), transports: ['websocket', 'polling'], offset: 2 },
};

/** Runs a program, whose lines are events. */
function run({ command: [program, ...before], env }, given) {
  const recorder = new Recorder();
  const child = spawn(program, [...before, ...given], { env: { PATH: process.env.PATH, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (data) => { errors += data; });
  child.stdin.on('error', () => {});
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { at: name, ...payload } = JSON.parse(line);
    recorder.record(name, payload);
  });
  recorder.ended = new Promise((resolve) => { child.on('close', resolve); });
  recorder.errors = () => errors;
  recorder.stop = async () => {
    child.stdin.end();
    const timer = setTimeout(() => child.kill('SIGKILL'), 2000);
    await recorder.ended;
    clearTimeout(timer);
  };
  return recorder;
}

async function follows(program, transport, namespace, { server, proxy }) {
  const who = people();
  const { id } = await server.create(who);
  const app = run(program, [transport, namespace, proxy.base, jwt(as(who.customer, 'customer')), id]);
  const told = (seq) => app.until(() => app.of('update').some((update) => update.seq === seq), `seq ${seq}; it said ${app.errors().slice(-2000)}`, 20_000);
  const asks = namespace !== '/';
  try {
    await app.next('connected', undefined, 20_000).catch((error) => { throw new Error(`${error.message}; it said ${app.errors().slice(-2000)}`); });
    if (asks) assert.equal((await app.next('ack')).ok, true);
    await server.status(id, 'accepted');
    await server.status(id, 'preparing');
    await told(3);
    const live = app.of('update').filter(({ seq }) => seq > 1);
    assert.deepEqual(live.map(({ seq }) => seq), [2, 3], 'in order, each once');
    assert.deepEqual(live.map((update) => update.arguments), Array(2).fill(asks ? program.offset : 1), 'the arguments of its handler');
    if (!asks) return;
    const [before, closed] = ['connected', 'closed'].map((event) => app.of(event).length);
    proxy.block();
    proxy.cut();
    // A client that is between two polls loses only the next one. It must not come while the way is open again.
    await app.count('closed', closed + 1, 20_000);
    await server.status(id, 'ready_for_pickup');
    proxy.unblock();
    await app.count('connected', before + 1, 30_000).catch((error) => { throw new Error(`${error.message}; it said ${app.errors().slice(-2000)}`); });
    assert.equal((await app.next('ack', undefined, 20_000)).ok, true, 'its request is answered again');
    await server.status(id, 'cancelled');
    await told(5);
    const seqs = app.of('update').map(({ seq }) => seq).filter((seq) => seq > 1);
    assert.deepEqual([...new Set(seqs)], [2, 3, 4, 5], 'nothing is missing');
  } finally {
    proxy.unblock();
    await app.stop();
  }
}

for (const [name, program] of Object.entries(PROGRAMS)) {
  describe(name, { skip: program.missing && 'it is not installed; tests/run does that', concurrency: 3 }, () => {
    for (const transport of program.transports ?? ALL) {
      test(transport, { timeout: 90_000 }, async (t) => {
        const where = await start(t);
        for (const namespace of program.namespaces ?? ['/realtime', '/']) await follows(program, transport, namespace, where);
      });
    }
  });
}
