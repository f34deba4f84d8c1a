// What must and must not compile. `tsc` says when an expected error is none.
import { OrdercastError, connect, type Answer, type OrderState, type Payload, type ServerEvents } from 'ordercast-client';

const client = connect('http://localhost:9001', { token: 'x' });

client.on('order:status_update', ({ seq, status, driver }) => { const text: string = `${seq + 1} ${status} ${driver?.name}`; return text; });
// @ts-expect-error: no event has this name
client.on('order:status_updated', () => {});
// @ts-expect-error: an event of the server has no such member
client.on('order:eta_update', ({ minutes }) => minutes);
client.onAnnouncement('kitchen:closing', (data: unknown) => data);

const changed: Promise<Answer<'order:status_update'>> = client.request('order:status_update', { orderId: 'o1', status: 'accepted' });
changed.then(({ seq }) => seq + 1).catch((error: unknown) => error instanceof OrdercastError && error.code);
// @ts-expect-error: no request has this name
client.request('order:status', { orderId: 'o1' });
// @ts-expect-error: a member is missing
client.request('order:status_update', { orderId: 'o1' });
// @ts-expect-error: a status is one of the twelve words
client.request('order:status_update', { orderId: 'o1', status: 'eaten' });
// @ts-expect-error: a request is no event
client.on('subscribe:order', () => {});
const payload: Payload<'driver:location'> = { latitude: 1, longitude: 2 };
client.socket.emit('driver:location', payload);
// @ts-expect-error: neither has the raw socket other names
client.socket.emit('driver:place', payload);

export const minutes = (state: OrderState): number | undefined => state.tracking?.etaMinutes ?? undefined;
export type Update = ServerEvents['order:status_update'];
