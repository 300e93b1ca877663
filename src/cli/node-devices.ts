/** Finding the formatted devices that a node is made of. */

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { StrakeError } from '../core/errors.js';
import { describeDevice } from '../embed/format.js';
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

/** What a node opens, and what people should know of the rest. */
export interface Found {
  readonly paths: readonly string[];
  readonly notes: readonly string[];
}

/**
 * The devices to open: those that `entries` name, else all that `dir` holds.
 *
 * One that was named and is not there or cannot be read is left out, with a note: a node has to start when a disk has died,
 * and never starts a volume whose missing disk might hold newer data. One that was named and is not formatted is an error.
 */
export async function findDevices(dir: string, entries: readonly string[] | undefined): Promise<Found> {
  const named = entries !== undefined;
  const found = await Promise.all((named ? entries.flatMap(expand) : candidatesIn(dir)).map(examine));
  const notes: string[] = [];
  const paths: string[] = [];
  for (const candidate of found) {
    const { path, error } = candidate;
    if (error === undefined) paths.push(path);
    else if (isForeign(candidate) && named) throw error;
    else if (isForeign(candidate)) notes.push(`${path} is left alone: it holds no Strake superblock`);
    else if (isGone(error)) notes.push(`going on without ${path}: ${error.message}`);
    else throw error;
  }
  if (paths.length === 0) throw nothingFound(dir, named, notes);
  return { paths: [...new Set(paths)], notes };
}

function isGone({ code }: StrakeError): boolean {
  return code === 'ERR_STRAKE_NOT_FOUND' || code === 'ERR_STRAKE_IO' || code === 'ERR_STRAKE_FENCED';
}

function nothingFound(dir: string, named: boolean, notes: readonly string[]): StrakeError {
  const where = named ? 'none of the devices that were named is there' : `${dir} holds no formatted device`;
  return new StrakeError('NO_DEVICE', [where, ...notes].join('; '), {
    remedy: `Format one with \`strake device format ${join(dir, 'NAME.img')}\`, or name devices in strake.json or with --device.`,
  });
}
