// Writes src/events.ts from the server's own description of its doors, the AsyncAPI document of `ordercast asyncapi`.
// `node generate.mjs [DOCUMENT]`; without a DOCUMENT the program in ORDERCAST_BIN is asked.
import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/** The channel of the door that this package speaks at. */
const DOOR = 'realtime';
const target = fileURLToPath(new URL('src/events.ts', import.meta.url));

/** The document of the server. */
export function ask() {
  const bin = process.env.ORDERCAST_BIN;
  if (!bin) throw new Error('ORDERCAST_BIN must name the server binary, or the first argument a document');
  return JSON.parse(execFileSync(bin, ['asyncapi'], { encoding: 'utf8', maxBuffer: 1 << 26, env: { PATH: process.env.PATH } }));
}

const quoted = (name) => (/^[A-Za-z_$][\w$]*$/.test(name) ? name : `'${name}'`);
const typeName = (name) => name.replace(/(?:^|[^A-Za-z0-9]+)([A-Za-z0-9])/g, (_, letter) => letter.toUpperCase());

class Types {
  #document;
  /** Those that are used, in the order of their names. */
  #named = new Map();

  constructor(document) {
    this.#document = document;
  }

  /** What a reference points to. */
  at(ref) {
    return ref.slice(2).split('/').reduce((node, step) => {
      const next = node?.[step.replaceAll('~1', '/').replaceAll('~0', '~')];
      if (next === undefined) throw new Error(`${ref} points nowhere`);
      return next;
    }, this.#document);
  }

  resolve(node) {
    return node?.$ref ? this.resolve(this.at(node.$ref)) : node;
  }

  of(schema, indent = '') {
    if (schema === undefined || schema === true) return 'unknown';
    if (schema === false) return 'never';
    if (schema.$ref) return this.#reference(schema.$ref);
    if ('const' in schema) return literal(schema.const);
    if (schema.enum) return schema.enum.map(literal).join(' | ');
    const choices = schema.oneOf ?? schema.anyOf;
    if (choices) return unite(choices.map((one) => this.of(one, indent)));
    if (schema.allOf) {
      const parts = schema.allOf.map((one) => this.of(one, indent));
      if (schema.properties) parts.push(this.#object(schema, indent));
      return parts.join(' & ');
    }
    const types = Array.isArray(schema.type) ? schema.type : [schema.type ?? (schema.properties ? 'object' : 'unknown')];
    return unite(types.map((type) => this.#plain(type, schema, indent)));
  }

  #plain(type, schema, indent) {
    switch (type) {
      case 'string': case 'boolean': case 'null': case 'unknown': return type;
      case 'integer': case 'number': return 'number';
      case 'array': {
        if (schema.prefixItems) return `[${schema.prefixItems.map((item) => this.of(item, indent)).join(', ')}]`;
        const item = this.of(schema.items, indent);
        return / [|&] /.test(item) && !item.startsWith('{') ? `(${item})[]` : `${item}[]`;
      }
      case 'object': return this.#object(schema, indent);
      default: throw new Error(`a schema has the type ${type}`);
    }
  }

  #object({ properties, required = [], additionalProperties }, indent) {
    if (!properties) return additionalProperties && additionalProperties !== true ? `Record<string, ${this.of(additionalProperties, indent)}>` : 'Record<string, unknown>';
    const inner = `${indent}  `;
    const lines = Object.entries(properties).map(([name, schema]) => `${comment(this.#about(schema), inner)}${inner}${quoted(name)}${required.includes(name) ? '' : '?'}: ${this.of(schema, inner)};\n`);
    return lines.length > 0 ? `{\n${lines.join('')}${indent}}` : 'Record<never, never>';
  }

  #about(schema) {
    return schema?.description;
  }

  #reference(ref) {
    const name = typeName(ref.split('/').at(-1));
    if (!this.#named.has(name)) {
      this.#named.set(name, null); // it may contain itself
      const schema = this.at(ref);
      this.#named.set(name, `${comment(schema.description, '')}export type ${name} = ${this.of(schema)};\n`);
    }
    return name;
  }

  get text() {
    return [...this.#named].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, text]) => text).join('\n');
  }
}

const literal = (value) => (typeof value === 'string' ? `'${value}'` : JSON.stringify(value));
const unite = (types) => [...new Set(types)].join(' | ');
const comment = (text, indent) => (text ? `${indent}/** ${text.replaceAll('*/', '* /').trim().split(/\s*\n\s*/).join(' ')} */\n` : '');

/** The text of src/events.ts. */
export function generate(document) {
  const types = new Types(document);
  const channel = document.channels[DOOR];
  if (!channel) throw new Error(`the document has no channel ${DOOR}`);
  const events = new Map();
  const requests = new Map();
  for (const operation of Object.values(document.operations)) {
    if (types.resolve(operation.channel) !== channel) continue;
    for (const ref of operation.messages ?? []) {
      const message = types.resolve(ref);
      if (!message.name) continue; // announcements have names of their own
      const about = comment(message.summary ?? message.description ?? operation.summary, '  ');
      if (operation.action === 'send') events.set(message.name, { about, payload: types.of(message.payload, '  ') });
      else {
        // A refusal is an error, and no answer.
        const answers = (operation.reply?.messages ?? []).map((reply) => types.resolve(reply).payload).filter((payload) => types.resolve(payload).properties?.ok?.const !== false);
        const replies = answers.map((payload) => types.of(payload, '    '));
        requests.set(message.name, { about, payload: types.of(message.payload, '    '), answer: unite(replies) });
      }
    }
  }
  if (events.size === 0 || requests.size === 0) throw new Error(`the channel ${DOOR} has no events or no requests`);
  const sorted = (map) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
  return `// Made by generate.mjs from \`ordercast asyncapi\`. Do not edit.

/** What the server says, by name. */
export interface ServerEvents {
${sorted(events).map(([name, { about, payload }]) => `${about}  '${name}': ${payload};\n`).join('')}}

/** What a client may ask, by name, and the answer to it. */
export interface Requests {
${sorted(requests).map(([name, { about, payload, answer }]) => `${about}  '${name}': {\n    payload: ${payload};\n    answer: ${answer};\n  };\n`).join('')}}

${types.of({ $ref: '#/components/schemas/Refusal' }) && types.text}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const file = process.argv[2];
  await writeFile(target, generate(file ? JSON.parse(await readFile(file, 'utf8')) : ask()));
}
