/**
 * `npm run mutants`: hunts all mutants, and prints a table of who caught them, in Markdown. The last line is
 * 'N of N mutants caught'.
 */

import { setPriority } from 'node:os';
import { parseArgs } from 'node:util';
import { huntAssertions } from './assertion-hunt.js';
import { Hunt, type Hunted } from './hunt.js';
import type { Form } from './mutant.js';
import { MUTANTS } from './mutants.js';
import { beforeSequences } from './sequences.js';
import { beforeTier } from './tiers.js';
import { mutatedFiles } from './workshop.js';

const MINUTES_EACH = 4;

interface Options {
  readonly only?: string;
  readonly limitMs: number;
  readonly tests?: Form;
  readonly assertions: boolean;
  readonly sequences: boolean;
  readonly seed: number;
}

function optionsOf(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: 'string' },
      'minutes-each': { type: 'string', default: String(MINUTES_EACH) },
      tests: { type: 'string' },
      assertions: { type: 'boolean', default: false },
      sequences: { type: 'boolean', default: false },
      seed: { type: 'string', default: '1' },
    },
  });
  const { tests } = values;
  if (tests !== undefined && tests !== 'brief' && tests !== 'full') {
    throw new Error(`--tests takes 'brief' or 'full', not '${tests}'`);
  }
  const minutes = Number(values['minutes-each']);
  if (!(minutes > 0)) throw new Error(`--minutes-each takes a number above 0, not '${values['minutes-each']}'`);
  const { only, assertions, sequences } = values;
  return { only, limitMs: minutes * 60_000, tests, assertions, sequences, seed: Number(values.seed) };
}

function effort({ seeds, seconds }: { seeds: number; seconds: number }): string {
  const time = `${Math.max(1, Math.round(seconds))} s`;
  return seeds === 0 ? time : `${seeds} ${seeds === 1 ? 'seed' : 'seeds'}, ${time}`;
}

function row({ mutant, caught }: Hunted): string {
  const by = caught === undefined ? '**nobody**' : `\`${caught.by}\``;
  const after = caught === undefined ? '' : effort(caught);
  return `| \`${mutant.name}\` | ${mutant.breaks} | ${mutant.rule} | ${by} | ${after} |`;
}

function tell({ mutant, caught, verdicts }: Hunted): void {
  if (caught !== undefined) {
    console.error(`caught    ${mutant.name}: ${caught.by} (${effort(caught)}): ${caught.reason}`);
    return;
  }
  const asked = verdicts.map(({ by, late, ...rest }) => `${by} (${effort(rest)}${late ? ', out of time' : ''})`);
  console.error(`survived  ${mutant.name}: ${asked.join('; ')}`);
}

/** Returns the exit code. */
export async function main(args: string[]): Promise<number> {
  const { only, limitMs, tests, assertions, sequences, seed } = optionsOf(args);
  if (assertions) {
    setPriority(10);
    return huntAssertions(seed, only, limitMs);
  }
  const mutants = (sequences ? beforeSequences(MUTANTS) : MUTANTS).filter(
    ({ name }) => only === undefined || only.split(',').includes(name),
  );
  if (mutants.length === 0) throw new Error(`there is no mutant '${only}'; there are:\n${names()}`);
  // One that has rotted is told at once, and not after an hour.
  for (const mutant of mutants) mutatedFiles(mutant);
  // Nobody waits for it.
  setPriority(10);
  const hunt = new Hunt(limitMs);
  const hunted: Hunted[] = [];
  try {
    for (const mutant of mutants) {
      const result = await hunt.hunt(tests === undefined ? mutant : beforeTier(mutant, tests));
      tell(result);
      hunted.push(result);
    }
  } finally {
    hunt.end();
  }
  const caught = hunted.filter((one) => one.caught !== undefined).length;
  console.log('| Mutant | What it breaks | Rule | Caught by | After |\n| --- | --- | --- | --- | --- |');
  for (const one of hunted) console.log(row(one));
  console.log(`${caught} of ${hunted.length} mutants caught`);
  return caught === hunted.length ? 0 : 1;
}

function names(): string {
  return MUTANTS.map(({ name }) => `  ${name}`).join('\n');
}
