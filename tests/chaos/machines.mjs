// What happens to the machines: the server is killed, told to stop, its disk is full, its PostgreSQL starts again.
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { statfs } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const REVIVE_MS = 40_000;
const STOP_MS = 15_000;
/** How long a full disk may go unnoticed: SQLite writes on in the space that its WAL has. */
const NOTICE_MS = 4_000;

/**
 * A disk that can be full. Made small enough to be: the tmpfs of `tests/chaos/run` is shrunk to what is used, so that the kernel says
 * ENOSPC to the next block, to everybody. Where mounting is not allowed, the server alone is given a largest file size
 * (it then hears EFBIG; tests/chaos/run sees to it that SIGXFSZ does not kill it). The first is the real thing.
 */
export class Disk {
  constructor({ kind, mount, size }) { Object.assign(this, { kind, mount, size }); }

  async fill(pid) {
    if (this.kind === 'limit') {
      execFileSync('prlimit', ['--pid', pid, '--fsize=65536:']);
      return;
    }
    for (;;) {
      const { blocks, bfree, bsize } = await statfs(this.mount);
      const kib = Math.ceil(((blocks - bfree) * bsize) / 1024) + 4;
      // the kernel refuses when more is in use by now
      if (spawnSync('mount', ['-o', `remount,size=${kib}k`, this.mount]).status === 0) return;
    }
  }

  free(pid) {
    if (this.kind === 'limit') spawnSync('prlimit', ['--pid', pid, '--fsize=unlimited:']);
    else execFileSync('mount', ['-o', `remount,size=${this.size}`, this.mount]);
  }
}

/** pg_ctl of the PostgreSQL that tests/lib/postgres.sh has started in $WORK. */
export const pgCtl = (...args) => run('bash', ['-c',
  '. tests/lib/postgres.sh && cd "$PG_DIR" && as_postgres "$(pg_program pg_ctl)" -D "$PG_DIR/data" -w -t 30 -l "$PG_DIR/log" "$@" >/dev/null 2>&1',
  'pg_ctl', ...args]);

/** A function of tests/lib/postgres.sh. */
export const pgShell = (name) => run('bash', ['-c', `. tests/lib/postgres.sh && ${name} >>"$WORK/postgres-shell.log" 2>&1`]);

export class Machines {
  #wanted = new WeakSet();
  #up = Promise.resolve();

  constructor(world, random, disk) {
    Object.assign(this, { world, random, disk });
    this.counts = world.counts;
  }

  /** Resolves when the server is up, at once if it is. */
  up() { return this.#up; }

  /** Watches the process that runs now: nobody but us may end it. */
  watch() {
    const { server } = this.world;
    const { child } = server;
    server.exited.then((code) => {
      if (!this.#wanted.has(child)) this.world.fault(`the server ended by itself with ${code}`);
    });
  }

  /** The end of the process is ours from now on. */
  expectEnd() { this.#wanted.add(this.world.server.child); }

  /** Does the things of `deck`, in an order of chance, again and again, until `over()`. First each once: a short run has seen them all. */
  async run(deck, pauses, over) {
    for (let cards = this.random.shuffled([...new Set(deck)]); ; ) {
      if (cards.length === 0) cards = this.random.shuffled(deck);
      await pause(this.random.between(...pauses));
      if (over()) return;
      await this[cards.pop()]();
    }
  }

  async #down(act) {
    const { server } = this.world;
    let up;
    this.#up = new Promise((resolve) => { up = resolve; });
    this.expectEnd();
    await act(server);
    if (this.random.chance(0.4)) await pause(this.random.between(0, 400));
    await this.#revive();
    up();
  }

  async #revive() {
    const { server } = this.world;
    const deadline = Date.now() + REVIVE_MS;
    for (;;) {
      try {
        await server.run();
        this.watch();
        return;
      } catch (error) {
        // with its database away it may refuse to start, and say so
        if (!this.world.troubled() || Date.now() > deadline) throw error;
        this.expectEnd();
        await server.kill9();
        await pause(100);
      }
    }
  }

  async kill() {
    await this.#down((server) => server.kill9());
    this.counts.kills += 1;
  }

  /** SIGTERM; now and then it is not given the time. */
  async terminate() {
    await this.#down(async (server) => {
      server.child.kill('SIGTERM');
      const late = this.random.chance(0.25) && await Promise.race([pause(this.random.between(0, 300), true), server.exited]);
      const code = late === true ? await server.kill9() : await Promise.race([server.exited, pause(STOP_MS, 'nothing')]);
      if (late === true) this.counts.kills += 1;
      else if (code === 'nothing') await server.kill9();
      if (code !== 0 && code !== 'SIGKILL') this.world.fault(`SIGTERM ended in ${code}`);
    });
    this.counts.terminations += 1;
  }

  async diskFull() {
    const { world } = this;
    await world.trouble(async () => {
      const noticed = world.nextRefusal();
      await this.disk.fill(world.server.child.pid);
      const seen = await Promise.race([noticed, pause(NOTICE_MS, null)]);
      if (seen !== null) {
        this.counts.diskFull += 1;
        await pause(this.random.between(100, 800));
      }
      const die = this.random.chance(0.3) && this.disk.kind !== 'limit';
      const killed = die && this.kill(); // it starts on a full disk, or as soon as there is room
      if (die) await pause(this.random.between(100, 500));
      this.disk.free(world.server.child.pid);
      // Without room for its log PostgreSQL stops for good. `restart`, for `start` would forget its port.
      if (world.postgres) await pgCtl('status').catch(() => pgCtl('restart'));
      await killed;
    });
    await world.goesOn('the disk had room again');
  }

  async restartPostgres() {
    const mode = this.random.pick(['immediate', 'fast']);
    await this.world.trouble(() => pgCtl('-m', mode, 'restart'));
    await this.world.goesOn('PostgreSQL was back');
    this.counts[`postgres ${mode}`] += 1;
  }
}
