// Puts the page together: config, four connections with their views, the five clients, the log.

import { AdminView } from './admin.js';
import { ChefView } from './chef.js';
import { ClientsView } from './clients/view.js';
import { Connection } from './socket.js';
import { CustomerView } from './customer.js';
import { DriverView } from './driver.js';
import { EventLog } from './log.js';
import { OrderMap } from './map.js';
import { PhoneView } from './push.js';
import { TRANSPORTS, VIEWS, loadPageConfig, readStored, resolve, store } from './config.js';
import { byId } from './dom.js';
import { connectionStrip } from './panel.js';
import { createConnectDialog } from './connect.js';
import { createDeliveriesDialog } from './deliveries.js';
import { createDoorDialog } from './door.js';
import { createHouseDialog } from './house.js';
import { createPages } from './pages.js';
import { createReplayDialog } from './replay.js';
import { createRest } from './rest.js';
import { outageBox } from './outage.js';

const page = await loadPageConfig();
const log = new EventLog();
let setup = resolve(page, readStored());

const connections = Object.fromEntries(VIEWS.map((view) => [view, new Connection(view, log.add)]));
const map = new OrderMap(byId('customer-map'), {
  streets: page.streets,
  tileUrl: page.tileUrl,
  attribution: page.attribution ?? (page.tileUrl?.includes('openstreetmap') ? '© <a href="https://www.openstreetmap.org/copyright" rel="noopener">OpenStreetMap</a>' : null),
});
const views = {
  customer: new CustomerView(connections.customer, map),
  chef: new ChefView(connections.chef),
  driver: new DriverView(connections.driver, { door: createDoorDialog() }),
  admin: new AdminView(connections.admin, { replay: createReplayDialog(), deliveries: createDeliveriesDialog(), house: createHouseDialog(page) }),
};
const clients = new ClientsView(connections);
const phone = new PhoneView(connections.customer);

const dialog = createConnectDialog({
  page,
  stored: readStored,
  onConnect(choice) {
    store(choice);
    start();
  },
});

const strips = VIEWS.map((view) => connectionStrip(view, connections[view], {
  person: () => setup.accounts[view]?.user ?? (connections[view].state.userId ? { id: connections[view].state.userId, name: connections[view].state.userId } : null),
  openConnect: dialog.open,
}));

const renews = () => page.demo && !setup.own;
for (const view of VIEWS) {
  outageBox(view, connections[view], { renews });
  connections[view].on('settled', () => views.admin.lookUp()); // one more came back
}

function start() {
  setup = resolve(page, readStored());
  const rests = Object.fromEntries(VIEWS.map((view) => [view, createRest({
    server: setup.server,
    token: () => setup.accounts[view]?.token ?? '',
    reachable: () => connections[view].state.phase !== 'unplugged',
    log: (entry) => log.add({ view, direction: 'rest', ...entry }),
  })]));
  clients.use(setup, rests);
  phone.use(setup, rests.customer);
  for (const view of VIEWS) {
    const account = setup.accounts[view];
    const connection = connections[view];
    connection.close();
    views[view].use(setup, rests[view]);
    if (account) connection.open({ server: setup.server, token: account.token, transports: TRANSPORTS[setup.transport] ?? TRANSPORTS.auto, fetchOrders: rests[view].orders });
  }
  for (const draw of strips) draw();
  if (!VIEWS.some((view) => setup.accounts[view])) dialog.open();
}

// In the demo a token that is refused, expires or has expired is replaced, as an app would by signing in again.
// The sockets stay the same ones: what they missed meanwhile is theirs to recover.
const RENEW_EVERY = 5000;
let renewed = 0;
let planned = 0;
const spent = ({ phase, token }) => phase === 'refused' || token !== null;
async function renew() {
  if (planned || !renews() || !(clients.spent || VIEWS.some((view) => spent(connections[view].state)))) return;
  const wait = renewed + RENEW_EVERY - Date.now();
  if (wait > 0) {
    planned = setTimeout(() => {
      planned = 0;
      renew();
    }, wait);
    return;
  }
  renewed = Date.now();
  const { accounts } = await loadPageConfig();
  if (!accounts || !renews()) return;
  page.accounts = accounts;
  setup = resolve(page, readStored());
  for (const view of VIEWS) connections[view].renew(setup.accounts[view].token);
  clients.renew(setup);
}
for (const view of VIEWS) connections[view].watch(renew);
clients.watch(renew);

start();
createPages(connections, clients, () => clients.open());
