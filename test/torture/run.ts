/**
 * `npm run torture`: worlds of real node processes, each going through some cycles of faults, until the time is over. The last
 * line is 'N cycles, N violations'; the exit code is 1 if there was a violation, 130 after Ctrl-C.
 *
 * A world and the order of its faults follow from its seed; how they meet requests differs from run to run.
 */

import { parseArgs } from 'node:util';
import { openDevice } from '#strake/index.js';
import { KINDS } from './kinds/index.js';
import { possible, settingsFor, type Totals, torment, type Violation } from './torment.js';

const USAGE = 'torture [--minutes N] [--seed S] [--only FAULT,...] [--worlds N] [--cycles N] [--lanes N] [--sealed]';
/** After so many there is enough to look at. */
const VIOLATIONS_MAX = 5;

interface Settings {
  readonly minutes: number;
  readonly seed: number;
  readonly only: readonly string[];
  /** Worlds in all, cycles of each, and worlds at the same time. */
  readonly worlds: number;
  readonly cycles: number;
  readonly lanes: number;
  /** See `WorldSettings`. */
  readonly sealed: boolean;
}

class UsageError extends Error {}

function parse(args: string[]): Settings {
  const text = { type: 'string' } as const;
  const sealed = { type: 'boolean' } as const;
  const options = { minutes: text, seed: text, only: text, worlds: text, cycles: text, lanes: text, sealed };
  const { values } = parseArgs({ args, options });
  const number = (name: 'minutes' | 'seed' | 'worlds' | 'cycles' | 'lanes', otherwise: number) => {
    const value = values[name] === undefined ? otherwise : Number(values[name]);
    if (!(value >= 0)) throw new UsageError(`--${name} is a number, not ${values[name]}`);
    return value;
  };
  const only = values.only?.split(',') ?? [];
  const unknown = only.find((name) => !KINDS.some((kind) => kind.name === name));
  const names = KINDS.map(({ name }) => name).join(', ');
  if (unknown !== undefined) throw new UsageError(`there is no fault ${unknown}: they are ${names}`);
  return {
    minutes: number('minutes', 10),
    seed: number('seed', Date.now() % 1e6),
    only,
    worlds: number('worlds', Number.POSITIVE_INFINITY),
    cycles: number('cycles', 20),
    lanes: Math.max(1, number('lanes', 2)),
    sealed: values.sealed ?? false,
  };
}

function table(totals: Totals): string[] {
  const head = ['kind', 'cycles', 'acknowledged', 'reads checked', 'flushes', 'violations'];
  const rows = [...totals].sort().map(([name, one]) => {
    const { acknowledged, cycles, flushes, readsChecked, violations } = one;
    return [name, ...[cycles, acknowledged, readsChecked, flushes, violations].map(String)];
  });
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  return [head, ...rows].map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))).join('  '),
  );
}

/** How to see it again. */
function repeatCommand({ seed }: Violation, { only, cycles, sealed }: Settings): string {
  const chosen = only.length === 0 ? '' : ` --only ${only.join(',')}`;
  return `npm run torture -- --seed ${seed} --worlds 1 --cycles ${cycles}${chosen}${sealed ? ' --sealed' : ''}`;
}

function tell(violation: Violation, settings: Settings): void {
  console.log(`VIOLATION in ${violation.kind}, seed ${violation.seed}: ${violation.message.slice(0, 2000)}`);
  console.log(`  kept in ${violation.folder}`);
  console.log(`  again: ${repeatCommand(violation, settings)}`);
}

async function runAll(settings: Settings): Promise<boolean> {
  const { only, minutes, worlds, cycles, lanes, sealed, seed } = settings;
  const asked = KINDS.filter(({ name }) => only.length === 0 || only.includes(name));
  const kinds = possible(asked);
  const totals: Totals = new Map();
  const violations: Violation[] = [];
  const began = Date.now();
  const going = () => Date.now() - began < minutes * 60_000 && violations.length < VIOLATIONS_MAX;
  for (const kind of asked) if (!kinds.includes(kind)) console.log(`cannot be done here: ${kind.name}`);
  console.log(`seed ${seed}`);
  let next = 0;
  const lane = async () => {
    while (going() && next < worlds) {
      const world = settingsFor(seed + next++, kinds, sealed);
      if (world === null) return;
      const started = Date.now();
      const violation = await torment(world, kinds, totals, (done) => done < cycles && going());
      const seconds = ((Date.now() - started) / 1000).toFixed(1);
      const verdict = violation === null ? 'ok  ' : 'FAIL';
      console.log(`${verdict}  seed ${world.seed}  ${world.medium}, ${world.copies} copies  (${seconds} s)`);
      if (violation === null) continue;
      violations.push(violation);
      tell(violation, settings);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  const sum = [...totals.values()].reduce((count, one) => count + one.cycles, 0);
  const perMinute = Math.round(sum / ((Date.now() - began) / 60_000));
  console.log(`\n${table(totals).join('\n')}\n\n${perMinute} cycles a minute`);
  console.log(`${sum} cycles, ${violations.length} violations`);
  return sum > 0 && violations.length === 0;
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const) {
  // What was made is undone at the process's exit, whatever is under way.
  process.on(signal, () => process.exit(130));
}

try {
  const settings = parse(process.argv.slice(2));
  // Judging opens devices: as long as one is open, that starts no workers.
  const keeper = await openDevice('null:1M');
  const good = await runAll(settings);
  await keeper.close();
  process.exit(good ? 0 : 1);
} catch (error) {
  const usage = error instanceof UsageError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  console.error(usage ? `${(error as Error).message}\n${USAGE}` : error);
  process.exit(usage ? 2 : 1);
}
