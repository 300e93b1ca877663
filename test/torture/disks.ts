/** The disks that are tortured: what a machine without special hardware or kernel modules can offer, behind one interface. */

import { copyFileSync, rmSync } from 'node:fs';
import { fuse, loop, type Need, tool } from '../support/check.js';
import { EvilDisk, evil } from '../support/evil-disk.js';
import { PowerDisk } from '../support/power-disk.js';
import { loopDevice, scratchFile } from '../support/scratch.js';

/**
 * `file`: a regular file; `loop`: a loop device; `power`: a disk with a write cache (nbdkit) that can lose power; `evil`:
 * a disk with any fault.
 */
export type Medium = 'file' | 'loop' | 'power' | 'evil';

export const MEDIA: Readonly<Record<Medium, readonly Need[]>> = {
  file: [],
  loop: [loop],
  power: [loop, fuse, tool('nbdkit'), tool('nbdfuse')],
  evil,
};

export interface Disk {
  /** What a node opens; it may be another after `restore`. */
  readonly path: string;
  /** The power goes; only where the medium has a cache that can be lost. */
  cut(): Promise<void>;
  /** The power comes back, or the device does. Nobody may have it open. */
  restore(): Promise<void>;
  /** Saves what is on it. */
  keep(file: string): Promise<void>;
  /** Takes it apart. */
  remove(): Promise<void>;
}

class FileDisk implements Disk {
  readonly path: string;

  constructor(sizeBytes: number) {
    this.path = scratchFile(sizeBytes);
  }

  cut(): Promise<void> {
    throw new Error('a file has no power to lose');
  }

  async restore(): Promise<void> {}

  async keep(file: string): Promise<void> {
    copyFileSync(this.path, file);
  }

  async remove(): Promise<void> {
    rmSync(this.path, { force: true });
  }
}

/** A loop device; detached while it is open, it is there until it is closed, and has gone then. */
export class LoopDisk implements Disk {
  private readonly file: string;
  private device: { readonly path: string; readonly detach: () => void };

  constructor(sizeBytes: number) {
    this.file = scratchFile(sizeBytes);
    this.device = loopDevice(this.file);
  }

  get path(): string {
    return this.device.path;
  }

  async cut(): Promise<void> {
    this.device.detach();
  }

  async restore(): Promise<void> {
    this.device.detach();
    this.device = loopDevice(this.file);
  }

  async keep(file: string): Promise<void> {
    copyFileSync(this.file, file);
  }

  async remove(): Promise<void> {
    this.device.detach();
    rmSync(this.file, { force: true });
  }
}

class CachedDisk implements Disk {
  private readonly disk: PowerDisk;

  private constructor(sizeBytes: number) {
    this.disk = new PowerDisk(sizeBytes);
  }

  static async start(sizeBytes: number): Promise<CachedDisk> {
    const made = new CachedDisk(sizeBytes);
    await made.disk.on();
    return made;
  }

  get path(): string {
    return this.disk.path;
  }

  async cut(): Promise<void> {
    this.disk.cut();
  }

  async restore(): Promise<void> {
    await this.disk.detach();
    await this.disk.on();
  }

  async keep(file: string): Promise<void> {
    copyFileSync(this.disk.file, file);
  }

  async remove(): Promise<void> {
    await this.disk.detach();
    rmSync(this.disk.file, { force: true });
  }
}

/** An evil disk, which comes back from any `cut` as from a loss of power. */
export class Evil implements Disk {
  readonly disk: EvilDisk;

  constructor(disk: EvilDisk) {
    this.disk = disk;
  }

  get path(): string {
    return this.disk.path;
  }

  cut(): Promise<void> {
    return this.disk.cut();
  }

  async restore(): Promise<void> {
    await this.disk.restart();
  }

  keep(file: string): Promise<void> {
    return this.disk.keep(file);
  }

  remove(): Promise<void> {
    return this.disk.remove();
  }
}

export async function newDisk(medium: Medium, sizeBytes: number, seed: number): Promise<Disk> {
  if (medium === 'file') return new FileDisk(sizeBytes);
  if (medium === 'loop') return new LoopDisk(sizeBytes);
  if (medium === 'power') return CachedDisk.start(sizeBytes);
  return new Evil(await EvilDisk.start(sizeBytes, seed));
}
