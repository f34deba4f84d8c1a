// A driver who reports to all nodes, and goes from one to another, has the rate of one driver.
import { setTimeout as pause } from 'node:timers/promises';
import { jwt } from '../clients/support/server.mjs';
import { positionsOverHttp } from './lib/binary.mjs';
import { tooMany } from './lib/checks.mjs';
import { place, Ride } from './lib/live.mjs';

export const what = 'a driver who reports to all nodes has the rate of one';

const [RATE, BURST] = [2, 10];
const REPORT_MS = 40;
const HOP_MS = 700;

export async function run(t) {
  const cluster = await t.start({ env: { LOCATION_RATE_PER_SECOND: String(RATE), LOCATION_BURST: String(BURST) } });
  const { nodes } = cluster;
  const ride = await Ride.open(cluster, null, nodes);
  const sockets = await Promise.all(nodes.map((node) => ride.drive(node)));
  const accepted = [];
  const asked = [];
  const took = (yes) => { if (yes) accepted.push(performance.now()); };
  const overHttp = async (n) => {
    const { driver } = ride;
    const answer = await cluster.call('POST', `/drivers/${driver.sub}/locations`, place(n), null, { authorization: `Bearer ${jwt(driver)}` });
    took(answer.body?.accepted > 0);
  };
  const started = performance.now();
  const seconds = t.long ? 30 : 4;
  let hopped = started;
  for (let n = 0; performance.now() - started < seconds * 1000; n += 1) {
    const i = n % nodes.length;
    ride.sent += 1;
    if (positionsOverHttp && n % 4 === 3) asked.push(overHttp(ride.sent).catch(() => {}));
    else if (sockets[i].socket.connected) {
      const { socket } = sockets[i];
      // who hops away is not answered any more
      asked.push(new Promise((resolve) => {
        socket.emit('driver:location', place(ride.sent), ({ ok }) => { took(ok); resolve(); });
        socket.once('disconnect', resolve);
      }));
    }
    if (performance.now() - hopped > HOP_MS) {
      hopped = performance.now();
      sockets[i].close();
      sockets[i] = await ride.drive(t.random.pick(nodes));
    }
    await pause(REPORT_MS);
  }
  await Promise.all(asked);
  t.check(`of ${asked.length} reports on ${nodes.length} nodes ${accepted.length} were accepted, by the rate of one driver`, tooMany(accepted, RATE, BURST));
  t.check('no dot goes back', ride.problems());
  t.enough({ accepted: [accepted.length, BURST], dots: [ride.watchers[0].dots.length, BURST / 2] });
  for (const socket of sockets) socket.close();
  ride.end();
}
