// What the chaos checker does not know of: places, times at which something was heard, announcements, rates. Pure: records in, problems out.

/** What a watcher has seen of a driver, [{n}]: never a place that was before another, none twice, and none that was not reported. */
export function heardOf(dots, sent) {
  return dots.flatMap(({ n }, i) => {
    if (!Number.isInteger(n) || n < 1 || n > sent) return [`the place ${n}, which was never reported`];
    if (i > 0 && n < dots[i - 1].n) return [`the place ${n} after ${dots[i - 1].n}`];
    return i > 0 && n === dots[i - 1].n ? [`the place ${n} twice`] : [];
  });
}

/** Events of orders, on every door. */
const EVENTS = new Set([
  'order:status_update', 'driver:location_update', 'order:eta_update', 'order:milestone', 'order:risk', 'order:signal', 'order:receipt', 'order:new', 'driver:new_assignment', 'orderStatusUpdate', 'trackingUpdate',
  'order_update', 'driver_location', 'order:updated', 'orders:changed', 'initial_state', 'location_update', 'status_change',
]);
const orderOf = (payload) => payload?.orderId ?? payload?.order_id ?? payload?.data?.order_id ?? payload?.id;
export const isOf = (orders) => ({ name, payload }) => EVENTS.has(name) && orders.includes(orderOf(payload));

/** Of these orders nothing is heard any more after `end`, by the one clock that there is. */
export const quiet = (heard, orders, end) => heard.filter((item) => item.at > end && isOf(orders)(item))
  .map(({ at, name }) => `${name} came ${Math.round(at - end)} ms too late`);

/** Each of the numbers that are due, once, in order. */
export function once(numbers, due) {
  const problems = [];
  if (new Set(numbers).size !== numbers.length) problems.push(`some came twice: ${numbers}`);
  const missing = due.filter((n) => !numbers.includes(n));
  if (missing.length > 0) problems.push(`never came: ${missing}`);
  const strange = numbers.filter((n) => !due.includes(n));
  if (strange.length > 0) problems.push(`were for others: ${strange}`);
  if (numbers.some((n, i) => n < numbers[i - 1])) problems.push(`out of order: ${numbers}`);
  return problems;
}

/** No more was accepted in any stretch of time than the rate allows: `times` in ms. */
export function tooMany(times, perSecond, burst) {
  const sorted = [...times].sort((a, b) => a - b);
  for (const [i, from] of sorted.entries()) {
    for (let j = sorted.length - 1; j > i; j -= 1) {
      const allowed = burst + perSecond * (sorted[j] - from) / 1000 + 1;
      if (j - i + 1 > allowed) return [`${j - i + 1} were accepted within ${Math.round(sorted[j] - from)} ms, not ${Math.floor(allowed)}`];
    }
  }
  return [];
}
