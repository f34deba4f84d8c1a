// The hostile clients: ten kinds, each with connections from an address of its own. Run as a process of its own, so that the
// healthy client does not wait for them. Arguments: port, seconds, a token.
import net from 'node:net';

const [port, seconds, token] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]];
const end = Date.now() + seconds * 1000;
const over = () => Date.now() >= end;
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** A connection that sends this and ends when the server ends it, or when `done` says so for what came so far. */
function connection(kind, bytes, { done = () => false, onOpen = () => {}, reads = true, ms = 30_000 } = {}) {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: '127.0.0.1', localAddress: `127.0.1.${kind}` });
    let got = '';
    const finish = () => { clearTimeout(timer); socket.destroy(); resolve(got); };
    const timer = setTimeout(finish, Math.min(ms, Math.max(1, end - Date.now())));
    socket.on('connect', () => { socket.write(bytes); onOpen(socket); });
    if (reads) {
      socket.on('data', (data) => { got = (got + data.toString('latin1')).slice(-4096); if (done(got)) finish(); });
    }
    socket.on('error', finish);
    socket.on('close', finish);
  });
}

const request = (line, headers = '', body = '') => `${line} HTTP/1.1\r\nHost: x\r\n${headers}\r\n${body}`;
const whole = (got) => got.includes('\r\n\r\n');
const drip = (socket, bytes, ms) => {
  const timer = setInterval(() => { if (socket.writable) socket.write(bytes); else clearInterval(timer); }, ms);
  socket.on('close', () => clearInterval(timer));
};
const upgrade = (version, query = '') => request(`GET /socket.io/?EIO=${version}&transport=websocket${query}`,
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n');
const frame = (text) => {
  const bytes = Buffer.from(text);
  const head = bytes.length < 126 ? Buffer.of(0x81, 0x80 | bytes.length) : Buffer.of(0x81, 0xfe, bytes.length >> 8, bytes.length & 255);
  return Buffer.concat([head, Buffer.alloc(4), bytes]);
};
const auth = `Authorization: Bearer ${token}\r\n`;
const giant = 'x'.repeat(12_000);

/** What one client of each kind does, again and again; and how many there are of it. */
const kinds = {
  'slow heads': [300, (kind) => connection(kind, `GET / HTTP/1.1\r\nX-A: ${'a'.repeat(8000)}`,
    { onOpen: (socket) => drip(socket, 'a', 1000) })],
  'endless bodies': [200, (kind) => connection(kind, request('POST /orders', `${auth}Content-Length: 60000\r\n`, '{'),
    { onOpen: (socket) => drip(socket, ' ', 1000) })],
  'handshakes and goodbyes': [20, async (kind) => {
    const query = `EIO=4&transport=polling&token=${giant}`;
    const opened = await connection(kind, request(`GET /socket.io/?${query}`), { done: (got) => got.includes('"maxPayload"'), ms: 5000 });
    const sid = /"sid":"([^"]+)"/.exec(opened)?.[1];
    if (sid) await connection(kind, request(`POST /socket.io/?EIO=4&transport=polling&sid=${sid}`, 'Content-Length: 1\r\n', '1'), { done: whole, ms: 5000 });
    else await pause(200);
  }],
  'pingers without a token': [300, (kind) => connection(kind, upgrade(3), { onOpen: (socket) => drip(socket, frame('2'), 500) })],
  'giant tokens': [50, async (kind) => {
    await connection(kind, request(`GET /orders?token=${giant}`), { done: whole, ms: 5000 });
    await connection(kind, Buffer.concat([Buffer.from(upgrade(4)), frame(`40/realtime,{"token":"${giant}"}`)]), { ms: 2000 });
  }],
  'garbage packets': [50, (kind) => connection(kind,
    Buffer.concat([Buffer.from(upgrade(4)), frame('42["x"'), Buffer.from([0xff, 0xff, 0xff, 0, 1, 2])]), { ms: 2000 })],
  floods: [20, (kind) => connection(kind, request('GET /tracking/nobody').repeat(500), { ms: 3000 })],
  'readers that stall': [100, (kind) => connection(kind, request('GET /orders?limit=200', auth).repeat(5), { reads: false, ms: 20_000 })],
  'pipelined pages': [60, (kind) => connection(kind, request('GET /orders?limit=200', auth).repeat(5), { ms: 5000 })],
  'connections that come and go': [50, (kind) => connection(kind, 'G', { ms: 20 })],
};

async function client(kind, act) {
  while (!over()) {
    const began = Date.now();
    await act(kind);
    // A connection that is refused at once tries again as fast as an attacker would, but not without end in this process.
    if (Date.now() - began < 20) await pause(20);
  }
}

const all = Object.values(kinds).flatMap(([count, act], index) => Array.from({ length: count }, () => client(index + 1, act)));
console.log(`${all.length} hostile clients of ${Object.keys(kinds).length} kinds`);
await Promise.all(all);
