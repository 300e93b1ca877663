/** Loop devices, which make a block device of a file. They need root. */

import { existsSync } from 'node:fs';
import { run, tool } from './processes.js';

export interface LoopDevice {
  readonly path: string;
  detach(): Promise<void>;
}

/** Why no loop device can be made here; null if one can. */
export function whyNoLoop(): string | null {
  if (process.getuid?.() !== 0) return 'loop devices need root';
  return existsSync('/dev/loop-control') ? null : 'this system has no loop devices';
}

/** A block device over a file, whose operations go to the file directly. */
export async function attachLoop(file: string): Promise<LoopDevice> {
  const losetup = tool('losetup');
  const path = (await run(losetup, ['--find', '--show', '--direct-io=on', file])).trim();
  return {
    path,
    detach: async () => {
      await run(losetup, ['--detach', path]);
    },
  };
}
