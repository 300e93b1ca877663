/**
 * How commands print. Data goes to standard output as a table, as JSON or as JSON lines; everything else goes to standard
 * error. Machine formats carry a schema name and version, sizes are whole bytes, times are RFC 3339 in UTC.
 */

import { ERRORS, type ErrorName, StrakeError, toStrakeError } from '../core/errors.js';

export type OutputFormat = 'table' | 'json' | 'jsonl';

export const FORMATS: readonly OutputFormat[] = ['table', 'json', 'jsonl'];

/** Exit codes of every command. */
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_DEGRADED = 3;
export const EXIT_INTERRUPTED = 130;

/** A command's result: records for machines, rows for people. */
export interface Report {
  /** Such as `strake.device.show`. */
  readonly schema: string;
  /** Counts up when a field changes its meaning or goes away. */
  readonly version: number;
  /** What `json` prints as a whole, and `jsonl` as one line unless there are `items`. */
  readonly data: Readonly<Record<string, unknown>>;
  /** What `jsonl` prints line by line. */
  readonly items?: readonly Readonly<Record<string, unknown>>[];
  /** What `table` prints. */
  readonly text: string;
}

/** Checks the argument of `-o`. */
export function parseFormat(text: string): OutputFormat {
  const format = FORMATS.find((known) => known === text);
  if (format === undefined) {
    throw new StrakeError('INVALID_ARGUMENT', `unknown output format ${JSON.stringify(text)}`, {
      remedy: `Use one of ${FORMATS.join(', ')}.`,
    });
  }
  return format;
}

/** Prints a result. */
export function print(report: Report, format: OutputFormat): void {
  const { schema, version } = report;
  if (format === 'table') {
    process.stdout.write(report.text.endsWith('\n') ? report.text : `${report.text}\n`);
  } else if (format === 'json') {
    process.stdout.write(`${JSON.stringify({ schema, version, ...report.data }, null, 2)}\n`);
  } else {
    for (const item of report.items ?? [report.data]) {
      process.stdout.write(`${JSON.stringify({ schema, version, ...item })}\n`);
    }
  }
}

/** Columns as wide as their longest cell; numbers to the right. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column].length)));
  const numeric = header.map((_, column) => rows.length > 0 && rows.every((row) => /^[\d.,–-]/.test(row[column])));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => (numeric[column] ? cell.padStart(widths[column]) : cell.padEnd(widths[column])))
      .join('  ')
      .trimEnd();
  return [line(header), ...rows.map(line)].join('\n');
}

/** Names and values, one pair a line. */
export function fields(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}

/** Prints an error: what happened, why, what to do. Returns the exit code. */
export function printError(thrown: unknown, format: OutputFormat): number {
  const error = toStrakeError(thrown);
  const name = error.code.slice('ERR_STRAKE_'.length) as ErrorName;
  if (format === 'table') {
    process.stderr.write(
      `strake: ${error.message}\n  ${error.remedy}\n  ${error.code} (strake explain ${error.code})\n`,
    );
  } else {
    const { code, message, remedy, retryable, errno } = error;
    process.stderr.write(
      `${JSON.stringify({ schema: 'strake.error', version: 1, code, message, remedy, retryable, errno })}\n`,
    );
  }
  return ERRORS[name].exitCode;
}

/** Whether whoever read the output is gone: a pipe without a reader, or a terminal that was closed. */
export function isGone(error: NodeJS.ErrnoException): boolean {
  return error.code === 'EPIPE' || error.code === 'EIO';
}

/** Prints to standard error unless told to be quiet. */
export function note(text: string, quiet = false): void {
  if (!quiet) process.stderr.write(`${text}\n`);
}
