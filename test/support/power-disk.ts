/**
 * A block device that loses power: nbdkit keeps what is written in a cache of its own until it is told to flush, and is
 * killed; the file then holds what had been flushed, and of a flush under way a part.
 *
 * ```text
 *   file ── nbdkit --filter=cache ── unix socket ── nbdfuse ── loop device
 * ```
 */

import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { type NbdLoop, showAsLoop } from './nbd-loop.js';
import { ending, scratchFile, socketPath, startProcess, until } from './scratch.js';

/** The cache flushes in blocks of this size, so that a cut may come between two of a volume's. */
const CACHE = ['cache=writeback', 'cache-min-block-size=4K'];

export class PowerDisk {
  /** What is there without power. */
  readonly file: string;
  private chain: { readonly nbdkit: ChildProcess; readonly shown: NbdLoop } | null = null;

  /** Of this size, or over the file of another disk. */
  constructor(what: number | string) {
    this.file = typeof what === 'number' ? scratchFile(what) : what;
  }

  /** The block device; another one each time it is switched on. */
  get path(): string {
    if (this.chain === null) throw new Error('the disk has no power');
    return this.chain.shown.path;
  }

  async on(): Promise<void> {
    const socket = socketPath();
    const nbdkit = startProcess('nbdkit', ['-f', '-U', socket, '--filter=cache', 'file', this.file, ...CACHE]);
    const served = ending(nbdkit);
    await until('nbdkit to listen', () => existsSync(socket));
    this.chain = { nbdkit, shown: await showAsLoop(nbdkit, served, socket) };
  }

  /** The power goes: whatever comes now fails. */
  cut(): void {
    this.chain?.nbdkit.kill('SIGKILL');
  }

  /** Takes apart what is left of it, once nobody uses it any more. */
  async detach(): Promise<void> {
    await this.chain?.shown.remove();
    this.chain = null;
  }
}
