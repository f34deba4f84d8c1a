// Measures a healthy client and the server's memory, first alone and then beside the hostile clients. See run --help.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { closeAll, connect } from '../clients/support/client.mjs';
import { as, jwt, people, Server } from '../clients/support/server.mjs';

const short = process.argv.includes('--short');
const at = process.argv.indexOf('--seconds');
const seconds = at > 0 ? Number(process.argv[at + 1]) : short ? 15 : 120;
/** Unauthenticated memory has this bound, in MB. What the server needs for itself and for authenticated answers comes on top. */
const STRANGERS = 64;
const ANSWERS = 64;
const SETTLED = 30;

const server = await Server.start();
const who = people();
// The attacker is a customer with a token, and with as many large orders as fit on a page.
const attacker = { sub: 'attacker', role: 'customer' };
const order = await server.create(who);
for (let n = 0; n < 200; n += 1) {
  await server.create({ ...who, customer: { id: attacker.sub, name: 'A' } }, { notes: 'x'.repeat(1500) });
}
const resident = () => Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.child.pid}/status`, 'utf8'))[1]) / 1024);
const client = await connect(server, { user: as(who.customer, 'customer') });
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Asks by REST and by socket for a while. Returns the times in ms, sorted. */
async function measure(ms) {
  const times = [];
  const end = Date.now() + ms;
  while (Date.now() < end) {
    for (const ask of [() => client.ask('ping:latency', { t: 1 }), () => server.ok('GET', `/orders/${order.id}`, undefined, as(who.customer, 'customer'))]) {
      const began = performance.now();
      await ask();
      times.push(performance.now() - began);
    }
    await pause(20);
  }
  return times.sort((a, b) => a - b);
}
const p99 = (times) => times[Math.floor(times.length * 0.99)];

const alone = p99(await measure(short ? 2000 : 10_000));
const before = resident();
const token = jwt(attacker);
// They would be on other machines. Here they must not take the processor from the server and the healthy client.
const hostile = spawn('nice', ['-n', '19', process.execPath, new URL('hostile.mjs', import.meta.url).pathname, server.port, seconds, token], { stdio: 'inherit' });
const gone = once(hostile, 'exit');
const memory = [];
const sampler = setInterval(() => {
  memory.push(resident());
  console.log(`${memory.length} s: ${memory.at(-1)} MB`);
}, 1000);
const times = await measure(seconds * 1000);
clearInterval(sampler);
await gone;
const beside = p99(times);
console.log(`memory: ${before} MB before, ${Math.max(...memory)} MB at the most; p99 of ${times.length} answers: ${alone.toFixed(1)} ms alone, ${beside.toFixed(1)} ms beside them`);

let [passed, failed] = [0, 0];
function check(what, is) {
  console.log(`${is ? 'ok' : 'not ok'} - ${what}`);
  if (is) passed += 1; else failed += 1;
}
check(`memory grows by no more than ${STRANGERS + ANSWERS} MB`, Math.max(...memory) - before <= STRANGERS + ANSWERS);
check('the healthy client is served', times.length > seconds);
if (!short) {
  const [first, rest] = [Math.max(...memory.slice(0, SETTLED)), Math.max(...memory.slice(SETTLED))];
  check(`memory is flat after ${SETTLED} s: ${first} MB before, ${rest} MB after`, rest <= first * 1.1);
  check('the p99 of the healthy client is within twice its value alone', beside <= 2 * alone);
}
closeAll();
await server.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
