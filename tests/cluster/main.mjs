// The test of several nodes; `tests/cluster/run --help` says what it is and starts it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { clustered, NEEDS_CLUSTER, unguardable } from './lib/binary.mjs';
import { GUARDS } from './lib/guards.mjs';
import { clearMachines } from './lib/net.mjs';
import { postgres } from './lib/services.mjs';

const SCENARIOS = [
  'doors', 'announcements', 'polling', 'nginx', 'deaths', 'redis', 'database', 'failover', 'cuts', 'rights', 'gained', 'behind', 'migrations', 'clocks', 'takeover', 'hopping', 'rolling',
];
const SCENARIO_MS = { short: 60_000, long: 30 * 60_000 };
const RESULT = /^(ok|not ok) \d+ - /;

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    long: { type: 'boolean', default: false },
    guards: { type: 'boolean', default: false },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
  },
});
const unknown = positionals.find((name) => !SCENARIOS.includes(name));
if (unknown || !Number.isFinite(Number(flags.seed))) {
  console.error(unknown ? `no scenario is called '${unknown}'; they are ${SCENARIOS.join(', ')}` : '--seed takes a number');
  process.exit(2);
}

const length = flags.long ? 'long' : 'short';
const results = { passed: 0, failed: 0 };
function add(good, what) {
  results[good ? 'passed' : 'failed'] += 1;
  console.log(`${good ? 'ok' : 'not ok'} ${results.passed + results.failed} - ${what}`);
}

/** Runs a scenario; `tell` gets its results, and their sum is whether all are good. */
async function run(name, tell, env = {}) {
  const child = spawn(process.execPath, [new URL('lib/scenario.mjs', import.meta.url).pathname, name, flags.seed, length], {
    stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...env },
  });
  const exited = once(child, 'exit');
  let [good, late] = [true, false];
  const timer = setTimeout(() => { late = true; child.kill('SIGKILL'); }, SCENARIO_MS[length]);
  const record = (passed, what) => {
    good &&= passed;
    tell(passed, what);
  };
  for await (const line of createInterface({ input: child.stdout })) {
    if (RESULT.test(line)) record(line.startsWith('ok'), line.replace(RESULT, ''));
    else console.log(line);
  }
  const [code] = await exited;
  clearTimeout(timer);
  if (late) record(false, `${name}: it was not over after ${SCENARIO_MS[length]} ms`);
  else if (good && code !== 0) record(false, `${name}: it ended with ${code}`);
  // Whatever it has left behind ends here, and PostgreSQL may go on.
  await clearMachines();
  await postgres.go();
  return good;
}

/** With a guard switched off its check must fail, or it guards nothing, or is not looked at. */
async function withoutGuards() {
  for (const [guard, scenario, what] of GUARDS) {
    console.log(`# without the ${guard}: ${what}`);
    const good = await run(scenario, (passed, text) => console.log(`#   ${passed ? 'good' : 'found'}: ${text}`), { ORDERCAST_TEST_DISABLE: guard });
    add(!good, `without the ${guard}, ${scenario} fails`);
  }
}

if (flags.guards && !unguardable) {
  console.log('# skipped: the guards of this binary cannot be switched off; a debug build has ORDERCAST_TEST_DISABLE');
} else if (flags.guards) await withoutGuards();
else {
  const needs = new Map(NEEDS_CLUSTER);
  for (const name of positionals.length > 0 ? positionals : SCENARIOS) {
    if (clustered || !needs.has(name) || process.env.CLUSTER_ANYWAY) await run(name, add);
    else console.log(`# skipped ${name}: this binary knows no --redis-url; ${needs.get(name)}`);
  }
}
console.log(`# pass ${results.passed}\n# fail ${results.failed}\n${results.passed} passed, ${results.failed} failed`);
process.exit(results.failed > 0 ? 1 : 0);
