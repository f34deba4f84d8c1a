// The payloads of the protocol, member by member. `name?` may be absent; nothing may be null unless it says so.
import assert from 'node:assert/strict';

const TYPES = {
  string: (v) => typeof v === 'string' && v.length > 0,
  number: (v) => typeof v === 'number' && Number.isFinite(v),
  count: (v) => Number.isSafeInteger(v) && v >= 0,
  boolean: (v) => typeof v === 'boolean',
  object: (v) => v !== null && typeof v === 'object' && !Array.isArray(v),
  array: (v) => Array.isArray(v),
  time: (v) => typeof v === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(v) && !Number.isNaN(Date.parse(v)),
};

/** Checks that `value` has exactly the members of `members`, with their types; with `open`, others may be there too. */
export function check(value, members, what, { open = false } = {}) {
  assert.ok(TYPES.object(value), `${what} is ${JSON.stringify(value)}`);
  const known = new Set();
  for (const [member, types] of Object.entries(members)) {
    const name = member.replace('?', '');
    known.add(name);
    if (!(name in value) && member.endsWith('?')) continue;
    const good = types.split('|').some((type) => (type === 'null' ? value[name] === null : TYPES[type](value[name])));
    assert.ok(good, `${what}: ${name} should be ${types}, but is ${JSON.stringify(value[name])}`);
  }
  if (!open) {
    const extra = Object.keys(value).filter((name) => !known.has(name));
    assert.deepEqual(extra, [], `${what} has members that the contract does not name`);
  }
}

export const CONNECTED = {
  socketId: 'string', userId: 'string', role: 'string', recovered: 'boolean', position: 'count', serverTime: 'time',
};
export const ORDER = {
  id: 'string', orderNumber: 'string', 'trackingNumber?': 'string|null', customer: 'object', chef: 'object',
  delivery: 'object', 'items?': 'array', 'total?': 'number|null', 'currency?': 'string|null', 'notes?': 'string|null',
  fulfilment: 'string', 'scheduledFor?': 'string|object', 'proofRequired?': 'array', 'failureReason?': 'string',
  status: 'string', paymentStatus: 'string', driver: 'object|null', seq: 'count',
  'estimatedDeliveryTime?': 'time|null', 'etaMinutes?': 'count|null', createdAt: 'time', updatedAt: 'time',
};
export const STATUS_UPDATE = {
  orderId: 'string', orderNumber: 'string', status: 'string', 'previousStatus?': 'string|null', seq: 'count',
  position: 'count', timestamp: 'time', 'changedBy?': 'string', 'driver?': 'object|null', paymentStatus: 'string',
  'etaMinutes?': 'count', 'estimatedDeliveryTime?': 'time', message: 'string', 'reason?': 'string', 'changed?': 'array', 'corrected?': 'boolean', 'replayed?': 'boolean', 'snapshot?': 'boolean',
};
export const AVAILABLE = { orderId: 'string', orderNumber: 'string', pickup: 'object' };
export const WITHDRAWN = { orderId: 'string', reason: 'string' };
export const UNASSIGNED = { orderId: 'string', orderNumber: 'string' };
export const LOCATION_UPDATE = {
  orderId: 'string', driverId: 'string', latitude: 'number', longitude: 'number', 'heading?': 'number', 'speed?': 'number',
  'accuracy?': 'number', source: 'string', 'uncertaintyMeters?': 'number', 'reanchored?': 'boolean', timestamp: 'time', receivedAt: 'time', ageMs: 'count', conflated: 'count',
};
export const ETA_UPDATE = { orderId: 'string', etaMinutes: 'count', estimatedDeliveryTime: 'time', etaLow: 'time', etaHigh: 'time', etaSource: 'string', 'remainingMeters?': 'count', 'stopsBefore?': 'count', 'stale?': 'boolean' };
export const ACKNOWLEDGED = { orderIds: 'array', receivedAt: 'time' };
export const ERROR = { code: 'string', message: 'string', event: 'string' };
export const TRACKING = {
  orderId: 'string', orderNumber: 'string', status: 'string', customerName: 'string', deliveryAddress: 'string',
  deliveryLatitude: 'number', deliveryLongitude: 'number', chefName: 'string', chefBusinessName: 'string',
  chefAddress: 'string', chefLatitude: 'number', chefLongitude: 'number', driverAssigned: 'boolean',
  'driverName?': 'string', 'driverPhone?': 'string', 'driverLatitude?': 'number', 'driverLongitude?': 'number',
  'lastLocationUpdate?': 'time', 'estimatedDeliveryTime?': 'time', 'etaMinutes?': 'count', statusHistory: 'array',
  createdAt: 'time', 'paymentConfirmedAt?': 'time', 'acceptedAt?': 'time', 'readyAt?': 'time', 'assignedAt?': 'time',
  'pickedUpAt?': 'time', 'deliveredAt?': 'time', seq: 'count', 'trackingNumber?': 'string', paymentStatus: 'string',
  'cancelledAt?': 'time', 'failedAt?': 'time', 'returnedAt?': 'time', 'failureReason?': 'string', 'fulfilment?': 'string', 'scheduledFor?': 'string|object', 'etaLow?': 'time', 'etaHigh?': 'time', 'etaSource?': 'string', 'remainingMeters?': 'count', 'stale?': 'boolean',
  'stopsBefore?': 'count', milestones: 'array', 'risk?': 'string',
};

/** Checks that the seqs are `from`, `from + 1`, … without a gap or a repeat. */
export function gapless(updates, from, what) {
  assert.deepEqual(updates.map((update) => update.seq), updates.map((_, i) => from + i), `${what}: seqs`);
}
