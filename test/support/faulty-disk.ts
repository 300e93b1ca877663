/**
 * A block device that really fails: nbdkit serves a file with its error filter, nbdfuse shows that as a file, and a loop
 * device makes it a disk.
 *
 * ```text
 *   file ── nbdkit --filter=error ── unix socket ── nbdfuse ── loop device
 * ```
 *
 * Reads and writes fail while the trigger file exists. nbdkit can be killed (a disk that has gone) or stopped (one that
 * does not answer).
 */

import { type ChildProcess, execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fuse, loop, type Need, tool } from './check.js';
import { atEnd, ending, loopDevice, scratchFile, scratchFolder, socketPath, startProcess, until } from './scratch.js';

/** What a faulty disk needs of the machine. */
export const faulty: readonly Need[] = [loop, fuse, tool('nbdkit'), tool('nbdfuse')];

export interface FaultyDisk {
  /** The block device. */
  readonly path: string;
  /** The file that holds its content. */
  readonly file: string;
  /** What serves it. */
  readonly nbdkit: ChildProcess;
  /** Lets reads and writes fail from now on, or no more. */
  fail(failing: boolean): void;
  /** Takes it apart. */
  remove(): Promise<void>;
}

/** Makes a disk that works, for the time being. */
export async function faultyDisk(sizeBytes: number): Promise<FaultyDisk> {
  const file = scratchFile(sizeBytes);
  const trigger = `${file}.fail`;
  const socket = socketPath();
  const rules = ['error=EIO', 'error-rate=100%', `error-file=${trigger}`];
  const nbdkit = startProcess('nbdkit', ['-f', '-U', socket, '--filter=error', 'file', file, ...rules]);
  const served = ending(nbdkit);
  await until('nbdkit to listen', () => existsSync(socket));
  const mount = mkdtempSync(join(scratchFolder(), 'disk-'));
  const shown = ending(startProcess('nbdfuse', [mount, `nbd+unix:///?socket=${socket}`]));
  const unmount = () => execFileSync('sh', ['-c', `! grep -q " ${mount} " /proc/mounts || umount --lazy ${mount}`]);
  atEnd(unmount);
  await until('nbdfuse to show the disk', () => readdirSync(mount).includes('nbd'));
  const disk = loopDevice(join(mount, 'nbd'));
  // A disk that does not answer cannot be taken apart, so this comes first.
  atEnd(() => nbdkit.kill('SIGKILL'));
  return {
    path: disk.path,
    file,
    nbdkit,
    fail: (failing) => (failing ? writeFileSync(trigger, '') : rmSync(trigger, { force: true })),
    remove: async () => {
      disk.detach();
      unmount();
      await shown;
      nbdkit.kill('SIGKILL');
      await served;
    },
  };
}
