// The event log: what went in and out of the four connections, newest first, never more than MAX rows, never a token.

import { byId } from './dom.js';

const MAX = 500;
const SECRET_NAME = /token|secret|password|authorization/i;
const SECRET_VALUE = /eyJ[\w-]+\.[\w-]+\.[\w-]*/g;
const ARROWS = { in: ['in', '←'], out: ['out', '→'], ack: ['acknowledged', '↩'], rest: ['REST', '⇄'], state: ['connection', '•'] };

/** A copy that may be shown: no member that names a secret, no string that looks like a token. */
export function redact(value) {
  if (typeof value === 'string') return value.replace(SECRET_VALUE, '[hidden]');
  if (Array.isArray(value)) return value.map(redact);
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([name, v]) => [name, SECRET_NAME.test(name) ? '[hidden]' : redact(v)]));
  }
  return value;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const TIME = /^\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)/;

function short(value) {
  if (Array.isArray(value)) return `[${value.length}]`;
  if (typeof value === 'object') return value.code ?? value.name ?? '{…}';
  if (typeof value === 'number') return String(Math.round(value * 1e5) / 1e5);
  if (UUID.test(value)) return `…${value.slice(-6)}`;
  return TIME.exec(value)?.[1] ?? String(value);
}

/** One line of a payload: what tells most first, long things shortened; the row opens to show all of it. */
function brief(payload) {
  if (payload === undefined || payload === null) return '';
  if (typeof payload !== 'object') return String(payload);
  return Object.entries(payload)
    .filter(([name, v]) => v !== null && v !== undefined && !(name === 'orderId' && payload.orderNumber))
    .map(([name, v]) => `${name} ${short(v)}`)
    .join('  ·  ');
}

const span = (className, text) => {
  const element = document.createElement('span');
  element.className = className;
  element.textContent = text;
  return element;
};

export class EventLog {
  #entries = [];
  #paused = false;
  #filter = { view: '', event: '', pings: false };
  #rows = byId('log-rows');
  #total = 0;

  constructor() {
    const refilter = () => {
      this.#filter = { view: byId('log-view').value, event: byId('log-event').value.trim().toLowerCase(), pings: byId('log-pings').checked };
      this.#redraw();
    };
    byId('log-view').addEventListener('change', refilter);
    byId('log-event').addEventListener('input', refilter);
    byId('log-pings').addEventListener('change', refilter);
    byId('log-clear').addEventListener('click', () => {
      this.#entries = [];
      this.#redraw();
    });
    byId('log-pause').addEventListener('click', ({ currentTarget: button }) => {
      this.#paused = !this.#paused;
      button.setAttribute('aria-pressed', String(this.#paused));
      button.textContent = this.#paused ? 'Resume' : 'Pause';
      if (!this.#paused) this.#redraw();
    });
    this.#redraw();
  }

  /** @param entry {view, direction, event, payload?, offset?, ms?, error?, mark?} */
  add = (entry) => {
    const kept = { ...entry, payload: redact(entry.payload), at: new Date() };
    this.#entries.push(kept);
    if (this.#entries.length > MAX) this.#entries.shift();
    this.#total += 1;
    if (this.#paused) return;
    if (this.#wanted(kept)) this.#rows.prepend(this.#row(kept));
    while (this.#rows.childElementCount > MAX) this.#rows.lastElementChild.remove();
    this.#count();
  };

  #wanted({ view, event }) {
    const f = this.#filter;
    return (!f.view || view === f.view) && (!f.event || event.toLowerCase().includes(f.event)) && (f.pings || event !== 'ping:latency');
  }

  #redraw() {
    this.#rows.replaceChildren(...this.#entries.filter((e) => this.#wanted(e)).reverse().map((e) => this.#row(e)));
    this.#count();
  }

  #count() {
    const shown = this.#rows.childElementCount;
    byId('log-count').textContent = shown === 1 ? '1 event' : `${shown} events`;
    byId('log-empty').hidden = shown > 0;
    byId('log-empty').textContent = this.#entries.length ? 'No event matches this filter.' : 'Every event of the four connections appears here.';
  }

  #row(entry) {
    const [name, arrow] = ARROWS[entry.direction] ?? ['', ''];
    const item = document.createElement('li');
    item.className = `log-row${entry.error ? ' is-error' : ''}`;
    item.dataset.testid = 'log-row';
    item.dataset.view = entry.view;
    item.dataset.event = entry.event;
    item.dataset.direction = entry.direction;

    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'log-line';
    button.setAttribute('aria-expanded', 'false');
    const direction = span(`log-dir dir-${entry.direction}`, arrow);
    direction.setAttribute('role', 'img');
    direction.setAttribute('aria-label', name);
    const time = entry.at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
    button.append(
      span('log-time', `${time}.${String(entry.at.getMilliseconds()).padStart(3, '0')}`),
      span(`log-view role-${entry.view}`, entry.view),
      direction,
      span('log-event', entry.event),
      span('log-brief', entry.offset ? `offset ${entry.offset}  ·  ${brief(entry.payload)}` : brief(entry.payload)),
      span(`log-ms${entry.mark ? ' has-mark' : ''}`, entry.mark ?? (Number.isFinite(entry.ms) ? `${entry.ms < 10 ? entry.ms.toFixed(1) : Math.round(entry.ms)} ms` : '')),
    );
    button.addEventListener('click', () => {
      const open = item.classList.toggle('is-open');
      button.setAttribute('aria-expanded', String(open));
      if (!open) {
        item.lastElementChild.remove();
        return;
      }
      const full = document.createElement('pre');
      full.className = 'log-full';
      full.tabIndex = 0;
      full.textContent = JSON.stringify(entry.payload, null, 2) ?? 'no payload';
      if (entry.offset) full.textContent += `\n\noffset ${JSON.stringify(entry.offset)}: socket.io-client gives it back when it returns, and is sent what came after`;
      item.append(full);
    });
    item.append(button);
    return item;
  }
}
