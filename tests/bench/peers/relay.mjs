// The handlers of a bare Socket.IO relay, for Node and Bun: no tokens, no checks, no storage.
export function relay(io) {
  const realtime = io.of('/realtime');
  realtime.on('connection', (socket) => {
    socket.on('subscribe:order', ({ orderId }, ack) => {
      socket.join(`order:${orderId}`);
      ack({ ok: true, orderId });
    });
    socket.on('driver:location', (fix, ack) => {
      const receivedAt = new Date().toISOString();
      realtime.to(`order:${fix.orderId}`).emit('driver:location_update', {
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
      ack({ ok: true, receivedAt });
    });
  });
}
