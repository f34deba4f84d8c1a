// The server's own figures (`/metrics`, Prometheus text): the few that tell whether anybody misses anything.

const SAMPLE = /^ordercast_([a-z_]+)(?:\{(.*)\})? (\S+)/gm;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** @returns every sample, by its name without the prefix: [{labels, value}] */
export function samples(text) {
  const found = new Map();
  for (const [, name, labels = '', value] of text.matchAll(SAMPLE)) {
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({ labels: Object.fromEntries([...labels.matchAll(LABEL)].map(([, key, word]) => [key, word])), value: Number(value) });
  }
  return found;
}

/** @returns {{recoveries: [outcome, count][], replayed, conflated, stalls, behind}}; null from a server that does not count these */
export function delivery(text) {
  const all = samples(text);
  if (!all.has('sessions_behind')) return null;
  const sum = (name) => (all.get(name) ?? []).reduce((total, { value }) => total + value, 0);
  const recoveries = (all.get('recoveries_total') ?? []).map(({ labels, value }) => [labels.outcome, value]);
  return {
    recoveries: recoveries.filter(([outcome, count]) => count > 0 || outcome === 'recovered').sort(([, a], [, b]) => b - a),
    replayed: sum('replayed_total'),
    conflated: sum('conflated_total'),
    stalls: sum('stalls_total'),
    behind: sum('sessions_behind'),
  };
}
