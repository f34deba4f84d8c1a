// A socket.io-client as programs.test.mjs runs it, in Node or Bun: `LIBRARY TRANSPORT NAMESPACE BASE TOKEN ORDER`. Prints what happens, a JSON
// object a line. `ws` is no Socket.IO client: it follows the order at /orders/track.
import { createRequire } from 'node:module';

const [library, transport, namespace, base, token, order] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const TRANSPORTS = { websocket: ['websocket'], polling: ['polling'], upgrade: ['polling', 'websocket'] };
let last = 0;

function socketIo() {
  const io = require(library);
  const old = library === 'socket.io-client-2';
  const socket = io(base + namespace, {
    transports: TRANSPORTS[transport], reconnectionDelay: 50, reconnectionDelayMax: 200, timeout: 2000,
    ...(old ? { query: { token } } : { auth: { token } }),
  });
  socket.on('connect', () => {
    say({ at: 'connected' });
    if (namespace === '/') return;
    socket.emit('subscribe:order', { orderId: order, ...(last && { since: last }) }, (answer) => say({ at: 'ack', ok: answer.ok }));
  });
  socket.on(namespace === '/' ? 'orderStatusUpdate' : 'order:status_update', (...given) => {
    last = given[0].seq;
    say({ at: 'update', seq: last, arguments: given.length });
  });
  socket.on('disconnect', () => say({ at: 'closed' }));
}

function webSocket() {
  const socket = new (require('ws'))(`${base.replace('http', 'ws')}/orders/track?token=${token}`);
  socket.on('message', (data) => {
    const message = JSON.parse(data);
    if (message.type === 'connected') {
      say({ at: 'connected' });
      socket.send(JSON.stringify({ type: 'subscribe', order_id: order, ...(last && { since: last }) }));
    } else if (message.type === 'subscribed') say({ at: 'ack', ok: true });
    else if (message.type === 'order_update') {
      last = message.seq;
      say({ at: 'update', seq: last, arguments: 1 });
    }
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    say({ at: 'closed' });
    setTimeout(webSocket, 100);
  });
}

if (library === 'ws') webSocket(); else socketIo();
process.stdin.resume().on('end', () => process.exit()); // until the test lets go
