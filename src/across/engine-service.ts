/**
 * The engines of volumes that run on this shard, while another decides about their volumes: carries out the calls of that one.
 *
 * Nothing of an engine lies in this shard's own memory that a device could read or write: payloads, and what an engine needs for
 * itself, are in the arena of the shard that decides, which each other shard can address. So an engine has members on any shard.
 */

import { COPY_SCRATCH_BYTES, CopyBuffers } from '../client/jobs/copy-buffers.js';
import type { Job, JobPlace } from '../client/jobs/job.js';
import { VOLUME_ENGINE_SCRATCH_BYTES, VolumeEngine } from '../client/volume-engine.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { ENGINES_THERE_MAX } from '../core/limits.js';
import type { Watch } from '../core/watch.js';
import type { DeviceMember } from '../node/device-member.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Memory } from '../ports/memory.js';
import type { EngineOpening, PlacedMember } from '../volumes/engine-elsewhere.js';
import type {
  AuthorityCalls,
  Caller,
  EngineNumber,
  EngineReport,
  EngineWork,
  EngineWorks,
  MemberAttaching,
} from './engine-calls.js';

/** Memory for the engines of one shard, starting at a page of the arena of the shard that decides. */
export const ENGINES_THERE_BYTES = COPY_SCRATCH_BYTES + ENGINES_THERE_MAX * VOLUME_ENGINE_SCRATCH_BYTES;

export interface EngineServiceParts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  readonly watch: Watch;
  /** Start of `ENGINES_THERE_BYTES`, as this engine addresses it; null if there is no memory for engines. */
  readonly scratch: number | null;
  /** Opens a member, whichever shard it is on; null if its device is not open any more, or has no such replica. */
  readonly member: (place: PlacedMember) => DeviceMember | null;
  /** The shard that decides. */
  readonly authority: Caller<AuthorityCalls>;
}

/** An engine, and what goes when it goes. */
interface Running {
  readonly engine: VolumeEngine;
  readonly members: DeviceMember[];
  readonly jobs: Map<number, Job>;
  readonly place: number;
}

export class EngineService {
  private readonly parts: EngineServiceParts;
  private readonly scratch: number;
  private readonly buffers: CopyBuffers;
  private readonly freePlaces: number[] = [];
  private readonly running = new Map<EngineNumber, Running>();
  private last = 0;
  private lastJob = 0;
  private ending = false;

  constructor(parts: EngineServiceParts) {
    this.parts = parts;
    this.scratch = parts.scratch ?? 0;
    this.buffers = new CopyBuffers(parts.memory, this.scratch);
    const places = parts.scratch === null ? 0 : ENGINES_THERE_MAX;
    for (let place = places - 1; place >= 0; place -= 1) this.freePlaces.push(place);
  }

  /** Whether any engine is there. */
  get busy(): boolean {
    return this.running.size > 0;
  }

  /** The engine of this number; undefined if it has been closed. */
  engine(number: EngineNumber): VolumeEngine | undefined {
    return this.running.get(number)?.engine;
  }

  private memoryOf(place: number): number {
    return this.scratch + COPY_SCRATCH_BYTES + place * VOLUME_ENGINE_SCRATCH_BYTES;
  }

  // ---------------------------------------------------------------- calls

  /** Makes an engine, which is started by another call. Throws a `StrakeError`. */
  open({ map, members }: EngineOpening): { engine: EngineNumber; report: EngineReport } {
    if (this.ending) throw new StrakeError('CLOSED', 'the node is being closed');
    const place = this.freePlaces.pop();
    if (place === undefined) throw new StrakeError('BUSY', 'the shard of its first member serves no more volumes');
    const number = this.last + 1;
    this.last = number;
    const opened: DeviceMember[] = [];
    const open = (one: PlacedMember | null) => {
      const member = one === null ? null : this.parts.member(one);
      if (member !== null) opened.push(member);
      return member;
    };
    const jobs = new Map<number, Job>();
    const { completions, memory, clock, watch, authority } = this.parts;
    try {
      const engine = new VolumeEngine({
        ...{ completions, memory, clock, watch, record: map, readOnly: false },
        members: members.map((group) => group.map(open)),
        scratch: this.memoryOf(place),
        buffers: this.buffers,
        commit: (next) => authority.call('change', { engine: number, map: next }),
        makeRoom: (deviceIds) => this.makeRoom(number, deviceIds),
        onEvent: (event) => this.tell('event', { engine: number, event }),
        nextJobId: () => {
          this.lastJob += 1;
          return this.lastJob;
        },
        onJob: (job) => {
          jobs.set(job.id, job);
          this.tell('job', { engine: number, job: placeOf(job) });
        },
      });
      this.running.set(number, { engine, members: opened, jobs, place });
      watch.start();
      return { engine: number, report: reportOf(engine) };
    } catch (error) {
      for (const member of opened) member.close();
      this.freePlaces.push(place);
      throw error;
    }
  }

  /** Never rejects: one that cannot be told has died, and everything here with it. */
  private tell<Name extends 'event' | 'job'>(name: Name, news: AuthorityCalls[Name]['request']): void {
    this.parts.authority.call(name, news).catch(() => {});
  }

  private async makeRoom(engine: EngineNumber, deviceIds: readonly string[]): Promise<void> {
    await this.parts.authority.call('makeRoom', { engine, deviceIds }).catch(() => {});
  }

  /** Carries out a call about one engine. Rejects with a `StrakeError`. */
  async work(
    number: EngineNumber,
    name: EngineWork,
    request: unknown,
  ): Promise<{ result: unknown; report: EngineReport }> {
    const running = this.running.get(number);
    if (running === undefined) throw new StrakeError('CLOSED', 'the volume is served no more');
    const result = (await this.carryOut(running, name, request)) ?? null;
    if (name === 'close') this.drop(number, running);
    return { result, report: reportOf(running.engine) };
  }

  private carryOut(running: Running, name: EngineWork, request: unknown): unknown {
    const { engine } = running;
    const asked = <Name extends EngineWork>() => request as EngineWorks[Name]['request'];
    switch (name) {
      case 'start':
        return engine.start();
      case 'attach':
        return this.attach(running, asked<'attach'>());
      case 'replace':
        return this.replace(running, asked<'replace'>());
      case 'resume':
        return engine.resume(asked<'resume'>().group, asked<'resume'>().position, asked<'resume'>().incarnation);
      case 'loseDevice':
        return engine.loseDevice(asked<'loseDevice'>().deviceId, asked<'loseDevice'>().reason);
      case 'grow':
        return engine.grow(asked<'grow'>().sizeBytes);
      case 'rename':
        return engine.rename(asked<'rename'>().name);
      case 'scrub':
        return this.scrub(engine, asked<'scrub'>().bytesPerSecond);
      case 'cancelJob':
        running.jobs.get(asked<'cancelJob'>().job)?.cancel();
        return null;
      case 'releaseOn':
        return engine.releaseOn(asked<'releaseOn'>().deviceIds);
      case 'changesEnded':
        return engine.changesEnded();
      case 'depose':
        engine.depose(asked<'depose'>().reason);
        return null;
      default:
        check(name === 'close', 'an engine is asked for what no engine does');
        return engine.close().then(() => engine.lastMap);
    }
  }

  private attach(running: Running, { group, position, place }: MemberAttaching): JobPlace {
    const member = this.memberAt(running, place);
    return placeOf(running.engine.attach(group, position, member));
  }

  private async replace(running: Running, { group, position, place }: MemberAttaching): Promise<JobPlace> {
    const member = this.memberAt(running, place);
    return placeOf(await running.engine.replace(group, position, place.deviceId, member));
  }

  /** Opens a member, which is closed with the engine. */
  private memberAt({ members }: Running, place: PlacedMember): DeviceMember {
    const member = this.parts.member(place);
    if (member === null) throw new StrakeError('NOT_FOUND', `device ${place.deviceId} is not open`);
    members.push(member);
    return member;
  }

  private scrub(engine: VolumeEngine, bytesPerSecond: number): JobPlace {
    return placeOf(engine.scrub(bytesPerSecond > 0 ? { bytesPerSecond } : {}));
  }

  /** An engine has been closed. */
  private drop(number: EngineNumber, { members, place }: Running): void {
    this.running.delete(number);
    for (const member of members) member.close();
    this.parts.memory.whenFree(this.memoryOf(place), VOLUME_ENGINE_SCRATCH_BYTES, () => {
      check(!this.freePlaces.includes(place), 'the memory of an engine is given back twice', place);
      this.freePlaces.push(place);
    });
  }

  /** What each engine says now. */
  reports(): [EngineNumber, EngineReport][] {
    return [...this.running].map(([number, { engine }]) => [number, reportOf(engine)]);
  }

  endWork(): void {
    for (const { engine } of this.running.values()) engine.endWork();
  }

  /** The shard that decides has gone: nothing more is asked of members, and requests end with errors. */
  async abandon(): Promise<void> {
    this.ending = true;
    const all = [...this.running];
    for (const [, { engine }] of all) engine.depose('the worker that decides about it has ended');
    await Promise.all(all.map(([, { engine }]) => engine.close()));
    for (const [number, running] of all) this.drop(number, running);
    check(!this.busy, 'an engine was made while all were given up', this.running.size);
  }
}

function placeOf({ id, kind, group, position }: JobPlace): JobPlace {
  return { id, kind, group, position };
}

function reportOf(engine: VolumeEngine): EngineReport {
  const synced = engine.record.groups.flatMap((members, group) =>
    members.flatMap((_, position) => (engine.isSynced(group, position) ? [{ group, position }] : [])),
  );
  return { status: engine.status(), synced };
}
