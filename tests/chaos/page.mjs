// A page on the default namespace, on a real socket.io-client: it asks nothing, and records what it hears as checker.mjs has it.
import { enter } from '../clients/support/doors.mjs';
import { jwt } from '../clients/support/server.mjs';
import { parseOffset } from './checker.mjs';
import { Listener } from './listener.mjs';

const UPDATE = 'orderStatusUpdate';

export class Page extends Listener {
  update = UPDATE;
  recovers = true;

  /** Connects, for as long as the test lasts. */
  async connect(base) {
    const token = jwt({ sub: this.user, role: this.role, exp: Math.floor(Date.now() / 1000) + 24 * 3600 });
    const { transport, client } = this;
    const options = { reconnectionDelay: 30, reconnectionDelayMax: 250, timeout: 3000 };
    this.app = enter({ base }, { client, transport, token, more: { recovery: true }, options });
    const { socket } = this.app;
    const { onevent } = socket;
    socket.onevent = (packet) => {
      onevent.call(socket, packet);
      this.#heard(packet.data);
      this.app.events.length = 0; // we have our own, shorter, record
    };
    socket.on('disconnect', (reason) => this.note({ at: 'disconnect', reason }));
    socket.on('connect_error', (error) => {
      if (error.type !== 'TransportError' && error.message !== 'timeout') this.note({ at: 'fault', text: `refused: ${error.message}` });
    });
    await new Promise((resolve) => { socket.on('connect', () => { this.#connected(); resolve(); }); });
  }

  #connected() {
    const { recovered } = this.app.socket;
    if (this.record.length > 0) this.counts[recovered ? 'recovered' : 'fresh'] += 1;
    this.note({ at: 'connect', recovered, time: Date.now() });
    // Nobody is greeted here: what is due begins with the first order, which is made when all are there.
    this.note({ at: 'connected', recovered, position: 0 });
  }

  #heard([name, payload, offset]) {
    if (name === 'trackingUpdate' && offset === undefined) { // the driver moved
      this.counts.live += 1;
      this.counts.conflated += payload.conflated ?? 0;
    } else if (name === UPDATE || name === 'trackingUpdate') {
      this.counts.events += 1;
      const item = { at: 'event', name, order: payload.orderId, offset: offset ?? null };
      const position = offset === undefined ? null : parseOffset(offset)[0];
      if (name === UPDATE) Object.assign(item, { kind: 'live', seq: payload.seq, status: payload.status, position });
      this.note(item);
    } else this.note({ at: 'fault', text: `${name} ${JSON.stringify(payload)}` });
  }

  /** What is on its way comes before the answer to this, which is that there is nothing to ask for. */
  async flush() {
    if (!this.app.socket.connected) return;
    const answer = await this.app.request('hello').catch(() => ({ ok: false })); // the connection went away meanwhile
    if (answer?.ok !== false) this.note({ at: 'fault', text: `a request was answered ${JSON.stringify(answer)}` });
  }
}
