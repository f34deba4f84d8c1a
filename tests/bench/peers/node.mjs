// Bare Node socket.io doing only the relay. PORT says where to listen.
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { relay } from './relay.mjs';

const http = createServer();
const io = new Server(http, { transports: ['websocket'] });
relay(io);
// Its documentation's advice for memory: the request that opened a connection need not be kept.
io.engine.on('connection', (socket) => {
  socket.request = null;
});

http.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
