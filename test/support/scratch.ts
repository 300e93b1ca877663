/**
 * Scratch files, devices and processes. Everything made here goes away when the test process ends, however it ends short of
 * SIGKILL.
 */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '#strake/embed/programs.js';
import { project } from './project.js';

export { project };

const undo = new Set<() => void>();

/** Has something done at the end of the process; what was registered last is done first. Returns what takes that back. */
export function atEnd(action: () => void): () => void {
  const entry = () => action();
  undo.add(entry);
  return () => undo.delete(entry);
}

/** Undoes everything. A file's tests end with it, so that nothing that a failed test has left keeps the process alive. */
export function cleanUp(): void {
  const actions = [...undo].reverse();
  undo.clear();
  for (const action of actions) {
    try {
      action();
    } catch (error) {
      console.error(error);
    }
  }
}

process.on('exit', cleanUp);

let folder: string | undefined;

/** A folder for files that hold devices; on the disk of the project, since a memory file system may know no direct I/O. */
export function scratchFolder(): string {
  if (folder === undefined) {
    mkdirSync(join(project, 'target', 'test'), { recursive: true });
    const made = mkdtempSync(join(project, 'target', 'test', 'scratch-'));
    atEnd(() => rmSync(made, { recursive: true, force: true }));
    folder = made;
    atEnd(() => {
      folder = undefined;
    });
  }
  return folder;
}

let sockets: string | undefined;
let counter = 0;

/** A path for a unix socket: these are limited to 107 bytes, so they do not lie in the project. */
export function socketPath(): string {
  if (sockets === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'strake-test-'));
    atEnd(() => rmSync(made, { recursive: true, force: true }));
    sockets = made;
    atEnd(() => {
      sockets = undefined;
    });
  }
  counter += 1;
  return join(sockets, `${counter}.sock`);
}

/** A sparse file of this size, or one with this content. */
export function scratchFile(content: number | Uint8Array): string {
  counter += 1;
  const path = join(scratchFolder(), `${counter}.img`);
  const file = openSync(path, 'w');
  if (typeof content === 'number') ftruncateSync(file, content);
  else writeSync(file, content);
  closeSync(file);
  return path;
}

/** Runs a program to its end and returns what it prints; throws if it fails. */
export function output(program: string, ...args: string[]): string {
  return execFileSync(findProgram(program) ?? program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** A loop device over a file. `detach` is also called at the end. */
export function loopDevice(file: string, ...options: string[]): { readonly path: string; readonly detach: () => void } {
  const path = output('losetup', '--find', '--show', '--direct-io=on', ...options, file).trim();
  let attached = true;
  const detach = () => {
    forget();
    if (attached) output('losetup', '--detach', path);
    attached = false;
  };
  const forget = atEnd(detach);
  return { path, detach };
}

/** A child process that is killed at the end if it has not ended by then. */
export function startProcess(
  program: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; stdin?: 'ignore' | 'pipe' } = {},
): ChildProcess {
  const child = spawn(findProgram(program) ?? program, args, {
    stdio: [options.stdin ?? 'ignore', 'pipe', 'pipe'],
    env: options.env ?? process.env,
  });
  const forget = atEnd(() => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  });
  child.once('exit', forget);
  return child;
}

/**
 * Stops a process, and resolves when each of its threads stands still. The signal is taken by one of them, and until that one
 * has run the others go on and answer.
 */
export async function standStill(child: ChildProcess): Promise<void> {
  child.kill('SIGSTOP');
  const tasks = `/proc/${child.pid}/task`;
  // What is behind the name, which may hold anything, begins with the state.
  const stopped = (task: string) => /^.*\) T/s.test(readFileSync(join(tasks, task, 'stat'), 'utf8'));
  await until('all threads to be stopped', () => {
    try {
      return readdirSync(tasks).every(stopped);
    } catch {
      // A thread has ended meanwhile.
      return false;
    }
  });
}

/** How a process ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Collects what a process prints until it ends. */
export function ending(child: ChildProcess): Promise<Ending> {
  return new Promise((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** Calls `look` until it returns something else than undefined or false. Fails after a time that only a hang reaches. */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
