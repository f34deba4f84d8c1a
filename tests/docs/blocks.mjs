// The code blocks of a Markdown file, and what the comments before them say.

/** What is run, by its program. */
export const RUN = { sh: 'bash', js: 'node', python: 'python3' };
/** What only shows something. */
const SHOWN = new Set(['text', 'http']);
const COMMENT = /<!--\s*(run with|not run):((?:(?!-->)[\s\S])*)-->/g;
const JUST_BEFORE = /<!--\s*(run with|not run):((?:(?!-->)[\s\S])*)-->\s*$/;

/**
 * `{blocks, faults}`. A block: `{line, language, text, saved, setup?, reason?}`; `saved` is the name of the file that it is to be saved as. A fault is `{line, what}`: something that would be passed over in
 * silence otherwise.
 */
export function read(markdown) {
  const lines = markdown.split('\n');
  const blocks = [];
  const faults = [];
  let before = '';
  let open;
  lines.forEach((text, index) => {
    const fence = /^( *)(```+)\s*(\S*)\s*(\S*)/.exec(text);
    if (open) {
      if (fence && fence[2].length >= open.fence.length && !fence[3]) { blocks.push(open); open = undefined; before = ''; }
      else open.text += `${text.slice(Math.min(open.indent, text.length - text.trimStart().length))}\n`;
      return;
    }
    if (!fence) { before += `${text}\n`; return; }
    const [, kind, said] = JUST_BEFORE.exec(before) ?? [];
    for (const [, , other] of before.replace(JUST_BEFORE, '').matchAll(COMMENT)) faults.push({ line: index + 1, what: `a comment with no block behind it:${other}` });
    open = { line: index + 1, language: fence[3], saved: fence[4], text: '', fence: fence[2], indent: fence[1].length };
    if (kind === 'run with') open.setup = said.trim();
    if (kind === 'not run') open.reason = said.trim();
  });
  if (open) faults.push({ line: open.line, what: 'a block without an end' });
  for (const [, , other] of before.matchAll(COMMENT)) faults.push({ line: lines.length, what: `a comment with no block behind it:${other}` });
  for (const { line, language, reason, setup, saved } of blocks) {
    if (!language) faults.push({ line, what: 'a block without a language' });
    else if (reason === '') faults.push({ line, what: 'not run, without a reason' });
    else if ((saved || SHOWN.has(language)) && setup) faults.push({ line, what: `this ${language} is not run` });
    else if (!RUN[language] && language !== 'json' && !SHOWN.has(language) && reason === undefined) {
      faults.push({ line, what: `${language} cannot be run here, and no comment says why` });
    }
  }
  return { blocks: blocks.filter(({ language, saved }) => language && (saved || !SHOWN.has(language))), faults };
}
