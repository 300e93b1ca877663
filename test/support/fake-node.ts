/** A node without devices, which notes what it is asked for: for tests of what controls nodes. */

import type { ControlledNode } from '#strake/control/server.js';
import { StrakeError } from '#strake/core/errors.js';
import type { NodeVolumeStatus } from '#strake/embed/node-types.js';

export const MIB = 1 << 20;

/** An id for each name. */
export function idOf(name: string): string {
  return Buffer.from(name).toString('hex').slice(0, 31).padEnd(32, '0');
}

/** A volume as a node would describe it. */
export function volumeStatus(name: string, changes: Partial<NodeVolumeStatus> = {}): NodeVolumeStatus {
  return {
    id: idOf(name),
    name,
    sizeBytes: 16 * MIB,
    layout: 'mirror',
    copies: 2,
    createdAt: '2026-01-02T03:04:05.678Z',
    mapVersion: 1,
    generation: 1,
    state: 'ok',
    reason: '',
    allocatedBytes: 0,
    shard: 0,
    groups: [],
    counters: {
      repairedBlocks: 0,
      unrecoverableBlocks: 0,
      acceptedSuspects: 0,
      poisonedBlocks: 0,
      degradedWrites: 0,
      retriedReads: 0,
      reconciledBlocks: 0,
      refused: 0,
    },
    jobs: [],
    ...changes,
  };
}

export const FAKE_JOB: Awaited<ReturnType<ControlledNode['scrub']>> = {
  id: 1,
  kind: 'scrub',
  group: -1,
  position: -1,
  state: 'running',
  bytesDone: 0,
  bytesTotal: 1,
  segmentsDone: 0,
  segmentsTotal: 1,
  bytesCopied: 0,
  bytesPerSecond: 7,
  elapsedMs: 0,
  reason: '',
  volume: 'main',
  volumeId: 'a'.repeat(32),
  deviceId: null,
};

export class FakeNode implements ControlledNode {
  /** Each call and its arguments. */
  readonly asked: unknown[][] = [];
  /** What there is; tests change it. */
  list: NodeVolumeStatus[] = [];
  /** Thrown by the next change. */
  failure: unknown;

  private note(...call: unknown[]): void {
    this.asked.push(call);
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }

  async status(): ReturnType<ControlledNode['status']> {
    return {
      verdict: 'ok',
      clusterId: '1'.repeat(32),
      tableMemory: 16 << 20,
      checks: [],
      devices: [],
      unavailable: [],
      doubled: [],
      volumes: this.list,
      remote: [],
      awaited: [],
    };
  }

  async volumes(): ReturnType<ControlledNode['volumes']> {
    return this.list;
  }

  async devices(): ReturnType<ControlledNode['devices']> {
    return [];
  }

  async createVolume(
    options: Parameters<ControlledNode['createVolume']>[0],
  ): ReturnType<ControlledNode['createVolume']> {
    this.note('create', options);
    this.list.push(volumeStatus(options.name, { sizeBytes: options.sizeBytes }));
    return {} as Awaited<ReturnType<ControlledNode['createVolume']>>;
  }

  private change(id: string, changes: Partial<NodeVolumeStatus>): void {
    this.list = this.list.map((volume) => (volume.id === id ? { ...volume, ...changes } : volume));
  }

  async growVolume(id: string, sizeBytes: number): Promise<void> {
    this.note('grow', id, sizeBytes);
    this.change(id, { sizeBytes });
  }

  async renameVolume(id: string, name: string): Promise<void> {
    this.note('rename', id, name);
    this.change(id, { name });
  }

  async deleteVolume(id: string): Promise<void> {
    this.note('delete', id);
    this.list = this.list.filter((volume) => volume.id !== id);
  }

  async startVolume(name: string, options: { readonly without: readonly string[] }): Promise<void> {
    this.note('start', name, options);
  }

  async scrub(name: string, options?: { readonly bytesPerSecond?: number }): ReturnType<ControlledNode['scrub']> {
    this.note('scrub', name, options);
    return FAKE_JOB;
  }

  async jobs(): ReturnType<ControlledNode['jobs']> {
    return [FAKE_JOB];
  }

  async cancelJob(id: number): ReturnType<ControlledNode['cancelJob']> {
    this.note('cancel', id);
    return { ...FAKE_JOB, id, state: 'cancelled' };
  }

  async findDevice(name: string, path?: string): Promise<string> {
    this.note('find', name, path);
    return '0'.repeat(32);
  }

  async addDevice(path: string): ReturnType<ControlledNode['addDevice']> {
    this.note('add', path);
    throw new StrakeError('WRONG_DEVICE', `${path} belongs to another cluster`);
  }

  async removeDevice(deviceId: string): Promise<void> {
    this.note('remove', deviceId);
  }

  async forgetDevice(deviceId: string): Promise<number> {
    this.note('forgetDevice', deviceId);
    return 3;
  }

  async replaceDevice(deviceId: string, path: string): ReturnType<ControlledNode['replaceDevice']> {
    this.note('replace', deviceId, path);
    return [];
  }
}
