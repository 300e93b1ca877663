/** A volume engine over scripted members, with what tests of it need. */

import * as assert from 'uvu/assert';
import { COPY_SCRATCH_BYTES, CopyBuffers } from '#strake/client/jobs/copy-buffers.js';
import { VOLUME_ENGINE_SCRATCH_BYTES, VolumeEngine, type VolumeEngineOptions } from '#strake/client/volume-engine.js';
import type { VolumeEvent } from '#strake/client/volume-events.js';
import { Watch } from '#strake/core/watch.js';
import { type MemberState, NO_CLIENT, type VolumeMap } from '#strake/layout/volume-map.js';
import { ScriptedMember } from './scripted-member.js';
import { BLOCK, SegmentWorld } from './segment-world.js';

export const SEGMENT_BLOCKS = 4;
export const SEGMENT = SEGMENT_BLOCKS * BLOCK;
export const SEGMENTS = 4;
export const SIZE = SEGMENTS * SEGMENT;
const SCRATCH_BYTES = VOLUME_ENGINE_SCRATCH_BYTES + COPY_SCRATCH_BYTES;
const AREA = SIZE + 2 * BLOCK;
/** Above the engine's scratch and the areas of requests. */
const SOURCE_AREAS = 64;

export const deviceId = (position: number) => String(position + 1).repeat(32);

export function makeRecord(states: readonly MemberState[]): VolumeMap {
  const group = states.map((state, position) => ({
    deviceId: deviceId(position),
    state,
    since: { generation: 0, flushNumber: 0 },
    incarnation: 0,
    flushNumber: 0,
    joined: 0,
  }));
  return {
    id: 'f'.repeat(32),
    name: 'test',
    sizeBytes: SIZE,
    layout: states.length === 1 ? 'single' : 'mirror',
    copies: states.length,
    segmentBytes: SEGMENT,
    headerVersion: 0,
    versions: [1],
    generation: 3,
    holder: NO_CLIENT,
    lease: 'exclusive',
    createdMs: 0,
    deleted: false,
    groups: [group],
  };
}

export class VolumeBench {
  readonly world: SegmentWorld;
  readonly members: ScriptedMember[];
  readonly engine: VolumeEngine;
  readonly buffers: CopyBuffers;
  readonly results: (number | undefined)[] = [];
  readonly flags: number[] = [];
  readonly events: VolumeEvent[] = [];
  /** Maps that were committed. */
  readonly committed: VolumeMap[] = [];
  /** What a commit waits for, or is rejected by. */
  commit: () => Promise<void> = async () => {};
  private readonly token: number;
  /** Ends what the watch waits for. */
  private expire: (() => void) | null = null;
  /** The watch waits apart from everything else, until `passTime`. */
  private readonly watchClock = {
    nowMs: () => this.world.timeMs,
    after: (delayMs: number, token: number) => {
      this.expire = () => {
        this.world.timeMs += delayMs;
        this.world.finish(token, 0, 0);
      };
    },
  };

  constructor(
    states: readonly MemberState[],
    prepare: (members: ScriptedMember[]) => void = () => {},
    options: Partial<VolumeEngineOptions> = {},
    missing: readonly number[] = [],
  ) {
    this.world = new SegmentWorld(SCRATCH_BYTES + SOURCE_AREAS * AREA);
    this.members = states.map((_state, position) => new ScriptedMember(this.world, deviceId(position), SEGMENT));
    prepare(this.members);
    this.buffers = new CopyBuffers(this.world, VOLUME_ENGINE_SCRATCH_BYTES);
    this.engine = new VolumeEngine({
      completions: this.world,
      memory: this.world,
      clock: this.world,
      watch: new Watch(this.world, this.watchClock),
      record: makeRecord(states),
      members: [this.members.map((member, position) => (missing.includes(position) ? null : member))],
      scratch: 0,
      buffers: this.buffers,
      readOnly: false,
      commit: async (record) => {
        await this.commit();
        this.committed.push(record);
        return { kind: 'done' as const, map: record };
      },
      makeRoom: () => Promise.resolve(),
      onEvent: (event) => this.events.push(event),
      ...options,
    });
    this.token = this.world.register({
      complete: (tag, result, flags) => {
        assert.is(this.results[tag], undefined, `request ${tag} ends once`);
        this.results[tag] = result;
        this.flags[tag] = flags;
      },
    });
  }

  async start(): Promise<this> {
    let failure: unknown;
    let done = false;
    this.engine.start().then(
      () => {
        done = true;
      },
      (error) => {
        failure = error;
      },
    );
    await this.world.drain(undefined, () => done);
    if (failure !== undefined) throw failure;
    return this;
  }

  /** Lets time pass for as long as the watch has anything to look at, but not longer. Returns how long that was. */
  passTime(mostMs: number): number {
    const startMs = this.world.timeMs;
    while (this.expire !== null && this.world.timeMs - startMs < mostMs) {
      const { expire } = this;
      this.expire = null;
      expire();
    }
    return this.world.timeMs - startMs;
  }

  memory(tag: number, offset: number): number {
    return SCRATCH_BYTES + (tag % SOURCE_AREAS) * AREA + BLOCK + (offset % BLOCK);
  }

  /** Writes bytes of one value. */
  write(tag: number, offset: number, length: number, value: number, flags = 0): void {
    const at = this.memory(tag, offset);
    this.world.bytes.fill(value, at, at + length);
    this.engine.write(at, length, offset, flags, this.token + tag);
  }

  writeFrom(tag: number, source: number, memory: number, offset: number, length: number): void {
    this.engine.writeFrom(source, memory, length, offset, 0, this.token + tag);
  }

  read(tag: number, offset: number, length: number): void {
    this.engine.read(this.memory(tag, offset), length, offset, this.token + tag);
  }

  payload(tag: number, offset: number, length: number): Uint8Array {
    const at = this.memory(tag, offset);
    return this.world.bytes.slice(at, at + length);
  }

  zero(tag: number, offset: number, length: number, flags = 0): void {
    this.engine.zero(offset, length, flags, this.token + tag);
  }

  discard(tag: number, offset: number, length: number): void {
    this.engine.discardRange(offset, length, 0, this.token + tag);
  }

  flush(tag: number): void {
    this.engine.flush(this.token + tag);
  }

  extents(tag: number): [number, number][] {
    const at = this.memory(tag, 0);
    this.engine.extents(0, SIZE, at, 16 * SEGMENTS, this.token + tag);
    this.world.pending.pop()?.end();
    return Array.from({ length: this.results[tag] ?? 0 }, (_, index): [number, number] => {
      const from = at + 16 * index;
      return [this.world.view.getFloat64(from, true), this.world.view.getFloat64(from + 8, true)];
    });
  }

  /** All bytes of a member; throws where it cannot be read. */
  image(member: ScriptedMember): Uint8Array {
    const image = new Uint8Array(SIZE);
    for (let block = 0; block < SIZE / BLOCK; block += 1) {
      const content = member.contentOf(Math.floor(block / SEGMENT_BLOCKS), block % SEGMENT_BLOCKS);
      if (typeof content === 'number') throw new Error(`block ${block} of ${member.deviceId}: ${content}`);
      image.set(content, block * BLOCK);
    }
    return image;
  }

  states(): MemberState[] {
    return this.engine.record.groups[0].map(({ state }) => state);
  }

  kinds(): string[] {
    return this.world.pending.map(({ kind }) => kind);
  }
}

/** A volume whose first segment holds ones. */
export async function written(states: readonly MemberState[] = ['in-sync', 'in-sync']): Promise<VolumeBench> {
  const bench = await new VolumeBench(states).start();
  bench.write(60, 0, SEGMENT, 1);
  await bench.world.drain();
  assert.is(bench.results[60], SEGMENT);
  return bench;
}

/** The two copies hold the same. */
export function assertEqual(bench: VolumeBench): void {
  assert.is(Buffer.compare(bench.image(bench.members[0]), bench.image(bench.members[1])), 0);
}
