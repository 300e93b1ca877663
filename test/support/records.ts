/** What the command prints for machines, and what every such record promises. */

import * as assert from 'uvu/assert';
import { type Ending, ending, startProcess, until } from './scratch.js';
import { command } from './strake.js';

export const RFC3339_UTC = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;
export type Json = Record<string, unknown>;

/** Checks what every machine-readable record promises, in all its parts. */
export function checkValues(value: unknown, key = ''): void {
  if (key.endsWith('Bytes') && typeof value === 'number') assert.ok(Number.isSafeInteger(value), `${key}: ${value}`);
  if (key === 'time' || key.endsWith('At')) assert.match(String(value), RFC3339_UTC);
  if (typeof value !== 'object' || value === null) return;
  for (const [name, part] of Object.entries(value)) checkValues(part, /Bytes$/.test(key) ? key : name);
}

export function checkRecord(text: string, schema: string): Json {
  const record = JSON.parse(text) as Json;
  assert.is(record.schema, schema);
  assert.ok(Number.isInteger(record.version) && (record.version as number) >= 1);
  checkValues(record);
  return record;
}

export function checkError({ code, stdout, stderr }: Ending, exitCode: number, name: string): Json {
  assert.is(code, exitCode, stderr);
  assert.is(stdout, '', 'errors are no data');
  assert.is(stderr.trim().split('\n').length, 1);
  const error = checkRecord(stderr, 'strake.error');
  assert.is(error.code, `ERR_STRAKE_${name}`);
  for (const part of ['message', 'remedy']) assert.ok((error[part] as string).length > 10, part);
  assert.type(error.retryable, 'boolean');
  return error;
}

/** What was printed in a format: one record, or one per line. */
export function records(format: string, text: string, schema: string): Json[] {
  if (format === 'json') return [checkRecord(text, schema)];
  return text
    .trim()
    .split('\n')
    .map((line) => checkRecord(line, schema));
}

/** Starts a command and waits until its output matches. */
export async function started(args: readonly string[], expected: RegExp) {
  const process_ = startProcess(process.execPath, [command, ...args]);
  const ended = ending(process_);
  let text = '';
  process_.stdout?.on('data', (part: string) => {
    text += part;
  });
  await until(String(expected), () => expected.test(text));
  return { process: process_, ended };
}
