// The checker, checked: it finds nothing in records that are good, and in each that is not what is wrong with it.
import { checkApp } from './doors-checker.mjs';
import { checkLog } from './log.mjs';
import { recordsOf } from './self-test-doors.mjs';

// Order a goes to dana, then to dino; order b comes in between and is cancelled.
const row = (seq, position, status, driver = null) => ({ seq, position, status, driver, time: position * 1000 });
const LOG = new Map([
  ['a', {
    customer: 'carla', chef: 'kim', events: [
      row(1, 1, 'pending'), row(2, 2, 'accepted'), row(3, 4, 'ready_for_pickup'), row(4, 5, 'assigned_to_driver', 'dana'),
      row(5, 7, 'assigned_to_driver', 'dino'), row(6, 8, 'picked_up', 'dino'), row(7, 10, 'delivered', 'dino'),
    ],
  }],
  ['b', { customer: 'carla', chef: 'kim', events: [row(1, 3, 'pending'), row(2, 6, 'accepted'), row(3, 9, 'cancelled')] }],
]);

const connect = (recovered = false, gave = undefined, time = 0) => ({ at: 'connect', recovered, gave, time });
const connected = (recovered = false, position = 0) => ({ at: 'connected', recovered, position });
const cut = { at: 'disconnect', reason: 'transport close' };
const fresh = [connect(), connected()];
const back = (position) => [cut, connect(true), connected(true, position)];
const update = (order, seq, kind = 'live', more = {}) => {
  const { status, position } = LOG.get(order).events[seq - 1];
  return { at: 'event', name: 'order:status_update', order, seq, kind, status, position, offset: String(position), ...more };
};
const other = (name, order, offset) => ({ at: 'event', name, order, offset });
const ask = (order, since) => ({ at: 'ask', order, since });
const answer = (order, since, seq) => ({ at: 'answer', order, since, seq });
const who = (user, role, record, more = {}) => ({ name: user, door: '/realtime', user, role, recovers: true, record, ...more });

const carla = (...record) => who('carla', 'customer', record);
const ALL = [['a', 2], ['a', 3], ['a', 4], ['b', 2], ['a', 5], ['a', 6], ['b', 3], ['a', 7]].map((event) => update(...event));
const after = (position) => ALL.filter((item) => item.position > position);
const upTo = (position) => ALL.filter((item) => item.position <= position);
const without = (seq) => ALL.filter((item) => item.order !== 'a' || item.seq !== seq);
const swapped = (i) => [...ALL.slice(0, i), ALL[i + 1], ALL[i], ...ALL.slice(i + 2)];
const replayed = (items) => items.map((item) => ({ ...item, kind: 'replay' }));

const kim = (...record) => who('kim', 'chef', record);
const NEW = [other('order:new', 'a', '1'), other('order:new', 'b', '3')];
const KITCHEN = [NEW[0], ALL[0], NEW[1], ...ALL.slice(1)];

const old = (...record) => who('carla', 'customer', record, { recovers: false });
const service = (...record) => who('backend', 'service', record);
const replayOf = (seqs, place, number = 1) => seqs.map((seq) => update('a', seq, 'replay', { offset: `${place}~${seq}~${number}` }));
const snapshotOf = (seq, place) => update('a', seq, 'snapshot', { offset: `${place}~${seq}~1` });

const dana = (...record) => who('dana', 'driver', record);
const SHIFT = [other('order:available', 'a', '4.0'), other('driver:new_assignment', 'a', '5.0'), other('order:withdrawn', 'a', '5.1'), update('a', 4)];
const TAKEN = other('driver:unassigned', 'a', '7.0');

const GOOD = {
  'all, in one session': carla(...fresh, ...ALL),
  'recovered in the middle': carla(...fresh, ...upTo(5), ...back('5'), ...after(5)),
  'recovered twice, once without an event': carla(...fresh, ...upTo(5), ...back('5'), ...back('5'), ...after(5)),
  'a chef': kim(...fresh, ...KITCHEN),
  'a driver for a while': dana(...fresh, ...SHIFT, TAKEN),
  'a driver, not recovered: what they followed was taken away': dana(
    ...fresh, ...SHIFT, ask('a', 4), answer('a', 4, 4), cut, connect(false, 5, 8000), connected(false, 5), TAKEN,
  ),
  'an old client with auth.position': old(...fresh, ...upTo(5), cut, connect(false, 5), connected(false, 5), ...replayed(after(5))),
  'an old client that asks for part of a position again': who('kim', 'chef', [
    ...fresh, NEW[0], cut, connect(false, 0), connected(false, 0), ...KITCHEN.map((item) => ({ ...item, ...(item.kind && { kind: 'replay' }) })),
  ], { recovers: false }),
  'a subscription from the start': service(...fresh, ask('a', 0), answer('a', 0, 3), ...replayOf([2, 3], '4'), ...[4, 5, 6, 7].map((seq) => update('a', seq))),
  'a subscription from now': service(...fresh, ask('a'), answer('a', undefined, 4), snapshotOf(4, '6'), ...[5, 6, 7].map((seq) => update('a', seq))),
  'a subscription from now, its snapshot cut': service(
    ...fresh, ask('a'), answer('a', undefined, 4), ...back('4'), ...[4, 5, 6, 7].map((seq) => update('a', seq)),
  ),
  'subscribed once more': service(
    ...fresh, ask('a', 1), answer('a', 1, 4), ...replayOf([2, 3, 4], '5'), ask('a', 4), update('a', 5), answer('a', 4, 5),
    ...replayOf([5], '7', 2), ...[6, 7].map((seq) => update('a', seq)),
  ),
  'a subscription cut before its answer, in force all the same': service(
    ...fresh, ask('a', 1), ...back('0'), ...[2, 3, 4, 5].map((seq) => update('a', seq)), ask('a', 1), answer('a', 1, 5), ...[6, 7].map((seq) => update('a', seq)),
  ),
  'a subscription that was never answered, in force all the same': service(
    ...fresh, ask('a'), ...back('5'), update('a', 5), ask('a'), ...back('7'), ...[6, 7].map((seq) => update('a', seq)),
  ),
  'a replay cut short, and gone on with': service(
    ...fresh, ask('a', 1), answer('a', 1, 4), ...replayOf([2], '5'), ...back('5'), ...replayOf([3, 4], '5'), ...[5, 6, 7].map((seq) => update('a', seq)),
  ),
  'a replay cut before its answer, and asked for again': service(
    ...fresh, ask('a', 1), ...back('5'), ...replayOf([2, 3], '5'), ask('a', 1), answer('a', 1, 4), ...replayOf([2, 3, 4], '5', 2),
    ...[5, 6, 7].map((seq) => update('a', seq)),
  ),
};

const BAD = {
  'a gap': ['gap', carla(...fresh, ...without(5))],
  'a gap at a recovery': ['gap', carla(...fresh, ...upTo(4), ...back('4'), ...after(5))],
  'the end missing': ['gap', carla(...fresh, ...upTo(9))],
  'a whole order missing': ['gap', carla(...fresh, ...ALL.filter((item) => item.order === 'a'))],
  'a repeat': ['repeat', carla(...fresh, ...upTo(5), update('a', 4), ...after(5))],
  'a repeat at a recovery': ['repeat', carla(...fresh, ...upTo(5), ...back('5'), update('a', 4), ...after(5))],
  'a swap within an order': ['swap', carla(...fresh, ...swapped(0))],
  'a swap between orders': ['offset', carla(...fresh, ...swapped(2))],
  'an event without its offset': ['offset', carla(...fresh, ...ALL.map((item) => (item.seq === 5 ? { ...item, offset: null } : item)))],
  'the offset of another': ['offset', carla(...fresh, ...ALL.map((item) => (item.seq === 5 ? { ...item, offset: '6.9' } : item)))],
  'another status than was logged': ['content', carla(...fresh, ...ALL.map((item) => (item.seq === 5 ? { ...item, status: 'cancelled' } : item)))],
  'not recovered': ['fresh', carla(...fresh, ...upTo(5), cut, ...fresh, ...after(5))],
  'not recovered, though the app makes up for it': ['fresh', carla(...fresh, ...upTo(5), cut, connect(false, 5), connected(false, 5), ...replayed(after(5)))],
  'recovered, but greeted as new': ['greeting', carla(...fresh, ...upTo(5), cut, connect(true), connected(false, 5), ...after(5))],
  'sent away for good': ['dismissed', carla(...fresh, ...ALL, { at: 'disconnect', reason: 'io server disconnect' })],
  'refused': ['fault', carla(...fresh, ...ALL, { at: 'fault', text: 'refused: unauthorized' })],
  'order:new missing': ['gap', kim(...fresh, ...KITCHEN.filter((item) => item !== NEW[1]))],
  'order:new twice': ['repeat', kim(...fresh, NEW[0], ...KITCHEN)],
  'order:new to a customer': ['stranger', carla(...fresh, NEW[0], ...ALL)],
  'driver:unassigned missing': ['gap', dana(...fresh, ...SHIFT)],
  'order:available missing': ['gap', dana(...fresh, ...SHIFT.slice(1), TAKEN)],
  'what a former driver should not hear': ['stranger', dana(...fresh, ...SHIFT, TAKEN, update('a', 6))],
  'a driver, not recovered, though nothing was taken away': ['fresh', dana(
    ...fresh, SHIFT[0], cut, connect(false, 4, 8000), connected(false, 4), ...SHIFT.slice(1), TAKEN,
  )],
  'an old client: a gap in the replay': ['gap', old(...fresh, ...upTo(5), cut, connect(false, 5), connected(false, 5), ...replayed(after(6)), update('b', 3))],
  'an old client: a replay of what it has': ['repeat', old(...fresh, ...upTo(5), cut, connect(false, 5), connected(false, 5), ...replayed([ALL[2], ...after(5)]))],
  'a subscription with a gap after the replay': ['gap', service(...fresh, ask('a', 0), answer('a', 0, 3), ...replayOf([2, 3], '4'), ...[5, 6, 7].map((seq) => update('a', seq)))],
  'a subscription with a gap in the replay': ['gap', service(...fresh, ask('a', 0), answer('a', 0, 4), ...replayOf([2, 4], '5'), ...[5, 6, 7].map((seq) => update('a', seq)))],
  'a replay cut short, and recovered without the rest': ['gap', service(
    ...fresh, ask('a', 0), answer('a', 0, 4), ...replayOf([2], '5'), ...back('5'), ...[5, 6, 7].map((seq) => update('a', seq)),
  )],
  'a subscription that was never answered, with a gap': ['gap', service(
    ...fresh, ask('a'), ...back('5'), update('a', 5), ask('a'), ...back('7'), update('a', 7),
  )],
  'a replay turned back': ['offset', service(
    ...fresh, ask('a', 0), answer('a', 0, 4), ...replayOf([2, 3], '5'), ...back('5'), ...replayOf([2, 3, 4], '5'), ...[5, 6, 7].map((seq) => update('a', seq)),
  )],
  'live what had been replayed': ['repeat', service(...fresh, ask('a', 0), answer('a', 0, 3), ...replayOf([2, 3], '2'), ...[3, 4, 5, 6, 7].map((seq) => update('a', seq)))],
  'a subscription from now, its snapshot and more cut': ['gap', service(
    ...fresh, ask('a'), answer('a', undefined, 4), ...back('5'), ...[6, 7].map((seq) => update('a', seq)),
  )],
  'of an order that was not asked for': ['stranger', service(...fresh, update('b', 2))],
};

const changed = (order, at, more) => new Map(LOG).set(order, {
  ...LOG.get(order), events: LOG.get(order).events.flatMap((event, i) => (i !== at ? event : more ? { ...event, ...more } : [])),
});
const TOLD = { order: 'a', seq: 5, status: 'assigned_to_driver', driver: 'dino' };
const LOGS = {
  'a whole log': [undefined, LOG, [TOLD]],
  'an acknowledged change that is lost': ['lost', changed('a', 6), [{ ...TOLD, seq: 7, status: 'delivered' }]],
  'an acknowledged change of an order that is lost': ['lost', LOG, [{ ...TOLD, order: 'c' }]],
  'an acknowledged change that became another': ['lost', changed('a', 4, { driver: 'dora' }), [TOLD]],
  'a gap in an order': ['log', changed('b', 1), []],
  'a gap in the positions': ['log', changed('b', 2, { position: 11 }), []],
};

let failed = 0;
let passed = 0;
function expect(what, kind, problems) {
  const good = kind === undefined ? problems.length === 0 : problems.some((problem) => problem.kind === kind);
  if (good) passed += 1;
  else failed += 1;
  const found = problems.map((problem) => `${problem.kind}: ${problem.text}`).join('; ') || 'nothing';
  console.log(`${good ? 'ok' : 'not ok'} ${passed + failed} - ${what}${good && !kind ? '' : ` (${found})`}`);
}
const doors = recordsOf(LOG);
for (const [what, client] of Object.entries({ ...GOOD, ...doors.GOOD })) expect(what, undefined, checkApp(client, LOG));
for (const [what, [kind, client]] of Object.entries({ ...BAD, ...doors.BAD })) expect(what, kind, checkApp(client, LOG));
for (const [what, [kind, log, told]] of Object.entries(LOGS)) expect(what, kind, checkLog(log, told));
console.log(`# pass ${passed}\n# fail ${failed}\n${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
