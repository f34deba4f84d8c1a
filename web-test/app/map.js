// The customer's map: our own paper background, roads and markers on Leaflet, with no network needed.

import { Path, bearing, distance } from './geo.js';

const L = window.L;
const ON_ROUTE_METRES = 60;
const darkScheme = window.matchMedia('(prefers-color-scheme: dark)');
const stillness = window.matchMedia('(prefers-reduced-motion: reduce)');

/** A colour of the style sheet, as the scheme has it now. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Paper with a fine and a bold grid that stays put while the map moves. */
const Paper = L.GridLayer.extend({
  createTile() {
    const size = this.getTileSize();
    const ratio = window.devicePixelRatio || 1;
    const tile = document.createElement('canvas');
    tile.width = size.x * ratio;
    tile.height = size.y * ratio;
    const pen = tile.getContext('2d');
    pen.scale(ratio, ratio);
    pen.fillStyle = colour('--map-paper');
    pen.fillRect(0, 0, size.x, size.y);
    const lines = (step, style) => {
      pen.strokeStyle = style;
      pen.lineWidth = 1;
      pen.beginPath();
      for (let at = 0; at < size.x; at += step) {
        pen.moveTo(at + 0.5, 0);
        pen.lineTo(at + 0.5, size.y);
        pen.moveTo(0, at + 0.5);
        pen.lineTo(size.x, at + 0.5);
      }
      pen.stroke();
    };
    lines(16, colour('--map-grid'));
    lines(128, colour('--map-grid-bold'));
    return tile;
  },
});

function marker(kind, label) {
  return L.marker([0, 0], {
    icon: L.divIcon({
      className: `pin pin-${kind}`,
      html: `<span class="pin-shape"><span class="pin-glyph"></span></span>`,
      iconSize: [36, 36],
      iconAnchor: kind === 'driver' ? [18, 18] : [18, 40],
    }),
    alt: label,
    title: label,
    keyboard: false,
    interactive: false,
    zIndexOffset: kind === 'driver' ? 1000 : 0,
  });
}

export class OrderMap {
  #map;
  #paper = null;
  #roads = [];
  #pins = { restaurant: marker('restaurant', 'Restaurant'), home: marker('home', 'Your address'), driver: marker('driver', 'Driver') };
  #routeBase;
  #routeAhead;
  #path = null;
  #fitted = '';
  #frame = 0;
  #shown = null;
  #heading = 0;
  #lastFixAt = 0;

  constructor(container, { streets, tileUrl, attribution }) {
    this.#map = L.map(container, { zoomSnap: 0.25, attributionControl: true, zoomControl: false, scrollWheelZoom: true, center: [0, 0], zoom: 2 });
    L.control.zoom({ position: 'topright' }).addTo(this.#map);
    this.#map.attributionControl.setPrefix('<a href="https://leafletjs.com" rel="noopener">Leaflet</a>');
    if (attribution) this.#map.attributionControl.addAttribution(attribution);
    const renderer = L.canvas({ padding: 0.4 });
    if (tileUrl) L.tileLayer(tileUrl, { maxZoom: 19 }).addTo(this.#map);
    else this.#drawPaper();
    if (!tileUrl && streets?.length) {
      this.#roads.push({ line: L.polyline(streets, { renderer, interactive: false, lineCap: 'round' }), name: '--map-road-edge', weight: 7 });
      this.#roads.push({ line: L.polyline(streets, { renderer, interactive: false, lineCap: 'round' }), name: '--map-road', weight: 5 });
    }
    this.#routeBase = L.polyline([], { renderer, interactive: false, lineCap: 'round', weight: 5 });
    this.#routeAhead = L.polyline([], { renderer, interactive: false, lineCap: 'round', weight: 5 });
    for (const { line } of this.#roads) line.addTo(this.#map);
    this.#routeBase.addTo(this.#map);
    this.#routeAhead.addTo(this.#map);
    this.#paint();
    this.#map.on('zoomend', () => this.#paint());
    darkScheme.addEventListener('change', () => {
      if (this.#paper) this.#drawPaper();
      this.#paint();
    });
    new ResizeObserver(() => {
      this.#map.invalidateSize({ animate: false });
      const bounds = this.#fitted;
      if (bounds) this.#fit(JSON.parse(bounds));
    }).observe(container);
  }

  #drawPaper() {
    this.#paper?.remove();
    this.#paper = new Paper({ tileSize: 256, noWrap: true, zIndex: 0 }).addTo(this.#map);
  }

  #paint() {
    const zoom = this.#map.getZoom();
    const scale = Math.min(1.6, Math.max(0.35, 2 ** ((zoom - 15.5) * 0.6)));
    for (const { line, name, weight } of this.#roads) {
      line.setStyle({ color: colour(name), weight: Math.max(1, name === '--map-road-edge' ? weight * scale + 0.6 : weight * scale) });
    }
    this.#routeBase.setStyle({ color: colour('--map-route-done'), weight: 5 });
    this.#routeAhead.setStyle({ color: colour('--map-route'), weight: 5 });
  }

  /** @param {{restaurant?: number[], home?: number[], route?: number[][]}} places of the order that is followed */
  setPlaces({ restaurant, home, route }) {
    this.#place('restaurant', restaurant);
    this.#place('home', home);
    this.#path = route?.length > 1 ? new Path(route) : null;
    this.#routeBase.setLatLngs(route ?? []);
    this.#drawAhead(this.#shown);
    const points = [restaurant, home, ...(route ?? [])].filter(Boolean);
    const key = points.length ? JSON.stringify(points) : '';
    if (key && key !== this.#fitted) {
      this.#fitted = key;
      this.#fit(points);
    }
  }

  #fit(points) {
    const { x, y } = this.#map.getSize();
    const narrow = x < 420;
    const low = y < 200; // then every pixel the pins do not need is the way's
    this.#map.fitBounds(L.latLngBounds(points), { paddingTopLeft: [36, low ? 44 : narrow ? 52 : 56], paddingBottomRight: [narrow ? 40 : 48, low ? 10 : 28], maxZoom: 17, animate: false });
  }

  #place(name, point) {
    const pin = this.#pins[name];
    if (!point) {
      pin.remove();
      return;
    }
    pin.setLatLng(point);
    if (!this.#map.hasLayer(pin)) pin.addTo(this.#map);
  }

  /** Takes a fix, or null to hide the driver. Glides there in about the time between two fixes. */
  setDriver(fix) {
    cancelAnimationFrame(this.#frame);
    if (!fix) {
      this.#shown = null;
      this.#lastFixAt = 0;
      this.#place('driver', null);
      this.#drawAhead(null);
      return;
    }
    const target = [fix.latitude, fix.longitude];
    const now = performance.now();
    const gap = this.#lastFixAt ? Math.min(1500, Math.max(120, now - this.#lastFixAt)) : 0;
    this.#lastFixAt = now;
    const from = this.#shown;
    const far = from && distance(from, target) > 2000;
    const moved = from && distance(from, target) > 1;
    const facing = Number.isFinite(fix.heading) ? fix.heading : moved ? bearing(from, target) : this.#heading;
    this.#place('driver', from ?? target);
    const turn = ((facing - this.#heading + 540) % 360) - 180;
    if (!from || far || !gap || stillness.matches) {
      this.#heading = facing;
      this.#show(target);
      return;
    }
    const fromHeading = this.#heading;
    const step = (time) => {
      const part = Math.min(1, (time - now) / gap);
      this.#heading = fromHeading + turn * Math.min(1, part * 2);
      this.#show([from[0] + (target[0] - from[0]) * part, from[1] + (target[1] - from[1]) * part]);
      if (part < 1) this.#frame = requestAnimationFrame(step);
    };
    this.#frame = requestAnimationFrame(step);
  }

  #show(point) {
    this.#shown = point;
    const pin = this.#pins.driver;
    pin.setLatLng(point);
    const element = pin.getElement();
    if (element) {
      element.dataset.testid = 'driver-marker';
      element.dataset.latitude = point[0].toFixed(6);
      element.dataset.longitude = point[1].toFixed(6);
      element.firstElementChild.style.setProperty('--heading', `${this.#heading.toFixed(1)}deg`);
    }
    this.#drawAhead(point);
  }

  #drawAhead(point) {
    if (!this.#path) {
      this.#routeAhead.setLatLngs([]);
      return;
    }
    const place = point ? this.#path.locate(point) : { travelled: 0, off: 0 };
    this.#routeAhead.setLatLngs(place.off > ON_ROUTE_METRES ? this.#path.points : this.#path.ahead(place.travelled));
  }
}
