/** `strake explain CODE`: what an error code means and what to do about it. */

import type { Command } from 'commander';
import { ERRORS, type ErrorName, StrakeError } from '../core/errors.js';
import { type OnExit, outputOption } from './options.js';
import { fields, type OutputFormat, print, table } from './output.js';

function find(code: string): ErrorName {
  const name = code.toUpperCase().replace(/^ERR_STRAKE_/, '');
  if (!Object.hasOwn(ERRORS, name)) {
    throw new StrakeError('INVALID_ARGUMENT', `there is no error code ${JSON.stringify(code)}`, {
      remedy: '`strake explain` without a code lists all of them.',
    });
  }
  return name as ErrorName;
}

function explain(code: string | undefined, format: OutputFormat): void {
  const names = code === undefined ? (Object.keys(ERRORS) as ErrorName[]) : [find(code)];
  const items = names.map((name) => ({ code: `ERR_STRAKE_${name}`, ...ERRORS[name] }));
  const [first] = items;
  const one = fields([
    ['code', first.code],
    ['meaning', first.summary],
    ['what to do', first.remedy],
    ['exit code', String(first.exitCode)],
    ['worth trying again', first.retryable ? 'yes' : 'no'],
  ]);
  const all = table(
    ['code', 'meaning'],
    items.map((item) => [item.code, item.summary]),
  );
  const data = code === undefined ? { errors: items } : { ...first };
  print({ schema: 'strake.explain', version: 1, data, items, text: code === undefined ? all : one }, format);
}

export function addExplain(program: Command, _onExit: OnExit): void {
  program
    .command('explain [code]')
    .description('explain an error code, or list all of them')
    .addOption(outputOption())
    .action((code: string | undefined, options: { output: OutputFormat }) => explain(code, options.output));
}
