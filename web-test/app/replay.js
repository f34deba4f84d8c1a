// A delivery played again, for the back office: what the phone sent and what was shown, with the verdict of each position, and the ETAs
// against the truth.

import { byId, h, render } from './dom.js';
import { clock } from './order.js';

const SIZE = { width: 560, height: 260, chart: 150, pad: 12 };
const STEP_MS = 120;

/** Fits points into the drawing: metres look the same in both directions. */
function frame(points) {
  const lats = points.map(([lat]) => lat);
  const lons = points.map(([, lon]) => lon);
  const [south, north, west, east] = [Math.min(...lats), Math.max(...lats), Math.min(...lons), Math.max(...lons)];
  const narrow = Math.cos((((south + north) / 2) * Math.PI) / 180);
  const scale = Math.min((SIZE.width - 2 * SIZE.pad) / Math.max((east - west) * narrow, 1e-5), (SIZE.height - 2 * SIZE.pad) / Math.max(north - south, 1e-5));
  const left = (SIZE.width - (east - west) * narrow * scale) / 2;
  const top = (SIZE.height - (north - south) * scale) / 2;
  return ([lat, lon]) => [left + (lon - west) * narrow * scale, top + (north - lat) * scale];
}

const at = ([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`;

/** The path that was shown, and each position as it was sent. All of it is numbers of ours, so it may be markup. */
function drawing(positions) {
  // What is far off would make everything else a dot: it is drawn at the edge.
  const shown = positions.map((one) => one.shown).filter(Boolean);
  const place = frame(shown.length > 1 ? shown : positions.map(({ latitude, longitude }) => [latitude, longitude]));
  const inside = ([x, y]) => [Math.min(SIZE.width - 4, Math.max(4, x)), Math.min(SIZE.height - 4, Math.max(4, y))];
  const dots = positions.map((one, i) => {
    const [x, y] = inside(place([one.latitude, one.longitude]));
    const kind = one.verdict === 'shown' ? 'good' : 'bad';
    return `<circle class="replay-dot is-${kind}" data-index="${i}" data-verdict="${kind}" cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${kind === 'bad' ? 5 : 3.5}"/>`;
  });
  return `<svg viewBox="0 0 ${SIZE.width} ${SIZE.height}" class="replay-map" role="img" aria-label="The way that was shown, and the positions that were sent">
    <polyline class="replay-path" points="${shown.map((one) => at(place(one))).join(' ')}"/>${dots.join('')}
    <circle class="replay-now" id="replay-now" r="7" cx="-20" cy="-20"/></svg>`;
}

/** Minutes to the arrival over time: as they were told, and as they were. */
function chart(etas, arrivedAt) {
  if (!arrivedAt || etas.length === 0) return '';
  const end = Date.parse(arrivedAt);
  const told = etas.map((eta) => [Date.parse(eta.at), (Date.parse(eta.estimatedDeliveryTime) - Date.parse(eta.at)) / 60000]).filter(([time]) => time <= end);
  if (told.length === 0) return '';
  const start = told[0][0];
  const truth = (end - start) / 60000;
  const top = Math.max(truth, ...told.map(([, minutes]) => minutes), 1);
  const x = (time) => SIZE.pad + ((time - start) / Math.max(end - start, 1)) * (SIZE.width - 2 * SIZE.pad);
  const y = (minutes) => SIZE.chart - SIZE.pad - (minutes / top) * (SIZE.chart - 2 * SIZE.pad);
  const steps = told.flatMap(([time, minutes], i) => {
    const until = told[i + 1]?.[0] ?? end;
    return [at([x(time), y(minutes)]), at([x(until), y(Math.max(0, minutes - (until - time) / 60000))])];
  });
  return `<svg viewBox="0 0 ${SIZE.width} ${SIZE.chart}" class="replay-chart" role="img" aria-label="Minutes to the arrival: as told, and as they were">
    <line class="replay-truth" x1="${x(start)}" y1="${y(truth)}" x2="${x(end)}" y2="${y(0)}"/><polyline class="replay-told" points="${steps.join(' ')}"/></svg>`;
}

/** @returns {(order, rest) => void} shows a delivery */
export function createReplayDialog() {
  const dialog = byId('replay');
  let timer = 0;
  const stop = () => clearInterval(timer);
  dialog.addEventListener('close', stop);

  function select(replay, index) {
    const one = replay.positions[index];
    const dot = dialog.querySelector(`[data-index="${index}"]`);
    const now = byId('replay-now');
    if (dot && now) {
      now.setAttribute('cx', dot.getAttribute('cx'));
      now.setAttribute('cy', dot.getAttribute('cy'));
    }
    byId('replay-at').value = String(index);
    const again = one.replayedVerdict === one.verdict ? '' : `, ${one.replayedVerdict.replaceAll('_', ' ')} now`;
    byId('replay-verdict').textContent = `${clock(one.recordedAt)}: ${(one.verdict ?? 'not judged').replaceAll('_', ' ')}${again}${one.source ? ` (${one.source})` : ''}`;
  }

  function play(replay) {
    stop();
    let index = Number(byId('replay-at').value);
    if (index >= replay.positions.length - 1) index = -1;
    timer = setInterval(() => {
      index += 1;
      select(replay, index);
      if (index >= replay.positions.length - 1) stop();
    }, STEP_MS);
  }

  return async (order, rest) => {
    stop();
    const head = h('header', { class: 'dialog-head' }, h('h2', { id: 'replay-title' }, `${order.orderNumber} again`),
      h('button', { type: 'button', class: 'button quiet square', onclick: () => dialog.close(), 'aria-label': 'Close' }, '×'));
    const body = (...children) => render(dialog, h('div', { class: 'connect-form', 'data-testid': 'replay' }, head, ...children));
    body(h('p', { class: 'hint' }, 'Judging its positions …'));
    if (!dialog.open) dialog.showModal();
    let replay;
    try {
      replay = await rest.replay(order.id);
    } catch (error) {
      body(h('p', { class: 'inline-error', role: 'alert' }, error.message));
      return;
    }
    if (replay.positions.length === 0) {
      body(h('p', { class: 'hint' }, 'No positions were kept of this delivery.'));
      return;
    }
    body(
      h('div', { id: 'replay-drawing', key: 'drawing' }),
      h('div', { class: 'drive-tools' },
        h('button', { type: 'button', class: 'button primary', 'data-testid': 'replay-play', onclick: () => play(replay) }, 'Play'),
        h('input', { type: 'range', id: 'replay-at', min: '0', max: String(replay.positions.length - 1), value: '0', 'aria-label': 'Position', class: 'grow', oninput: ({ target }) => { stop(); select(replay, Number(target.value)); } })),
      h('p', { id: 'replay-verdict', class: 'muted', role: 'status', 'data-testid': 'replay-verdict' }),
      h('div', { id: 'replay-etas', key: 'chart' }),
      h('p', { class: 'hint', 'data-testid': 'replay-facts' }, `${replay.sameVerdicts} of ${replay.fixes} verdicts and ${replay.samePlaces} of ${replay.shown} places are those of then${replay.incomplete ? '; the trail has holes' : ''}. `
        + (replay.arrivedAt ? 'Above: minutes to the arrival as told, and as they were (dashed).' : 'It has not arrived.')));
    byId('replay-drawing').innerHTML = drawing(replay.positions);
    byId('replay-etas').innerHTML = chart(replay.etas, replay.arrivedAt);
    byId('replay-drawing').onclick = ({ target }) => {
      if (target.dataset?.index === undefined) return;
      stop();
      select(replay, Number(target.dataset.index));
    };
    select(replay, 0);
  };
}
