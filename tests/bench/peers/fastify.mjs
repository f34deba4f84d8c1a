// A bare relay with Fastify and @fastify/websocket: JSON text frames on /ws, with hand-written rooms as in its documentation.
import { randomUUID } from 'node:crypto';
import websocket from '@fastify/websocket';
import Fastify from 'fastify';

const app = Fastify();
const rooms = new Map();

const requests = {
  'subscribe:order': (socket, { orderId }) => {
    const room = rooms.get(orderId) ?? new Set();
    rooms.set(orderId, room.add(socket));
    socket.once('close', () => {
      room.delete(socket);
      if (room.size === 0) rooms.delete(orderId);
    });
    return { ok: true, orderId };
  },
  'driver:location': (socket, fix) => {
    const receivedAt = new Date().toISOString();
    const update = {
      orderId: fix.orderId,
      driverId: socket.id,
      latitude: fix.latitude,
      longitude: fix.longitude,
      heading: fix.heading,
      speed: fix.speed,
      timestamp: receivedAt,
      receivedAt,
      ageMs: 0,
      conflated: 0,
    };
    const frame = Buffer.from(JSON.stringify({ event: 'driver:location_update', data: update }));
    for (const watcher of rooms.get(fix.orderId) ?? []) watcher.send(frame, { binary: false });
    return { ok: true, receivedAt };
  },
};

await app.register(websocket, { options: { perMessageDeflate: false } });
app.get('/ws', { websocket: true }, (socket) => {
  socket.id = randomUUID();
  socket.on('message', (text) => {
    const { id, event, data } = JSON.parse(text);
    socket.send(JSON.stringify({ id, data: requests[event](socket, data) }));
  });
});
await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
console.log('ready');
