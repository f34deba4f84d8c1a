// What a client sees of a server, as text: HTTP answers, packets and the end of the connection, without what is random or belongs to the
// application. Two servers that speak the same protocol leave the same text.
import net from 'node:net';
import { frame, Polling, Wire } from './engineio.mjs';
import { jwt } from './server.mjs';

const [TEXT, BINARY, CLOSE, PING, PONG] = [1, 2, 8, 9, 10];
const USER = { sub: 'somebody', role: 'customer' };
export const TOKEN = jwt(USER);
const SEPARATOR = '\u001e';

/**
 * Who is in no namespace can still ask for one that does not exist. Its refusal says that everything before was read. Node answers requests
 * a turn later, so the fence is put up twice.
 */
const FENCE = '40/nowhere,';
const FENCED = /^4?44\/nowhere,/;

/** Ids and payloads of the application are left out: `42/realtime,["error",…]`, `43/realtime,7[…]`. */
export const plain = (text) => text
  .replace(/(sid\\":\\")[\w-]+/g, '$1…')
  .replace(/(maxPayload\\":)\d+/g, '$1…')
  .replace(/"(sid|pid)":"[^"]+"/g, '"$1":"…"')
  .replace(/,"pid":"…"/g, '')
  .replace(/"maxPayload":\d+/g, '"maxPayload":…')
  .replace(/^(\d+):0\{/, '…:0{')
  .replace(/(4[25]\/realtime,\d*\["[^"]*"),.*\]$/s, '$1,…]')
  .replace(/(4[36]\/realtime,[^[]*)\[.*\]$/s, '$1[…]')
  .replaceAll(SEPARATOR, '␞');

/** One request over TCP, byte by byte: `{status, type, body}`. */
async function request(server, method, target, { headers = {}, body = '' } = {}) {
  const socket = net.connect({ port: server.port, host: '127.0.0.1' });
  let bytes = Buffer.alloc(0);
  socket.on('error', () => {});
  const ended = new Promise((resolve) => {
    socket.on('close', resolve);
    socket.on('data', (data) => {
      bytes = Buffer.concat([bytes, data]);
      const [head, ...rest] = bytes.toString('latin1').split('\r\n\r\n');
      const length = /^content-length: *(\d+)/im.exec(head)?.[1];
      if (rest.length > 0 && (/^HTTP\/1.1 101/.test(head) || (length && method !== 'HEAD' && rest.join('\r\n\r\n').length >= length))) resolve();
    });
  });
  const all = { host: `127.0.0.1:${server.port}`, connection: 'close', ...(body.length > 0 && { 'content-length': Buffer.byteLength(body) }), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join('');
  socket.write(Buffer.concat([Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines}\r\n`), Buffer.from(body)]));
  await ended;
  socket.destroy();
  const text = bytes.toString();
  const [head, ...rest] = text.split('\r\n\r\n');
  const [status, ...fields] = head.split('\r\n');
  const type = fields.find((field) => /^content-type:/i.test(field))?.split(/: */)[1] ?? '';
  let answer = rest.join('\r\n\r\n');
  if (/^transfer-encoding: *chunked/im.test(head)) answer = answer.replace(/^[0-9a-f]+\r\n/i, '').replace(/\r\n(0\r\n\r\n)?$/, '').replace(/^0?\r\n$/, '');
  if (/^HTTP\/1.1 101/.test(head)) answer = '';
  const kept = fields.find((field) => /^cache-control:/i.test(field) && method === 'GET')?.split(/: */)[1];
  return { kept, status: Number(status.split(' ')[1]), type, body: answer };
}

const answered = ({ status, type, kept, body }) => [status || 'no answer', type && `(${[type, kept].filter(Boolean).join(', ')})`, plain(body)].filter(Boolean).join(' ');

/** The answer to one request. */
export const http = (method, target, options) => async (server) => answered(await request(server, method, target, options));

/** A polling session: opens it, joins, and does each step. A step is a body to post, or a function of the session that returns text. */
export const polling = (steps, { version = 4, joins = false } = {}) => async (server) => {
  const session = await Polling.open(server, version);
  const url = new URL(session.url);
  Object.assign(session, { server, target: url.pathname + url.search, seen: [] });
  session.post = async (body, headers = { 'content-type': 'text/plain;charset=UTF-8' }) => (
    answered(await request(server, 'POST', session.target, { body, headers })));
  session.get = async () => answered(await request(server, 'GET', session.target));
  if (version === 3) await session.next(); // it is refused in the default namespace
  const write = (packet) => (version === 3 ? `${packet.length}:${packet}` : packet);
  if (joins) {
    await session.post(write(version === 3 ? `40/realtime?token=${TOKEN},` : `40/realtime,{"token":"${TOKEN}"}`));
    while (!(await session.next()).includes('"connected"'));
  }
  for (const step of steps) {
    session.seen.push(typeof step === 'function' ? await step(session) : await session.post(step));
  }
  // What was said, up to the end or the second fence.
  const packets = [];
  for (let fences = 0; fences < 2;) {
    const fenced = await session.post(write(FENCE));
    for (let got = []; !got.some((packet) => FENCED.test(packet));) {
      const { status, text } = await session.poll();
      got = version === 3 ? lengths(text) : text.split(SEPARATOR);
      if (status !== 200) return [...session.seen, ...packets.map(plain), `the end: a post gets ${fenced}, a poll ${status} ${plain(text)}`].join(' | ');
      packets.push(...got.filter((packet) => !FENCED.test(packet)));
      if (got.includes('1')) return [...session.seen, ...packets.map(plain), `the end: a post gets ${fenced}`].join(' | ');
    }
    fences += 1;
  }
  return [...session.seen, ...packets.map(plain), 'it goes on'].join(' | ');
};

/** The packets of a polling body of version 3. */
function lengths(text) {
  const packets = [];
  for (let rest = text; rest;) {
    const head = /^(\d+):/.exec(rest);
    if (!head) return [...packets, `?${rest}`];
    packets.push(rest.slice(head[0].length, head[0].length + Number(head[1])));
    rest = rest.slice(head[0].length + Number(head[1]));
  }
  return packets;
}

/** The last fence is sent so many times more: who joins a namespace is looked at meanwhile, and is answered later than a fence. */
const FENCES = 3;

/** What comes on a WebSocket, without its close frames, up to the refusal of the last fence, or to the end. */
async function rest(wire) {
  const seen = [];
  let fences = 0;
  for (;;) {
    const got = await wire.frame('an answer or the end');
    if (!got) return [...seen, 'the end'];
    if (got.opcode === CLOSE) {
      await wire.write(frame(got.payload, { opcode: CLOSE }));
    } else if (got.opcode === BINARY) seen.push(`binary ${got.payload.toString('hex')}`);
    else if (got.opcode === PONG) seen.push('pong');
    else if (got.opcode === PING) seen.push('ping');
    else {
      const packet = got.payload.toString();
      if (!FENCED.test(packet)) seen.push(plain(packet));
      else if (fences === FENCES) return [...seen, 'it goes on'];
      else {
        fences += 1;
        await wire.send(FENCE);
      }
    }
  }
}

const asFrame = (step) => (Buffer.isBuffer(step) ? step : frame(step));
/** A binary message of a client. */
export const binary = (...bytes) => frame(Buffer.from(bytes), { opcode: BINARY });

/** A WebSocket session: opens it, joins, and sends each step as a frame; a Buffer is sent as it is. */
export const websocket = (steps, { version = 4, joins = false } = {}) => async (server) => {
  const wire = await Wire.open(server, { version });
  await wire.next();
  if (version === 3) await wire.next(); // it is refused in the default namespace
  if (joins) {
    await wire.send(version === 3 ? `40/realtime?token=${TOKEN},` : `40/realtime,{"token":"${TOKEN}"}`);
    while (!(await wire.next()).includes('"connected"'));
  }
  // In one write, so that both servers read it in one piece.
  await wire.write(Buffer.concat([...steps, FENCE].map(asFrame))).catch(() => {});
  const seen = await rest(wire);
  wire.cut();
  return seen.join(' | ');
};

/** A polling session that tries a WebSocket, on which each step is sent as a frame. `before` is done with the session first. */
export const upgrade = (steps, { before, fence = FENCE, version = 4 } = {}) => async (server) => {
  const session = await Polling.open(server, version);
  if (version === 3) await session.next();
  const said = before ? [await before(session, server)] : [];
  const wire = await Wire.open(server, { version, sid: session.sid });
  if (wire.status !== 101) return [...said, wire.status].join(' | ');
  // The poll that is under way while the client tries.
  const poll = session.poll();
  poll.catch(() => {});
  await wire.write(Buffer.concat((fence ? [...steps, fence] : steps).map(asFrame))).catch(() => {});
  const seen = await rest(wire);
  wire.cut();
  return [...said, ...seen].join(' | ');
};
