/** The judge of what is on a device that nobody drives. */

import * as assert from 'uvu/assert';
import { readOnlyImage } from '#strake/embed/format.js';
import { checkDevice, type FsckVerdict } from '#strake/store/checking/fsck.js';
import { keepShards } from './shards.js';

/** Checks devices with all their data; each verdict has to be one of these. */
export async function fsckAll(paths: readonly string[], allowed: readonly FsckVerdict[], what: string): Promise<void> {
  await keepShards();
  for (const path of paths) {
    const { reader, close } = await readOnlyImage(path);
    const { verdict, problems } = await checkDevice(reader, { data: true });
    await close();
    assert.ok(allowed.includes(verdict), `${what}: ${path} is ${verdict}: ${JSON.stringify(problems)}`);
  }
}

/** What a crash may leave, and what closing in order does. */
export const CRASHED: readonly FsckVerdict[] = ['clean', 'recoverable'];
export const CLOSED: readonly FsckVerdict[] = ['clean'];
