// The "Usage Examples" of 003_63c82b99cdd90de3.txt: its curl lines and its JavaScript client, unchanged except for port, ids and tokens.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import WebSocket from 'ws';
import { etaSeconds } from '../support/doors.mjs';
import { within } from '../support/raw.mjs';
import { ADMIN, eventually, jwt, Server } from '../support/server.mjs';

const START_TRACKING = String.raw`curl -X POST http://localhost:8500/tracking/start \
  -H "Authorization: Bearer RIDER_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "order_id": "ORD-12345",
    "rider_id": "RIDER-789",
    "dropoff_lat": 5.6037,
    "dropoff_lng": -0.1869,
    "phone": "+233501234567"
  }'`;
const UPDATE_LOCATION = String.raw`curl -X POST http://localhost:8500/tracking/update/TRK-001 \
  -H "Authorization: Bearer RIDER_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "lat": 5.6045,
    "lng": -0.1875,
    "status": "IN_TRANSIT"
  }'`;
const GET_TRACKING_STATUS = String.raw`# No auth required
curl http://localhost:8500/tracking/TRK-001`;
const GET_RIDER_CURRENT_TRACKING = String.raw`curl http://localhost:8500/tracking/rider/RIDER-789 \
  -H "Authorization: Bearer TOKEN"`;
const ADMIN_STATISTICS = String.raw`curl http://localhost:8500/stats/tracking \
  -H "Authorization: Bearer ADMIN_TOKEN"`;
const CLIENT = `// Establish connection
const ws = new WebSocket(
  \`ws://localhost:8500/ws/tracking/TRK-001?token=\${jwt_token}\`
);

// Receive initial state
ws.onopen = () => {
  console.log("Connected to tracking");
};

// Handle messages
ws.onmessage = (event) => {
  const msg = JSON.parse(event.data);
  
  if (msg.type === "initial_state") {
    console.log("Initial:", msg.data);
    updateUI(msg.data);
  } else if (msg.type === "location_update") {
    console.log("Update:", msg.data);
    updateMapMarker(msg.data.current_location);
    updateETA(msg.data.eta_seconds);
    updateStatus(msg.data.status);
  } else if (msg.type === "error") {
    console.error("Error:", msg.message);
  }
};

// Send location update
function updateLocation(lat, lng, status) {
  ws.send(JSON.stringify({
    type: "location_update",
    location: {lat, lng, status}
  }));
}

// Keep alive
setInterval(() => {
  ws.send(JSON.stringify({type: "ping"}));
}, 30000);

// Handle disconnect
ws.onclose = () => {
  console.log("Disconnected");
  // Implement reconnection logic
};

ws.onerror = (error) => {
  console.error("WebSocket error:", error);
};`;

const server = await Server.start();
after(() => server.close());

const RIDER = { sub: 'RIDER-789', role: 'rider' };
const DROPOFF = { lat: 5.6037, lng: -0.1869 };
const PLACE = { lat: 5.6045, lng: -0.1875 };
const FURTHER = { lat: 5.61, lng: -0.2 };
const seconds = () => Math.floor(Date.now() / 1000);

/** The text with this run's port, id and tokens. */
const here = (text, id = 'TRK-001') => text.replaceAll('localhost:8500', `localhost:${server.port}`).replaceAll('TRK-001', id)
  .replace('RIDER_TOKEN', jwt(RIDER)).replace('ADMIN_TOKEN', jwt(ADMIN)).replace('Bearer TOKEN', `Bearer ${jwt(RIDER)}`);

async function shell(lines, id) {
  const { stdout } = await promisify(execFile)('bash', ['-c', here(lines, id)]);
  return JSON.parse(stdout);
}

test('The curl lines and the JavaScript client work as they are printed', { timeout: 60_000 }, async (t) => {
  const started = seconds();
  const session = await shell(START_TRACKING);
  const id = session.tracking_id;
  assert.match(id, /^TRK-[0-9A-Za-z]{22}$/);
  assert.ok(session.updated_at >= started && session.updated_at <= seconds(), `updated_at is ${session.updated_at}`);
  assert.deepEqual(session, {
    tracking_id: id, order_id: 'ORD-12345', rider_id: 'RIDER-789', status: 'ASSIGNED', current_location: null,
    dropoff: DROPOFF, eta_seconds: null, updated_at: session.updated_at,
  });

  // the page that the snippet belongs to
  const [calls, looks, page] = [[], new Set(), { sockets: [], timers: [] }];
  const note = (name) => (...what) => {
    calls.push([name, ...what]);
    for (const look of [...looks]) look();
  };
  const last = (name) => calls.findLast(([one]) => one === name)?.[1];
  const until = (check, what) => within(new Promise((resolve) => {
    const look = () => { if (check()) { looks.delete(look); resolve(); } };
    looks.add(look);
    look();
  }), what);
  class Browser extends WebSocket {
    constructor(url) {
      super(url);
      page.sockets.push(this);
      this.on('message', (data) => note(`(${JSON.parse(data).type})`)(true));
    }
  }
  const console = { log: note('log'), error: note('error') };
  const names = ['WebSocket', 'jwt_token', 'setInterval', 'console', 'updateUI', 'updateMapMarker', 'updateETA', 'updateStatus'];
  const { updateLocation } = new Function(...names, `${here(CLIENT, id)}\nreturn { updateLocation };`)(
    Browser, jwt(RIDER), (tick, ms) => page.timers.push([tick, ms]), console, ...names.slice(4).map(note));
  t.after(() => page.sockets[0].terminate());

  await until(() => last('updateUI'), 'the initial state');
  assert.deepEqual(last('updateUI'), session);
  assert.deepEqual(calls[0], ['log', 'Connected to tracking']);

  const update = await shell(UPDATE_LOCATION, id);
  assert.deepEqual(update, {
    tracking_id: id, status: 'IN_TRANSIT', current_location: { ...PLACE, timestamp: update.current_location.timestamp },
    eta_seconds: 60, updated_at: update.updated_at,
  });
  assert.ok(update.updated_at >= session.updated_at && update.current_location.timestamp <= seconds());
  await until(() => last('(status_change)'), 'the change');
  await until(() => last('updateMapMarker')?.lat === PLACE.lat && last('updateStatus') === 'IN_TRANSIT', 'the place');
  assert.deepEqual([last('updateMapMarker'), last('updateETA')], [update.current_location, 60]);

  const [[keepAlive, every]] = page.timers;
  assert.equal(every, 30_000);
  keepAlive();
  await until(() => last('(pong)'), 'the pong');

  // the rider's own page reports the position
  updateLocation(FURTHER.lat, FURTHER.lng);
  await until(() => last('updateMapMarker').lat === FURTHER.lat, 'the next place');
  assert.deepEqual([last('updateMapMarker').lng, last('updateStatus')], [FURTHER.lng, 'IN_TRANSIT']);
  assert.ok(Math.abs(last('updateETA') - etaSeconds(FURTHER, DROPOFF)) <= 1, `${last('updateETA')} s`);

  const status = await shell(GET_TRACKING_STATUS, id);
  assert.deepEqual(status, {
    tracking_id: id, order_id: 'ORD-12345', status: 'IN_TRANSIT', current_location: last('updateMapMarker'),
    dropoff: DROPOFF, eta_seconds: last('updateETA'), updated_at: status.updated_at,
  });
  assert.deepEqual(await shell(GET_RIDER_CURRENT_TRACKING), { ...status, rider_id: 'RIDER-789' });
  assert.deepEqual(await shell(ADMIN_STATISTICS), {
    total_active_sessions: 1, total_websocket_connections: 1,
    status_distribution: { ASSIGNED: 0, PICKED_UP: 0, IN_TRANSIT: 1, DELIVERED: 0 },
    sessions_by_recency: { last_5_min: 1, last_hour: 0, older: 0 },
  });

  page.sockets[0].close();
  await until(() => last('log') === 'Disconnected', 'the close');
  assert.equal(last('error'), undefined);
  await eventually(async () => (await shell(ADMIN_STATISTICS)).total_websocket_connections === 0, 'the connection to be gone');
});
