/**
 * A block device with every fault of a disk, for real processes: the simulator's disk (`#strake/sim/disk/disk.js`) with its
 * rules, in a process that serves it over NBD, shown as a file by nbdfuse, under a loop device.
 *
 * ```text
 *   SimDisk, SimFaults ── unix socket ── nbdfuse ── loop device
 * ```
 *
 * Fault model: that of `#strake/sim/disk/faults.js`. At a power cut each sector that was not flushed survives or not by
 * itself. The content lives in that process's memory: it outlives the node, and not the test.
 */

import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { FaultRule } from '#strake/sim/disk/faults.js';
import { fuse, loop, type Need, tool } from './check.js';
import { type NbdLoop, showAsLoop } from './nbd-loop.js';
import { ending, project, socketPath, startProcess } from './scratch.js';

/** What an evil disk needs of the machine. */
export const evil: readonly Need[] = [loop, fuse, tool('nbdfuse')];

export class EvilDisk {
  /** The block device. */
  readonly path: string;
  private readonly child: ChildProcess;
  private readonly waiting = new Map<number, (result: unknown) => void>();
  private nextId = 1;
  private readonly shown: NbdLoop;

  private constructor(child: ChildProcess, shown: NbdLoop) {
    this.child = child;
    this.path = shown.path;
    this.shown = shown;
  }

  /** A disk that works, for the time being; what it does by chance follows from the seed. */
  static async start(sizeBytes: number, seed: number): Promise<EvilDisk> {
    const socket = socketPath();
    const program = join(project, 'test', 'support', 'evil-disk-child.mjs');
    const settings = JSON.stringify({ socket, sizeBytes, seed });
    const child = startProcess(process.execPath, [program, settings], { stdin: 'pipe' });
    const ended = ending(child);
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    const failed = ended.then(({ stderr }) => Promise.reject(new Error(`the evil disk ended: ${stderr}`)));
    failed.catch(() => {});
    await Promise.race([new Promise((resolve) => lines.once('line', resolve)), failed]);
    const shown = await showAsLoop(child, ended, socket);
    const disk = new EvilDisk(child, shown);
    lines.on('line', (line) => disk.answered(JSON.parse(line) as { id: number; result: unknown }));
    return disk;
  }

  private answered({ id, result }: { readonly id: number; readonly result: unknown }): void {
    this.waiting.get(id)?.(result);
    this.waiting.delete(id);
  }

  private call<Result>(method: string, ...args: unknown[]): Promise<Result> {
    const id = this.nextId++;
    return new Promise((resolve) => {
      this.waiting.set(id, resolve as (result: unknown) => void);
      this.child.stdin?.write(`${JSON.stringify({ id, method, args })}\n`);
    });
  }

  /** Its rules from now on; operations that were stuck end. */
  faults(...rules: FaultRule[]): Promise<number> {
    return this.call('faults', rules);
  }

  /** How many operations a rule has acted on. */
  acted(): Promise<number> {
    return this.call('acted');
  }

  /** Everything fails from now on: the power has gone, or the cable. */
  cut(): Promise<void> {
    return this.call('vanish');
  }

  /** It is there again with all that was written: it was the cable. */
  reappear(): Promise<void> {
    return this.call('reappear');
  }

  /** It is there again without much of what was not flushed: it was the power. */
  restart(): Promise<{ readonly kept: number; readonly lost: number }> {
    return this.call('restart');
  }

  /** Flips bits at rest in written pages between two offsets. */
  rot(startBytes: number, endBytes: number, count: number): Promise<number[]> {
    return this.call('rot', startBytes, endBytes, count);
  }

  /** Saves its content. */
  keep(file: string): Promise<void> {
    return this.call('keep', file);
  }

  /** Takes it apart. */
  remove(): Promise<void> {
    return this.shown.remove();
  }
}
