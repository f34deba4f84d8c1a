// A bare relay with Socket.IO on Bun's own engine. Run it with Bun.
import { Server as Engine } from '@socket.io/bun-engine';
import { Server } from 'socket.io';
import { relay } from './relay.mjs';

const io = new Server();
const engine = new Engine({ path: '/socket.io/' });
io.bind(engine);
relay(io);

Bun.serve({ port: Number(process.env.PORT), hostname: '127.0.0.1', ...engine.handler() });
console.log('ready');
