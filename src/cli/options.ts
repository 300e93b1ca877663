/** Options that several commands share. */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseWhole } from '../core/arguments.js';
import { type StrakeError, toStrakeError } from '../core/errors.js';
import { type OutputFormat, parseFormat } from './output.js';

/** Tells the main program which code to end with. */
export type OnExit = (code: number) => void;

/** `-o FORMAT`. An unsupported format is a usage error. */
export function outputOption(): Option {
  return new Option('-o, --output <format>', 'output format: table, json or jsonl')
    .default('table' satisfies OutputFormat)
    .argParser(asUsageError(parseFormat));
}

/** `--node DIR`: which running node a command talks to. */
export function nodeOption(): Option {
  return new Option('--node <dir>', 'folder or configuration file of the node (STRAKE_NODE; else data, else .)');
}

/** A parser whose errors commander reports as usage errors. */
export function asUsageError<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      const { message, remedy }: StrakeError = toStrakeError(error);
      throw new InvalidArgumentError(`${message}. ${remedy}`);
    }
  };
}

/** A whole number within bounds. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = parseWhole(text, min, max);
    if (value === undefined) {
      throw new InvalidArgumentError(`a whole number from ${min} to ${max} is expected.`);
    }
    return value;
  };
}

/** A command under `parent`, created at first use: `device` for `device show`. */
export function noun(parent: Command, name: string, description: string): Command {
  return parent.commands.find((command) => command.name() === name) ?? parent.command(name).description(description);
}
