/**
 * Lets assertions fire: each of those that are drawn by a seed is met by a fault in the code before it.
 *
 * An assertion of such a checkout says that it has fired and ends the process at once, whoever would have caught its error, so
 * that a hunt is over as soon as the fault shows. A fault that another assertion meets first proves nothing of this one.
 */

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { AssertionMutant } from './assertion-mutant.js';
import { ASSERTION_MUTANTS } from './assertions.js';
import type { Edit, Judge } from './mutant.js';
import { closeWorkshop, makeCheckout, mutatedFiles, ROOT, removeCheckout } from './workshop.js';

const DRAWN = 40;
const FIRED = 'the assertion has fired: ';
/** How an assertion of such a checkout tells that it has fired; the rest of its file stays as others import it. */
const TELLING: readonly Edit[] = [
  {
    file: 'core/check.ts',
    find: 'export class InternalError',
    replace: "import { writeSync } from 'node:fs';\nexport class InternalError",
  },
  {
    file: 'core/check.ts',
    find: '  throw new InternalError(',
    replace: `  writeSync(2, '\\n${FIRED}' + what + '\\n');
  process.kill(process.pid, 'SIGKILL');
  throw new InternalError(`,
  },
];

/** The files of a checkout in which a fault is to let an assertion fire. Throws if a place is not found. */
export function tellingFiles({ edits }: Pick<AssertionMutant, 'edits'>): Map<string, string> {
  return mutatedFiles({ edits: [...edits, ...TELLING] });
}

/** What fired first, or how it ended without. */
interface Met {
  readonly fired?: string;
  readonly ending: string;
}

/** Runs a judge in a checkout until an assertion fires, or to its end. */
function meet(checkout: string, judge: Judge, limitMs: number): Promise<Met> {
  const program = (...parts: string[]) => join(checkout, 'test', ...parts);
  const words = judge.kind !== 'test' && judge.faults !== 'all' ? judge.faults.join(',') : 'all';
  const args =
    judge.kind === 'test'
      ? [program(judge.file)]
      : [program('mutants', 'simulate.ts'), judge.kind, words, '1', String(judge.seeds)];
  const env = { ...process.env, STRAKE_TEST_SEED: '1', STRAKE_TEST_BRIEF: '1' };
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', ...args], {
      cwd: checkout,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text: string) => {
        output += text;
      });
    }
    const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(timer);
      const [, fired] = new RegExp(`^${FIRED}(.*)$`, 'm').exec(output) ?? [];
      const lines = output.trim().split('\n');
      resolve({ ...(fired === undefined ? {} : { fired }), ending: `it ended with ${code}: ${lines.at(-1) ?? ''}` });
    });
  });
}

/** Puts a fault before its judges. Returns how they ended if its assertion did not fire; `number`: of its checkout. */
export async function hunt(mutant: AssertionMutant, number: number, limitMs: number): Promise<string | undefined> {
  const checkout = makeCheckout(`assertion-${number}`, tellingFiles(mutant));
  const met: string[] = [];
  try {
    for (const judge of mutant.judges) {
      const { fired, ending } = await meet(checkout, judge, limitMs);
      if (fired === mutant.says) return undefined;
      met.push(fired === undefined ? ending : `another one fired: ${fired}`);
    }
  } finally {
    removeCheckout(checkout);
  }
  return met.join('; ');
}

/** Which of the assertions that are drawn have no fault that lets them fire; `drawn`: what they say. */
export function undescribed(drawn: readonly string[]): string[] {
  const known = new Set(ASSERTION_MUTANTS.map(({ says }) => says));
  return drawn.filter((says) => !known.has(says));
}

/** What the assertions say that a seed draws. */
export async function drawnBy(seed: number): Promise<string[]> {
  const { draw } = (await import(join(ROOT, 'scripts', 'assertions.mjs'))) as {
    draw(folder: string, count: number, seed: number): { says: string }[];
  };
  return draw(ROOT, DRAWN, seed).map(({ says }) => says);
}

/** Lets the assertions fire that a seed draws, or those of them whose words contain `only`. Returns the exit code. */
export async function huntAssertions(seed: number, only: string | undefined, limitMs: number): Promise<number> {
  const drawn = await drawnBy(seed);
  const missing = undescribed(drawn);
  for (const says of missing) console.error(`no fault is described that lets it fire: ${says}`);
  const wanted = ASSERTION_MUTANTS.filter(
    ({ says }) => drawn.includes(says) && (only === undefined || says.includes(only)),
  );
  let fired = 0;
  try {
    for (const [number, mutant] of wanted.entries()) {
      const failure = await hunt(mutant, number, limitMs);
      if (failure === undefined) fired += 1;
      console.error(failure === undefined ? `fired     ${mutant.says}` : `survived  ${mutant.says}: ${failure}`);
    }
  } finally {
    closeWorkshop();
  }
  console.log(`${fired} of ${wanted.length + missing.length} assertions fired`);
  return fired === wanted.length + missing.length ? 0 : 1;
}
