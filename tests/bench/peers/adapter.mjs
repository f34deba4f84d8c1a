// The relay of node.mjs on several processes, with Socket.IO's own Redis adapter: ADAPTER is `classic` or `sharded`. It listens on PORT.
import { createServer } from 'node:http';
import { createAdapter, createShardedAdapter } from '@socket.io/redis-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';
import { relay } from './relay.mjs';

const publisher = createClient({ url: process.env.REDIS_URL });
const subscriber = publisher.duplicate();
// A client without a listener for its errors ends the process when Redis goes away.
for (const client of [publisher, subscriber]) client.on('error', () => {});
// The adapter awaits none of what it publishes, so a publish that fails would end the process too. It is measured at its best.
process.on('unhandledRejection', () => {});
await Promise.all([publisher.connect(), subscriber.connect()]);

const adapter = process.env.ADAPTER === 'sharded'
  ? createShardedAdapter(publisher, subscriber, { subscriptionMode: 'dynamic-private' })
  : createAdapter(publisher, subscriber);
const http = createServer();
const io = new Server(http, { transports: ['websocket'], adapter });
relay(io);
io.engine.on('connection', (socket) => {
  socket.request = null;
});

http.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
