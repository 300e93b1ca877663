/**
 * The raw devices of a shard: each is one volume, which programs and servers use by its number.
 *
 * A device that refuses writes or answers never is told of at once: whoever opens it again after the death of this shard has to
 * know.
 */

import { StrakeError } from '../core/errors.js';
import { DRAIN_MS, SHARD_DEVICES_MAX } from '../core/limits.js';
import { NbdExport } from '../nbd/export.js';
import { FENCE_OPEN } from '../ports/device.js';
import { RAW_VOLUME_SCRATCH_BYTES, RawVolume } from '../raw/raw-volume.js';
import type { Superblock } from '../store/format/superblock.js';
import { formatDevice } from '../store/opening/format-device.js';
import { UringDevice } from '../uring/device.js';
import type { Engine } from '../uring/engine.js';
import { nativeError } from '../uring/native.js';
import type { AnswerMessage, FormatMessage, ListenMessage, OpenMessage, ShardCalls } from '../worker/messages.js';
import type { Servers } from './servers.js';
import { isRaw, type RawTarget, type Targets } from './targets.js';

export interface RawDevicesParts {
  readonly engine: Engine;
  readonly targets: Targets;
  readonly servers: Servers;
  readonly post: (message: AnswerMessage) => void;
  /** Start of `RAW_DEVICES_SCRATCH_BYTES` of page-aligned memory. */
  readonly scratchStart: number;
}

/** Memory for the volumes of `SHARD_DEVICES_MAX` devices. */
export const RAW_DEVICES_SCRATCH_BYTES = SHARD_DEVICES_MAX * RAW_VOLUME_SCRATCH_BYTES;

export class RawDevices {
  private readonly parts: RawDevicesParts;
  private readonly freeScratch: number[] = [];

  constructor(parts: RawDevicesParts) {
    this.parts = parts;
    for (let index = SHARD_DEVICES_MAX - 1; index >= 0; index -= 1) {
      this.freeScratch.push(parts.scratchStart + index * RAW_VOLUME_SCRATCH_BYTES);
    }
  }

  private takeScratch(): number {
    const scratch = this.freeScratch.pop();
    if (scratch === undefined) throw new StrakeError('BUSY', `a shard drives at most ${SHARD_DEVICES_MAX} devices`);
    return scratch;
  }

  open(message: OpenMessage): ShardCalls['open']['response'] {
    const { engine, targets } = this.parts;
    const scratch = this.takeScratch();
    try {
      const { handle, geometry, fence } = message;
      const file = handle === null ? engine.native.addNullDevice() : engine.native.adoptDevice(handle);
      if (fence > FENCE_OPEN) engine.native.fenceFile(file, fence);
      if (message.faults.length > 0) engine.native.injectFaults([...message.faults]);
      const device = new UringDevice(engine, file, geometry);
      const onFailure = () => this.noteFence(target, number);
      const volume = new RawVolume(engine, engine, device, scratch, message.readOnly, onFailure);
      const target: RawTarget = { device, volume, scratch, fence };
      const number = targets.add(target);
      return { device: number };
    } catch (error) {
      this.freeScratch.push(scratch);
      throw nativeError(error, 'IO');
    }
  }

  private target(device: number): RawTarget {
    const target = this.parts.targets.get(device);
    if (target === undefined || !isRaw(target)) throw new StrakeError('CLOSED', 'the device is closed');
    return target;
  }

  async close(device: number): Promise<null> {
    const { engine, targets, servers } = this.parts;
    const target = this.target(device);
    targets.delete(device);
    // A server that went on would use the file number of the next device.
    await servers.endOf(target.volume, DRAIN_MS);
    target.volume.close();
    engine.whenFree(target.scratch, RAW_VOLUME_SCRATCH_BYTES, () => this.freeScratch.push(target.scratch));
    return null;
  }

  listen(message: ListenMessage): ShardCalls['listen']['response'] {
    const { volume } = this.target(message.device);
    const exported = new NbdExport(message.name, message.description, volume, message.readOnly);
    const { server, port } = this.parts.servers.begin(message, exported);
    return { server, port };
  }

  /** Formats a device, which is closed afterwards. */
  async format({ handle, geometry, options }: FormatMessage): Promise<Superblock> {
    const { engine } = this.parts;
    // Formatting needs little memory, and what is opened raw has enough of it.
    const scratch = this.takeScratch();
    const device = new UringDevice(engine, engine.native.adoptDevice(handle), geometry);
    try {
      return await formatDevice({ completions: engine, memory: engine, device, memoryStart: scratch }, options);
    } finally {
      this.freeScratch.push(scratch);
      device.close();
    }
  }

  /** How each device is fenced, by number. */
  fences(): { device: number; fence: number }[] {
    return [...this.parts.targets.raw()].map(([device, target]) => ({ device, fence: target.device.fence() }));
  }

  /** Tells of devices that have been fenced since. */
  noteFences(): void {
    for (const [number, target] of this.parts.targets.raw()) this.noteFence(target, number);
  }

  private noteFence(target: RawTarget, device: number): void {
    const fence = target.device.fence();
    if (fence <= target.fence) return;
    target.fence = fence;
    this.parts.post({ fenced: { device, fence } });
  }
}
