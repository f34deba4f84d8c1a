// Geometry on the sphere, good for a town: distances, bearings, and travelling along a line of [lat, lon] points.

const RADIUS = 6371008.8;
const rad = (degrees) => (degrees * Math.PI) / 180;

export function distance([lat1, lon1], [lat2, lon2]) {
  const a = Math.sin(rad(lat2 - lat1) / 2) ** 2
    + Math.cos(rad(lat1)) * Math.cos(rad(lat2)) * Math.sin(rad(lon2 - lon1) / 2) ** 2;
  return 2 * RADIUS * Math.asin(Math.min(1, Math.sqrt(a)));
}

/** Degrees clockwise from north, [0, 360). */
export function bearing([lat1, lon1], [lat2, lon2]) {
  const y = Math.sin(rad(lon2 - lon1)) * Math.cos(rad(lat2));
  const x = Math.cos(rad(lat1)) * Math.sin(rad(lat2)) - Math.sin(rad(lat1)) * Math.cos(rad(lat2)) * Math.cos(rad(lon2 - lon1));
  return ((Math.atan2(y, x) * 180) / Math.PI + 360) % 360;
}

const between = ([lat1, lon1], [lat2, lon2], part) => [lat1 + (lat2 - lat1) * part, lon1 + (lon2 - lon1) * part];

/** A line that can be travelled by metres. */
export class Path {
  constructor(points) {
    this.points = points.filter((point, i) => i === 0 || distance(points[i - 1], point) > 0.1);
    this.starts = [0];
    for (let i = 1; i < this.points.length; i += 1) {
      this.starts.push(this.starts[i - 1] + distance(this.points[i - 1], this.points[i]));
    }
    this.length = this.starts.at(-1) ?? 0;
  }

  /** Where one is after `metres`, and which way one looks. */
  at(metres) {
    const travelled = Math.min(Math.max(metres, 0), this.length);
    let i = this.starts.findIndex((start) => start > travelled) - 1;
    if (i < 0) i = Math.max(0, this.points.length - 2);
    const from = this.points[i];
    const to = this.points[i + 1] ?? from;
    const span = (this.starts[i + 1] ?? travelled) - this.starts[i];
    return {
      point: between(from, to, span > 0 ? (travelled - this.starts[i]) / span : 0),
      heading: bearing(from, to),
      segment: i,
    };
  }

  /** The place on the line nearest to `point`: metres from its start, and how far off the line it is. */
  locate(point) {
    let best = { travelled: 0, off: Infinity };
    const scale = Math.cos(rad(point[0]));
    for (let i = 0; i + 1 < this.points.length; i += 1) {
      const [a, b] = [this.points[i], this.points[i + 1]];
      const dx = (b[1] - a[1]) * scale;
      const dy = b[0] - a[0];
      const squared = dx * dx + dy * dy;
      const part = squared ? Math.min(1, Math.max(0, ((point[1] - a[1]) * scale * dx + (point[0] - a[0]) * dy) / squared)) : 0;
      const off = distance(between(a, b, part), point);
      if (off < best.off) best = { travelled: this.starts[i] + part * (this.starts[i + 1] - this.starts[i]), off };
    }
    return best;
  }

  /** The points that are still ahead after `metres`. */
  ahead(metres) {
    const here = this.at(metres);
    return [here.point, ...this.points.slice(here.segment + 1)];
  }
}

export const kilometres = (metres) => (metres < 950 ? `${Math.max(10, Math.round(metres / 10) * 10)} m` : `${(metres / 1000).toFixed(1)} km`);

/** The way of an order: the demo's route where it leads there, else straight from door to door; null if nothing is known. */
export function road(order, route) {
  const from = order?.chef?.latitude === undefined || order?.chef?.latitude === null ? null : [order.chef.latitude, order.chef.longitude];
  const to = order?.delivery?.latitude === undefined ? null : [order.delivery.latitude, order.delivery.longitude];
  if (route?.length > 1 && (!to || distance(route.at(-1), to) < 400)) return route;
  if (from && to) return [from, to];
  return route?.length > 1 ? route : null;
}
