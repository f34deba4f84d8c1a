// A driver's phone, which knows neither its heading nor its speed.
import { done, order, socketOf } from './stage.mjs';

await order();
globalThis.socket = await socketOf('d1', 'driver');
globalThis.socket.on('driver:location_acknowledged', ({ orderIds }) => done(`shown for ${orderIds.length} orders`));
const position = { coords: { latitude: 47.142, longitude: 9.53, heading: -1, speed: null, accuracy: 8 }, timestamp: Date.now() };
globalThis.Geolocation = { watchPosition: (tell) => tell(position) };
