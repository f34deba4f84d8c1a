// The end of a test: everyone has heard the last of everything, and what is wrong is told.
import { expected } from './log.mjs';

const SHOWN = 3;

/** Every client has heard the last of every order, or has been given the time to. Says who has not. */
export async function settle(apps, log, ms) {
  const late = await Promise.all(apps.map(async (app) => {
    const due = expected(log, app);
    const finals = new Map([...due.updates].map(([order, seqs]) => [order, seqs.at(-1)]));
    const missing = await app.settle({ finals, others: due.others, log }, ms);
    await app.flush();
    return missing.length > 0 ? `${app.name}: ${missing.length}, as ${missing.slice(0, 3).join('; ')}` : [];
  }));
  if (late.flat().length > 0) console.log(`# after ${ms} ms still awaited by\n#   ${late.flat().join('\n#   ')}`);
}

/** The lines of a test's results, and how many there are of each kind. */
export class Results {
  passed = 0;
  failed = 0;

  add(what, problems, tell = String) {
    const good = problems.length === 0;
    this[good ? 'passed' : 'failed'] += 1;
    console.log(`${good ? 'ok' : 'not ok'} ${this.passed + this.failed} - ${what}`);
    for (const [i, problem] of problems.slice(0, SHOWN).entries()) {
      const text = tell(problem);
      // what came before and after helps with the first; the others tend to follow from it
      console.log((i === 0 ? text : text.split('\n')[0]).replace(/^/gm, '    '));
    }
    if (problems.length > SHOWN) console.log(`    … and ${problems.length - SHOWN} more`);
    return good;
  }

  /** The last lines, for those who count them. */
  end() { console.log(`# pass ${this.passed}\n# fail ${this.failed}\n${this.passed} passed, ${this.failed} failed`); }
}
