/**
 * A raw device as a volume: any alignment, writes to one block in order, flushes shared.
 *
 * Requests that are multiples of the device's block go straight to it. A request that is not is cut into *patches* of the
 * blocks that it covers in part, each read, changed and written, and the aligned rest. A patch must see what earlier
 * writes to its block left and must not undo what later ones do, so while there is one, every modifying request that
 * touches its blocks waits for it, and it waits for those before it; each in the order of arrival. Without patches nothing
 * is looked up: requests that overlap in flight may land in either order, as on any disk.
 *
 * Fault model: a failing patch fails its request; other requests go on. Blocks of a failed request hold old, new or, within
 * the failed range, partly new sectors.
 */

import { check } from '../core/check.js';
import { EBUSY, EIO, EROFS } from '../core/errno.js';
import { Fence } from '../core/fence.js';
import { BLOCK_BYTES, MODIFICATIONS_MAX, PATCHES_MAX, RANGE_STEP_BYTES } from '../core/limits.js';
import { SetAside } from '../core/set-aside.js';
import { alignDown, alignUp } from '../core/units.js';
import { COMPLETION_ABANDONED, type CompletionHandler, type CompletionPort } from '../ports/completion.js';
import type { Device } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import type { Volume } from '../ports/volume.js';

const KIND_WRITE = 0;
const KIND_ZERO = 1;
const KIND_DISCARD = 2;

/** A modifying request from its arrival to its completion. */
class Modification {
  readonly index: number;
  kind = KIND_WRITE;
  memory = 0;
  offset = 0;
  length = 0;
  flags = 0;
  token = 0;
  /** Whether it covers blocks in part, so that others must keep away from them. */
  exclusive = false;
  /** Device operations that have not ended, and one while it is being started. */
  parts = 0;
  result = 0;
  resultFlags = 0;
  /** Zeroing and discarding go step by step: the next byte, and the end. */
  next = 0;
  stop = 0;
  /** Position among the active ones; -1 while it waits or rests. */
  position = -1;

  constructor(index: number) {
    this.index = index;
  }
}

/** One block on its way through read, change and write. */
class Patch {
  readonly index: number;
  readonly scratch: number;
  owner: Modification | null = null;
  block = 0;
  /** First byte within the block that changes, and the number of bytes. */
  from = 0;
  length = 0;
  /** Where the bytes are; -1 for zeroes. */
  source = 0;
  writing = false;

  constructor(index: number, scratch: number) {
    this.index = index;
    this.scratch = scratch;
  }
}

/** Memory that a raw volume needs for itself, starting at a page. */
export const RAW_VOLUME_SCRATCH_BYTES = PATCHES_MAX * BLOCK_BYTES;

export class RawVolume implements Volume {
  readonly sizeBytes: number;
  readonly preferredBlockBytes: number;
  readonly readOnly: boolean;
  readonly discard: boolean;
  readonly fastZero: boolean;
  private readonly completions: CompletionPort;
  private readonly memory: Memory;
  private readonly device: Device;
  private readonly onFailure: () => void;
  private readonly unit: number;
  private readonly records: Modification[] = [];
  private readonly freeRecords: Modification[] = [];
  private readonly patches: Patch[] = [];
  private readonly freePatches: Patch[] = [];
  /** Scratch blocks of patches that an operation that was given up may still use. */
  private readonly aside: SetAside;
  /** Requests that have been started and have not ended, in no order. */
  private readonly active: Modification[] = [];
  /** Requests that wait for others, oldest first. */
  private readonly waiting: Modification[] = [];
  private activeExclusive = 0;
  private readonly fence = new Fence();
  private readonly flushesWaiting: number[] = [];
  private flushesRunning: number[] = [];
  private readonly partToken: number;
  private readonly patchToken: number;
  private readonly flushToken: number;

  /**
   * @param scratch start of `RAW_VOLUME_SCRATCH_BYTES` of page-aligned memory
   * @param onFailure called when a flush or a modifying request has failed, before that is reported: the device may be fenced now
   */
  constructor(
    completions: CompletionPort,
    memory: Memory,
    device: Device,
    scratch: number,
    readOnly: boolean,
    onFailure: () => void,
  ) {
    const { geometry } = device;
    this.completions = completions;
    this.memory = memory;
    this.aside = new SetAside(memory, PATCHES_MAX);
    this.device = device;
    this.unit = geometry.logicalBlockBytes;
    this.sizeBytes = geometry.sizeBytes;
    this.preferredBlockBytes = Math.max(BLOCK_BYTES, geometry.physicalBlockBytes);
    this.readOnly = readOnly;
    this.onFailure = onFailure;
    this.discard = geometry.discard;
    this.fastZero = geometry.writeZeroesMaxBytes > 0;
    for (let index = 0; index < MODIFICATIONS_MAX; index += 1) this.records.push(new Modification(index));
    this.freeRecords.push(...this.records.slice().reverse());
    for (let index = 0; index < PATCHES_MAX; index += 1) {
      this.patches.push(new Patch(index, scratch + index * BLOCK_BYTES));
    }
    this.freePatches.push(...this.patches);
    this.partToken = completions.register(handler((tag, result, flags) => this.endWhole(tag, result, flags)));
    this.patchToken = completions.register(handler((tag, result, flags) => this.stepPatch(tag, result, flags)));
    this.flushToken = completions.register(handler((_tag, result) => this.endFlush(result)));
  }

  read(memory: number, lengthBytes: number, offsetBytes: number, token: number): void {
    const { unit } = this;
    const before = offsetBytes % unit;
    const span = alignUp(before + lengthBytes, unit);
    if (before === 0 && span === lengthBytes) {
      this.device.read(memory, lengthBytes, offsetBytes, token);
      return;
    }
    this.device.read(memory - before, span, offsetBytes - before, token);
  }

  write(memory: number, lengthBytes: number, offsetBytes: number, flags: number, token: number): void {
    this.enter(this.take(KIND_WRITE, memory, lengthBytes, offsetBytes, flags, token), -1);
  }

  writeFrom(
    source: number,
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
  ): void {
    this.enter(this.take(KIND_WRITE, memory, lengthBytes, offsetBytes, flags, token), source);
  }

  zero(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    this.enter(this.take(KIND_ZERO, 0, spanBytes, offsetBytes, flags, token), -1);
  }

  /** Discards the whole blocks within the range; the rest of it keeps its content, as a discard is only advice. */
  discardRange(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    const start = alignUp(offsetBytes, this.unit);
    const end = alignDown(offsetBytes + spanBytes, this.unit);
    this.enter(this.take(KIND_DISCARD, 0, Math.max(0, end - start), start, flags, token), -1);
  }

  extents(offsetBytes: number, spanBytes: number, memory: number, roomBytes: number, token: number): void {
    this.device.extents(offsetBytes, spanBytes, memory, roomBytes, token);
  }

  /**
   * A flush that arrives while another runs waits for the next one, together with all others that do: the running one may
   * have begun before writes that the new one has to cover.
   */
  flush(token: number): void {
    this.flushesWaiting.push(token);
    if (this.flushesRunning.length === 0) this.startFlush();
  }

  private startFlush(): void {
    this.flushesRunning = this.flushesWaiting.splice(0);
    this.device.sync(this.flushToken);
  }

  private endFlush(result: number): void {
    const tokens = this.flushesRunning;
    this.flushesRunning = [];
    if (result < 0) this.onFailure();
    for (const token of tokens) this.completions.defer(token, result);
    if (this.flushesWaiting.length > 0) this.startFlush();
  }

  /** A record for a request that modifies; null if there is none for it, or nothing may be modified, which is answered. */
  private take(
    kind: number,
    memory: number,
    length: number,
    offset: number,
    flags: number,
    token: number,
  ): Modification | null {
    const record = this.freeRecords.pop();
    if (this.readOnly || record === undefined) {
      if (record !== undefined) this.freeRecords.push(record);
      this.completions.defer(token, this.readOnly ? -EROFS : -EBUSY);
      return null;
    }
    const { unit } = this;
    record.kind = kind;
    record.memory = memory;
    record.offset = offset;
    record.length = length;
    record.flags = flags;
    record.token = token;
    record.exclusive = offset % unit !== 0 || length % unit !== 0;
    record.result = kind === KIND_WRITE ? length : 0;
    record.resultFlags = 0;
    record.next = 0;
    record.stop = 0;
    return record;
  }

  /** Starts a request, or lets it wait for those before it. `source`: where its payload is copied from; -1 if it is in place. */
  private enter(record: Modification | null, source: number): void {
    if (record === null) return;
    const { memory, length, offset, flags } = record;
    const quiet = this.activeExclusive === 0 && this.waiting.length === 0;
    if (quiet && !record.exclusive && source >= 0) {
      // The common case, spelled out: the copy travels with the write.
      this.activate(record);
      this.device.writeFrom(source, memory, length, offset, flags, this.partToken + record.index);
      return;
    }
    if (source >= 0) this.memory.copy(memory, source, length);
    if ((quiet && !record.exclusive) || this.mayStart(record, this.waiting.length)) this.start(record);
    else this.waiting.push(record);
  }

  /** Whether nothing before it, running or among the first `waiting` that wait, keeps the request from starting. */
  private mayStart(record: Modification, waiting: number): boolean {
    const enough = this.freePatches.length >= 2 || this.aside.count > PATCHES_MAX - 2;
    if (record.exclusive && !enough) return false;
    for (const other of this.active) {
      if ((record.exclusive || other.exclusive) && this.overlap(record, other)) return false;
    }
    for (let index = 0; index < waiting; index += 1) {
      if (this.overlap(record, this.waiting[index])) return false;
    }
    return true;
  }

  /** Whether two requests touch a common block. */
  private overlap(one: Modification, other: Modification): boolean {
    const { unit } = this;
    return (
      alignDown(one.offset, unit) < alignUp(other.offset + other.length, unit) &&
      alignDown(other.offset, unit) < alignUp(one.offset + one.length, unit)
    );
  }

  private activate(record: Modification): void {
    record.parts = 1;
    record.position = this.active.length;
    this.active.push(record);
  }

  private start(record: Modification): void {
    this.activate(record);
    if (!record.exclusive) {
      this.startWhole(record, record.memory, record.offset, record.length);
    } else {
      this.activeExclusive += 1;
      if (this.freePatches.length >= 2) this.startInParts(record);
      else record.result = -EIO;
    }
    // What has nothing to wait for still ends in a later batch, not within the caller.
    if (record.parts === 1) this.completions.defer(this.partToken + record.index, 0);
    else record.parts -= 1;
  }

  private startWhole(record: Modification, memory: number, offset: number, length: number): void {
    if (length === 0) return;
    record.parts += 1;
    if (record.kind === KIND_WRITE) {
      this.device.write(memory, length, offset, record.flags, this.partToken + record.index);
      return;
    }
    record.next = offset;
    record.stop = offset + length;
    this.startStep(record);
  }

  /** One step is short enough that an operation that takes too long is one that never ends. */
  private startStep(record: Modification): void {
    const offset = record.next;
    const length = Math.min(RANGE_STEP_BYTES, record.stop - offset);
    record.next += length;
    const token = this.partToken + record.index;
    if (record.kind === KIND_ZERO) this.device.zero(offset, length, record.flags, token);
    else this.device.discard(offset, length, record.flags, token);
  }

  private endWhole(index: number, result: number, flags: number): void {
    const record = this.records[index];
    if (result >= 0 && record.next < record.stop) this.startStep(record);
    else this.endPart(index, result, flags);
  }

  private startInParts(record: Modification): void {
    const { unit } = this;
    const end = record.offset + record.length;
    const middleStart = alignUp(record.offset, unit);
    const middleEnd = alignDown(end, unit);
    if (middleStart > middleEnd) {
      this.startPatch(record, record.offset, end);
      return;
    }
    if (record.offset < middleStart) this.startPatch(record, record.offset, middleStart);
    const skipped = middleStart - record.offset;
    this.startWhole(record, record.memory + skipped, middleStart, middleEnd - middleStart);
    if (middleEnd < end) this.startPatch(record, middleEnd, end);
  }

  /** Changes the bytes from `start` to `end`, which lie in one block. `mayStart` saw to it that patches are free. */
  private startPatch(record: Modification, start: number, end: number): void {
    const patch = this.freePatches.pop();
    check(patch !== undefined, 'a request was started without patches', record.index);
    record.parts += 1;
    patch.owner = record;
    patch.block = alignDown(start, this.unit);
    patch.from = start - patch.block;
    patch.length = end - start;
    patch.source = record.kind === KIND_ZERO ? -1 : record.memory + (start - record.offset);
    patch.writing = false;
    this.device.read(patch.scratch, this.unit, patch.block, this.patchToken + patch.index);
  }

  private stepPatch(index: number, result: number, flags: number): void {
    const patch = this.patches[index];
    const { owner } = patch;
    if (owner === null) return;
    if (result >= 0 && !patch.writing) {
      patch.writing = true;
      const at = patch.scratch + patch.from;
      if (patch.source < 0) this.memory.fill(at, patch.length, 0);
      else this.memory.copy(at, patch.source, patch.length);
      this.device.write(patch.scratch, this.unit, patch.block, owner.flags & 1, this.patchToken + index);
      return;
    }
    patch.owner = null;
    if ((flags & COMPLETION_ABANDONED) === 0) this.freePatches.push(patch);
    // The kernel may still write to it.
    else this.aside.hold(patch.scratch, this.unit, () => this.freePatches.push(patch));
    // The caller's own buffer was not the device's: nothing will ever report it as free again.
    this.endPart(owner.index, result, flags & ~COMPLETION_ABANDONED);
  }

  private endPart(index: number, result: number, flags: number): void {
    const record = this.records[index];
    if (result < 0 && record.result >= 0) record.result = result;
    record.resultFlags |= flags;
    record.parts -= 1;
    if (record.parts > 0) return;
    this.deactivate(record);
    this.freeRecords.push(record);
    if (record.result < 0) this.onFailure();
    this.completions.finish(record.token, record.result, record.resultFlags);
    if (this.waiting.length > 0) this.startWaiting();
  }

  private deactivate(record: Modification): void {
    const last = this.active.pop();
    if (last !== undefined && last !== record) {
      this.active[record.position] = last;
      last.position = record.position;
    }
    record.position = -1;
    if (record.exclusive) this.activeExclusive -= 1;
  }

  private startWaiting(): void {
    let index = 0;
    while (index < this.waiting.length) {
      const record = this.waiting[index];
      if (this.mayStart(record, index)) {
        this.waiting.splice(index, 1);
        this.start(record);
      } else {
        index += 1;
      }
    }
  }

  onFence(told: () => void): void {
    this.fence.onRaise(told);
  }

  /** Tells front ends, and gives up the handlers; nothing may be in flight. */
  close(): void {
    this.fence.raise();
    for (const token of [this.partToken, this.patchToken, this.flushToken]) this.completions.unregister(token);
    this.device.close();
  }
}

function handler(complete: CompletionHandler['complete']): CompletionHandler {
  return { complete };
}
