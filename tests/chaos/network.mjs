// What happens to the connections: many small cuts and stalls, over all clients.
import { setTimeout as pause } from 'node:timers/promises';

/** [shortest, longest] in ms; most silences and stalls are short, a few outlast the heartbeat. */
const SHORT = [20, 600];
const LONG = [1500, 4000];

export class Network {
  constructor(proxies, random, counts) {
    Object.assign(this, { proxies, random, counts });
  }

  /** `rate`: faults per second. */
  async run(rate, kinds, over) {
    const weights = { cut: 8, stall: 2 };
    for (const kind of Object.keys(weights)) if (!kinds.has(kind)) delete weights[kind];
    if (Object.keys(weights).length === 0) return;
    for (const proxy of this.proxies) proxy.calm = false;
    while (!over()) {
      await pause(-Math.log(1 - this.random.next()) * (1000 / rate));
      const links = [...this.random.pick(this.proxies).links];
      if (links.length === 0) continue;
      const link = this.random.pick(links);
      if (this.random.weighted(weights) === 'cut') this.#cut(link);
      else this.#stall(link);
    }
  }

  #duration() { return this.random.between(...(this.random.chance(0.9) ? SHORT : LONG)); }

  async #cut(link) {
    const how = this.random.weighted({ rst: 5, fin: 3, 'silent-server': 2, 'silent-client': 1 });
    const silence = how === 'silent-client' ? this.random.between(...SHORT) : this.#duration();
    const where = await link.cutWithin(how, this.random.chance(0.7) ? this.random.between(5, 150) : 0, silence);
    if (where) this.counts.cuts += 1;
    if (where === 'middle') this.counts.midframe += 1;
  }

  #stall(link) {
    const ways = this.random.pick([['up'], ['down'], ['up', 'down']]);
    this.counts.stalls += 1;
    link.stall(ways, this.#duration());
  }
}
