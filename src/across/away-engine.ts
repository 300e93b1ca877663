/** The engine of a volume that runs on another shard, as the shard that decides about volumes knows it. */

import type { JobOptions, JobPlace } from '../client/jobs/job.js';
import type { JobProgress, VolumeEvent, VolumeStatus } from '../client/volume-events.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { Fence } from '../core/fence.js';
import { BLOCK_BYTES } from '../core/limits.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { GroupIndex, MemberPosition } from '../ports/ids.js';
import type { MapChange } from '../ports/map-authority.js';
import type { BookedJob, EngineElsewhere, EngineHooks, PlacedMember } from '../volumes/engine-elsewhere.js';
import { AwayJob } from './away-job.js';
import type { Caller, EngineCalls, EngineNumber, EngineReport, EngineWork, EngineWorks } from './engine-calls.js';
import { AskedRange, EngineTraffic, type VolumeAsker } from './volume-asker.js';
import {
  VOLUME_DISCARD,
  VOLUME_EXTENTS,
  VOLUME_FLUSH,
  VOLUME_READ,
  VOLUME_WRITE,
  VOLUME_ZERO,
} from './volume-protocol.js';

export interface AwayEngineParts {
  readonly caller: Caller<EngineCalls>;
  readonly asker: VolumeAsker;
  /** That it is on, and its number there. */
  readonly shard: number;
  readonly number: EngineNumber;
  readonly hooks: EngineHooks;
  /** It has been closed. */
  readonly onEnd: (engine: AwayEngine) => void;
}

export class AwayEngine implements EngineElsewhere {
  readonly preferredBlockBytes = BLOCK_BYTES;
  readonly readOnly = false;
  readonly discard = true;
  readonly fastZero = true;
  readonly number: EngineNumber;
  readonly shard: number;
  private readonly parts: AwayEngineParts;
  private readonly traffic: EngineTraffic;
  private readonly range = new AskedRange();
  private readonly fence = new Fence();
  /** By their numbers there. */
  private readonly jobs = new Map<number, AwayJob>();
  private map: VolumeMap;
  private last: VolumeMap | null = null;
  private report: EngineReport;
  private raised = false;
  private phase: 'starting' | 'serving' | 'closing' | 'closed' = 'starting';

  constructor(parts: AwayEngineParts, map: VolumeMap, report: EngineReport) {
    this.parts = parts;
    this.number = parts.number;
    this.shard = parts.shard;
    this.traffic = new EngineTraffic(parts.number);
    this.map = map;
    this.report = report;
  }

  /** It says something newer of itself. */
  learn(report: EngineReport): void {
    this.report = report;
    for (const progress of report.status.jobs) this.jobs.get(progress.id)?.learn(progress);
  }

  get lost(): boolean {
    return this.parts.asker.lost;
  }

  private async ask<Name extends EngineWork>(
    name: Name,
    request: EngineWorks[Name]['request'],
  ): Promise<EngineWorks[Name]['result']> {
    const { caller, number } = this.parts;
    const { result, report } = await caller.call('work', { engine: number, name, request });
    this.learn(report);
    return result as EngineWorks[Name]['result'];
  }

  // ---------------------------------------------------------------- what the other shard asks

  /** See `MapAuthority.change`. */
  async change(map: VolumeMap): Promise<MapChange<VolumeMap>> {
    const change = await this.parts.hooks.change(map);
    if (change.kind === 'done') this.map = change.map;
    return change;
  }

  makeRoom(deviceIds: readonly string[]): Promise<void> {
    return this.parts.hooks.makeRoom(deviceIds);
  }

  noteEvent(event: VolumeEvent): void {
    if (event.kind === 'job-ended') this.jobs.get(event.job.id)?.learn(event.job);
    this.parts.hooks.onEvent(event);
  }

  /** A job goes on there, of which this may have been told before. */
  noteJob(place: JobPlace): AwayJob {
    const known = this.jobs.get(place.id);
    if (known !== undefined) return known;
    const { hooks } = this.parts;
    const cancel = () => this.ask('cancelJob', { job: place.id });
    const job = new AwayJob(hooks.nextJobId(), place, cancel);
    this.jobs.set(place.id, job);
    hooks.onJob(job);
    return job;
  }

  // ---------------------------------------------------------------- control

  get record(): VolumeMap {
    return this.map;
  }

  get serving(): boolean {
    return this.phase === 'serving' && !this.lost;
  }

  get lastMap(): VolumeMap | null {
    return this.last;
  }

  async start(): Promise<void> {
    await this.ask('start', null);
    check(this.phase === 'starting', 'a volume on another shard was closed while it was started', this.number);
    this.phase = 'serving';
  }

  status(): VolumeStatus {
    const { status } = this.report;
    const jobs = status.jobs.flatMap((progress): JobProgress[] => {
      const job = this.jobs.get(progress.id);
      return job === undefined ? [] : [job.progress];
    });
    return this.lost ? { ...status, jobs, state: 'failed', reason: 'its shard has died' } : { ...status, jobs };
  }

  isSynced(group: GroupIndex, position: MemberPosition): boolean {
    return this.report.synced.some((place) => place.group === group && place.position === position);
  }

  async changesEnded(): Promise<void> {
    if (!this.lost) await this.ask('changesEnded', null);
  }

  resume(group: GroupIndex, position: MemberPosition, incarnation: number): Promise<boolean> {
    return this.ask('resume', { group, position, incarnation });
  }

  async attachPlaced(group: GroupIndex, position: MemberPosition, place: PlacedMember): Promise<BookedJob> {
    return this.noteJob(await this.ask('attach', { group, position, place }));
  }

  async replacePlaced(group: GroupIndex, position: MemberPosition, place: PlacedMember): Promise<BookedJob> {
    return this.noteJob(await this.ask('replace', { group, position, place }));
  }

  /** False also if it has gone with its shard. */
  async loseDevice(deviceId: string, reason: string): Promise<boolean> {
    return !this.lost && (await this.ask('loseDevice', { deviceId, reason }));
  }

  async grow(sizeBytes: number): Promise<void> {
    await this.ask('grow', { sizeBytes });
  }

  async rename(name: string): Promise<void> {
    await this.ask('rename', { name });
  }

  async scrub({ bytesPerSecond = 0 }: JobOptions = {}): Promise<BookedJob> {
    return this.noteJob(await this.ask('scrub', { bytesPerSecond }));
  }

  async releaseOn(deviceIds: readonly string[]): Promise<void> {
    if (this.serving) await this.ask('releaseOn', { deviceIds });
  }

  depose(reason: string): void {
    // One that cannot be told has gone.
    this.ask('depose', { reason }).catch(() => {});
  }

  /** Nothing: its shard ends the work of all its engines. */
  endWork(): void {}

  /** Its own shard puts a load on it, with these buffers of this one. */
  load(load: unknown, buffers: readonly number[]): Promise<unknown> {
    return this.parts.caller.call('loadEngine', { engine: this.number, load, buffers });
  }

  onFence(told: () => void): void {
    this.fence.onRaise(told);
  }

  /** Its shard has died. Front ends hear of that before what they have asked is given up. */
  fall(): void {
    check(this.lost, 'a volume falls whose shard goes on', this.number);
    if (this.phase === 'serving' || this.phase === 'starting') this.raise();
  }

  private raise(): void {
    if (this.raised) return;
    this.raised = true;
    this.fence.raise();
  }

  async close(): Promise<void> {
    if (this.phase === 'closed' || this.phase === 'closing') return;
    this.phase = 'closing';
    this.raise();
    try {
      if (!this.lost) this.last = await this.ask('close', null);
    } catch (error) {
      // With its shard it has gone in another way.
      if (!(error instanceof StrakeError && error.code === 'ERR_STRAKE_WORKER_DIED')) throw error;
    }
    // Their answers come by another way.
    await this.traffic.idle();
    for (const job of this.jobs.values()) job.drop();
    this.phase = 'closed';
    this.parts.onEnd(this);
  }

  // ---------------------------------------------------------------- requests

  get sizeBytes(): number {
    return this.map.sizeBytes;
  }

  read(memory: number, lengthBytes: number, offsetBytes: number, token: number): void {
    this.parts.asker.ask(this.traffic, VOLUME_READ, this.range.set(memory, offsetBytes, lengthBytes, 0), token);
  }

  write(memory: number, lengthBytes: number, offsetBytes: number, flags: number, token: number): void {
    this.parts.asker.ask(this.traffic, VOLUME_WRITE, this.range.set(memory, offsetBytes, lengthBytes, flags), token);
  }

  writeFrom(
    source: number,
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
  ): void {
    if (source >= 0) this.parts.asker.bring(memory, source, lengthBytes);
    this.write(memory, lengthBytes, offsetBytes, flags, token);
  }

  flush(token: number): void {
    this.parts.asker.ask(this.traffic, VOLUME_FLUSH, this.range.set(0, 0, 0, 0), token);
  }

  discardRange(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    this.parts.asker.ask(this.traffic, VOLUME_DISCARD, this.range.set(0, offsetBytes, spanBytes, flags), token);
  }

  zero(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    this.parts.asker.ask(this.traffic, VOLUME_ZERO, this.range.set(0, offsetBytes, spanBytes, flags), token);
  }

  extents(offsetBytes: number, spanBytes: number, memory: number, roomBytes: number, token: number): void {
    this.parts.asker.ask(
      this.traffic,
      VOLUME_EXTENTS,
      this.range.set(memory, offsetBytes, spanBytes, roomBytes),
      token,
    );
  }
}
