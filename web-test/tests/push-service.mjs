// A push service for Firefox: the WebSocket that the browser keeps open, and the endpoint that servers post to. Its messages are those of
// Mozilla's autopush, as far as Firefox needs them.

import { createServer } from 'node:http';
import { createHash, randomUUID } from 'node:crypto';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** One text frame from a server. */
function frame(text) {
  const body = Buffer.from(text);
  if (body.length < 126) return Buffer.concat([Buffer.from([0x81, body.length]), body]);
  const head = Buffer.alloc(4);
  head[0] = 0x81;
  head[1] = 126;
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([head, body]);
}

/** The texts in what a client sent, and what is left of it. */
function texts(bytes) {
  const all = [];
  for (;;) {
    if (bytes.length < 6) return [all, bytes];
    let length = bytes[1] & 127;
    let at = 2;
    if (length === 126) {
      if (bytes.length < 8) return [all, bytes];
      length = bytes.readUInt16BE(2);
      at = 4;
    }
    if (bytes.length < at + 4 + length) return [all, bytes];
    const mask = bytes.subarray(at, at + 4);
    const body = Buffer.from(bytes.subarray(at + 4, at + 4 + length)).map((byte, i) => byte ^ mask[i % 4]);
    if ((bytes[0] & 15) === 1) all.push(body.toString());
    bytes = bytes.subarray(at + 4 + length);
  }
}

export class PushService {
  /** What servers have posted: headers and bytes. */
  posted = [];
  /** What the browser has said of each message: 100 is decrypted and handed to the worker. */
  acks = [];
  #channels = new Map();
  #server;
  #socket = null;

  async open() {
    this.#server = createServer((request, response) => this.#post(request, response));
    this.#server.on('upgrade', (request, socket) => this.#upgrade(request, socket));
    await new Promise((resolve) => { this.#server.listen(0, '127.0.0.1', resolve); });
    this.port = this.#server.address().port;
  }

  close() {
    this.#socket?.destroy();
    this.#server.close();
  }

  #send(message) {
    this.#socket?.write(frame(JSON.stringify(message)));
  }

  #upgrade(request, socket) {
    const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + GUID).digest('base64');
    const protocol = request.headers['sec-websocket-protocol'];
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n${protocol ? `Sec-WebSocket-Protocol: ${protocol}\r\n` : ''}\r\n`);
    this.#socket = socket;
    let rest = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      const [said, left] = texts(Buffer.concat([rest, chunk]));
      rest = left;
      for (const text of said) this.#hear(JSON.parse(text));
    });
  }

  #hear(message) {
    const { messageType, channelID } = message;
    if (messageType === 'hello') this.#send({ messageType, uaid: message.uaid || randomUUID().replaceAll('-', ''), status: 200, use_webpush: true, broadcasts: {} });
    if (messageType === 'register') {
      const id = randomUUID();
      this.#channels.set(id, channelID);
      this.#send({ messageType, channelID, status: 200, pushEndpoint: `http://127.0.0.1:${this.port}/wpush/${id}` });
    }
    if (messageType === 'unregister') this.#send({ messageType, channelID, status: 200 });
    if (messageType === 'ack') this.acks.push(...message.updates.map(({ code }) => code));
    if (messageType === undefined) this.#send({});
  }

  #post(request, response) {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const channelID = this.#channels.get(request.url.split('/').pop());
      if (!channelID) return response.writeHead(404).end();
      const body = Buffer.concat(chunks);
      this.posted.push({ headers: request.headers, body });
      const headers = { encoding: request.headers['content-encoding'] };
      this.#send({ messageType: 'notification', channelID, version: randomUUID(), data: body.toString('base64url'), headers });
      return response.writeHead(201).end();
    });
  }
}
