// Debian's Firefox, spoken to by WebDriver BiDi.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import WebSocket from 'ws';

const FIREFOX = process.env.FIREFOX_BIN ?? '/usr/bin/firefox-esr';

export class Firefox {
  #process;
  #socket;
  #next = 0;
  #waiting = new Map();
  #context;

  /** @param preferences by name */
  async open(preferences) {
    this.folder = await mkdtemp(join(tmpdir(), 'ordercast-firefox-'));
    const lines = Object.entries(preferences).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});`);
    await writeFile(join(this.folder, 'user.js'), lines.join('\n'));
    this.#process = spawn(FIREFOX, ['--headless', '--no-remote', '--profile', this.folder, '--remote-debugging-port', '0'], {
      stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, HOME: this.folder, MOZ_DISABLE_AUTO_SAFE_MODE: '1' },
    });
    const url = await new Promise((resolve, reject) => {
      let said = '';
      this.#process.stderr.on('data', (chunk) => {
        said += chunk;
        const found = /ws:\/\/127\.0\.0\.1:\d+/.exec(said);
        if (found) resolve(`${found[0]}/session`);
      });
      this.#process.once('exit', (code) => reject(new Error(`Firefox ended with ${code}: ${said}`)));
    });
    this.#socket = new WebSocket(url);
    await new Promise((resolve, reject) => {
      this.#socket.onopen = resolve;
      this.#socket.onerror = () => reject(new Error('Firefox does not answer'));
    });
    this.#socket.onmessage = ({ data }) => {
      const { id, error, message, result } = JSON.parse(data);
      const { resolve, reject } = this.#waiting.get(id) ?? {};
      this.#waiting.delete(id);
      if (error) reject?.(new Error(`${error}: ${message}`));
      else resolve?.(result);
    };
    await this.#call('session.new', { capabilities: {} });
    const { contexts } = await this.#call('browsingContext.getTree', {});
    this.#context = contexts[0].context;
  }

  async close() {
    this.#socket?.close();
    if (this.#process && this.#process.exitCode === null) {
      const ended = new Promise((resolve) => { this.#process.once('exit', resolve); });
      this.#process.kill('SIGKILL');
      await ended;
    }
    if (this.folder) await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  #call(method, params) {
    const id = ++this.#next;
    this.#socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  go(url) {
    return this.#call('browsingContext.navigate', { context: this.#context, url, wait: 'complete' });
  }

  /** The value of an expression in the page; a promise is awaited. */
  async evaluate(expression) {
    const { type, result, exceptionDetails } = await this.#call('script.evaluate', {
      expression: `(async () => JSON.stringify(await (${expression})))()`, target: { context: this.#context }, awaitPromise: true,
    });
    if (type !== 'success') throw new Error(exceptionDetails?.text ?? 'the page threw');
    return result.value === undefined ? undefined : JSON.parse(result.value);
  }

  /** Waits until an expression is true in the page. */
  async until(expression, what = expression, patience = 30_000) {
    const end = Date.now() + patience;
    while (!(await this.evaluate(expression))) {
      if (Date.now() > end) throw new Error(`timeout: ${what}`);
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
  }
}
