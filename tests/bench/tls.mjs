// What TLS costs: the server's CPU time per position report with its three deliveries and its answer, with TLS and without, in turns.
// ORDERCAST_BIN names the server; tests/clients needs its node_modules. `node tests/bench/tls.mjs [rounds]`
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { closeAll, connect } from '../clients/support/client.mjs';
import { as, people, Server } from '../clients/support/server.mjs';

process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
const rounds = Number(process.argv[2] ?? 3);
const DRIVERS = 30, WATCHERS = 3, SECONDS = 5;
const dir = mkdtempSync(path.join(tmpdir(), 'ordercast-tls-'));
const [cert, key] = ['cert.pem', 'key.pem'].map((name) => path.join(dir, name));
execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=x',
  '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert], { stdio: 'ignore' });

/** CPU time of a process so far, in seconds. */
function cpu({ pid }) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function measure(tls) {
  const args = ['--location-rate-per-second', '0', '--socket-requests-per-second', '0', ...(tls ? ['--tls-cert', cert, '--tls-key', key] : [])];
  const server = await Server.start({ args });
  const options = tls ? { ca: readFileSync(cert) } : {};
  let [reports, before, running] = [0, 0, true];
  const drivers = await Promise.all(Array.from({ length: DRIVERS }, async () => {
    const who = people();
    const { id } = await server.assigned(who);
    const driver = await connect(server, { user: as(who.driver, 'driver'), options });
    const state = { driver, id, left: 0, report: null };
    for (let n = 0; n < WATCHERS; n += 1) {
      const watcher = await connect(server, { user: as(who.customer, 'customer'), options });
      await watcher.ask('subscribe:order', { orderId: id });
      watcher.record = (name) => { if (name === 'driver:location_update') state.report.done(); };
    }
    driver.record = () => {};
    return state;
  }));
  const loops = drivers.map(async (state) => {
    while (running) {
      await new Promise((resolve) => {
        let left = WATCHERS + 1;
        const done = () => { left -= 1; if (left === 0) resolve(); };
        state.report = { done };
        state.driver.socket.emit('driver:location', { latitude: 45.2, longitude: 13.5 + Math.random() / 100, orderId: state.id }, done);
      });
      reports += 1;
    }
  });
  await new Promise((resolve) => { setTimeout(resolve, 1000); });
  [reports, before] = [0, cpu(server.child)];
  await new Promise((resolve) => { setTimeout(resolve, SECONDS * 1000); });
  const spent = (cpu(server.child) - before) / reports * 1e6;
  running = false;
  await Promise.all(loops);
  closeAll();
  await server.close();
  return spent;
}

const spent = { plain: [], tls: [] };
for (let round = 0; round < rounds; round += 1) {
  for (const kind of ['plain', 'tls']) {
    spent[kind].push(await measure(kind === 'tls'));
    console.log(`${kind}: ${spent[kind].at(-1).toFixed(1)} s of CPU for a million reports`);
  }
}
const median = (all) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)];
console.log(`TLS costs ${(median(spent.tls) / median(spent.plain)).toFixed(2)} times as much`);
rmSync(dir, { recursive: true });
process.exit(0);
