/** Devices as a program that embeds Strake uses them. */

import { deviceError, ECANCELED } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import { TAKEOVER_MS } from '../core/limits.js';
import { formatBytes, parseBytes } from '../core/units.js';
import { DEVICE_FUA, DEVICE_KEEP_ALLOCATED, type DeviceGeometry } from '../ports/device.js';
import type { FaultRule } from '../uring/native.js';
import { native, nativeError } from '../uring/native.js';
import type { LoadMessage, LoadResult } from '../worker/messages.js';
import { REQUEST_DISCARD, REQUEST_FLUSH, REQUEST_ZERO } from '../worker/ring-protocol.js';
import type { ShardLink } from '../worker/shard-pool.js';
import type { ShardStats } from '../worker/shard-stats.js';
import { blkidSignatures, type DeviceFacts } from './facts.js';
import { type DeviceTenant, Runtime } from './runtime.js';

/** How to open a device. */
export interface OpenDeviceOptions {
  /** Open for reading only. Several readers may share a device; a writer has it alone. */
  readonly readOnly?: boolean;
  /** The device's path once more: opens it for writing although it holds a file system or other known data. */
  readonly confirm?: string;
  /** Gives up opening. */
  readonly signal?: AbortSignal;
  /** Faults to inject, for tests of what is above. They apply to all devices of the same shard. */
  readonly faults?: readonly FaultRule[];
}

/** Options of a read. */
export interface ReadOptions {
  readonly signal?: AbortSignal;
}

/** Options of a write. */
export interface WriteOptions {
  /** Resolve only when the data is durable. */
  readonly fua?: boolean;
  readonly signal?: AbortSignal;
}

const NULL_DEVICE = /^null:(.+)$/;
const NULL_BLOCK_BYTES = 512;
/** Between attempts to open a device that its dead worker has not yet let go of. */
const REOPEN_MS = 50;

interface Opened {
  readonly handle: number | null;
  readonly facts: DeviceFacts;
  readonly geometry: DeviceGeometry;
}

/** A device without storage: reads give zeroes, writes vanish. */
function nullFacts(path: string, sizeText: string): DeviceFacts {
  const sizeBytes = parseBytes(sizeText);
  if (sizeBytes < 4096 || sizeBytes % NULL_BLOCK_BYTES !== 0) {
    throw new StrakeError('BAD_SIZE', `${path}: the size of a null device is a multiple of 512, from 4096 on`);
  }
  return {
    path,
    kind: 'null',
    sizeBytes,
    logicalBlockBytes: NULL_BLOCK_BYTES,
    physicalBlockBytes: 4096,
    memoryAlignBytes: 1,
    discard: true,
    discardGranularityBytes: NULL_BLOCK_BYTES,
    discardMaxBytes: sizeBytes,
    writeZeroesMaxBytes: sizeBytes,
    readOnly: false,
    signatures: [],
    users: [],
    identity: path,
  };
}

async function openNative(path: string, readOnly: boolean): Promise<Opened> {
  const match = NULL_DEVICE.exec(path);
  if (match !== null) {
    const facts = nullFacts(path, match[1]);
    return { handle: null, facts, geometry: facts };
  }
  try {
    const { handle, facts } = await native().openNativeDevice(path, readOnly);
    return { handle, facts, geometry: facts };
  } catch (error) {
    throw nativeError(error, 'IO');
  }
}

/** Refuses to write on what may be somebody's data, unless its name was given twice. */
async function checkSignatures(opened: Opened, path: string, options: OpenDeviceOptions): Promise<void> {
  if (options.confirm !== undefined && options.confirm !== path) {
    const words = `it is ${JSON.stringify(path)}, not ${JSON.stringify(options.confirm)}`;
    throw new StrakeError('INVALID_ARGUMENT', `the confirmation names another device: ${words}`);
  }
  if (options.readOnly || options.confirm === path || opened.handle === null) return;
  const { facts } = opened;
  const signatures = facts.signatures.length > 0 ? facts.signatures : await blkidSignatures(facts.path);
  if (signatures.length === 0) return;
  throw new StrakeError('SIGNATURE', `${path} holds ${signatures.join(', ')}; it was not opened for writing`);
}

/**
 * Opens a block device or a regular file for direct I/O; `null:SIZE` is a device without storage.
 *
 * A device opened for writing is exclusively ours: throws `ERR_STRAKE_IN_USE` while it is mounted, locked or used otherwise,
 * `ERR_STRAKE_SIGNATURE` if it holds known data and `confirm` is not its path, and other `ERR_STRAKE_*` as the table in
 * `docs/reference.md` lists them. Everything that is opened must be closed.
 */
export async function openDevice(path: string, options: OpenDeviceOptions = {}): Promise<Device> {
  options.signal?.throwIfAborted();
  const readOnly = options.readOnly ?? false;
  const opened = await openNative(path, readOnly);
  let adopted = false;
  try {
    await checkSignatures(opened, path, options);
    options.signal?.throwIfAborted();
    const runtime = await Runtime.acquire();
    try {
      const shard = runtime.leastLoaded();
      const { handle, geometry } = opened;
      const message = { handle, geometry: plainGeometry(geometry), readOnly, faults: options.faults ?? [] };
      adopted = true;
      const { device } = await runtime.link(shard).call('open', message);
      return new Device(INTERNAL, runtime, opened.facts, readOnly, shard, device);
    } catch (error) {
      await Runtime.release();
      throw error;
    }
  } catch (error) {
    if (!adopted && opened.handle !== null) native().closeNativeDevice(opened.handle);
    throw error;
  }
}

function plainGeometry(geometry: DeviceGeometry): DeviceGeometry {
  const { sizeBytes, logicalBlockBytes, physicalBlockBytes, discard, writeZeroesMaxBytes } = geometry;
  return { sizeBytes, logicalBlockBytes, physicalBlockBytes, discard, writeZeroesMaxBytes };
}

const INTERNAL = Symbol('strake.internal');

/** An open device. Made by `openDevice`. */
export class Device implements DeviceTenant {
  /** What it is. */
  readonly facts: DeviceFacts;
  readonly readOnly: boolean;
  /** The shard that drives it. */
  readonly shard: number;
  private readonly runtime: Runtime;
  private deviceNumber: number;
  private state: 'open' | 'closed' | StrakeError = 'open';

  /** @internal */
  constructor(
    key: symbol,
    runtime: Runtime,
    facts: DeviceFacts,
    readOnly: boolean,
    shard: number,
    deviceNumber: number,
  ) {
    if (key !== INTERNAL) throw new TypeError('devices are made by openDevice');
    this.runtime = runtime;
    this.facts = facts;
    this.readOnly = readOnly;
    this.shard = shard;
    this.deviceNumber = deviceNumber;
    runtime.addDevice(this);
  }

  get path(): string {
    return this.facts.path;
  }

  get sizeBytes(): number {
    return this.facts.sizeBytes;
  }

  /** Its number on its shard. @internal */
  get number(): number {
    return this.deviceNumber;
  }

  /** @internal */
  get link(): ShardLink {
    this.checkOpen();
    return this.runtime.link(this.shard);
  }

  /** @internal */
  get owner(): Runtime {
    return this.runtime;
  }

  private checkOpen(): void {
    if (this.state === 'closed') throw new StrakeError('CLOSED', `${this.path} is closed`);
    if (this.state !== 'open') throw this.state;
  }

  private offsetNumber(offset: number | bigint, length: number): number {
    const at = Number(offset);
    if (!Number.isSafeInteger(at) || at < 0 || at + length > this.sizeBytes) {
      const where = `${length} bytes at ${offset}`;
      throw new StrakeError('OUT_OF_RANGE', `${this.path}: ${where} is outside of ${formatBytes(this.sizeBytes)}`);
    }
    return at;
  }

  /** Fills `buffer` from `offset` (bytes, any alignment). The buffer must not be used until this resolves. */
  async read(buffer: Uint8Array, offset: number | bigint, options: ReadOptions = {}): Promise<void> {
    const at = this.offsetNumber(offset, buffer.length);
    const { link } = this;
    await this.settle('read', link.client.transfer(false, this.deviceNumber, at, buffer, 0), options.signal);
  }

  /** Writes `buffer` at `offset` (bytes, any alignment). The buffer must not be changed until this resolves. */
  async write(buffer: Uint8Array, offset: number | bigint, options: WriteOptions = {}): Promise<void> {
    const at = this.offsetNumber(offset, buffer.length);
    const flags = options.fua ? DEVICE_FUA : 0;
    const { link } = this;
    await this.settle('write', link.client.transfer(true, this.deviceNumber, at, buffer, flags), options.signal);
  }

  /** Makes everything durable whose write has resolved. */
  async flush(): Promise<void> {
    await this.settle('flush', this.link.client.command(REQUEST_FLUSH, this.deviceNumber, 0, 0, 0));
  }

  /** Tells the device that a range is not needed. What is read from it afterwards is undefined. */
  async discard(offset: number | bigint, length: number): Promise<void> {
    const at = this.offsetNumber(offset, length);
    if (length === 0) return;
    await this.settle('discard', this.link.client.command(REQUEST_DISCARD, this.deviceNumber, at, length, 0));
  }

  /** Zeroes a range; with `keepAllocated` its space stays reserved. */
  async writeZeroes(offset: number | bigint, length: number, options: { keepAllocated?: boolean } = {}): Promise<void> {
    const at = this.offsetNumber(offset, length);
    if (length === 0) return;
    const flags = options.keepAllocated ? DEVICE_KEEP_ALLOCATED : 0;
    await this.settle('zero', this.link.client.command(REQUEST_ZERO, this.deviceNumber, at, length, flags));
  }

  private async settle(what: string, operation: Promise<number>, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const result = await (signal === undefined ? operation : abortable(operation, signal));
    if (result >= 0) return;
    if (result === -ECANCELED && this.state === 'open') {
      throw new StrakeError('WORKER_DIED', `${what} ${this.path}: the worker that drives it has ended`);
    }
    throw deviceError(-result, `${what} ${this.path}`);
  }

  /** Figures of the shard that drives the device. */
  stats(): Promise<ShardStats> {
    return this.link.call('stats', null);
  }

  /** Puts a load on the device from within its shard, for benches. */
  load(message: Omit<LoadMessage, 'device'>): Promise<LoadResult> {
    return this.link.call('load', { ...message, device: this.deviceNumber });
  }

  /** Opens the device again on a new shard. @internal */
  async restore(link: ShardLink): Promise<void> {
    const deadline = Date.now() + TAKEOVER_MS;
    for (;;) {
      try {
        const { handle, facts, geometry } = await openNative(this.path, this.readOnly);
        if (facts.identity !== this.facts.identity || facts.sizeBytes !== this.sizeBytes) {
          if (handle !== null) native().closeNativeDevice(handle);
          throw new StrakeError('NOT_FOUND', `${this.path} is not the device that it was`);
        }
        const message = { handle, geometry: plainGeometry(geometry), readOnly: this.readOnly, faults: [] };
        this.deviceNumber = (await link.call('open', message)).device;
        return;
      } catch (error) {
        // The dead worker's operations hold the lock until they have ended.
        const held = error instanceof StrakeError && error.code === 'ERR_STRAKE_IN_USE';
        if (!held || Date.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, REOPEN_MS));
      }
    }
  }

  /** @internal */
  lose(error: StrakeError): void {
    if (this.state === 'open') this.state = error;
  }

  /** Gives the device up. Servers of it must have been closed; what is in flight ends first. Idempotent. */
  async close(): Promise<void> {
    if (this.state === 'closed') return;
    const usable = this.state === 'open';
    const link = usable ? this.runtime.link(this.shard) : null;
    this.state = 'closed';
    this.runtime.removeDevice(this);
    try {
      await link?.call('close', { device: this.deviceNumber });
    } finally {
      await Runtime.release();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function abortable<T>(operation: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(new StrakeError('ABORTED', 'the operation was given up', { cause: signal.reason }));
    signal.addEventListener('abort', abort, { once: true });
    operation.finally(() => signal.removeEventListener('abort', abort)).then(resolve, reject);
  });
}
