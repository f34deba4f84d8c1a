// Socket.IO's own server with an application as Ordercast's: the same namespaces, the same tokens, the same answers. What differs beside it
// is the protocol. It runs in a thread of its own: see node-server.mjs.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { parentPort, workerData } from 'node:worker_threads';
import { Server as SocketIo } from 'socket.io';

const http = createServer((_, response) => { response.writeHead(404).end(); });
const io = new SocketIo(http, { allowEIO3: true, maxHttpBufferSize: 65_536, pingInterval: 25_000, pingTimeout: 20_000, ...workerData });
const known = ({ handshake: { auth, query } }) => typeof (auth.token ?? query.token) === 'string';
const guard = (socket, next) => next(known(socket) ? undefined : new Error('unauthorized: no token was given'));
io.use(guard);
io.of('/realtime').use(guard).on('connection', (socket) => {
  socket.emit('connected', {});
  socket.onAny((name, ...rest) => {
    // No handler has a number as its name.
    if (typeof name !== 'string') return;
    const answer = rest.at(-1);
    if (typeof answer === 'function') answer({});
    else if (name !== 'ping:latency') socket.emit('error', {});
  });
});
http.listen(0, '127.0.0.1');
await once(http, 'listening');
parentPort.postMessage(http.address().port);
