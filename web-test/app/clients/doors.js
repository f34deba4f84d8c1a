// The five clients: who they are, what they say, and how their back office moves an order on.

import { Door } from './door.js';
import { SocketIoLine } from './socketio.js';
import { TRANSPORTS } from '../config.js';
import { WORDS } from './words.js';
import { TrackingDoor } from './tracking.js';
import { WebSocketLine, socketAddress } from './websocket.js';
import { request } from '../request.js';

const namespace = (door, name) => () => ({ address: `${door.setup.server}${name}`, transports: TRANSPORTS[door.setup.transport] ?? TRANSPORTS.auto });

class RealtimeDoor extends Door {
  name = 'realtime';
  title = 'Marketplace apps';
  address = 'Socket.IO /realtime';
  words = WORDS.canonical;
  writes = 'order:status_update';
  readers = ['admin', 'driver', 'chef', 'customer'];
  line = new SocketIoLine(namespace(this, '/realtime'), () => this.reader.token, this.on);

  greet(orderId) {
    request(this.line.socket, 'subscribe:order', { orderId }).catch(() => {});
  }

  leave(orderId) {
    request(this.line.socket, 'unsubscribe:order', { orderId }).catch(() => {});
  }

  write(orderId, status) {
    return request(this.line.socket, 'order:status_update', { orderId, status });
  }
}

class DefaultDoor extends Door {
  name = 'default';
  title = 'Web shop';
  address = 'Socket.IO /';
  words = WORDS.canonical;
  writes = 'PATCH /orders/{id}/status';
  readers = ['customer', 'admin', 'driver', 'chef'];
  line = new SocketIoLine(namespace(this, '/'), () => this.reader.token, this.on);

  /** On its socket it only listens; where the order stands at first is read over REST. */
  greet(id) {
    this.call('GET', `/orders/${encodeURIComponent(id)}/tracking`, this.reader).catch(() => {});
  }

  write(id, status) {
    return this.call('PATCH', `/orders/${encodeURIComponent(id)}/status`, this.writer, { status });
  }
}

class TrackDoor extends Door {
  name = 'track';
  title = 'Shop app';
  address = 'WebSocket /orders/track';
  words = WORDS.track;
  writes = 'PUT /api/orders/{id}/status';
  readers = ['customer', 'admin', 'driver', 'chef'];
  line = new WebSocketLine(() => socketAddress(this.setup, '/orders/track', this.reader), this.on);

  greet(id) {
    this.line.send({ type: 'subscribe', order_id: id });
  }

  leave(id) {
    this.line.send({ type: 'unsubscribe', order_id: id });
  }

  write(id, status) {
    return this.call('PUT', `/api/orders/${encodeURIComponent(id)}/status`, this.writer, { status });
  }
}

class WsDoor extends Door {
  name = 'ws';
  title = 'Admin panel';
  address = 'WebSocket /ws?token=…';
  words = WORDS.ws;
  writes = 'PATCH /api/v1/orders/{id}/status';
  readers = ['admin', 'chef', 'driver', 'customer'];
  line = new WebSocketLine(() => socketAddress(this.setup, '/ws', this.reader), this.on);

  greet(orderId) {
    this.line.send({ type: 'subscribe', orderId });
  }

  leave(orderId) {
    this.line.send({ type: 'unsubscribe', orderId });
  }

  write(id, status) {
    return this.call('PATCH', `/api/v1/orders/${encodeURIComponent(id)}/status`, this.writer, { status });
  }
}

/** @returns the five clients, side by side */
export const createDoors = (view) => [RealtimeDoor, DefaultDoor, TrackDoor, WsDoor, TrackingDoor].map((Kind) => new Kind(view));
