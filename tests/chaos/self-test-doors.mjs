// Records of apps on the doors beside `/realtime`, good ones and such that have something wrong with them, for self-test.mjs.
import { MESSAGES, WORDS } from '../clients/support/doors.mjs';

/** The log is that of self-test.mjs: order a goes to dana, then to dino, who delivers it; order b is cancelled. Both are carla's and kim's. */
export function recordsOf(log) {
  const at = (order, seq) => log.get(order).events[seq - 1];
  const open = { at: 'open' };
  const close = (code = 1006, reason = '') => ({ at: 'close', code, reason });
  const ask = (order, since) => ({ at: 'ask', order, since });
  const fault = { at: 'fault', text: 'error' };
  const without = (items, seq) => items.filter((item) => item.order !== 'a' || item.seq !== seq);
  const swapped = (items, i) => [...items.slice(0, i), items[i + 1], items[i], ...items.slice(i + 2)];

  // the default namespace
  const page = (...record) => ({ name: 'carla', door: '/', user: 'carla', role: 'customer', recovers: true, record });
  const fresh = [{ at: 'connect', recovered: false }, { at: 'connected', recovered: false, position: 0 }];
  const back = [{ at: 'disconnect', reason: 'transport close' }, { at: 'connect', recovered: true }, { at: 'connected', recovered: true, position: 0 }];
  const notice = (order, seq) => {
    const { status, position } = at(order, seq);
    return { at: 'event', name: 'orderStatusUpdate', order, seq, kind: 'live', status, position, offset: `${position}.0` };
  };
  const tracking = (order, seq) => ({ at: 'event', name: 'trackingUpdate', order, offset: String(at(order, seq).position) });
  const both = (order, seq) => [notice(order, seq), tracking(order, seq)];
  // that a goes to dino is no change of its status
  const NOTICES = [both('a', 2), both('a', 3), both('a', 4), both('b', 2), [tracking('a', 5)], both('a', 6), both('b', 3), both('a', 7)];

  // /orders/track
  const track = (...record) => ({ name: 'carla', door: '/orders/track', user: 'carla', role: 'customer', record });
  const greeted = [open, { at: 'greeting' }];
  const subscribed = (order) => ({ at: 'subscribed', order });
  const follow = (order, since) => [ask(order, since), subscribed(order)];
  const update = (order, seq) => {
    const status = WORDS[at(order, seq).status].track;
    return { at: 'event', name: 'order_update', order, seq, status, message: MESSAGES[status] };
  };
  const updates = (order, from, to) => Array.from({ length: to - from + 1 }, (_, i) => update(order, from + i));
  const B = [...follow('b'), ...updates('b', 1, 3)];

  // /ws
  const orders = (...record) => ({ name: 'carla', door: '/ws', user: 'carla', role: 'customer', record });
  const state = (order, seq) => {
    const { status, driver } = at(order, seq);
    return { at: 'event', name: 'order:updated', order, seq, status: WORDS[status].ws, driver };
  };
  const states = (order, from, to) => Array.from({ length: to - from + 1 }, (_, i) => state(order, from + i));
  const hint = (order, status) => ({ at: 'event', name: 'orders:changed', order, status });
  const BS = [ask('b'), ...states('b', 1, 3)];

  // /ws/tracking
  const tracker = (...record) => ({ name: 'anybody', door: '/ws/tracking', record });
  const start = (session, rider, order = 'a') => ({ at: 'start', session, order, rider });
  const of = (session, ...items) => items.map((item) => ({ ...item, session }));
  const seen = (name, status, rider, fix = null) => ({ at: 'event', name, order: 'a', rider, status, fix, time: at('a', 1).time });
  const changed = (status, rider) => [seen('location_update', status, rider), seen('status_change', status, rider)];
  const expired = [{ at: 'expired' }, close(1008, 'Session expired'), { at: 'leave' }];
  const DANA = [start('D', 'dana'), ...of('D', open, seen('initial_state', 'ASSIGNED', 'dana'), ...expired)];
  const dino = (...items) => [start('E', 'dino'), ...of('E', open, seen('initial_state', 'ASSIGNED', 'dino'), ...items)];
  const [PICKED, DELIVERED] = [changed('PICKED_UP', 'dino'), changed('DELIVERED', 'dino')];
  const refused = (rider, status, seq) => ({ at: 'refused', order: 'a', rider, status, time: at('a', seq).time });

  const GOOD = {
    'a page: all': page(...fresh, ...NOTICES.flat()),
    'a page, recovered between the two notices of a change': page(...fresh, ...NOTICES[0], NOTICES[1][0], ...back, NOTICES[1][1], ...NOTICES.slice(2).flat()),
    'track: both orders from the present on': track(...greeted, ...follow('a'), ...updates('a', 3, 7), ...B),
    'track: from the start, with the creation or without': track(...greeted, ...follow('a', 0), ...updates('a', 2, 7), ...follow('b', 0), ...updates('b', 1, 3)),
    'track: back, since the last': track(...greeted, ...B, ...follow('a', 1), ...updates('a', 2, 4), close(1001), ...greeted, ...follow('a', 4), ...updates('a', 5, 7)),
    'track: back before anything was told': track(...greeted, ...B, ask('a'), close(), ...greeted, ...follow('a'), ...updates('a', 4, 7)),
    'track: asked twice, told twice': track(...greeted, ...B, ask('a', 0), ask('a', 0), subscribed('a'), ...updates('a', 2, 3), subscribed('a'), ...updates('a', 2, 7)),
    'ws: both orders, with hints': orders(open, ask('a'), state('a', 1), hint('a', 'CONFIRMED'), ...states('a', 2, 7), hint('a', 'DELIVERED'), ...BS),
    'ws: back': orders(open, ...BS, ask('a'), ...states('a', 2, 4), close(), open, ask('a'), ...states('a', 4, 5), close(), open, ask('a'), state('a', 7)),
    'ws: asked twice, told twice': orders(open, ...BS, ask('a'), ask('a'), state('a', 6), state('a', 6), state('a', 7)),
    'tracking: one that was taken away, and one to the end': tracker(...DANA, ...dino(...PICKED, seen('location_update', 'PICKED_UP', 'dino', 5), ...DELIVERED, { at: 'leave' })),
    'tracking: back, and the driver known to be where they were before': tracker(...dino(
      ...PICKED, seen('location_update', 'PICKED_UP', 'dino', 5), close(), open, seen('initial_state', 'PICKED_UP', 'dino', 4), close(1001), open,
      seen('initial_state', 'DELIVERED', 'dino'), { at: 'leave' },
    )),
    'tracking: a change that is told when the driver is done': tracker(...dino(
      seen('location_update', 'ASSIGNED', 'dino', 5), ...PICKED.map((item) => ({ ...item, time: at('a', 7).time })), ...DELIVERED,
    )),
    'tracking: a change that leaves the word as it is': tracker(...dino(...changed('ASSIGNED', 'dino'), ...PICKED, ...DELIVERED)),
    'tracking: no session for who has lost the order, or delivered it': tracker(refused('dana', 403, 5), refused('dino', 409, 7)),
  };

  const whole = [...greeted, ...B, ...follow('a', 1)];
  const everything = (...bad) => orders(open, ...BS, ask('a'), ...bad);
  const BAD = {
    'a page: a gap': ['gap', page(...fresh, ...NOTICES.toSpliced(5, 1).flat())],
    'a page: the end missing': ['gap', page(...fresh, ...NOTICES.slice(0, -1).flat())],
    'a page: a gap at a recovery': ['gap', page(...fresh, ...NOTICES.slice(0, 2).flat(), ...back, ...NOTICES.slice(3).flat())],
    'a page: a change without its trackingUpdate': ['gap', page(...fresh, ...NOTICES.flat().toSpliced(3, 1))],
    'a page: a change without its orderStatusUpdate': ['gap', page(...fresh, ...NOTICES.flat().toSpliced(2, 1))],
    'a page: a repeat at a recovery': ['repeat', page(...fresh, ...NOTICES[0], ...back, ...NOTICES.flat())],
    'a page: the notices of a change in the wrong order': ['offset', page(...fresh, ...swapped(NOTICES.flat(), 0))],
    'a page: an orderStatusUpdate of what is no change of status': ['stranger', page(...fresh, ...NOTICES.toSpliced(4, 1, both('a', 5)).flat())],
    'a page: another status than was logged': ['content', page(...fresh, { ...NOTICES[0][0], status: 'preparing' }, ...NOTICES.flat().slice(1))],
    'a page: the offset of another': ['offset', page(...fresh, { ...NOTICES[0][0], offset: '2' }, ...NOTICES.flat().slice(1))],
    'a page: a notice without an offset': ['offset', page(...fresh, { ...NOTICES[0][0], offset: null, position: 2 }, ...NOTICES.flat().slice(1))],
    'a page: a notice of a creation': ['stranger', page(...fresh, tracking('a', 1), ...NOTICES.flat())],
    'a page: not recovered': ['fresh', page(...fresh, ...NOTICES.slice(0, 2).flat(), back[0], ...fresh, ...NOTICES.slice(2).flat())],
    'track: a gap': ['gap', track(...whole, ...without(updates('a', 2, 7), 5))],
    'track: a gap at the beginning': ['gap', track(...whole, ...updates('a', 3, 7))],
    'track: a gap from the start on': ['gap', track(...greeted, ...B, ...follow('a', 0), ...updates('a', 3, 7))],
    'track: a gap at a return': ['gap', track(...whole, ...updates('a', 2, 3), close(), ...greeted, ...follow('a', 3), ...updates('a', 5, 7))],
    'track: asked twice, and a gap the second time': ['gap', track(
      ...greeted, ...B, ask('a', 0), ask('a', 0), subscribed('a'), ...updates('a', 2, 3), subscribed('a'), ...updates('a', 3, 7),
    )],
    'track: the end missing': ['gap', track(...whole, ...updates('a', 2, 6))],
    'track: an order never told of': ['gap', track(...greeted, ...B)],
    'track: a repeat': ['repeat', track(...whole, update('a', 2), ...updates('a', 2, 7))],
    'track: a repeat at a return': ['repeat', track(...whole, ...updates('a', 2, 3), close(), ...greeted, ...follow('a', 3), ...updates('a', 3, 7))],
    'track: a swap': ['backwards', track(...whole, ...swapped(updates('a', 2, 7), 1))],
    'track: another word': ['content', track(...whole, { ...update('a', 2), status: 'preparing' }, ...updates('a', 3, 7))],
    'track: another message': ['content', track(...whole, { ...update('a', 2), message: 'It comes' }, ...updates('a', 3, 7))],
    'track: a seq that never was': ['content', track(...whole, ...updates('a', 2, 7), { ...update('a', 7), seq: 8 })],
    'track: told before it was subscribed': ['early', track(...greeted, ...B, ask('a', 1), update('a', 2), subscribed('a'), ...updates('a', 3, 7))],
    'track: told without asking': ['stranger', track(...whole, ...updates('a', 2, 4), close(), ...greeted, ...updates('a', 5, 7))],
    'track: subscribed without asking': ['stranger', track(...greeted, subscribed('b'), ...B, ...follow('a', 1), ...updates('a', 2, 7))],
    'track: no greeting': ['greeting', track(open, ...whole.slice(2), ...updates('a', 2, 7))],
    'track: no greeting at a return': ['greeting', track(...whole, ...updates('a', 2, 3), close(), open, ...follow('a', 3), ...updates('a', 4, 7))],
    'track: sent away': ['dismissed', track(...whole, ...updates('a', 2, 7), close(1008, 'Token expired'))],
    'track: a fault': ['fault', track(...whole, ...updates('a', 2, 7), fault)],
    'ws: a gap': ['gap', everything(...without(states('a', 1, 7), 5))],
    'ws: the end missing': ['gap', everything(...states('a', 1, 6))],
    'ws: an order never told of': ['gap', orders(open, ...BS)],
    'ws: a repeat': ['repeat', everything(...states('a', 1, 4), ...states('a', 4, 7))],
    'ws: a swap': ['backwards', everything(...swapped(states('a', 1, 7), 2))],
    'ws: an older state at a return': ['backwards', everything(...states('a', 1, 4), close(), open, ask('a'), ...states('a', 3, 7))],
    'ws: another word': ['content', everything({ ...state('a', 1), status: 'CONFIRMED' }, ...states('a', 2, 7))],
    'ws: another driver': ['content', everything(...states('a', 1, 3), { ...state('a', 4), driver: 'dino' }, ...states('a', 5, 7))],
    'ws: told without asking': ['stranger', everything(...states('a', 1, 4), close(), open, ...states('a', 5, 7))],
    'ws: a hint that goes back': ['backwards', everything(...states('a', 1, 7), hint('a', 'DELIVERED'), hint('a', 'READY'))],
    'ws: a hint that goes back, over a return': ['backwards', everything(...states('a', 1, 7), hint('a', 'DELIVERED'), close(), open, hint('a', 'READY'))],
    'ws: a hint of what never was': ['content', everything(...states('a', 1, 7), hint('a', 'PREPARING'))],
    'ws: a hint to a stranger': ['stranger', { ...orders(open, hint('a', 'READY')), user: 'cyril' }],
    'ws: sent away': ['dismissed', everything(...states('a', 1, 7), close(1002))],
    'ws: a fault': ['fault', everything(...states('a', 1, 7), fault)],
    'tracking: backwards': ['backwards', tracker(...dino(...DELIVERED, ...PICKED, ...DELIVERED))],
    'tracking: backwards at a return': ['backwards', tracker(...dino(...PICKED, close(), open, seen('initial_state', 'ASSIGNED', 'dino'), ...PICKED, ...DELIVERED))],
    'tracking: the driver goes back': ['backwards', tracker(...dino(
      ...PICKED, seen('location_update', 'PICKED_UP', 'dino', 5), seen('location_update', 'PICKED_UP', 'dino', 4), ...DELIVERED,
    ))],
    'tracking: the driver is nowhere any more': ['backwards', tracker(...dino(seen('location_update', 'ASSIGNED', 'dino', 5), ...PICKED, ...DELIVERED))],
    'tracking: the end missing': ['gap', tracker(...dino(...PICKED))],
    'tracking: taken away, and never told so': ['gap', tracker(...DANA.slice(0, -3), ...dino(...DELIVERED))],
    'tracking: nothing at all': ['gap', tracker(start('E', 'dino'), ...of('E', open))],
    'tracking: a state that never was': ['content', tracker(...dino(...changed('IN_TRANSIT', 'dino'), ...DELIVERED))],
    'tracking: what another driver does': ['content', tracker(...DANA.slice(0, 3), ...of('D', ...changed('PICKED_UP', 'dana'), ...expired))],
    'tracking: another driver': ['content', tracker(...dino(...PICKED, ...changed('DELIVERED', 'dana'), ...DELIVERED))],
    'tracking: expired for no reason': ['expired', tracker(...dino(...PICKED, ...expired))],
    'tracking: expired without a word': ['expired', tracker(...DANA.slice(0, 3), ...of('D', ...expired.slice(1)))],
    'tracking: no initial_state': ['greeting', tracker(start('E', 'dino'), ...of('E', open, ...PICKED, ...DELIVERED))],
    'tracking: no initial_state at a return': ['greeting', tracker(...dino(...PICKED, close(), open, ...DELIVERED))],
    'tracking: two of them': ['greeting', tracker(...dino(seen('initial_state', 'ASSIGNED', 'dino'), ...PICKED, ...DELIVERED))],
    'tracking: a status_change alone': ['pair', tracker(...dino(PICKED[1], ...DELIVERED))],
    'tracking: a change without status_change': ['pair', tracker(...dino(PICKED[0], ...DELIVERED))],
    'tracking: sent away': ['dismissed', tracker(...dino(...PICKED, close(1008, 'Tracking not found'), open, seen('initial_state', 'DELIVERED', 'dino')))],
    'tracking: refused, though it was theirs': ['refused', tracker(refused('dana', 403, 4))],
    'tracking: refused who brings it': ['refused', tracker(refused('dino', 409, 6))],
    'tracking: refused in another way': ['refused', tracker(refused('dana', 400, 5))],
    'tracking: a fault': ['fault', tracker(...dino(...PICKED, ...DELIVERED, fault))],
  };
  return { GOOD, BAD };
}
