/**
 * A block device that loses power: nbdkit keeps what is written in a cache of its own until it is told to flush, and is
 * killed; the file then holds what had been flushed, and of a flush under way a part.
 *
 * ```text
 *   file ── nbdkit --filter=cache ── unix socket ── nbdfuse ── loop device
 * ```
 */

import { type ChildProcess, execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { atEnd, ending, loopDevice, scratchFile, scratchFolder, socketPath, startProcess, until } from './scratch.js';

interface Chain {
  readonly nbdkit: ChildProcess;
  readonly served: Promise<unknown>;
  readonly loop: { readonly path: string; readonly detach: () => void };
  readonly unmount: () => void;
  readonly forget: readonly (() => void)[];
  readonly shown: Promise<unknown>;
}

/** The cache flushes in blocks of this size, so that a cut may come between two of a volume's. */
const CACHE = ['cache=writeback', 'cache-min-block-size=4K'];

export class PowerDisk {
  /** What is there without power. */
  readonly file: string;
  private chain: Chain | null = null;

  /** Of this size, or over the file of another disk. */
  constructor(what: number | string) {
    this.file = typeof what === 'number' ? scratchFile(what) : what;
  }

  /** The block device; another one each time it is switched on. */
  get path(): string {
    if (this.chain === null) throw new Error('the disk has no power');
    return this.chain.loop.path;
  }

  async on(): Promise<void> {
    const socket = socketPath();
    const nbdkit = startProcess('nbdkit', ['-f', '-U', socket, '--filter=cache', 'file', this.file, ...CACHE]);
    const served = ending(nbdkit);
    await until('nbdkit to listen', () => existsSync(socket));
    const mount = mkdtempSync(join(scratchFolder(), 'disk-'));
    const shown = ending(startProcess('nbdfuse', [mount, `nbd+unix:///?socket=${socket}`]));
    const unmount = () => {
      execFileSync('sh', ['-c', `! grep -q " ${mount} " /proc/mounts || umount --lazy ${mount}`]);
    };
    const forget = [atEnd(unmount)];
    await until('nbdfuse to show the disk', () => readdirSync(mount).includes('nbd'));
    const loop = loopDevice(join(mount, 'nbd'));
    // A disk that does not answer cannot be taken apart, so this comes first.
    forget.push(atEnd(() => nbdkit.kill('SIGKILL')));
    this.chain = { nbdkit, served, loop, unmount, forget, shown };
  }

  /** The power goes: whatever comes now fails. */
  cut(): void {
    this.chain?.nbdkit.kill('SIGKILL');
  }

  /** Takes apart what is left of it, once nobody uses it any more. */
  async detach(): Promise<void> {
    if (this.chain === null) return;
    const { forget, loop, nbdkit, served, shown, unmount } = this.chain;
    loop.detach();
    unmount();
    nbdkit.kill('SIGKILL');
    await served;
    await shown;
    for (const one of forget) one();
    this.chain = null;
  }
}
