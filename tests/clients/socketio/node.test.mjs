// Ordercast beside Socket.IO's own server (4.8): the same bytes to both. What they do differently is in docs/node.md, with the reason.
// `UPDATE=1` writes that page anew: read the difference.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, test } from 'node:test';
import { DIFFERENCES, page } from '../support/differences.mjs';
import { cases } from '../support/hostile.mjs';
import { startNode } from '../support/node-server.mjs';
import { Server } from '../support/server.mjs';

const PAGE = new URL('../../../docs/node.md', import.meta.url);
/** How many cases run at a time. */
const ABREAST = 24;

const server = await Server.start({ env: { SOCKET_REQUESTS_PER_SECOND: '0' } });
const node = await startNode();
after(() => Promise.all([server.close(), node.close()]));

/** What each server does, for every case: `{name, ours, theirs}`. */
async function compare() {
  const results = [];
  const waiting = [...cases];
  await Promise.all(Array.from({ length: ABREAST }, async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [name, run] = next;
      const [ours, theirs] = await Promise.all([server, node].map(run));
      results.push({ name, ours, theirs });
    }
  }));
  const order = new Map([...cases.keys()].map((name, i) => [name, i]));
  return results.sort((a, b) => order.get(a.name) - order.get(b.name));
}

test('Every difference from Socket.IO’s own server has a reason, and the page of them is true', { timeout: 120_000 }, async () => {
  const results = await compare();
  const different = results.filter(({ ours, theirs }) => ours !== theirs);
  const rows = DIFFERENCES.map((difference) => ({ ...difference, found: [] }));
  const unexplained = different.filter((result) => {
    const row = rows.find(({ is }) => is(result));
    row?.found.push(result);
    return !row;
  });
  if (unexplained.length > 0) console.log(unexplained.slice(0, 40));
  assert.equal(unexplained.length, 0, `${unexplained.length} differences without a reason`);
  assert.deepEqual(rows.filter(({ found }) => found.length === 0).map(({ what }) => what), [], 'no longer different');
  const text = page(rows, results.length);
  if (process.env.UPDATE) await writeFile(PAGE, text);
  assert.equal(await readFile(PAGE, 'utf8'), text, 'docs/node.md is not what the servers do; UPDATE=1 writes it anew');
});
