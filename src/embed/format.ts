/** Formatting devices, and looking at formatted ones without driving them. */

import { randomBytes } from 'node:crypto';
import { boolean, id, optional, options as optionsOf, path as pathRule, powerOfTwo, text } from '../core/arguments.js';
import { StrakeError } from '../core/errors.js';
import { computeLayout, DEVICE_CLEAN, SLOT_BYTES_DEFAULT, SLOT_BYTES_MAX } from '../store/format/format.js';
import { type Superblock, SuperblockProblem } from '../store/format/superblock.js';
import { SLOT_BYTES_MIN } from '../store/limits.js';
import { findSuperblock } from '../store/opening/find-superblock.js';
import type { ImageReader } from '../store/opening/image-reader.js';
import { crc32c } from '../uring/checksum.js';
import { readDeviceFile, within } from '../uring/native-devices.js';
import { abandonNative, checkSignatures, openDevice, openNative, plainGeometry } from './device.js';
import { LABEL_BYTES_MAX } from './limits.js';
import type { DeviceDescription, FormatDeviceOptions } from './node-types.js';
import { Runtime } from './runtime.js';

const FORMAT_DEVICE = optionsOf<FormatDeviceOptions>({
  confirm: optional(pathRule),
  clusterId: optional(id),
  label: optional(text(0, LABEL_BYTES_MAX)),
  slotBytes: optional(powerOfTwo(SLOT_BYTES_MIN, SLOT_BYTES_MAX)),
  dryRun: optional(boolean),
});

/** A new identifier: 32 hexadecimal digits. */
export function newId(): string {
  return randomBytes(16).toString('hex');
}

/** A superblock as people see it. */
export function describe(path: string, superblock: Superblock): DeviceDescription {
  const { deviceId, clusterId, label, layout, incarnation, state, formattedMs } = superblock;
  const { sizeBytes, slotBytes, slots } = layout;
  const formattedAt = new Date(formattedMs).toISOString();
  const clean = state === DEVICE_CLEAN;
  return { path, deviceId, clusterId, label, sizeBytes, slotBytes, slots, incarnation, clean, formattedAt };
}

/**
 * Formats a device or file; what it holds is lost. Throws `ERR_STRAKE_SIGNATURE` if it holds known data, a Strake device among
 * them, and `confirm` is not its path; `ERR_STRAKE_IN_USE` if it is mounted or used; `ERR_STRAKE_TOO_SMALL` and others.
 */
export async function formatDevice(path: string, options: FormatDeviceOptions = {}): Promise<DeviceDescription> {
  pathRule.take(path, 'formatDevice: path');
  return await format(path, FORMAT_DEVICE.take(options, 'formatDevice: options'));
}

async function format(path: string, options: FormatDeviceOptions): Promise<DeviceDescription> {
  const { confirm } = options;
  const opened = await openNative(path, false);
  const { handle, geometry } = opened;
  if (handle === null) throw new StrakeError('NOT_A_DEVICE', `${path} keeps nothing, so it cannot be formatted`);
  try {
    await checkSignatures(opened, path, confirm === undefined ? {} : { confirm }, 'it was not formatted');
    const deviceId = newId();
    const clusterId = options.clusterId ?? newId();
    const layout = computeLayout(geometry.sizeBytes, options.slotBytes ?? SLOT_BYTES_DEFAULT);
    const label = options.label ?? '';
    const nowMs = Date.now();
    if (options.dryRun) return plan(path, { deviceId, clusterId, label, nowMs, layout });
    const runtime = await Runtime.acquire();
    try {
      const link = runtime.link(runtime.leastLoaded());
      const request = { deviceId, clusterId, label, slotBytes: layout.slotBytes, nowMs };
      const superblock = await link.call('format', { handle, geometry: plainGeometry(geometry), options: request });
      return describe(path, superblock);
    } finally {
      await Runtime.release();
    }
  } finally {
    // Unless a worker has got it.
    abandonNative(handle);
  }
}

function plan(
  path: string,
  what: Pick<Superblock, 'deviceId' | 'clusterId' | 'label' | 'layout'> & { readonly nowMs: number },
): DeviceDescription {
  const { deviceId, clusterId, label, layout, nowMs } = what;
  const { sizeBytes, slotBytes, slots } = layout;
  const formattedAt = new Date(nowMs).toISOString();
  return { path, deviceId, clusterId, label, sizeBytes, slotBytes, slots, incarnation: 0, clean: true, formattedAt };
}

/** A device opened for reading what it says of itself. */
export interface OpenImage {
  readonly reader: ImageReader;
  close(): Promise<void>;
}

/** Opens a device for `checkDevice` and `dumpDevice`, read-only. Throws as `openDevice` does. */
export async function readOnlyImage(path: string): Promise<OpenImage> {
  const device = await openDevice(path, { readOnly: true });
  const reader: ImageReader = {
    sizeBytes: device.sizeBytes,
    checksum: crc32c,
    read: async (offset, length) => {
      const bytes = new Uint8Array(length);
      await device.read(bytes, offset);
      return bytes;
    },
  };
  return { reader, close: () => device.close() };
}

/** What a formatted device is. Throws `ERR_STRAKE_NOT_FORMATTED`, `ERR_STRAKE_UNKNOWN_FEATURE`, and as `openDevice` does. */
export async function describeDevice(path: string): Promise<DeviceDescription> {
  pathRule.take(path, 'describeDevice: path');
  const { handle, facts } = await openNative(path, true);
  if (handle === null) throw new StrakeError('NOT_FORMATTED', `${path} keeps nothing`);
  try {
    return describe(path, await within(readSuperblock(path, handle, facts.sizeBytes), path));
  } finally {
    abandonNative(handle);
  }
}

/**
 * The superblock of a device that no engine has adopted. Takes for as long as the device does. Throws
 * `ERR_STRAKE_NOT_FORMATTED`, `ERR_STRAKE_UNKNOWN_FEATURE`, `ERR_STRAKE_IO`.
 */
export async function readSuperblock(path: string, handle: number, sizeBytes: number): Promise<Superblock> {
  const read = (offset: number, length: number) => readDeviceFile(handle, offset, length);
  const found = await findSuperblock({ sizeBytes, checksum: crc32c, read }, () => {});
  if (!(found instanceof SuperblockProblem)) return found.superblock;
  throw new StrakeError(found.foreign ? 'UNKNOWN_FEATURE' : 'NOT_FORMATTED', `${path}: ${found.message}`);
}
