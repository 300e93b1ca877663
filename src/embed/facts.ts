/** What is known of a device before it is used. */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { path as pathRule } from '../core/arguments.js';
import type { NativeDeviceFacts } from '../uring/native.js';
import { inspectDeviceFile, within } from '../uring/native-devices.js';

/** Facts about a device or file; sizes are in bytes, and what the kernel does not tell is absent. */
export type DeviceFacts = NativeDeviceFacts;

const execFileAsync = promisify(execFile);

/** Names that `blkid` gives to what every disk may have and that is no reason to keep away. */
const BLKID_FIELDS = ['TYPE', 'PTTYPE', 'USAGE'];

/**
 * What `blkid`, where it is installed, finds on the device. It knows more formats than we do, so it is asked when we have
 * found nothing; that it is missing or fails changes nothing.
 */
export async function blkidSignatures(path: string): Promise<string[]> {
  try {
    const { stdout } = await execFileAsync('blkid', ['-p', '-o', 'export', path], { timeout: 10_000 });
    const found = stdout.split('\n').map((line) => line.split('='));
    const names = found.filter(([key]) => BLKID_FIELDS.includes(key)).map(([, value]) => value);
    return names.slice(0, 1);
  } catch {
    return [];
  }
}

/** Looks at a device without locking it. Throws as `openDevice` does. */
export async function inspectDevice(path: string): Promise<DeviceFacts> {
  pathRule.take(path, 'inspectDevice: path');
  const facts = await within(inspectDeviceFile(path), path);
  const signatures = facts.signatures.length > 0 ? facts.signatures : await blkidSignatures(facts.path);
  return { ...facts, signatures };
}
