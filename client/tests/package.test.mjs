// The package itself: what it weighs and holds, that it loads and compiles, and that its names are the server's.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { ask, generate } from '../generate.mjs';

const here = fileURLToPath(new URL('..', import.meta.url));
const read = (name) => readFile(new URL(`../${name}`, import.meta.url), 'utf8');
const run = (...command) => execFileSync(command[0], command.slice(1), { cwd: here, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

test('the types of events and requests are those that the server describes', async () => {
  assert.ok(generate(ask()) === await read('src/events.ts'), 'src/events.ts is not what `npm run generate` writes: run it, and commit the file');
});

test('at most 6 KB, minified and gzipped, beside socket.io-client', async (t) => {
  const { outputFiles: [{ contents }] } = await build({ absWorkingDir: here, entryPoints: ['dist/index.js'], bundle: true, minify: true, format: 'esm', external: ['socket.io-client'], write: false });
  const sizes = { index: gzipSync(contents, { level: 9 }).length, browser: gzipSync(await read('dist/browser.js'), { level: 9 }).length };
  t.diagnostic(JSON.stringify(sizes));
  for (const [name, size] of Object.entries(sizes)) assert.ok(size <= 6 * 1024, `${name} has ${size} bytes`);
});

test('it loads as a module and by require, and both have the same names', async () => {
  const require = createRequire(import.meta.url);
  for (const [name, wanted] of [['ordercast-client', ['OrdercastError', 'connect']], ['ordercast-client/react', ['OrdercastProvider', 'useClient', 'useConnection', 'useOrder']]]) {
    assert.deepEqual(Object.keys(await import(name)).sort(), wanted);
    assert.deepEqual(Object.keys(require(name)).sort(), wanted);
  }
  const { connect } = await import('ordercast-client/browser');
  assert.throws(() => connect('http://localhost:1', { token: 'x' }), /needs socket.io-client: load \/socket.io\/socket.io.js/);
});

test('the library, its examples and what must not compile pass tsc --strict', () => {
  const tsc = `${here}node_modules/typescript/bin/tsc`;
  for (const project of ['.', 'examples']) {
    try {
      run(process.execPath, tsc, '--noEmit', '-p', project);
    } catch (error) {
      assert.fail(`tsc -p ${project}:\n${error.stdout}`);
    }
  }
});

test('npm pack takes the build, the types and the words, and nothing else', () => {
  const [{ files }] = JSON.parse(run('npm', 'pack', '--dry-run', '--json', '--ignore-scripts'));
  const types = ['browser', 'client', 'connection', 'driver', 'errors', 'events', 'index', 'order', 'public', 'react', 'store', 'timeline'];
  const wanted = [
    'LICENSE', 'README.md', 'package.json', 'dist/browser.js', ...['index', 'react'].flatMap((name) => [`dist/${name}.js`, `dist/${name}.cjs`]),
    ...types.flatMap((name) => [`dist/${name}.d.ts`, `dist/${name}.d.cts`]),
  ];
  assert.deepEqual(files.map(({ path }) => path).sort(), wanted.sort());
});

test('the test page of the server has this build', async () => {
  for (const [own, theirs] of [['dist/browser.js', 'ordercast-client.min.js'], ['LICENSE', 'LICENSE']]) {
    assert.ok(await read(`../web-test/vendor/ordercast-client/${theirs}`) === await read(own), `web-test/vendor/ordercast-client/${theirs} is old: npm run build, then web-test/vendor.mjs`);
  }
});
