// A bare relay with a NestJS gateway. The decorators are applied by hand, so that no build step is needed.
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway, WebSocketServer } from '@nestjs/websockets';

class Gateway {
  subscribe({ orderId }, socket) {
    socket.join(`order:${orderId}`);
    return { ok: true, orderId };
  }

  location(fix, socket) {
    const receivedAt = new Date().toISOString();
    this.server.to(`order:${fix.orderId}`).emit('driver:location_update', {
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
    });
    return { ok: true, receivedAt };
  }
}
WebSocketServer()(Gateway.prototype, 'server');
for (const [method, event] of [['subscribe', 'subscribe:order'], ['location', 'driver:location']]) {
  MessageBody()(Gateway.prototype, method, 0);
  ConnectedSocket()(Gateway.prototype, method, 1);
  SubscribeMessage(event)(Gateway.prototype, method, Object.getOwnPropertyDescriptor(Gateway.prototype, method));
}
WebSocketGateway({ namespace: '/realtime', transports: ['websocket'] })(Gateway);

class App {}
Module({ providers: [Gateway] })(App);

const app = await NestFactory.create(App, { logger: ['error', 'warn'] });
await app.listen(Number(process.env.PORT), '127.0.0.1');
console.log('ready');
