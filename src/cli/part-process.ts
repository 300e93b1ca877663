/**
 * A command that serves, as a child of the command that started it: a part of a cluster that `strake up --nodes` runs.
 *
 * No part is left behind. It is stopped in order by a signal; and should the process that started it die before it could send
 * one, the part's standard input ends, which it takes for the same wish. A signal alone would not do: whoever is killed sends
 * none, and the devices of its nodes would stay taken. A part also has the other ends of the inputs of those that it needs, so
 * that these end after it.
 */

import { spawn } from 'node:child_process';
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { StrakeError } from '../core/errors.js';
import { note, type OutputFormat } from './output.js';
import { STOP_WITH_INPUT } from './stopping.js';

/** Something that runs, and how it ends. */
export interface Part {
  readonly name: string;
  readonly pid: number;
  /** The other end of its standard input, if it is a process. */
  readonly input?: Writable;
  stop(): Promise<void>;
}

const PROGRAM = fileURLToPath(new URL('./main.js', import.meta.url));

/** How words are given to a shell. */
function shellWord(word: string): string {
  return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/**
 * Starts a command that serves, and needs these parts; resolves when it has said so. Rejects with `ERR_STRAKE_UNAVAILABLE` if it
 * ends before.
 */
export async function startChild(
  name: string,
  args: readonly string[],
  needed: readonly Part[],
  { quiet = false, output }: { readonly quiet?: boolean; readonly output: OutputFormat },
): Promise<Part> {
  const inputs = needed.flatMap(({ input }) => (input === undefined ? [] : [input]));
  const child = spawn(process.execPath, [PROGRAM, ...args, '-o', output], {
    stdio: ['pipe', 'pipe', quiet ? 'ignore' : 'inherit', ...inputs],
    env: { ...process.env, [STOP_WITH_INPUT]: '1' },
    // Ctrl-C is for this process alone, which ends the others in order.
    detached: true,
  });
  const ended = new Promise<string>((done) => {
    child.on('error', ({ message }) => done(message));
    child.on('exit', (code, signal) => done(`it ended with ${signal ?? `code ${code}`}`));
  });
  const ready = new Promise<null>((done) => child.stdout?.once('data', () => done(null)));
  const failure = await Promise.race([ready, ended]);
  if (failure !== null) throw new StrakeError('UNAVAILABLE', `${name} did not start: ${failure}`);
  let stopping = false;
  void ended.then((how) => {
    if (stopping) return;
    note(`strake: ${name} (process ${child.pid}) is gone: ${how}`, quiet);
    note(`  to start it again: strake ${args.map(shellWord).join(' ')}`, quiet);
  });
  const stop = async () => {
    stopping = true;
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await ended;
  };
  return { name, pid: child.pid ?? 0, input: child.stdin ?? undefined, stop };
}
