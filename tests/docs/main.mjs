// Runs the code blocks of documents; ./run says how.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { read, RUN } from './blocks.mjs';
import { missing } from './words.mjs';

/** No document takes a tenth of it. */
const LIMIT_MS = 90_000;
/** Two documents at a time work; most of their time they wait. */
const AT_ONCE = 4;
const { WORK, VENV } = process.env;
const ROOT = process.cwd();
const HERE = path.join(ROOT, 'tests/docs');
const EXTENSION = { sh: 'sh', js: 'mjs', python: 'py', json: 'json' };
/** A document of ours that is wrong in every way that the runner has to see. */
const WRONG = 'tests/docs/wrong.md';

const verbose = process.argv.includes('--verbose') || process.argv.includes('-v');
const named = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));
const children = new Set();
process.on('SIGTERM', () => { for (const child of children) child.kill('SIGKILL'); process.exit(143); });

const isRun = ({ language, reason, saved }) => RUN[language] && reason === undefined && !saved;

/** Why a block of code does not parse; `undefined` if it does. */
function unreadable({ language, text }, file) {
  if (language === 'json') {
    try { JSON.parse(text); return undefined; } catch ({ message }) { return message; }
  }
  const check = { js: ['node', '--check', file], python: [`${VENV}/bin/python`, '-m', 'py_compile', file] }[language];
  if (!check) return undefined;
  const { status, stderr } = spawnSync(check[0], check.slice(1), { encoding: 'utf8' });
  return status === 0 ? undefined : stderr;
}

/** The shell script of a document: each block says on 3 that it begins, and that it has passed. */
function script(folder, blocks) {
  const lines = [`. "${HERE}/lib/session.sh"`];
  for (const [number, { language, reason, setup, file, saved }] of blocks.entries()) {
    if (saved) { lines.push(`cp "${file}" "./${saved}"`); continue; }
    if (reason !== undefined || !RUN[language]) continue;
    lines.push(`begin ${number} "${folder}/${number}.out"`);
    if (language === 'sh') lines.push(...(setup ? [setup] : []), `. "${file}"`);
    // beside node_modules and the stage, where its imports are looked for
    else lines.push(`cp "${file}" ./block.${EXTENSION[language]}`, `${RUN[language]} ./block.${EXTENSION[language]}`);
    lines.push(`passed ${number}`);
  }
  return `${lines.join('\n')}\n`;
}

const here = (text) => text.replaceAll('https://orders.example.com', 'http://127.0.0.1:9001');

/** Runs one document: `{file, results, faults}`. */
async function run(file) {
  const { blocks, faults } = read(readFileSync(path.join(ROOT, file), 'utf8'));
  const folder = path.join(WORK, file.replaceAll('/', '_'));
  mkdirSync(folder, { recursive: true });
  for (const [number, block] of blocks.entries()) {
    if (block.setup?.includes('$DATA') && !existsSync('../shared/data')) block.reason = 'needs ../shared/data, which is not here';
    if (!EXTENSION[block.language] && !block.saved) continue;
    block.file = path.join(folder, `${number}.${EXTENSION[block.language] ?? 'txt'}`);
    // What is not run must parse as it stands.
    const setup = block.language !== 'sh' && block.setup ? `${block.setup}\n` : '';
    writeFileSync(block.file, here(setup + block.text));
  }
  const results = blocks.map((block) => ({ ...block, why: unreadable(block, block.file) }));
  if (results.some(isRun)) await session(folder, results);
  return { file, results, faults: [...faults, ...missing(file)] };
}

async function session(folder, results) {
  writeFileSync(path.join(folder, 'session.sh'), script(folder, results));
  const child = spawn('unshare', [
    '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--', 'bash', path.join(folder, 'session.sh'),
  ], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    // Nothing of the caller's environment may change what a command does.
    env: {
      PATH: `${HERE}/bin:${VENV}/bin:${path.dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`, LANG: 'C.UTF-8', TERM: 'dumb', DRAIN_MS: '300',
      WORK: folder, ROOT, VENV, ORDERCAST_BIN: process.env.ORDERCAST_BIN,
    },
  });
  children.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { output += data; });
  let current;
  createInterface({ input: child.stdio[3] }).on('line', (line) => {
    const [what, number, time] = line.split(' ');
    const result = results[number];
    if (what === 'begin') { current = result; result.began = Number(time); result.why ??= ''; } else { result.seconds = Number(time) - result.began; result.passed = true; }
  });
  const timer = setTimeout(() => { output += `\nnot done after ${LIMIT_MS / 1000} s`; child.kill('SIGKILL'); }, LIMIT_MS);
  await new Promise((resolve) => { child.on('close', resolve); });
  clearTimeout(timer);
  children.delete(child);
  for (const [number, result] of results.entries()) {
    if (!isRun(result)) continue;
    const printed = () => { try { return readFileSync(path.join(folder, `${number}.out`), 'utf8'); } catch { return ''; } };
    result.printed = printed();
    if (result.passed) result.why = undefined;
    else if (result === current) result.why = `${result.printed}${output}` || 'it failed and printed nothing';
    else result.why = current ? `not reached: the block of line ${current.line} failed` : `not reached: ${output}`;
  }
}

/** The lines after a comment that says so: of the block, if it has one behind it. */
function meantToFail(markdown) {
  const found = [];
  let wrong = false;
  for (const [index, line] of markdown.split('\n').entries()) {
    if (line === '<!-- wrong -->') wrong = true;
    else if (wrong && line && !line.startsWith('<!--')) { found.push(index + 1); wrong = false; }
  }
  return found;
}

/** Prints what became of a document; returns how many blocks passed and failed. */
function report({ file, results, faults }) {
  let passed = 0;
  let failed = faults.length;
  for (const { line, what } of faults) console.log(`FAIL: ${file}:${line} ${what}`);
  for (const { line, language, reason, why, seconds, printed } of results) {
    const where = `${file}:${line} ${language}`;
    if (why !== undefined) {
      failed += 1;
      console.log(`FAIL: ${where}\n${why.trimEnd().replace(/^/gm, '  | ')}`);
    } else if (reason === undefined && EXTENSION[language] !== undefined) {
      passed += 1;
      if (!verbose) continue;
      console.log(`ok ${where}${seconds === undefined ? '' : ` ${seconds.toFixed(1)} s`}`);
      if (printed) console.log(printed.slice(0, 2000).trimEnd().replace(/^/gm, '  | '));
    }
  }
  return [passed, failed];
}

const files = named.length ? named.map((file) => path.relative(ROOT, path.resolve(file)))
  : ['README.md', ...readdirSync('docs').filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`), WRONG];
const waiting = [...files];
const done = new Map();
await Promise.all(Array.from({ length: AT_ONCE }, async () => {
  for (let file = waiting.shift(); file; file = waiting.shift()) done.set(file, await run(file));
}));
let [passed, failed] = [0, 0];
const notRun = [];
for (const file of files) {
  const result = done.get(file);
  if (file === WRONG) {
    const seen = [...new Set([...result.faults, ...result.results.filter(({ why }) => why !== undefined)].map(({ line }) => line))].sort((a, b) => a - b);
    const meant = meantToFail(readFileSync(WRONG, 'utf8'));
    if (seen.join() === meant.join() && seen.length) passed += 1;
    else { failed += 1; console.log(`FAIL: ${WRONG} is wrong in lines ${meant}; seen were ${seen}`); }
    continue;
  }
  const [good, bad] = report(result);
  passed += good;
  failed += bad;
  notRun.push(...result.results.filter(({ reason }) => reason).map(({ line, language, reason }) => `${file}:${line} ${language}: ${reason}`));
}
if (notRun.length) console.log(`${notRun.length} blocks are not run:\n${notRun.map((line) => `  ${line}`).join('\n')}`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
