/** `strake bench DEVICE|FILE`: measures a device of the user's own, next to other servers if they are installed. */

import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { figuresOf } from '../bench/figures.js';
import { terminalRows } from '../bench/report.js';
import { type Party, ROWS, type Row } from '../bench/rows.js';
import type { BenchResult } from '../bench/run.js';
import { StrakeError } from '../core/errors.js';
import { inspectDevice } from '../embed/facts.js';
import { findProgram } from '../embed/programs.js';
import { type OnExit, outputOption, wholeNumber } from './options.js';
import { note, type OutputFormat, print, table } from './output.js';
import { endOnSignals } from './stopping.js';

interface BenchCommandOptions {
  readonly write?: string;
  readonly only?: string;
  readonly seconds: number;
  readonly rounds: number;
  readonly quiet?: boolean;
  readonly output: OutputFormat;
}

/** The rows that can be measured here, and what is left out and why. */
function choose(
  path: string,
  options: BenchCommandOptions,
  parties: readonly Party[],
): { rows: Row[]; left: string[] } {
  const left: string[] = [];
  let rows = ROWS.filter(({ id }) => id.startsWith(options.only ?? ''));
  if (rows.length === 0) {
    throw new StrakeError('INVALID_ARGUMENT', `no row begins with ${JSON.stringify(options.only)}`, {
      remedy: `Rows are TARGET.PATTERN.SIZE.DEPTH, such as ${ROWS[0].id} or nbd.read.1m.qd16.`,
    });
  }
  if (options.write === undefined) {
    if (rows.some(({ writes }) => writes)) {
      left.push(`rows that write (they destroy what ${path} holds; --write ${path} includes them)`);
    }
    rows = rows.filter(({ writes }) => !writes);
  } else if (options.write !== path) {
    throw new StrakeError('INVALID_ARGUMENT', `--write names ${options.write}, and the device is ${path}`, {
      remedy: 'Name the device twice to allow writing: it destroys what the device holds.',
    });
  }
  if (!parties.includes('fio')) {
    left.push('rows over NBD (fio is their client: apt-get install fio)');
    rows = rows.filter(({ target }) => target === 'device');
  }
  return { rows, left };
}

function installed(): Party[] {
  const rivals: Party[] = ['fio', 'qemu-nbd', 'nbdkit'];
  return ['strake', ...rivals.filter((name) => findProgram(name) !== undefined)];
}

function text(result: BenchResult, left: readonly string[]): string {
  const { header, rows } = terminalRows(result);
  return [table(header, rows), '', ...left.map((what) => `left out: ${what}`)].join('\n').trimEnd();
}

async function run(path: string, options: BenchCommandOptions): Promise<void> {
  const facts = await inspectDevice(path);
  const parties = installed();
  const { rows, left } = choose(path, options, parties);
  if (rows.length === 0) {
    throw new StrakeError('INVALID_ARGUMENT', `nothing is left to measure: ${left.join('; ')}`);
  }
  const folder = await mkdtemp(join(tmpdir(), 'strake-bench-'));
  const cleanUp = () => rmSync(folder, { recursive: true, force: true });
  endOnSignals(cleanUp);
  try {
    const { runBench } = await import('../bench/run.js');
    const result = await runBench({
      rows,
      files: [facts.path],
      sizeBytes: facts.sizeBytes,
      rounds: options.rounds,
      seconds: options.seconds,
      folder,
      parties,
      onProgress: (line) => note(line, options.quiet || !process.stderr.isTTY),
      onFailure: 'giveUp',
    });
    const data = { ...result, figures: figuresOf(result.rows).filter(({ value }) => value !== null), leftOut: left };
    print({ schema: 'strake.bench', version: 1, data, text: text(result, left) }, options.output);
  } finally {
    cleanUp();
  }
}

export function addBench(program: Command, _onExit: OnExit): void {
  program
    .command('bench <device>')
    .description('measure a device or file: the engine alone, and over NBD next to other servers; read-only by default')
    .option('--write <device>', 'the device again: measure writing too, which destroys what it holds')
    .option('--only <prefix>', 'only rows that begin so, such as nbd.randread')
    .option('--seconds <n>', 'measured time of each cell', wholeNumber(1, 3600), 2)
    .option('--rounds <n>', 'rounds', wholeNumber(1, 100), 5)
    .option('--quiet', 'no progress')
    .addOption(outputOption())
    .action((path: string, options: BenchCommandOptions) => run(path, options));
}
