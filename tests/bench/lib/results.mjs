// Reads the results of a run: one file per measure. The first line of a file describes date and machine.
import { readFileSync } from 'node:fs';

export const titles = {
  ordercast: 'Ordercast',
  before: 'Ordercast before',
  limit: 'the limit (epoll)',
  bare: 'socketioxide',
  tungstenite: 'tungstenite, raw',
  bun: 'Socket.IO on Bun',
  node: 'Socket.IO on Node',
  nest: 'NestJS gateway',
  fastify: 'Fastify, raw',
  python: 'python-socketio',
  fastapi: 'FastAPI, raw',
};

export function read(file) {
  const [header, ...lines] = readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
  return { header, lines: lines.filter((line) => !line.failed), failed: lines.filter((line) => line.failed) };
}

/** The lines that have all the field values in `wanted`. */
export const select = (lines, wanted) => lines.filter((line) => Object.entries(wanted).every(([name, value]) => line[name] === value));

/** Median, minimum, maximum and count of a field, or of a path of fields; undefined if no line has it. */
export function summary(lines, path) {
  const values = lines.map((line) => path.split('.').reduce((value, name) => value?.[name], line))
    .filter((value) => typeof value === 'number').sort((a, b) => a - b);
  if (values.length === 0) return undefined;
  const median = (values[(values.length - 1) >> 1] + values[values.length >> 1]) / 2;
  return { median, min: values[0], max: values.at(-1), count: values.length };
}

/** Formats a number with three significant digits and thousands separators. */
export function text(number) {
  const digits = number === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(number))));
  return number.toFixed(Math.min(digits, 3)).replace(/\B(?=(\d{3})+(?!\d))(?<!\.\d*)/g, ',');
}
