// A bare relay with Socket.IO on Node. It listens on the port in PORT.
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { relay } from './relay.mjs';

const http = createServer();
const io = new Server(http, { transports: ['websocket'] });
relay(io);
// Saves memory, as Socket.IO's documentation advises: the request that opened a connection is not needed any more.
io.engine.on('connection', (socket) => {
  socket.request = null;
});

http.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
