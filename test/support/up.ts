/** A running `strake up`. */

import type { ChildProcess } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { type Ending, ending, scratchFolder, startProcess } from './scratch.js';
import { command } from './strake.js';

/** An empty folder for a node. */
export function nodeFolder(): string {
  return mkdtempSync(join(scratchFolder(), 'node-'));
}

export interface UpProcess {
  readonly child: ChildProcess;
  /** What it printed about itself. */
  readonly data: Record<string, unknown>;
  readonly ended: Promise<Ending>;
  /** Where a volume is. */
  uri(volume: string): string;
  /** Sends SIGINT and waits for the end. */
  stop(): Promise<Ending>;
}

/**
 * Starts `strake up DIR`, or another program that becomes it (with `bare` not one of Node.js), and waits until it serves. Throws
 * if it ends before.
 */
export async function up(
  args: readonly string[],
  options: { program?: readonly string[]; env?: NodeJS.ProcessEnv; bare?: boolean } = {},
): Promise<UpProcess> {
  const program = options.program ?? [command, 'up'];
  const line = [...(options.bare ? [] : [process.execPath]), ...program, ...args, '-o', 'jsonl'];
  const child = startProcess(line[0], line.slice(1), {
    env: { ...process.env, ...options.env },
  });
  const ended = ending(child);
  const first = new Promise<string>((resolve) => {
    let text = '';
    child.stdout?.on('data', (part: string) => {
      text += part;
      if (text.includes('\n')) resolve(text.slice(0, text.indexOf('\n')));
    });
  });
  const printed = await Promise.race([first, ended]);
  if (typeof printed !== 'string') throw new Error(`it ended with ${printed.code}: ${printed.stderr}`);
  const data = JSON.parse(printed) as Record<string, unknown>;
  const socket = encodeURI(String(data.address));
  const stop = () => {
    child.kill('SIGINT');
    return ended;
  };
  return { child, data, ended, uri: (volume) => `nbd+unix:///${volume}?socket=${socket}`, stop };
}
