/**
 * The device port of a process over a simulated disk.
 *
 * Each operation ends after a random latency, so in any order. A write's payload is taken when it is handed over; what is
 * read is the content at some moment between hand-over and end, and until then the memory holds poison, so that nobody can
 * rely on it. When something becomes durable is told in `disk.ts`, what can go wrong in `faults.ts`.
 *
 * Fencing is that of the production engine: a failed sync, or a failed modification with FUA that was not refused, fences
 * against writes; operations that are given up fence wholly; a fence only ever tightens and ends with the device.
 *
 * Fault model: a caller that breaks the rules of the port (alignment, range, memory) is a bug and meets an exception at
 * the call, where a real device would answer with EINVAL or EFAULT.
 */

import { EBADF, EBADMSG, EDQUOT, EINVAL, EIO, ENOSPC, EOPNOTSUPP } from '../../core/errno.js';
import { BLOCK_BYTES, SECTOR_BYTES } from '../../core/limits.js';
import { COMPLETION_ABANDONED, COMPLETION_MISMATCH } from '../../ports/completion.js';
import {
  DEVICE_FAST_ONLY,
  DEVICE_FUA,
  DEVICE_KEEP_ALLOCATED,
  DEVICE_SUMMED,
  type Device,
  type DeviceGeometry,
  FENCE_ALL,
  FENCE_OPEN,
  FENCE_WRITES,
} from '../../ports/device.js';
import type { SimSource } from '../world/events.js';
import type { SimProcess } from '../world/process.js';
import type { SimRandom } from '../world/random.js';
import { checksumBytes, hasChecksums, storeChecksums } from './checksums.js';
import type { SimDisk } from './disk.js';
import type { FaultAction, FaultOp } from './faults.js';
import type { SimWrite } from './write.js';

const EXTENT_BYTES = 16;
const EXTENT_DATA = 0;
const EXTENT_HOLE = 3;
const POISON = 0xdb;
/** The least that is taken for a read at its beginning. */
const EARLY_BYTES = 64 << 10;
/** One operation in so many takes this much longer than others. */
const SLOW_ONE_IN = 32;
const SLOW_FACTOR = 10;
/** Refusals of a device that has not tried: they break no promise. */
const REFUSALS: readonly number[] = [ENOSPC, EDQUOT, EINVAL, EOPNOTSUPP];

/** The least and the most that an operation usually takes, in microseconds. */
export type SimLatency = readonly [number, number];

export interface SimDeviceSettings {
  /** Of everything but syncs; default 20 to 200. */
  readonly latencyUs?: SimLatency;
  /** Of syncs; default 100 to 1000. */
  readonly syncLatencyUs?: SimLatency;
}

/** An operation from its call to its end. */
class Operation {
  readonly slot: number;
  kind: FaultOp = 'read';
  memory = 0;
  /** Where the payload comes from; -1 if it is in `memory`. */
  source = -1;
  length = 0;
  offset = 0;
  flags = 0;
  token = 0;
  /** Where checksums are stored; 0 if nowhere. */
  checksums = 0;
  action: FaultAction | undefined;
  /** The modification that it makes; null if none. */
  write: SimWrite | null = null;
  /** What was read at its beginning; null if it is read at its end. */
  early: Uint8Array | null = null;
  /** Of a sync: what it covers. */
  mark = 0;
  startedUs = 0;
  /** Number of its start in the trace. */
  origin = 0;
  /** Handed over and not ended. */
  active = false;
  abandoned = false;

  constructor(slot: number) {
    this.slot = slot;
  }

  /** Of a list of extents, where there is room for it. */
  get memoryBytes(): number {
    return this.kind === 'extents' ? this.flags : this.length;
  }

  get usesMemory(): boolean {
    return this.kind === 'read' || this.kind === 'write' || this.kind === 'extents';
  }
}

export class SimDevice implements Device, SimSource {
  readonly geometry: DeviceGeometry;
  readonly disk: SimDisk;
  /** Operations that have not ended. */
  inFlight = 0;
  operationCount = 0;
  private readonly process: SimProcess;
  private readonly random: SimRandom;
  private readonly latencyUs: SimLatency;
  private readonly syncLatencyUs: SimLatency;
  private readonly generation: number;
  private readonly party: number;
  private readonly operations: Operation[] = [];
  private readonly free: number[] = [];
  private fenced = FENCE_OPEN;
  private closing = false;

  /** Throws if another device is open on the disk. */
  constructor(process: SimProcess, disk: SimDisk, settings: SimDeviceSettings = {}) {
    if (disk.attached) throw new Error('the disk is in use: close its device, kill it, or cut the power');
    disk.attached = true;
    disk.onCrash = () => this.release();
    this.process = process;
    this.disk = disk;
    this.geometry = disk.geometry;
    this.generation = disk.generation;
    this.party = process.time.nextParty();
    this.random = process.random.fork('device');
    this.latencyUs = settings.latencyUs ?? [20, 200];
    this.syncLatencyUs = settings.syncLatencyUs ?? [100, 1000];
  }

  /** `checksums`: where the CRC32C of each 4 KiB is stored, 32 bits little-endian, once it has succeeded; 0: nowhere. */
  read(memory: number, lengthBytes: number, offsetBytes: number, token: number, checksums = 0): void {
    this.checkTransfer(memory, lengthBytes, offsetBytes, checksums);
    const operation = this.take('read', token);
    operation.memory = memory;
    operation.checksums = checksums;
    this.submit(operation, lengthBytes, offsetBytes);
  }

  /** `checksums`: as of `read`, but stored when the operation is handed over. */
  write(memory: number, lengthBytes: number, offsetBytes: number, flags: number, token: number, checksums = 0): void {
    this.checkTransfer(memory, lengthBytes, offsetBytes, checksums);
    const operation = this.take('write', token);
    operation.memory = memory;
    operation.flags = flags;
    operation.checksums = checksums;
    this.submit(operation, lengthBytes, offsetBytes);
  }

  /** `checksums`: as of `write`. */
  writeFrom(
    source: number,
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
    checksums = 0,
  ): void {
    this.checkTransfer(memory, lengthBytes, offsetBytes, checksums);
    this.process.checkRange(source, lengthBytes);
    const operation = this.take('write', token);
    operation.memory = memory;
    operation.source = source;
    operation.flags = flags;
    operation.checksums = checksums;
    this.submit(operation, lengthBytes, offsetBytes);
  }

  sync(token: number): void {
    this.submit(this.take('sync', token), 0, 0);
  }

  discard(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    this.checkSpan(offsetBytes, spanBytes, this.geometry.logicalBlockBytes);
    const operation = this.take('discard', token);
    operation.flags = flags;
    this.submit(operation, spanBytes, offsetBytes);
  }

  zero(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    this.checkSpan(offsetBytes, spanBytes, this.geometry.logicalBlockBytes);
    const operation = this.take('zero', token);
    operation.flags = flags;
    this.submit(operation, spanBytes, offsetBytes);
  }

  /** As the port has it; what is allocated is known in units of 4 KiB. */
  extents(offsetBytes: number, spanBytes: number, memory: number, roomBytes: number, token: number): void {
    this.checkSpan(offsetBytes, spanBytes, 1);
    this.process.checkRange(memory, roomBytes);
    const operation = this.take('extents', token);
    operation.memory = memory;
    operation.flags = roomBytes;
    this.submit(operation, spanBytes, offsetBytes);
  }

  fence(): number {
    return this.fenced;
  }

  close(): void {
    this.closing = true;
    this.detachWhenIdle();
  }

  /**
   * What the production engine does about a dead device: if an operation has taken longer than `limitMs`, all in flight
   * are answered with EIO and `COMPLETION_ABANDONED`, and the device is fenced wholly. The process keeps their memory until
   * they end. Returns the number given up.
   */
  giveUpOverdue(limitMs: number): number {
    const { process } = this;
    const waiting = this.operations.filter((operation) => operation.active && !operation.abandoned);
    if (!waiting.some((operation) => process.nowUs - operation.startedUs > limitMs * 1000)) return 0;
    this.tightenFence(FENCE_ALL);
    for (const operation of waiting) {
      operation.abandoned = true;
      if (operation.usesMemory) process.abandon(operation.memory, operation.memoryBytes, operation.kind !== 'write');
      process.complete(operation.token, -EIO, COMPLETION_ABANDONED, operation.origin);
    }
    return waiting.length;
  }

  /**
   * The disk has lost its connection: what was given up has ended. Slots stay: continuations of a process that has just died may
   * still begin operations, which never end.
   */
  private release(): void {
    for (const operation of this.operations) {
      if (operation.active && operation.abandoned) this.freeMemory(operation);
      operation.active = false;
    }
  }

  private freeMemory(operation: Operation): void {
    const { usesMemory, memory, memoryBytes, kind } = operation;
    if (usesMemory) this.process.endAbandoned(memory, memoryBytes, kind !== 'write');
  }

  private checkSpan(offset: number, length: number, unit: number): void {
    const aligned = offset % unit === 0 && length % unit === 0;
    if (aligned && offset >= 0 && length > 0 && offset + length <= this.geometry.sizeBytes) return;
    throw new Error(
      `${length} bytes at ${offset} do not suit a device of ${this.geometry.sizeBytes} bytes, unit ${unit}`,
    );
  }

  private checkTransfer(memory: number, length: number, offset: number, checksums: number): void {
    this.checkSpan(offset, length, this.geometry.logicalBlockBytes);
    this.process.checkRange(memory, length);
    if (memory % SECTOR_BYTES !== 0) throw new Error(`a device cannot use memory at ${memory}: it is not aligned`);
    if (checksums === 0) return;
    this.process.checkRange(checksums, checksumBytes(length));
    if (checksums % 4 !== 0) throw new Error(`checksums cannot be stored at ${checksums}: it is not aligned`);
  }

  /** A slot's operation, with nothing of the last one in it but its place. */
  private take(kind: FaultOp, token: number): Operation {
    const slot = this.free.pop() ?? this.operations.push(new Operation(this.operations.length)) - 1;
    const operation = this.operations[slot];
    operation.kind = kind;
    operation.token = token;
    operation.memory = 0;
    operation.source = -1;
    operation.flags = 0;
    operation.checksums = 0;
    operation.action = undefined;
    operation.write = null;
    operation.early = null;
    operation.abandoned = false;
    return operation;
  }

  private submit(operation: Operation, length: number, offset: number): void {
    this.operationCount += 1;
    operation.length = length;
    operation.offset = offset;
    this.inFlight += 1;
    this.process.submit(this, operation.slot);
  }

  /** The operation is handed over. */
  start(slot: number): void {
    const { disk, process, random } = this;
    const operation = this.operations[slot];
    const { kind, length, offset, memory, source } = operation;
    if (disk.generation !== this.generation) return;
    operation.active = true;
    operation.startedUs = process.nowUs;
    if (source >= 0) process.bytes.copyWithin(memory, source, source + length);
    const summed = kind === 'write' && (operation.flags & DEVICE_SUMMED) !== 0;
    if (operation.checksums !== 0 && kind === 'write' && !summed) storeChecksums(process, operation);
    this.traceStart(operation);
    if (summed && !hasChecksums(process, operation)) {
      this.end(slot, -EBADMSG, COMPLETION_MISMATCH);
      return;
    }
    const refusal = this.refusal(operation);
    if (refusal !== 0) {
      this.end(slot, refusal);
      return;
    }
    const action = disk.faults.decide(kind, offset, length, random);
    operation.action = action;
    if (action?.kind === 'vanish') disk.vanished = true;
    this.begin(operation);
    if (action?.kind !== 'stick') process.time.schedule(null, this, slot, this.latencyOf(operation));
  }

  private traceStart(operation: Operation): void {
    const { process } = this;
    const { kind, token, offset, length, flags, memory } = operation;
    operation.origin = process.trace.add(kind, process.nowUs, token, offset, length);
    process.trace.note(this.party);
    process.trace.note(flags);
    if (kind !== 'write') return;
    if (operation.checksums === 0) process.time.traceBytes(process.bytes, memory, length);
    else this.traceChecksums(operation);
  }

  /** The checksums of what is written stand for it, as they have been made already. */
  private traceChecksums({ checksums, length }: Operation): void {
    const { trace, view } = this.process;
    if (!trace.contents) return;
    const end = checksums + checksumBytes(length);
    for (let at = checksums; at < end; at += 4) trace.note(view.getUint32(at, true));
  }

  /** A negative errno if the operation is not even tried. */
  private refusal(operation: Operation): number {
    const { kind, flags } = operation;
    if (this.closing) return -EBADF;
    const modifies = kind !== 'read' && kind !== 'extents';
    if (this.fenced === FENCE_ALL || (this.fenced === FENCE_WRITES && modifies)) return -EIO;
    const cannot = kind === 'zero' && (flags & DEVICE_FAST_ONLY) !== 0 && this.geometry.writeZeroesMaxBytes === 0;
    return cannot ? -EOPNOTSUPP : 0;
  }

  private latencyOf(operation: Operation): number {
    const { random } = this;
    const [least, most] = operation.kind === 'sync' ? this.syncLatencyUs : this.latencyUs;
    let us = random.between(least, most);
    if (random.below(SLOW_ONE_IN) === 0) us *= SLOW_FACTOR;
    return operation.action?.kind === 'slow' ? us + operation.action.byUs : us;
  }

  private begin(operation: Operation): void {
    const { disk, random } = this;
    switch (operation.kind) {
      case 'read':
        this.beginRead(operation);
        break;
      case 'write':
      case 'zero':
        this.beginModification(operation);
        break;
      case 'discard':
        if (this.geometry.discard) this.beginModification(operation);
        // What is read after a discard is undefined: old content, zeroes, or some of both.
        if (operation.write !== null && random.chance(0.5)) maskAtRandom(operation.write, random);
        break;
      case 'sync':
        operation.mark = disk.mark();
        break;
      default:
    }
  }

  private beginRead(operation: Operation): void {
    const { disk, random } = this;
    const { memory, length, offset } = operation;
    this.process.bytes.fill(POISON, memory, memory + length);
    // Only with modifications in flight can it matter whether the content is of the beginning or of the end.
    const early = disk.inFlight > 0 ? random.chance(0.5) : random.below(8) === 0;
    if (!early) return;
    operation.early = earlyBytes(length);
    disk.read(offset, length, operation.early, 0, random);
  }

  private beginModification(operation: Operation): void {
    const { random } = this;
    const { action, memory, length, flags, kind } = operation;
    if (action?.kind === 'lose') return;
    const data = kind === 'write' ? this.disk.payloads.take(length) : null;
    data?.set(this.process.bytes.subarray(memory, memory + length));
    if (action?.kind === 'corrupt' && data !== null) data[random.below(length)] ^= 1 << random.below(8);
    const misdirected = action?.kind === 'misdirect' && kind !== 'discard';
    const offset = misdirected ? action.toOffsetBytes : operation.offset;
    if (misdirected) this.checkSpan(offset, length, SECTOR_BYTES);
    const allocated = kind === 'zero' && (flags & DEVICE_KEEP_ALLOCATED) !== 0;
    operation.write = { offset, length, data, allocated, mask: null, durable: false, seen: false };
    this.disk.begin(operation.write);
  }

  /** The operation's time has come. */
  fire(slot: number): void {
    const { disk } = this;
    if (disk.generation !== this.generation) return;
    const operation = this.operations[slot];
    const { action, write, kind } = operation;
    const errno = disk.vanished ? EIO : action?.kind === 'error' ? action.errno : 0;
    if (write !== null) {
      // A failed modification may have changed any sectors; what a read has seen of it stays.
      if (errno !== 0 && !write.seen) maskAtRandom(write, this.random);
      const durable = (operation.flags & DEVICE_FUA) !== 0 && errno === 0 && action?.kind !== 'lie';
      disk.finish(write, durable);
    }
    if (errno !== 0) {
      this.end(slot, -errno);
      return;
    }
    if (kind === 'sync' && action?.kind !== 'lie') disk.promote(operation.mark);
    this.end(slot, this.carryOut(operation));
  }

  /** What is left to do for an operation that succeeds. Returns its result. */
  private carryOut(operation: Operation): number {
    // Its memory may be another's by now.
    if (!this.process.alive) return -EIO;
    if (operation.kind === 'read') this.endRead(operation);
    if (operation.kind === 'extents') return this.listExtents(operation);
    return operation.kind === 'read' || operation.kind === 'write' ? operation.length : 0;
  }

  private endRead(operation: Operation): void {
    const { random } = this;
    const { bytes } = this.process;
    const { memory, length, offset, early } = operation;
    if (early === null) this.disk.read(offset, length, bytes, memory, random);
    else bytes.set(early.subarray(0, length), memory);
    if (operation.action?.kind === 'corrupt') bytes[memory + random.below(length)] ^= 1 << random.below(8);
    if (operation.checksums !== 0) storeChecksums(this.process, operation);
  }

  private listExtents(operation: Operation): number {
    const { view } = this.process;
    const room = Math.floor(operation.flags / EXTENT_BYTES);
    if (room === 0) return -EINVAL;
    const end = operation.offset + operation.length;
    let count = 0;
    for (let at = operation.offset; at < end && count < room; count += 1) {
      const allocated = this.disk.allocated(at);
      const start = at;
      while (at < end && this.disk.allocated(at) === allocated) at += BLOCK_BYTES - (at % BLOCK_BYTES);
      const place = operation.memory + count * EXTENT_BYTES;
      view.setFloat64(place, Math.min(at, end) - start, true);
      view.setFloat64(place + 8, allocated ? EXTENT_DATA : EXTENT_HOLE, true);
    }
    return count;
  }

  private end(slot: number, result: number, completionFlags = 0): void {
    const { process } = this;
    const operation = this.operations[slot];
    const { kind, token, flags, origin } = operation;
    const promised = kind !== 'read' && kind !== 'extents' && (flags & DEVICE_FUA) !== 0;
    const seen = completionFlags !== COMPLETION_MISMATCH;
    const broken = kind === 'sync' || (promised && seen && !REFUSALS.includes(-result));
    if (result < 0 && broken && !this.closing) this.tightenFence(FENCE_WRITES);
    operation.active = false;
    operation.write = null;
    if (operation.early !== null) freeEarly.push(operation.early);
    operation.early = null;
    this.inFlight -= 1;
    this.free.push(slot);
    if (!operation.abandoned) process.complete(token, result, completionFlags, origin);
    else this.freeMemory(operation);
    this.detachWhenIdle();
  }

  private tightenFence(fence: number): void {
    this.fenced = Math.max(this.fenced, fence);
  }

  private detachWhenIdle(): void {
    if (this.closing && this.inFlight === 0 && this.disk.generation === this.generation) this.disk.attached = false;
  }
}

/** Memory for reads at their beginning, used again: a new one for each large read would cost more than all else. */
const freeEarly: Uint8Array[] = [];

/** At least so many bytes, with any content. */
function earlyBytes(length: number): Uint8Array {
  const bytes = freeEarly.pop();
  return bytes !== undefined && bytes.length >= length ? bytes : new Uint8Array(Math.max(length, EARLY_BYTES));
}

/** Lets all, none or some sectors of a modification take effect. */
export function maskAtRandom(write: SimWrite, random: SimRandom): void {
  const mask = new Uint8Array(write.length / SECTOR_BYTES);
  const share = random.pick([0, 0.5, 1]);
  for (let sector = 0; sector < mask.length; sector += 1) mask[sector] = random.chance(share) ? 1 : 0;
  write.mask = mask;
}
