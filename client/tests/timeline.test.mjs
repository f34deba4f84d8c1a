// The server's time by a clock that may stand still, beside one that may jump.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const { outputFiles: [{ text }] } = await build({ entryPoints: [fileURLToPath(new URL('../src/timeline.ts', import.meta.url))], bundle: true, format: 'esm', write: false });
const { Timeline } = await import(`data:text/javascript,${encodeURIComponent(text)}`);

const BEGIN = Date.UTC(2026, 10, 29, 10);
const iso = (seconds) => new Date(BEGIN + seconds * 1000).toISOString();

/** A device at second 0: both its clocks are handed in, in seconds. */
function device() {
  const clock = { wall: 0, mono: 100 };
  const timeline = new Timeline({ now: () => BEGIN + clock.wall * 1000, monotonic: () => clock.mono * 1000 });
  const pass = (seconds) => { clock.wall += seconds; clock.mono += seconds; };
  return { clock, timeline, pass, seconds: (date) => (moment) => (date(moment) - BEGIN) / 1000 };
}

test('a clock that jumps meanwhile changes no time', () => {
  const { clock, timeline, pass, seconds } = device();
  clock.wall = -5000;
  timeline.greet(iso(0));
  pass(10);
  const moments = [timeline.stamp()];
  for (const jump of [86_400, -90_000, 3600]) {
    clock.wall += jump;
    pass(10);
    moments.push(timeline.stamp());
  }
  assert.deepEqual(moments.map(seconds((moment) => timeline.date(moment))), [10, 20, 30, 40]);
  pass(10);
  assert.deepEqual(moments.map(seconds(timeline.greet(iso(50)))), [10, 20, 30, 40]);
});

test('a device that slept, while its monotonic clock stood still, knows what came before and after', () => {
  const { clock, timeline, pass, seconds } = device();
  clock.wall = 700; // it is fast
  timeline.greet(iso(0));
  pass(10);
  const before = timeline.stamp();
  clock.wall += 600;
  pass(5);
  const after = timeline.stamp();
  pass(5);
  assert.deepEqual([before, after].map(seconds(timeline.greet(iso(620)))), [10, 615]);
  pass(1);
  assert.equal(seconds((moment) => timeline.date(moment))(timeline.stamp()), 621);
});

test('of greetings that took longer or shorter ways, the quickest is believed', () => {
  const { timeline, pass, seconds } = device();
  timeline.greet(iso(-0.2));
  pass(10);
  timeline.greet(iso(9.99));
  pass(10);
  timeline.greet(iso(18));
  assert.equal(seconds((moment) => timeline.date(moment))(timeline.stamp()), 19.99);
  pass(10);
  timeline.greet(iso(20)); // another server, with another clock
  assert.equal(seconds((moment) => timeline.date(moment))(timeline.stamp()), 20);
});

test('before the first greeting the monotonic clock alone counts', () => {
  const { clock, timeline, pass, seconds } = device();
  const first = timeline.stamp();
  clock.wall += 4000;
  pass(30);
  assert.equal(timeline.isKnown, false);
  assert.equal(seconds(timeline.greet(iso(30)))(first), 0);
});
