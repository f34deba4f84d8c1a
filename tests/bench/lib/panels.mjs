// Draws the parts of the chart as SVG text: bars with whiskers, and lines. All axes begin at zero.
import { text } from './results.mjs';

const escape = (string) => string.replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`);
const label = (x, y, string, kind = '', anchor = 'start') => `<text x="${x}" y="${y}" class="${kind}" text-anchor="${anchor}">${escape(string)}</text>`;
const line = (x1, y1, x2, y2, kind) => `<path d="M${x1} ${y1}L${x2} ${y2}" class="${kind}"/>`;
const number = (value) => Number(value.toFixed(1));

const heading = (x, y, title, subtitle) => label(x, y, title, 'title') + label(x, y + 17, subtitle, 'sub');
const HEAD = 38;

/** Horizontal bars, one per row {title, kind, median, min, max}. The axis ends at `most`. Returns the SVG and its height. */
export function bars({ x, y, width, title, subtitle, rows, most = Math.max(...rows.map((each) => each.max)) }) {
  const names = 132;
  const values = 62;
  const row = 22;
  const scale = (value) => number((value / most) * (width - names - values));
  const parts = [heading(x, y + 12, title, subtitle)];
  rows.forEach((each, index) => {
    const top = y + HEAD + index * row;
    const [left, middle] = [x + names, top + row / 2];
    const end = left + scale(each.max);
    parts.push(
      label(left - 8, middle + 4, each.title, each.kind === 'ours' ? 'strong' : '', 'end'),
      `<rect x="${left}" y="${top + 4}" width="${scale(each.median)}" height="${row - 8}" rx="2" class="bar ${each.kind}"/>`,
      line(left + scale(each.min), middle, end, middle, 'whisker'),
      line(left + scale(each.min), middle - 3, left + scale(each.min), middle + 3, 'whisker'),
      line(end, middle - 3, end, middle + 3, 'whisker'),
      label(end + 7, middle + 4, text(each.median), each.kind === 'ours' ? 'strong' : ''),
    );
  });
  parts.push(line(x + names, y + HEAD, x + names, y + HEAD + rows.length * row, 'axis'));
  return { svg: parts.join('\n'), height: HEAD + rows.length * row };
}

/** The next round number above a value, for the end of an axis. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value);
}

/**
 * Upright bars or lines over a few named places: series of {title, kind, points: [{at, median, min, max}]}.
 * `at` is the index of the place.
 */
export function plot({ x, y, width, title, subtitle, places, axis, series, lines = false, height = 190 }) {
  const [left, right, top, bottom] = [x + 52, x + width - 8, y + HEAD + 22, y + HEAD + height - 34];
  const most = ceiling(Math.max(...series.flatMap((each) => each.points.map((point) => point.max))));
  const up = (value) => number(bottom - (value / most) * (bottom - top));
  const slot = (right - left) / places.length;
  const parts = [heading(x, y + 12, title, subtitle)];
  for (const tick of [0, most / 2, most]) {
    parts.push(line(left, up(tick), right, up(tick), tick === 0 ? 'axis' : 'grid'), label(left - 8, up(tick) + 4, tick.toLocaleString('en'), 'sub', 'end'));
  }
  places.forEach((place, index) => parts.push(label(number(left + slot * (index + 0.5)), bottom + 16, place, '', 'middle')));
  parts.push(label((left + right) / 2, bottom + 32, axis, 'sub', 'middle'));
  const bar = Math.min(46, (slot * 0.72) / series.length);
  let legend = left;
  series.forEach((each, index) => {
    const center = (point) => number(left + slot * (point.at + 0.5) + (lines ? 0 : (index - (series.length - 1) / 2) * (bar + 3)));
    if (lines) parts.push(`<path d="M${each.points.map((point) => `${center(point)} ${up(point.median)}`).join('L')}" class="line ${each.kind}"/>`);
    for (const point of each.points) {
      const at = center(point);
      if (lines) parts.push(`<circle cx="${at}" cy="${up(point.median)}" r="3.5" class="dot ${each.kind}"/>`);
      else parts.push(`<rect x="${number(at - bar / 2)}" y="${up(point.median)}" width="${number(bar)}" height="${number(bottom - up(point.median))}" rx="2" class="bar ${each.kind}"/>`);
      parts.push(line(at, up(point.min), at, up(point.max), 'whisker'), line(at - 3, up(point.min), at + 3, up(point.min), 'whisker'),
        line(at - 3, up(point.max), at + 3, up(point.max), 'whisker'),
        // The figures of the second line are below it, so that they do not cover those of the first.
        label(at, lines && index > 0 ? up(point.min) + 16 : up(point.max) - 6, text(point.median), 'value', 'middle'));
    }
    parts.push(`<rect x="${legend}" y="${y + HEAD - 5}" width="10" height="10" rx="2" class="bar ${each.kind}"/>`, label(legend + 15, y + HEAD + 4, each.title, 'sub'));
    legend += 30 + each.title.length * 6.6;
  });
  return { svg: parts.join('\n'), height: HEAD + height };
}

const STYLE = `
svg { --card: #ffffff; --edge: #d0d7de; --ink: #1f2328; --soft: #59636e; --grid: #e6eaef; --ours: #0d8a72; --second: #8fd0c1; --other: #aab4c0; --whisker: #1f2328 }
@media (prefers-color-scheme: dark) {
  svg { --card: #0d1117; --edge: #3d444d; --ink: #e6edf3; --soft: #9198a1; --grid: #262c36; --ours: #2fbf9f; --second: #1b6f5f; --other: #5b6674; --whisker: #e6edf3 }
}
text { font: 12px system-ui, -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: var(--ink) }
.card { fill: var(--card); stroke: var(--edge) }
.name { font-size: 20px; font-weight: 600 } .title { font-size: 14px; font-weight: 600 } .strong { font-weight: 600 }
.sub { fill: var(--soft) } .value { font-size: 11px }
path { fill: none } .axis { stroke: var(--soft) } .grid { stroke: var(--grid) } .whisker { stroke: var(--whisker); opacity: .75 }
.bar.other { fill: var(--other) } .bar.ours { fill: var(--ours) } .bar.second { fill: var(--second) }
.bar.limit { fill: none; stroke: var(--soft); stroke-dasharray: 3 2 }
.line { stroke-width: 2 } .line.ours { stroke: var(--ours) } .line.second { stroke: var(--second) } .line.limit { stroke: var(--soft); stroke-dasharray: 4 3 }
.dot.ours { fill: var(--ours) } .dot.second { fill: var(--second) } .dot.limit { fill: var(--soft) }
`;

/** The complete picture: a title, rows of panels, and notes at the bottom. */
export function picture(title, subtitle, rows, notes) {
  const [width, margin, gap] = [960, 28, 40];
  let y = margin;
  const parts = [label(margin, y + 16, title, 'name'), label(margin, y + 38, subtitle, 'sub')];
  y += 64;
  for (const panels of rows.filter((row) => row.length > 0)) {
    const each = (width - 2 * margin - gap * (panels.length - 1)) / panels.length;
    const drawn = panels.map(([draw, options], index) => draw({ ...options, x: margin + index * (each + gap), y, width: each }));
    parts.push(...drawn.map(({ svg }) => svg));
    y += Math.max(...drawn.map(({ height }) => height)) + 34;
  }
  for (const note of notes) {
    parts.push(label(margin, y, note, 'sub'));
    y += 17;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${y + 10}" width="${width}" height="${y + 10}" role="img">
<title>${escape(title)}</title>
<style>${STYLE}</style>
<rect x=".5" y=".5" width="${width - 1}" height="${y + 9}" rx="8" class="card"/>
${parts.join('\n')}
</svg>
`;
}
