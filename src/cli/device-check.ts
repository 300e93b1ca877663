/** `strake device fsck|dump`: looking at what is on a Strake device that no node uses. Nothing is written. */

import { Argument, type Command } from 'commander';
import { StrakeError } from '../core/errors.js';
import type { DumpRequest } from '../store/checking/dump.js';
import type { FsckReport, FsckVerdict } from '../store/checking/fsck.js';
import type { ImageReader } from '../store/opening/image-reader.js';
import { type OnExit, outputOption, wholeNumber } from './options.js';
import { EXIT_DEGRADED, EXIT_FAILED, fields, type OutputFormat, print, table } from './output.js';
import { Progress } from './progress.js';

interface FsckOptions {
  readonly data?: boolean;
  readonly exitCode?: boolean;
  readonly quiet?: boolean;
  readonly output: OutputFormat;
}

/** Opens a device for reading, and closes it whatever happens. */
async function withImage<T>(path: string, use: (reader: ImageReader) => Promise<T>): Promise<T> {
  const { readOnlyImage } = await import('../embed/format.js');
  const image = await readOnlyImage(path);
  try {
    return await use(image.reader);
  } finally {
    await image.close();
  }
}

const VERDICTS: Readonly<Record<FsckVerdict, string>> = {
  clean: 'clean: all structures are whole',
  recoverable: 'recoverable: opening it repairs what was found',
  damaged: 'damaged: something is lost; a copy on another device is what it can be rebuilt from',
};

function fsckText(path: string, { verdict, problems, counts, crashed }: FsckReport): string {
  const rows = problems.map(({ kind, harmless, offset, text }) => [
    kind,
    harmless ? 'harmless' : 'damage',
    offset === undefined ? '–' : String(offset),
    text,
  ]);
  const numbers = fields(Object.entries(counts).map(([name, count]) => [name, String(count)]));
  const found = rows.length > 0 ? [table(['part', 'severity', 'offset', 'finding'], rows), ''] : [];
  const closed = crashed ? 'it was not closed in order; the next opening recovers' : 'it was closed in order';
  return [`${path}: ${closed}`, '', numbers, '', ...found, VERDICTS[verdict]].join('\n');
}

async function fsck(path: string, options: FsckOptions, onExit: OnExit): Promise<void> {
  const progress = new Progress(`checking ${path}`, options.quiet, (slots) => `${slots} slots`);
  const { checkDevice } = await import('../store/checking/fsck.js');
  const report = await withImage(path, (reader) =>
    checkDevice(reader, {
      data: options.data ?? false,
      onProgress: (done, slots) => progress.update(done, slots),
    }),
  ).finally(() => progress.end());
  const data = { path, ...report };
  print({ schema: 'strake.device.fsck', version: 1, data, text: fsckText(path, report) }, options.output);
  if (report.verdict === 'damaged') onExit(EXIT_FAILED);
  else if (report.verdict === 'recoverable' && options.exitCode) onExit(EXIT_DEGRADED);
}

const PARTS = ['superblock', 'root', 'volumes', 'slots', 'table', 'journal'] as const;
type Part = (typeof PARTS)[number];

interface DumpOptions {
  readonly slot?: number;
  readonly output: OutputFormat;
}

/** What to ask for. A table belongs to a slot; slots are all that are used, or one. */
function requestOf(part: Part, slot: number | undefined): DumpRequest {
  if (part === 'slots') return slot === undefined ? { what: part } : { what: part, from: slot, to: slot + 1 };
  if (part === 'table') {
    if (slot !== undefined) return { what: part, slot };
    throw new StrakeError('INVALID_ARGUMENT', 'a table belongs to a slot', {
      remedy: 'Name the slot with --slot; `strake device dump PATH slots` lists those in use.',
    });
  }
  if (slot === undefined) return { what: part };
  throw new StrakeError('INVALID_ARGUMENT', `--slot chooses among slots and tables, not of the ${part}`);
}

async function dump(path: string, part: Part, options: DumpOptions): Promise<void> {
  const request = requestOf(part, options.slot);
  const { dumpDevice } = await import('../store/checking/dump.js');
  const content = await withImage(path, (reader) => dumpDevice(reader, request));
  const data = { path, part, content };
  const text = JSON.stringify(content, null, 2);
  print({ schema: 'strake.device.dump', version: 1, data, text: `${part} of ${path}\n${text}` }, options.output);
}

export function addCheck(device: Command, onExit: OnExit): void {
  device
    .command('fsck <path>')
    .description('check the structures of a Strake device that no node uses; nothing is written')
    .option('--data', 'read all data too, and check it against its checksums')
    .option('--exit-code', 'end with 3 if something was found that opening the device repairs')
    .option('--quiet', 'no progress')
    .addOption(outputOption())
    .action((path: string, options: FsckOptions) => fsck(path, options, onExit));
  device
    .command('dump <path>')
    .description('print a structure of a Strake device that no node uses')
    .addArgument(new Argument('[part]', 'what to print').choices(PARTS).default('superblock'))
    .option('--slot <number>', 'the slot whose entry or table is printed', wholeNumber(0, 2 ** 32))
    .addOption(outputOption())
    .action(dump);
}
