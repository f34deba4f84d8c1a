// A recorded GPS trip is driven again: a driver's app sends it, and two watchers see every point in order.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { closeAll, connect } from '../support/client.mjs';
import { ADMIN, as, people, Server } from '../support/server.mjs';

const FILE = fileURLToPath(new URL('../../../../shared/data/around-visnjan-with-car.gpx', import.meta.url));

/** The points of a track, moved in time so that the last one was measured just now: old positions are refused. */
function trackPoints(gpx) {
  const points = [...gpx.matchAll(/<trkpt lat="([^"]+)" lon="([^"]+)">.*?<time>([^<]+)<\/time>/gs)]
    .map(([, latitude, longitude, time]) => ({ latitude: Number(latitude), longitude: Number(longitude), time: Date.parse(time) }));
  const later = Date.now() - points.at(-1).time;
  return points.map(({ time, ...place }) => ({ ...place, recordedAt: new Date(time + later).toISOString() }));
}

const skip = !existsSync(FILE) && `${FILE} is not there`;
test('The recorded trip arrives point by point', { skip }, async () => {
  const points = trackPoints(readFileSync(FILE, 'utf8'));
  assert.equal(points.length, 104);
  const server = await Server.start({ args: ['--location-rate-per-second', '0', '--socket-requests-per-second', '0'] });
  after(() => { closeAll(); return server.close(); });

  const who = people();
  const { id: orderId } = await server.assigned(who);
  await server.status(orderId, 'in_transit');
  const driver = await connect(server, { transport: 'upgrade', user: as(who.driver, 'driver') });
  const customer = await connect(server, { client: '4', transport: 'websocket', user: as(who.customer, 'customer') });
  const admin = await connect(server, { client: '3', transport: 'polling', user: ADMIN });
  for (const watcher of [customer, admin]) await watcher.ask('subscribe:order', { orderId });

  for (const point of points) await driver.ask('driver:location', { ...point, orderId });
  for (const watcher of [customer, admin]) {
    const seen = await watcher.count('driver:location_update', points.length);
    assert.deepEqual(seen.map(({ latitude, longitude }) => [latitude, longitude]),
      points.map(({ latitude, longitude }) => [latitude, longitude]));
    assert.deepEqual(seen.map(({ timestamp }) => Date.parse(timestamp)), points.map(({ recordedAt }) => Date.parse(recordedAt)));
  }
  // an ETA is sent only when its minute changes
  const minutes = customer.of('order:eta_update').map((eta) => eta.etaMinutes);
  assert.ok(minutes.every((minute, i) => minute >= 1 && minute !== minutes[i - 1]), `${minutes}`);
  const tracking = await server.tracking(orderId, as(who.customer, 'customer'));
  assert.deepEqual([tracking.driverLatitude, tracking.driverLongitude], [points.at(-1).latitude, points.at(-1).longitude]);
});
