/**
 * An ext4 on a volume, mounted: what is served over NBD, as a file by nbdfuse, under a loop device; and a load of files on it,
 * each of which counts as written once its sync has been answered.
 */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { fuse, loop, type Need, root, tool } from './check.js';
import { atEnd, ending, loopDevice, output, scratchFolder, startProcess, until } from './scratch.js';

export const mountable: readonly Need[] = [root, loop, fuse, ...['nbdfuse', 'mkfs.ext4', 'e2fsck'].map(tool)];

function unmount(folder: string): void {
  execFileSync(
    'sh',
    ['-c', `! grep -q " ${folder} " /proc/mounts || umount "${folder}" || umount --lazy "${folder}"`],
    {
      stdio: 'ignore',
    },
  );
}

export class MountedVolume {
  /** Where its files are. */
  readonly folder: string;
  private readonly disk: { readonly path: string; readonly detach: () => void };
  private readonly takeApart: () => Promise<void>;

  private constructor(folder: string, disk: MountedVolume['disk'], takeApart: () => Promise<void>) {
    this.folder = folder;
    this.disk = disk;
    this.takeApart = takeApart;
  }

  /** Mounts what is at a URI, with a new file system if `fresh`. */
  static async mount(uri: string, { fresh = false } = {}): Promise<MountedVolume> {
    const shown = mkdtempSync(join(scratchFolder(), 'shown-'));
    const folder = mkdtempSync(join(scratchFolder(), 'mounted-'));
    const server = startProcess('nbdfuse', [shown, uri]);
    const ended = ending(server);
    const forget = [atEnd(() => unmount(shown))];
    const failed = await Promise.race([ended, until('nbdfuse to show it', () => readdirSync(shown).includes('nbd'))]);
    if (failed !== true) throw new Error(`nbdfuse ended: ${failed.stderr}`);
    const disk = loopDevice(join(shown, 'nbd'));
    if (fresh) output('mkfs.ext4', '-q', '-F', disk.path);
    forget.push(atEnd(() => unmount(folder)));
    output('mount', '-o', 'noatime', disk.path, folder);
    return new MountedVolume(folder, disk, async () => {
      unmount(folder);
      disk.detach();
      unmount(shown);
      await ended;
      for (const one of forget) one();
    });
  }

  /** Unmounts it, and asks e2fsck for its opinion unless its server is gone. */
  async remove({ check = true } = {}): Promise<void> {
    unmount(this.folder);
    if (check) output('e2fsck', '-fn', this.disk.path);
    await this.takeApart();
  }
}

const FILE_BYTES = 64 << 10;

function contentOf(number: number): Buffer {
  const line = createHash('sha512').update(`file ${number}`).digest();
  return Buffer.concat(Array.from({ length: FILE_BYTES / line.length }, () => line));
}

/** Files that are written one after another, some of them anew. */
export class FileLoad {
  /** Numbers of contents by file: what was synced last, and what may have been written since. */
  private readonly synced = new Map<string, number>();
  private readonly begun = new Map<string, number>();
  private written = 0;
  private going = false;
  private work: Promise<Error | null> = Promise.resolve(null);

  start(folder: string): void {
    this.going = true;
    this.work = this.run(folder).then(
      () => null,
      (error: Error) => error,
    );
  }

  private async run(folder: string): Promise<void> {
    while (this.going) {
      const number = this.written;
      const name = `f${number % 97}`;
      this.begun.set(name, number);
      const file = await open(join(folder, name), 'w');
      try {
        await file.writeFile(contentOf(number));
        await file.sync();
      } finally {
        await file.close();
      }
      this.synced.set(name, number);
      this.written += 1;
    }
  }

  /** Waits until so many more files have been written. */
  async reach(more: number): Promise<void> {
    const goal = this.written + more;
    const failed = this.work.then((error) => {
      throw error ?? new Error('the load was stopped');
    });
    await Promise.race([failed, until(`${more} files`, () => this.written >= goal)]);
  }

  /** Resolves to the error that ended it; null if it was told to end. */
  end(): Promise<Error | null> {
    this.going = false;
    return this.work;
  }

  /** Resolves to the error that ends it without being told to. */
  async failed(): Promise<Error> {
    const error = await this.work;
    if (error === null) throw new Error('the load was told to end');
    return error;
  }

  /** Checks that every file that was synced is as it was then, but for one that was being written anew. */
  check(folder: string): void {
    for (const [name, number] of this.synced) {
      const found = readFileSync(join(folder, name));
      if (this.begun.get(name) === number) assert.ok(found.equals(contentOf(number)), `${name} is not what was synced`);
    }
  }
}
