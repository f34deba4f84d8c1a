// One client's panel: who it is, its line, where the order stands in its words, how it writes, and its newest frames.

import { announce, h, icon } from '../dom.js';
import { LABELS } from '../panel.js';
import { clock } from '../order.js';
import { phaseOfWord } from './words.js';

const ARROWS = { in: ['from the server', '←'], out: ['to the server', '→'], state: ['connection', '•'] };
const LINES = 9;

const time = (at) => `${clock(at)}.${String(at.getMilliseconds()).padStart(3, '0')}`;

/** What the connection is said to be: a client that waits for something has none yet. */
const phaseOf = (door) => (door.state.phase === 'off' && door.waits ? 'waiting' : door.state.phase);

function connection(door) {
  const { name, title, state, waits } = door;
  const phase = phaseOf(door);
  const facts = phase === 'waiting' ? waits : phase === 'connected' ? door.reader?.user && `as ${door.reader.user.name}` : state.reason;
  const plug = { key: 'act', type: 'button', 'data-testid': `door-plug-${name}` };
  return h('div', { class: 'conn', key: 'conn' },
    h('p', { class: `conn-state is-${phase}`, 'data-testid': `door-state-${name}`, 'data-state': phase, 'data-connects': String(state.connects) },
      h('span', { class: 'conn-dot', 'aria-hidden': 'true' }), h('span', { class: 'conn-label' }, LABELS[phase])),
    facts && h('p', { class: 'conn-facts', key: 'facts', 'data-testid': `door-facts-${name}` }, facts),
    state.phase === 'refused'
      ? h('button', { ...plug, class: 'button small', 'aria-label': `Connect ${title} again`, onclick: () => door.line.retry() }, 'Retry')
      : state.phase === 'unplugged'
        ? h('button', { ...plug, class: 'button primary small', 'aria-label': `Plug in ${title}`, onclick: () => door.line.plugIn() }, icon('plug'), 'Plug in')
        : phase !== 'waiting' && h('button', {
          ...plug, class: 'button small', 'aria-disabled': phase === 'connected' ? false : 'true', 'aria-label': `Pull the plug of ${title}`, title: 'Pull the plug for ten seconds',
          onclick: () => door.line.unplug(),
        }, icon('plug'), 'Unplug'));
}

const standing = (door) => h('p', { class: `door-status phase-${phaseOfWord(door.words, door.status)}`, key: 'status', 'data-testid': `door-status-${door.name}`, 'data-status': door.status ?? '' },
  h('span', { class: 'sr' }, 'Status: '), door.status ?? '–');

function writing(door) {
  const { name, title, next, writes, busy } = door;
  const still = busy || door.state.phase === 'unplugged';
  const act = (work) => () => !still && door.run(work);
  return h('div', { class: 'door-write', key: 'write' },
    h('p', { class: 'door-way' }, writes),
    h('div', { class: 'door-tools' },
      h('button', {
        type: 'button', class: 'button small wide', 'data-testid': `door-move-${name}`, disabled: !next, 'aria-disabled': still ? 'true' : false,
        'aria-label': next ? `${title}: ask for ${next}` : `${title}: nothing to ask for`, onclick: act(() => door.write(door.order.id, next)),
      }, next ? `→ ${next}` : '→ –'),
      door.drive && h('button', {
        key: 'drive', type: 'button', class: 'button small', 'data-testid': `door-drive-${name}`, disabled: !next, 'aria-disabled': still ? 'true' : false,
        'aria-label': `${title}: send the driver’s next position`, title: 'Send the driver’s next position', onclick: act(() => door.drive()),
      }, icon('nav'), 'Drive')),
    door.error && h('p', { class: 'inline-error', key: 'error', role: 'alert', 'data-testid': `door-error-${name}` }, door.error));
}

function frame(door, one) {
  const { id, at, direction, size, lines, open } = one;
  const [said, arrow] = ARROWS[direction];
  const rest = lines.length - LINES;
  return h('li', { key: id, class: `frame dir-${direction}`, 'data-direction': direction },
    h('p', { class: 'frame-head' },
      h('span', { class: 'frame-dir', role: 'img', 'aria-label': said }, arrow),
      h('span', {}, time(at)),
      direction !== 'state' && h('span', { class: 'frame-size' }, `${size} B`)),
    h('pre', { class: 'frame-text' }, (rest > 1 && !open ? lines.slice(0, LINES) : lines).join('\n')),
    rest > 1 && h('button', {
      type: 'button', class: 'frame-more', 'aria-expanded': String(open),
      onclick: () => {
        one.open = !open;
        door.changed();
      },
    }, open ? 'Fold' : `${rest} lines more`));
}

function frames(door) {
  const { name, title, frames: kept } = door;
  return [
    h('div', { class: 'frames-head', key: 'frames-head' },
      h('p', { class: 'muted', 'data-testid': `door-others-${name}` }, kept.others ? `Frames · ${kept.others} of other orders` : 'Frames'),
      h('button', {
        type: 'button', class: 'button small', 'data-testid': `door-pause-${name}`, 'aria-pressed': String(kept.paused), 'aria-label': kept.paused ? `Go on with the frames of ${title}` : `Hold the frames of ${title}`,
        onclick: () => {
          kept.pause();
          door.changed();
        },
      }, kept.paused ? (kept.unseen ? `Resume (${kept.unseen})` : 'Resume') : 'Pause')),
    h('div', { class: 'frames', key: 'frames', tabindex: '0', role: 'group', 'aria-label': `Frames of ${title}, newest first`, 'data-testid': `door-frames-${name}` },
      h('ol', {}, kept.list.map((one) => frame(door, one)))),
  ];
}

/** What is in a client's panel. */
export const doorPanel = (door, number) => h('section', { key: door.name, class: 'panel door', 'data-testid': `door-${door.name}`, 'aria-labelledby': `title-door-${door.name}` },
  h('header', { class: 'panel-head', key: 'head' },
    h('h3', { id: `title-door-${door.name}` }, h('span', { class: 'door-number', 'aria-hidden': 'true' }, String(number)), door.title)),
  h('p', { class: 'door-address', key: 'address' }, door.address),
  connection(door), standing(door), writing(door), frames(door));

/** Says what a screen reader would otherwise miss of a line: that it broke, and that it is back. */
export function announcer(door) {
  let before = phaseOf(door);
  return () => {
    const phase = phaseOf(door);
    if (phase === before) return;
    if (['refused', 'unplugged'].includes(phase)) announce(`${door.title}: ${LABELS[phase]}`);
    else if (phase === 'connected' && ['reconnecting', 'unplugged'].includes(before)) announce(`${door.title}: connected again`);
    before = phase;
  };
}
