// The machines of net.sh, and cuts between them.
import { execFile } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const NET = '10.77.0';
const NUMBERS = { postgres: 5, proxy: 10, redis1: 21, redis2: 22, node1: 31, node2: 32, node3: 33 };

export const ADDRESS = Object.fromEntries(Object.entries(NUMBERS).map(([name, number]) => [name, `${NET}.${number}`]));
/** The command that runs a program on that machine, as the same process. */
export const on = (machine) => ['nsenter', `--net=/run/netns/${machine}`, '--'];
export const pidsOn = async (machine) => (await run('ip', ['netns', 'pids', machine])).stdout.split('\n').filter(Boolean).map(Number);

/** Ends what runs on the machines, except PostgreSQL, and heals what is cut. */
export async function clearMachines() {
  for (const machine of Object.keys(NUMBERS)) {
    await run('ip', ['-n', machine, 'rule', 'flush', 'pref', '1']).catch(() => {});
    if (machine === 'postgres') continue;
    for (let left = await pidsOn(machine); left.length > 0; left = await pidsOn(machine)) {
      for (const pid of left) {
        try { process.kill(pid, 'SIGKILL'); } catch { /* it has ended meanwhile */ }
      }
      await pause(10);
    }
  }
}

export class Net {
  #cuts = new Map();

  /**
   * What `from` sends to `to` is lost from now on, without a word to either: the receiver's route for it is a blackhole. At the sender it
   * would be an error of its own, which no network makes.
   */
  async deafen(from, to) {
    const rule = ['-n', to, 'rule', 'add', 'pref', '1', 'from', ADDRESS[from], 'dev', 'eth0', 'blackhole'];
    if (this.#cuts.has(`${from} ${to}`)) return;
    this.#cuts.set(`${from} ${to}`, rule.with(3, 'del'));
    await run('ip', rule);
  }

  /** Nothing passes between the two. */
  async cut(one, other) {
    await Promise.all([this.deafen(one, other), this.deafen(other, one)]);
  }

  async heal() {
    const cuts = [...this.#cuts.values()];
    this.#cuts.clear();
    await Promise.all(cuts.map((rule) => run('ip', rule)));
  }
}
