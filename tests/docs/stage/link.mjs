// Somebody who was given a link to an order.
import { io } from 'socket.io-client';
import { call, done, order } from './stage.mjs';

const id = await order();
({ token: globalThis.token } = await call('POST', `/orders/${id}/share-links`, { scope: 'location', expiresInSeconds: 60 }));
globalThis.io = (...given) => io(...given).on('order:status_update', ({ orderId, status }) => { if (orderId === id) done('they see', status); });
