/** Formatting a device: it gets its layout, an empty journal, an empty tree and, last of all, its superblocks. */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { SECTOR_BYTES } from '../../core/limits.js';
import {
  computeLayout,
  DEVICE_CLEAN,
  PAGE_BYTES,
  ROOT_BYTES,
  ROOT_VOLUMES,
  SLOT_BYTES_DEFAULT,
} from '../format/format.js';
import { absent, type Reference } from '../format/page.js';
import { encodeRoot, rootDirectoryPages } from '../format/root.js';
import { FEATURE_GROUPS, type Superblock } from '../format/superblock.js';
import { arenaChecksum, writeSuperblocks } from '../running/checkpoint.js';
import { ControlIo } from '../running/control-io.js';
import type { StorePorts } from '../store-start.js';

/** Bytes that formatting writes at a time; it needs so much memory, and two pages more. */
const CLEAR_BYTES = 32 << 10;
/**
 * Where other formats have their magic numbers, which would make the device look like theirs. Nothing else depends on what the
 * tables hold: a page is there once it is referred to. All of them would take minutes, and a thousandth of a large device.
 */
const SIGNATURES_BYTES = 8 << 20;

/** What a device is to become. */
export interface FormatOptions {
  readonly deviceId: string;
  readonly clusterId: string;
  /** At most 63 bytes. */
  readonly label?: string;
  readonly slotBytes?: number;
  /**
   * Levels of pages of references between root and directory, 0 or 1; without it as many as the device needs. For tests: small
   * devices need none.
   */
  readonly directoryLevels?: number;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

/**
 * Formats a device; what it held is lost. Throws `ERR_STRAKE_TOO_SMALL`, `ERR_STRAKE_TOO_LARGE`, `ERR_STRAKE_IO`.
 *
 * The old superblocks go first and the new ones come last, so a device that was interrupted is not formatted.
 */
export async function formatDevice(ports: StorePorts, options: FormatOptions): Promise<Superblock> {
  const { completions, memory, device, memoryStart } = ports;
  const { geometry } = device;
  const layout = computeLayout(geometry.sizeBytes, options.slotBytes ?? SLOT_BYTES_DEFAULT, options.directoryLevels);
  const superblock: Superblock = {
    sequence: 1,
    deviceId: options.deviceId,
    clusterId: options.clusterId,
    label: options.label ?? '',
    incompatible: FEATURE_GROUPS,
    readOnlyCompatible: 0,
    compatible: 0,
    logicalBlockBytes: geometry.logicalBlockBytes,
    physicalBlockBytes: geometry.physicalBlockBytes,
    atomicWriteBytes: SECTOR_BYTES,
    incarnation: 0,
    state: DEVICE_CLEAN,
    formattedMs: options.nowMs,
    leaseMs: 0,
    layout,
  };
  const io = new ControlIo(completions, device);
  const demand = async (what: string, operation: Promise<number>) => {
    const result = await operation;
    if (result < 0) throw new StrakeError('IO', `formatting failed while ${what}`, { errno: -result });
  };
  try {
    memory.bytes.fill(0, memoryStart, memoryStart + ROOT_BYTES);
    const erase = (offset: number) => demand('erasing the superblocks', io.write(memoryStart, PAGE_BYTES, offset));
    await erase(0);
    await erase(layout.copyOffset);
    await demand('erasing the superblocks', io.sync());
    if (geometry.discard) await demand('discarding', io.discard(layout.dataOffset, layout.slots * layout.slotBytes));
    // Written, not merely zeroed: space that a file system has yet to find would make each flush wait for that.
    memory.bytes.fill(0, memoryStart, memoryStart + CLEAR_BYTES);
    const journalEnd = layout.journalOffset + layout.journalPages * PAGE_BYTES;
    check(journalEnd <= layout.dataOffset, 'the journal reaches into the data', journalEnd);
    for (let at = layout.journalOffset; at < journalEnd; at += CLEAR_BYTES) {
      const length = Math.min(CLEAR_BYTES, journalEnd - at);
      await demand('clearing the journal', io.write(memoryStart, length, at));
    }
    await demand('clearing the tables', io.zero(0, Math.min(SIGNATURES_BYTES, layout.blockTableOffset)));
    const root = {
      sequence: 1,
      journalPage: 0,
      journalSequence: 1,
      durableSequence: 0,
      usedSlots: 0,
      directory: new Array<Reference>(rootDirectoryPages(layout)).fill(absent()),
      volumes: new Array<Reference>(ROOT_VOLUMES).fill(absent()),
      active: [],
    };
    const bytes = memory.bytes.subarray(memoryStart, memoryStart + ROOT_BYTES);
    encodeRoot(root, options.deviceId, bytes, arenaChecksum({ memory }, memoryStart + ROOT_BYTES));
    await demand('writing the root', io.write(memoryStart, ROOT_BYTES, layout.rootOffset));
    await demand('making it durable', io.sync());
    const result = await writeSuperblocks({ memory, io }, memoryStart, superblock);
    if (result < 0) throw new StrakeError('IO', 'formatting failed while writing superblocks', { errno: -result });
    return superblock;
  } finally {
    io.close();
  }
}
