/** Devices as a program that embeds Strake uses them. */

import { boolean, optional, options as optionsOf, path as pathRule, signal } from '../core/arguments.js';
import { deviceError, ECANCELED, EIO } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES, SECTOR_BYTES, TAKEOVER_MS } from '../core/limits.js';
import { parseBytes } from '../core/units.js';
import { type DeviceGeometry, FENCE_ALL, FENCE_OPEN, FENCE_WRITES } from '../ports/device.js';
import { REQUEST_FLUSH } from '../serve/ring-protocol.js';
import type { FaultRule } from '../uring/native.js';
import { native } from '../uring/native.js';
import { openDeviceFile, within } from '../uring/native-devices.js';
import type { LoadMessage, LoadResult } from '../worker/messages.js';
import type { ShardLink } from '../worker/shard-pool.js';
import type { ShardStats } from '../worker/shard-stats.js';
import { BlockIo, type BlockTarget, checkSignal } from './block-io.js';
import { blkidSignatures, type DeviceFacts } from './facts.js';
import { faultRules, LOAD } from './rules.js';
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

const OPEN_DEVICE = optionsOf<OpenDeviceOptions>({
  readOnly: optional(boolean),
  confirm: optional(pathRule),
  signal: optional(signal),
  faults: optional(faultRules),
});
const NULL_DEVICE = /^null:(.+)$/;
/** Between attempts to open a device that its dead worker has not yet let go of. */
const REOPEN_MS = 50;

export interface Opened {
  readonly handle: number | null;
  readonly facts: DeviceFacts;
  readonly geometry: DeviceGeometry;
}

/** A device without storage: reads give zeroes, writes vanish. */
function nullFacts(path: string, sizeText: string): DeviceFacts {
  const sizeBytes = parseBytes(sizeText);
  if (sizeBytes < BLOCK_BYTES || sizeBytes % SECTOR_BYTES !== 0) {
    throw new StrakeError(
      'BAD_SIZE',
      `${path}: the size of a null device is a multiple of ${SECTOR_BYTES}, from ${BLOCK_BYTES} on`,
    );
  }
  return {
    path,
    kind: 'null',
    sizeBytes,
    logicalBlockBytes: SECTOR_BYTES,
    physicalBlockBytes: BLOCK_BYTES,
    memoryAlignBytes: 1,
    discard: true,
    discardGranularityBytes: SECTOR_BYTES,
    discardMaxBytes: sizeBytes,
    writeZeroesMaxBytes: sizeBytes,
    readOnly: false,
    signatures: [],
    users: [],
    identity: path,
  };
}

/** Opens a device that no engine has yet. Rejects with `ERR_STRAKE_TIMED_OUT` if it does not answer. */
export async function openNative(path: string, readOnly: boolean): Promise<Opened> {
  const match = NULL_DEVICE.exec(path);
  if (match !== null) {
    const facts = nullFacts(path, match[1]);
    return { handle: null, facts, geometry: facts };
  }
  const { handle, facts } = await within(openDeviceFile(path, readOnly), path, (late) => abandonNative(late.handle));
  return { handle, facts, geometry: facts };
}

/** Refuses to write on what may be somebody's data, unless its name was given twice. */
export async function checkSignatures(
  opened: Opened,
  path: string,
  options: Pick<OpenDeviceOptions, 'confirm' | 'readOnly'>,
  refused = 'it was not opened for writing',
): Promise<void> {
  if (options.confirm !== undefined && options.confirm !== path) {
    const words = `it is ${JSON.stringify(path)}, not ${JSON.stringify(options.confirm)}`;
    throw new StrakeError('INVALID_ARGUMENT', `the confirmation names another device: ${words}`);
  }
  if (options.readOnly || options.confirm === path || opened.handle === null) return;
  const { facts } = opened;
  const signatures = facts.signatures.length > 0 ? facts.signatures : await blkidSignatures(facts.path);
  if (signatures.length === 0) return;
  throw new StrakeError('SIGNATURE', `${path} holds ${signatures.join(', ')}; ${refused}`);
}

/**
 * Opens a block device or a regular file for direct I/O; `null:SIZE` is a device without storage.
 *
 * A device opened for writing is exclusively ours: throws `ERR_STRAKE_IN_USE` while it is mounted, locked or used otherwise,
 * `ERR_STRAKE_SIGNATURE` if it holds known data and `confirm` is not its path, and other `ERR_STRAKE_*` as the table in
 * `docs/reference.md` lists them. Everything that is opened must be closed.
 */
export async function openDevice(path: string, options: OpenDeviceOptions = {}): Promise<Device> {
  pathRule.take(path, 'openDevice: path');
  return await openChecked(path, OPEN_DEVICE.take(options, 'openDevice: options'));
}

async function openChecked(path: string, options: OpenDeviceOptions): Promise<Device> {
  checkSignal(options.signal);
  const readOnly = options.readOnly ?? false;
  const opened = await openNative(path, readOnly);
  try {
    await checkSignatures(opened, path, options);
    checkSignal(options.signal);
    const runtime = await Runtime.acquire();
    try {
      const shard = runtime.leastLoaded();
      const link = runtime.link(shard);
      const { handle, geometry } = opened;
      const faults = options.faults ?? [];
      const message = { handle, geometry: plainGeometry(geometry), readOnly, faults, fence: FENCE_OPEN };
      const { device } = await link.call('open', message);
      if (runtime.link(shard) !== link) throw new StrakeError('WORKER_DIED', `open ${path}: its worker has ended`);
      return new Device(INTERNAL, { runtime, facts: opened.facts, readOnly, shard, home: link, number: device });
    } catch (error) {
      await Runtime.release();
      throw error;
    }
  } catch (error) {
    abandonNative(opened.handle);
    throw error;
  }
}

/** Closes a device that a worker was to get, unless it has got it. */
export function abandonNative(handle: number | null): void {
  if (handle !== null) native().closeNativeDevice(handle);
}

export function plainGeometry(geometry: DeviceGeometry): DeviceGeometry {
  const { sizeBytes, logicalBlockBytes, physicalBlockBytes, discard, writeZeroesMaxBytes } = geometry;
  return { sizeBytes, logicalBlockBytes, physicalBlockBytes, discard, writeZeroesMaxBytes };
}

/** Opens a device again whose worker has ended. Throws if it is not the device that it was. */
export async function reopenNative({ path, identity, sizeBytes }: DeviceFacts, readOnly: boolean): Promise<Opened> {
  const deadline = Date.now() + TAKEOVER_MS;
  for (;;) {
    try {
      const opened = await openNative(path, readOnly);
      if (opened.facts.identity === identity && opened.facts.sizeBytes === sizeBytes) return opened;
      abandonNative(opened.handle);
      throw new StrakeError('NOT_FOUND', `${path} is not the device that it was`);
    } catch (error) {
      // The dead worker's operations hold the lock until they have ended.
      const held = error instanceof StrakeError && error.code === 'ERR_STRAKE_IN_USE';
      if (!held || Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, REOPEN_MS));
    }
  }
}

const INTERNAL = Symbol('strake.internal');

/** A device that has been opened on a shard. */
interface OpenDevice {
  readonly runtime: Runtime;
  readonly facts: DeviceFacts;
  readonly readOnly: boolean;
  readonly shard: number;
  readonly home: ShardLink;
  /** Its number on its shard. */
  readonly number: number;
}

/** An open device. Made by `openDevice`. It keeps the process alive until it is closed. */
export class Device extends BlockIo implements DeviceTenant {
  /** What it is. */
  readonly facts: DeviceFacts;
  readonly readOnly: boolean;
  /** The shard that drives it. */
  readonly shard: number;
  private readonly runtime: Runtime;
  /** The life of the shard in which the device is open: numbers mean nothing to the one that replaces it. */
  private home: ShardLink;
  private deviceNumber: number;
  private fence = FENCE_OPEN;
  private state: 'open' | 'closed' | StrakeError = 'open';
  private closed: Promise<void> | null = null;

  /** @internal */
  constructor(key: symbol, { runtime, facts, readOnly, shard, home, number }: OpenDevice) {
    super();
    if (key !== INTERNAL) throw new TypeError('devices are made by openDevice');
    this.runtime = runtime;
    this.facts = facts;
    this.readOnly = readOnly;
    this.shard = shard;
    this.home = home;
    this.deviceNumber = number;
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

  protected override get title(): string {
    return this.path;
  }

  protected override target(): Promise<BlockTarget> {
    return Promise.resolve({ client: this.link.client, device: this.deviceNumber });
  }

  /** @internal */
  get link(): ShardLink {
    this.checkOpen();
    if (this.runtime.link(this.shard) !== this.home) {
      throw new StrakeError('WORKER_DIED', `${this.path} is being opened again by a new worker`);
    }
    return this.home;
  }

  /** Whether it is open in this life of its shard. @internal */
  isOn(link: ShardLink): boolean {
    return this.home === link;
  }

  /** @internal */
  get owner(): Runtime {
    return this.runtime;
  }

  /** Servers of it that are open. @internal */
  readonly servers = new Set<{ close(): Promise<void> }>();

  private checkOpen(): void {
    if (this.state === 'closed') throw new StrakeError('CLOSED', `${this.path} is closed`);
    if (this.state !== 'open') throw this.state;
  }

  /** A flush for a server that closes, which the device may be waiting for to close itself. @internal */
  async flushLast(): Promise<void> {
    const { client } = this.home;
    const result = await this.track(client.command(REQUEST_FLUSH, this.deviceNumber, 0, 0, 0));
    if (result < 0) throw await this.failure('flush', -result);
  }

  protected async failure(what: string, errno: number): Promise<StrakeError> {
    const text = `${what} ${this.path}`;
    if (errno === ECANCELED) return new StrakeError('WORKER_DIED', `${text}: the worker that drives it has ended`);
    if (errno !== EIO) return deviceError(errno, text);
    await this.askFence();
    if (this.fence === FENCE_ALL) {
      const why = 'an operation has not ended in time, so the device takes nothing any more';
      return new StrakeError('FENCED', `${text}: ${why}`, { errno });
    }
    if (this.fence === FENCE_WRITES && what !== 'read') {
      return new StrakeError('FENCED', `${text}: a flush has failed, so the device takes no more writes`, { errno });
    }
    return deviceError(errno, text);
  }

  private async askFence(): Promise<void> {
    try {
      const { devices } = await this.home.call('stats', null);
      this.noteFence(devices.find(({ device }) => device === this.deviceNumber)?.fence ?? FENCE_OPEN);
    } catch {
      // The worker has ended meanwhile: what is known has to do.
    }
  }

  /** A fence only ever tightens. @internal */
  noteFence(fence: number): void {
    this.fence = Math.max(this.fence, fence);
  }

  /** Figures of the shard that drives the device. */
  stats(): Promise<ShardStats> {
    return this.link.call('stats', null);
  }

  /** Puts a load on the device from within its shard, for benches. */
  async load(message: Omit<LoadMessage, 'device'>): Promise<LoadResult> {
    const checked = LOAD.take(message, 'load: message');
    return await this.track(this.link.call('load', { ...checked, device: this.deviceNumber }));
  }

  /** Opens the device again on a new shard, with the fence that it had. @internal */
  async restore(link: ShardLink): Promise<void> {
    const { readOnly, fence } = this;
    const { handle, geometry } = await reopenNative(this.facts, readOnly);
    const message = { handle, geometry: plainGeometry(geometry), readOnly, faults: [], fence };
    const { device } = await link.call('open', message).catch((error: unknown) => {
      abandonNative(handle);
      throw error;
    });
    if (this.state === 'open') {
      this.deviceNumber = device;
      this.home = link;
    } else {
      await link.call('close', { device });
    }
  }

  /** @internal */
  lose(error: StrakeError): void {
    if (this.state === 'open') this.state = error;
  }

  /**
   * Gives the device up, after what is in flight has ended and servers of it are closed. Rejects with the error of a server
   * that could not make everything durable; the device is closed all the same. Idempotent.
   */
  close(): Promise<void> {
    this.closed ??= this.end();
    return this.closed;
  }

  private async end(): Promise<void> {
    this.state = 'closed';
    const endings = await Promise.allSettled([...this.servers].map((server) => server.close()));
    await this.giveUp();
    for (const ending of endings) if (ending.status === 'rejected') throw ending.reason;
  }

  private async giveUp(): Promise<void> {
    await this.idle();
    this.runtime.removeDevice(this);
    try {
      await this.home.call('close', { device: this.deviceNumber });
    } catch (error) {
      // A worker that has ended has closed it.
      if (!(error instanceof StrakeError && error.code === 'ERR_STRAKE_WORKER_DIED')) throw error;
    } finally {
      await Runtime.release();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
