// Builds dist/: modules for bundlers and Node (ESM and CommonJS), their types, and one minified file for pages without a bundler.
import { execFileSync } from 'node:child_process';
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const common = { absWorkingDir: here, bundle: true, target: 'es2022', platform: 'neutral', external: ['socket.io-client', 'react'], legalComments: 'none' };
const entries = ['src/index.ts', 'src/react.ts'];

await rm(`${here}dist`, { recursive: true, force: true });
await Promise.all([
  build({ ...common, entryPoints: entries, outdir: 'dist', format: 'esm' }),
  build({ ...common, entryPoints: entries, outdir: 'dist', format: 'cjs', outExtension: { '.js': '.cjs' } }),
  build({ ...common, entryPoints: ['src/browser.ts'], outdir: 'dist', format: 'esm', minify: true }),
]);
execFileSync(process.execPath, [`${here}node_modules/typescript/bin/tsc`, '-p', here, '--declaration', '--emitDeclarationOnly'], { stdio: 'inherit' });

// The same types for `require`, which take one another by other names.
for (const name of await readdir(`${here}dist`)) {
  if (!name.endsWith('.d.ts')) continue;
  const text = await readFile(`${here}dist/${name}`, 'utf8');
  await writeFile(`${here}dist/${name.replace(/\.ts$/, '.cts')}`, text.replaceAll(/(from '\.\/\w+)\.js'/g, "$1.cjs'"));
}
