// The server's AsyncAPI document, held against what its sockets say. It keeps count of what was seen of it.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import Ajv from 'ajv';
import addFormats from 'ajv-formats';

const SPECIFICATION = createRequire(import.meta.url)('@asyncapi/specs/schemas/3.0.0.json');
/** Formats of OpenAPI, which say no more than the type does. */
const PLAIN = ['int32', 'int64', 'double'];

const judge = () => {
  const ajv = new Ajv({ strict: false, allErrors: true });
  addFormats(ajv);
  for (const format of PLAIN) ajv.addFormat(format, true);
  return ajv;
};
const at = (document, reference) => reference.slice(2).split('/').reduce((value, key) => value?.[key], document);

/** Every `$ref` in a value. */
function* references(value) {
  if (value === null || typeof value !== 'object') return;
  if (typeof value.$ref === 'string') yield value.$ref;
  for (const inside of Object.values(value)) yield* references(inside);
}

export class Contract {
  #ajv = judge();
  /** References to messages that came, or were sent. */
  seen = new Set();
  /** Names of announcements. */
  announced = new Set();

  constructor(document) {
    this.document = document;
    const { channels, components } = document;
    this.#ajv.addSchema({ $id: 'document', channels, components });
    this.channels = Object.keys(channels);
  }

  static async of(server) { return new Contract(await server.ok('GET', '/asyncapi.json', undefined, null)); }

  /** Checks it against the specification: its own schema, that references lead somewhere, that schemas compile, that examples are good. */
  lint() {
    const ajv = judge();
    // Ajv has these two.
    const definitions = Object.fromEntries(Object.entries(SPECIFICATION.definitions).filter(([name]) => !/json-schema.org\/draft-0[47]/.test(name)));
    assert.ok(ajv.validate({ ...SPECIFICATION, definitions }, this.document), ajv.errorsText(ajv.errors, { separator: '\n' }));
    for (const reference of references(this.document)) assert.ok(at(this.document, reference), `${reference} leads nowhere`);
    for (const name of Object.keys(this.document.components.schemas)) this.#ajv.getSchema(`document#/components/schemas/${name}`);
    for (const channel of this.channels) {
      for (const { message, reference } of this.requests(channel)) {
        for (const { payload } of message.examples) this.#validate(reference, payload, `an example of ${reference}`);
      }
    }
  }

  #operations(channel, action) {
    return Object.values(this.document.operations).filter((one) => one.action === action && one.channel.$ref === `#/channels/${channel}`);
  }

  #messages(references) {
    return references.map(({ $ref: reference }) => ({ reference, message: at(this.document, reference) }));
  }

  events(channel) { return this.#operations(channel, 'send').flatMap(({ messages }) => this.#messages(messages)); }

  /** The requests of a door, each with what answers it. */
  requests(channel) {
    return this.#operations(channel, 'receive').flatMap(({ messages, reply }) => (
      this.#messages(messages).map((request) => ({ ...request, answers: this.#messages(reply.messages) }))));
  }

  #validate(reference, payload, what) {
    const validate = this.#ajv.getSchema(`document${reference}/payload`);
    assert.ok(validate(payload), `${what}: ${JSON.stringify(payload)}\n${this.#ajv.errorsText(validate.errors, { separator: '\n' })}`);
    this.seen.add(reference);
  }

  /** Checks a message that came through a door. `rest` are the arguments after its payload. */
  event(channel, name, payload, rest) {
    const all = this.events(channel);
    const known = this.announced.has(name) ? all.find(({ message }) => !message.name) : all.find(({ message }) => message.name === name);
    assert.ok(known, `${channel} sends ${name}, which the document does not have: ${JSON.stringify(payload)}`);
    this.#validate(known.reference, payload, `${channel}: ${name}`);
    const isOffset = rest.length === 1 && typeof rest[0] === 'string';
    assert.ok(rest.length === 0 || (known.message['x-durable'] && isOffset), `${channel}: ${name} ends with ${JSON.stringify(rest)}`);
    return known.message['x-durable'] ? isOffset : undefined;
  }

  /** Checks an ack, which is one of these messages. */
  ack(answers, payload, what) {
    const { reference } = answers.find(({ message }) => message.payload.$ref.endsWith('/Failure') !== payload.ok);
    this.#validate(reference, payload, what);
  }

  /** Every message of every door that was neither sent nor came. */
  unseen() {
    return this.channels.flatMap((channel) => Object.keys(this.document.channels[channel].messages).map((key) => [channel, key]))
      .filter(([channel, key]) => !this.seen.has(`#/channels/${channel}/messages/${key}`)).map((names) => names.join('.'));
  }
}
