// What went over one client's line, as it was on the wire: the newest frames, laid out for reading and otherwise untouched.

import { redact } from '../log.js';

const KEPT = 40;
const LONGEST = 16384;
const WIDTH = 40;
// What Engine.IO and Socket.IO put before the JSON: `42/realtime,`; or the first line of a REST call.
const FRAME = /^((?:\d[^[{]*|[^\n]*\n)?)([[{][^]*)$/;
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** Reads JSON text into its tokens, nested as they are: a leaf is its text. @returns null if brackets do not match */
function parse(json) {
  const tokens = json.match(TOKEN) ?? [];
  let at = 0;
  const value = () => {
    const open = tokens[at];
    at += 1;
    if (open !== '{' && open !== '[') return open;
    const close = open === '{' ? '}' : ']';
    const members = [];
    while (at < tokens.length && tokens[at] !== close) {
      const key = tokens[at + 1] === ':' ? `${tokens[at]}: ` : '';
      if (key) at += 2;
      members.push({ key, value: value() });
      if (tokens[at] === ',') at += 1;
    }
    at += 1;
    return { open, close, members };
  };
  const tree = value();
  return at === tokens.length ? tree : null;
}

const isLeaf = (node) => typeof node === 'string';
const flat = (node) => (isLeaf(node) ? node : `${node.open}${node.members.map(({ key, value }) => key + flat(value)).join(', ')}${node.close}`);

function print(node, indent, used, width) {
  const short = flat(node);
  if (isLeaf(node) || node.members.length === 0 || used + short.length <= width) return short;
  const { open, close, members } = node;
  // An event's name stays beside its payload.
  const beside = open === '[' && members.filter(({ value }) => !isLeaf(value)).length === 1;
  if (beside) return `[${members.map(({ value }) => print(value, indent, width, width)).join(', ')}]`;
  const deeper = `${indent}  `;
  return `${open}\n${members.map(({ key, value }) => deeper + key + print(value, deeper, deeper.length + key.length, width)).join(',\n')}\n${indent}${close}`;
}

/** JSON text with line breaks and spaces where they help. No token is touched: a number keeps its zeros, a string its escapes. */
export function pretty(json, width = WIDTH) {
  const tree = parse(json);
  return tree === null ? json : print(tree, '', 0, width);
}

/** Splits a frame into what comes before its JSON, and the JSON. */
export function split(text) {
  const [, head, json] = FRAME.exec(text) ?? [null, text, ''];
  return { head, json };
}

/** What a frame is about, whichever client's it is: the order, the status in that client's words, the number of the event. */
export function read(text) {
  let message;
  try {
    message = JSON.parse(split(text).json);
  } catch {
    return {};
  }
  if (Array.isArray(message)) message = message.find((part) => part && typeof part === 'object') ?? {}; // [event, payload, offset]
  const inner = message.data ?? message.order ?? message;
  return {
    order: message.orderId ?? message.order_id ?? inner.orderId ?? inner.order_id ?? inner.id,
    session: message.tracking_id ?? inner.tracking_id,
    status: message.status ?? inner.status,
    seq: message.seq ?? inner.seq,
  };
}

function layOut(text) {
  const { head, json } = split(text);
  try {
    return head + (json && pretty(json));
  } catch {
    return text; // nested deeper than anything of ours
  }
}

let count = 0;

/** The newest frames of one line; bounded, and it can be held still for reading. */
export class Frames {
  #all = [];
  #held = null;

  /** How many there were of orders that nobody looks at. */
  others = 0;

  /** How many came since it was paused. */
  unseen = 0;

  /** @param direction 'in', 'out', or 'state' for what happened to the line itself */
  add(direction, text) {
    const shown = redact(text);
    const cut = shown.length - LONGEST;
    const lines = layOut(cut > 0 ? shown.slice(0, LONGEST) : shown).split('\n');
    if (cut > 0) lines.push(`… and ${cut} characters more`);
    count += 1;
    this.#all.unshift({ id: count, at: new Date(), direction, size: new TextEncoder().encode(text).length, lines, open: false });
    this.#all.length = Math.min(this.#all.length, KEPT);
    if (this.#held) this.unseen += 1;
  }

  /** Newest first. */
  get list() {
    return this.#held ?? this.#all;
  }

  get paused() {
    return this.#held !== null;
  }

  pause() {
    this.#held = this.paused ? null : [...this.#all];
    this.unseen = 0;
  }

  clear() {
    this.#all = [];
    this.#held &&= [];
    this.others = this.unseen = 0;
  }
}
