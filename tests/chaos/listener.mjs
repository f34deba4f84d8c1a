// What every app of this test is: somebody with a record of what they lived through, whom we can await the end of it with.
import { parseOffset } from './checker.mjs';

export class Listener {
  record = [];
  #look = () => {};

  constructor(who, counts, random) { Object.assign(this, who, { counts, random }); }

  /** Goes, and does not come back. */
  leave() { this.app?.close(); }

  note(item) {
    this.record.push(item);
    this.#look(item);
  }

  /** Resolves with what is left of `left` when nothing is, or after `ms`. `strike` takes out of it what an item of the record settles. */
  awaits(left, strike, ms) {
    this.record.forEach(strike);
    return new Promise((resolve) => {
      const done = () => { clearTimeout(timer); resolve([...left]); };
      const timer = setTimeout(done, ms);
      this.#look = (item) => { strike(item); if (left.size === 0) done(); };
      if (left.size === 0) done();
    });
  }

  /** What is missing of what is `due`: the final seqs, told in events of the name `update`, and the others by position. */
  settle({ finals, others }, ms) {
    const left = new Set([...finals].map(([order, seq]) => `${order} ${seq}`));
    // Who gets no offsets cannot say which of several it was.
    const counted = () => {
      const counts = new Map();
      return (what) => { counts.set(what, (counts.get(what) ?? 0) + 1); return `${what} ${counts.get(what)}`; };
    };
    const [due, heard] = [counted(), counted()];
    for (const { name, order, position } of others) left.add(this.bare ? due(`${name} ${order}`) : `${name} ${order} ${position}`);
    return this.awaits(left, ({ at, name, order, since, seq, offset }) => {
      // the answer to a subscription from now on tells how things stand, as its snapshot does
      const told = name === this.update || (at === 'answer' && since === undefined);
      if (told) left.delete(`${order} ${seq}`);
      else if (at === 'event') left.delete(this.bare ? heard(`${name} ${order}`) : `${name} ${order} ${offset && parseOffset(offset)[0]}`);
    }, ms);
  }
}
