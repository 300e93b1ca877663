/** The `strake` command in a process of its own. */

import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { type Ending, ending, project, socketPath, startProcess } from './scratch.js';

/** The program. */
export const command = join(project, 'dist', 'cli', 'main.js');

/** Runs a command to its end. */
export function strake(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ending> {
  return ending(startProcess(process.execPath, [command, ...args], { env: { ...process.env, ...env } }));
}

/** A running `strake export`. */
export interface ExportProcess {
  readonly child: ChildProcess;
  readonly uri: string;
  readonly socket: string;
  /** What it printed about itself. */
  readonly data: Record<string, unknown>;
  /** Resolves when it has ended. */
  readonly ended: Promise<Ending>;
  /** Sends SIGINT and waits for the end. */
  stop(): Promise<Ending>;
}

/** Starts `strake export DEVICE` on a unix socket, and waits until it serves. */
export async function exportDevice(
  device: string,
  args: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
  /** Puts something before the command, such as a program that limits it. */
  wrapper: readonly string[] = [],
): Promise<ExportProcess> {
  const socket = socketPath();
  const line = [...wrapper, process.execPath, command, 'export', device, '--socket', socket, '-o', 'jsonl', ...args];
  const child = startProcess(line[0], line.slice(1), { env: { ...process.env, ...env } });
  const ended = ending(child);
  const first = new Promise<string>((resolve) => {
    let text = '';
    child.stdout?.on('data', (part: string) => {
      text += part;
      if (text.includes('\n')) resolve(text.slice(0, text.indexOf('\n')));
    });
  });
  const printed = await Promise.race([first, ended]);
  if (typeof printed !== 'string') throw new Error(`strake export ended: ${printed.stderr}`);
  const data = JSON.parse(printed) as Record<string, unknown>;
  const stop = () => {
    child.kill('SIGINT');
    return ended;
  };
  return { child, uri: data.uri as string, socket, data, ended, stop };
}
