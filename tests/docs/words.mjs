// What a document names beside its code blocks: links, files, commands, settings. Each must be there.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

const bin = process.env.ORDERCAST_BIN;
const FILE = /^(?:\.\/)?((?:tests|docs|deploy|src|web-test)\/[\w./-]*[\w/])(?=$| )/;
const SETTING = /\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b/g;

const withoutBlocks = (markdown) => markdown.replace(/^( *```+)[\s\S]*?^\1 *$/gm, (block) => block.replace(/[^\n]/g, ' '))
  .replace(/<!--[\s\S]*?-->/g, (comment) => comment.replace(/[^\n]/g, ' '));
/** How GitHub names a heading in a link. */
const anchor = (heading) => heading.trim().toLowerCase().replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[^\p{L}\p{N}\s_-]/gu, '').replace(/ /g, '-');
const headings = new Map();
function anchors(file) {
  if (!headings.has(file)) {
    headings.set(file, new Set([...withoutBlocks(readFileSync(file, 'utf8')).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchor(heading))));
  }
  return headings.get(file);
}

const helps = new Map();
/** All flags of a command, as its help has them. */
function flags(command) {
  if (!helps.has(command)) {
    const text = execFileSync(bin, [...command.split(' ').filter(Boolean), '--help'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    helps.set(command, new Set(text.match(/--[a-z][a-z-]+/g)));
  }
  return helps.get(command);
}

/** Every NAME_LIKE_THIS in the sources, so that a setting that is gone is not in a document. */
let names;
const known = (name) => {
  names ??= new Set(execFileSync('git', ['grep', '-ohwE', '[A-Z][A-Z0-9]*(_[A-Z0-9]+)+', '--', 'src', 'tests', 'deploy', 'web-test', 'migration', ':!*.md', ':!*.svg', ':!*.jsonl'],
    { encoding: 'utf8', maxBuffer: 1 << 28 }).split('\n'));
  return names.has(name);
};

function command(span) {
  const [first, ...rest] = span.split(/\s+/);
  if (first !== 'ordercast' && !first.startsWith('--')) return undefined;
  const words = first === 'ordercast' ? rest : [first, ...rest];
  const wanted = words.filter((word) => word.startsWith('--') && word !== '--').map((word) => word.split('=')[0].replace(/[^a-z-]/g, ''));
  const of = [];
  for (const word of words) { if (/^[a-z-]+$/.test(word) && !word.startsWith('-')) of.push(word); else break; }
  if (of.length && first === 'ordercast') {
    // `roads build FILE`: the words before its arguments
    while (of.length) { try { flags(of.join(' ')); break; } catch { of.pop(); } }
    if (!of.length) return `ordercast has no command \`${words[0]}\``;
  }
  const missing = first === 'ordercast' ? wanted.find((flag) => !flags(of.join(' ')).has(flag)) : undefined;
  return missing && `\`ordercast ${of.join(' ')}\` has no flag ${missing}`;
}

/** `{line, what}` for each thing that a document names and that is not there. */
export function missing(file) {
  const folder = path.dirname(file);
  const found = [];
  withoutBlocks(readFileSync(file, 'utf8')).split('\n').forEach((text, index) => {
    const fault = (what) => found.push({ line: index + 1, what });
    for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [to, part] = target.split('#');
      const full = to ? path.join(folder, to) : file;
      if (!existsSync(full)) fault(`there is no ${full}`);
      else if (part && !anchors(full).has(part)) fault(`${full} has no heading #${part}`);
    }
    for (const [, span] of text.matchAll(/`([^`]+)`/g)) {
      const [, named] = FILE.exec(span.replace(/^(?:node|[A-Z_]+=\S+) /, '')) ?? [];
      // not a pattern, not a Rust path, and not what somebody makes out of an example
      if (named && !existsSync(named) && !span.includes('*') && !span.includes('::') && !existsSync(`${named}.example`)) fault(`there is no ${named}`);
      const wrong = command(span);
      if (wrong) fault(wrong);
      for (const [name] of span.matchAll(SETTING)) if (!known(name)) fault(`nothing reads ${name}`);
    }
  });
  return found;
}
