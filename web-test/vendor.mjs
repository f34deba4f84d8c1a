// Refreshes vendor/: the libraries the page loads, each with its licence. Two come from node_modules, our own client from its build.
// `npm ci && (cd ../client && npm ci && npm run build) && npm run vendor`, then commit what changed.
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const files = {
  '../../client/LICENSE': 'ordercast-client/LICENSE',
  '../../client/dist/browser.js': 'ordercast-client/ordercast-client.min.js',
  'leaflet/LICENSE': 'leaflet/LICENSE',
  'leaflet/dist/leaflet.js': 'leaflet/leaflet.js',
  'leaflet/dist/leaflet.css': 'leaflet/leaflet.css',
  'leaflet/dist/images/layers.png': 'leaflet/images/layers.png',
  'leaflet/dist/images/layers-2x.png': 'leaflet/images/layers-2x.png',
  'leaflet/dist/images/marker-icon.png': 'leaflet/images/marker-icon.png',
  'socket.io-client/LICENSE': 'socket.io/LICENSE',
  'socket.io-client/dist/socket.io.min.js': 'socket.io/socket.io.min.js',
  'socket.io-client/dist/socket.io.esm.min.js': 'socket.io/socket.io.esm.min.js', // at /socket.io/socket.io.esm.min.js
};

await rm(join(here, 'vendor'), { recursive: true, force: true });
for (const [from, to] of Object.entries(files)) {
  const target = join(here, 'vendor', to);
  await mkdir(dirname(target), { recursive: true });
  await copyFile(join(here, 'node_modules', from), target);
}
