/** Finding the formatted devices that a node is made of. */

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { StrakeError } from '../core/errors.js';
import type { DeviceDescription } from '../embed/node-types.js';
import { expand } from './node-config.js';

/** A path, and what was found there. */
export interface Candidate {
  readonly path: string;
  readonly device?: DeviceDescription;
  /** Why there is no description. */
  readonly error?: StrakeError;
}

/** Looks at one path. */
export async function examine(path: string): Promise<Candidate> {
  // Loaded only when a device is looked at.
  const { describeDevice } = await import('../embed/format.js');
  try {
    return { path, device: await describeDevice(path) };
  } catch (error) {
    if (error instanceof StrakeError) return { path, error };
    throw error;
  }
}

/** Whether a candidate is certain to be none of ours, as against one that cannot be read. */
export function isForeign({ error }: Candidate): boolean {
  return error?.code === 'ERR_STRAKE_NOT_FORMATTED';
}

/** What in a folder may be a device: files named `*.img`, and block devices. Links are left alone. */
export function candidatesIn(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true })
    .filter((entry) => entry.isBlockDevice() || (entry.isFile() && entry.name.endsWith('.img')))
    .map((entry) => join(dir, entry.name))
    .sort();
}

/** Paths that may be a node's devices. */
export interface Found {
  readonly paths: readonly string[];
  /** Whether somebody has named them; else they are what a folder holds, of which some may be no devices. */
  readonly named: boolean;
}

/** The devices to open: those that `entries` name, else all that `dir` holds. Throws `ERR_STRAKE_NO_DEVICE` if there are none. */
export function findDevices(dir: string, entries: readonly string[] | undefined): Found {
  const named = entries !== undefined;
  const paths = named ? entries.flatMap(expand) : candidatesIn(dir);
  if (paths.length > 0) return { paths, named };
  const where = named ? 'none of the devices that were named is there' : `${dir} holds no formatted device`;
  throw new StrakeError('NO_DEVICE', where, {
    remedy: `Format one with \`strake device format ${join(dir, 'NAME.img')}\`, or name devices in strake.json or with --device.`,
  });
}
