/**
 * The engines of a node's volumes: which serve, over which replicas, in which memory. With which map a volume is served,
 * somebody else decides (`MapAuthority`).
 */

import { COPY_SCRATCH_BYTES, CopyBuffers } from '../client/jobs/copy-buffers.js';
import { VOLUME_ENGINE_SCRATCH_BYTES, VolumeEngine } from '../client/volume-engine.js';
import type { VolumeEvent } from '../client/volume-events.js';
import { check } from '../core/check.js';
import type { TimesHeard } from '../core/cluster-times.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import { VOLUMES_REGISTERED } from '../core/limits.js';
import type { Watch } from '../core/watch.js';
import { compareFlushes, NO_FLUSH } from '../layout/flush-id.js';
import { replicaOf } from '../layout/replica-map.js';
import type { VolumeMap } from '../layout/volume-map.js';
import { isDriven, type NodeDevice } from '../node/node-device.js';
import { closedError } from '../node/node-errors.js';
import { Replica } from '../node/replica.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Generation, GroupIndex } from '../ports/ids.js';
import type { MapAuthority } from '../ports/map-authority.js';
import type { Memory } from '../ports/memory.js';
import type { SegmentMember } from '../ports/segment-member.js';
import type { BookedJob, EngineElsewhere, EngineShard, HostedEngine, PlacedMember } from './engine-elsewhere.js';
import type { HostedVolume } from './hosted-volume.js';
import { JobBook } from './job-book.js';
import type { ManagedAuthority } from './managed-authority.js';
import { placesOf } from './replacement.js';
import { type StorageEvent, storageEvent } from './storage-events.js';
import type { VolumeDirectory } from './volume-directory.js';
import { tooManyVolumes } from './volume-errors.js';

/** Memory in the arena, from a page on, of a host of the first `VOLUMES_REGISTERED` volumes. */
export const VOLUME_HOST_BYTES = COPY_SCRATCH_BYTES + VOLUMES_REGISTERED * VOLUME_ENGINE_SCRATCH_BYTES;

/** Memory elsewhere, from a page on, of the volumes beyond these. */
export function moreVolumesBytes(volumesMax: number): number {
  return Math.max(0, volumesMax - VOLUMES_REGISTERED) * VOLUME_ENGINE_SCRATCH_BYTES;
}

export interface VolumeHostPorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  /** By which maps call this process as the holder of a generation: 32 hexadecimal digits, different in each of its lives. */
  readonly clientId: string;
  readonly watch: Watch;
  /** Start of `VOLUME_HOST_BYTES`. */
  readonly memoryStart: number;
  /** The most volumes, and the start of `moreVolumesBytes` of so many. */
  readonly volumesMax: number;
  readonly moreStart: number;
  /** See `NodePorts.engineShard`. */
  readonly engineShard?: (shard: number) => EngineShard | null;
}

export interface VolumeHostParts {
  readonly stores: ReadonlyMap<string, NodeDevice>;
  readonly authority: MapAuthority<VolumeMap>;
  /** Who decides about volumes that managers manage; null in a node without any. */
  readonly managed: () => ManagedAuthority | null;
  readonly times: TimesHeard;
  readonly onEvent: (event: StorageEvent) => void;
}

export class VolumeHost {
  readonly jobs = new JobBook();
  private readonly ports: VolumeHostPorts;
  private readonly parts: VolumeHostParts;
  private readonly freePlaces: number[] = [];
  /** For what is copied, or compared. */
  readonly buffers: CopyBuffers;
  /** Engines that serve, or are about to. */
  private readonly engines = new Set<HostedEngine>();
  private ending = false;

  constructor(ports: VolumeHostPorts, parts: VolumeHostParts) {
    this.ports = ports;
    this.parts = parts;
    const { memoryStart, moreStart, volumesMax } = ports;
    check(volumesMax >= VOLUMES_REGISTERED, 'a host has memory for more volumes than it may have', volumesMax);
    check(moreStart >= memoryStart + VOLUME_HOST_BYTES, 'memory of volumes lies in that of others', moreStart);
    this.buffers = new CopyBuffers(ports.memory, memoryStart);
    for (let place = ports.volumesMax - 1; place >= 0; place -= 1) this.freePlaces.push(place);
  }

  private memoryOf(place: number): number {
    const { memoryStart, moreStart, volumesMax } = this.ports;
    check(place >= 0 && place < volumesMax, 'there is no memory for such a volume', place);
    const more = place - VOLUMES_REGISTERED;
    if (more >= 0) return moreStart + more * VOLUME_ENGINE_SCRATCH_BYTES;
    return memoryStart + COPY_SCRATCH_BYTES + place * VOLUME_ENGINE_SCRATCH_BYTES;
  }

  /** Why no other volume is started. */
  tooMany(): StrakeError {
    return tooManyVolumes(this.ports.volumesMax);
  }

  /** Whether another volume could be started. */
  get hasRoom(): boolean {
    return this.freePlaces.length > 0;
  }

  private authorityOf({ managed, place }: HostedVolume): MapAuthority<VolumeMap> {
    const authority = managed ? this.parts.managed() : this.parts.authority;
    check(authority !== null, 'a managed volume is hosted by a node without a manager', place);
    return authority;
  }

  /**
   * Attaches a volume and serves it; with `takeOver` also one that another client serves. Rejects with a `StrakeError`; then it
   * is stopped.
   */
  async start(volume: HostedVolume, takeOver = false): Promise<void> {
    const authority = this.authorityOf(volume);
    const { clientId } = this.ports;
    check(volume.engine === null && volume.place < 0, 'a volume is started twice', volume.place);
    this.takePlace(volume);
    try {
      // A device that comes while this goes on has not been judged: it is taken back afterwards.
      const reachable = new Map(this.parts.stores);
      const about = { volumeId: volume.id, holder: clientId, takeOver, janitor: volume.janitor };
      const map = await authority.attach({ ...about, reachable: [...reachable.keys()], again: volume.started });
      // To attach is what reaches the devices of a managed volume.
      const stores = volume.managed ? new Map(this.parts.stores) : reachable;
      // As a start that a crash has cut off. To make the copies agree may take long, and nothing would end it.
      if (this.ending) throw closedError();
      const engine = await this.assemble(volume, map, stores);
      volume.engine = engine;
      this.engines.add(engine);
      volume.started = true;
      this.demandHeld(volume);
      this.adoptPending(volume);
      await engine.start();
      check(volume.engine === engine, 'a volume was stopped while it was started', volume.place);
      await this.noteServed(volume, map.generation);
      volume.reason = '';
      volume.unproven = false;
    } catch (error) {
      await this.stop(volume);
      throw error;
    }
  }

  private takePlace(volume: HostedVolume): void {
    const place = this.freePlaces.pop();
    if (place === undefined) throw this.tooMany();
    volume.place = place;
  }

  /**
   * Attaches a volume anew whose engine is suspended, in the place of a generation, and lets it go on. Rejects with a
   * `StrakeError`: then it is suspended still, unless somebody has served the volume meanwhile, or it has stopped.
   */
  async restart(volume: HostedVolume, instead: Generation): Promise<void> {
    const engine = volume.ownEngine;
    check(engine?.suspended === true, 'a volume is attached anew that is not suspended', volume.place);
    const authority = this.authorityOf(volume);
    await this.closeReplicas(volume, engine);
    const reachable = [...this.parts.stores.keys()];
    const about = { volumeId: volume.id, holder: this.ports.clientId, takeOver: true, again: true };
    const map = await authority.attach({ ...about, reachable, instead });
    check(
      map.generation > engine.heldGeneration,
      'a volume is attached anew under no later generation',
      map.generation,
    );
    if (this.ending) throw closedError();
    this.demandHeld(volume);
    const replicas = this.replicasOf(volume, map, this.parts.stores, this.ports.completions);
    const served = volume.replicas.filter((replica) => isCurrent(volume, replica));
    try {
      if (served.some(({ servedGeneration }) => servedGeneration > engine.heldGeneration)) {
        engine.depose('another client has served it meanwhile');
        await authority.release(map);
        throw new StrakeError('UNAVAILABLE', `volume ${volume.name} was served by another client meanwhile`);
      }
      const restarted = engine.restart(map, membersOf(replicas));
      this.adoptPending(volume);
      await restarted;
      check(!engine.suspended, 'a volume is attached anew, and its requests are held on', volume.place);
      await this.noteServed(volume, map.generation);
    } catch (error) {
      engine.suspend(toStrakeError(error).message);
      await this.closeReplicas(volume, engine);
      throw error;
    }
  }

  /** Nothing is asked of the members of a suspended volume any more. */
  private async closeReplicas(volume: HostedVolume, engine: VolumeEngine): Promise<void> {
    if (engine.suspended) await engine.quiet();
    else await engine.close();
    const { replicas } = volume;
    volume.replicas = [];
    for (const replica of replicas) replica.close();
  }

  private async noteServed(volume: HostedVolume, generation: Generation): Promise<void> {
    check(volume.replicas.length > 0, 'a volume is served over nothing', volume.place);
    const current = volume.replicas.filter((replica) => isCurrent(volume, replica));
    await Promise.all(current.map((replica) => replica.noteServed(generation)));
  }

  /**
   * The replicas of a volume that are there, by group and place. `completions`: null if another shard opens their members.
   */
  private replicasOf(
    volume: HostedVolume,
    map: VolumeMap,
    stores: ReadonlyMap<string, NodeDevice>,
    completions: CompletionPort | null,
  ): (Replica | null)[][] {
    check(map.id === volume.id, 'a volume is served with the map of another', volume.place);
    check(!map.deleted, 'a volume is served that is deleted', volume.place);
    check(volume.replicas.length === 0, 'a volume is served over replicas of its last start', volume.place);
    const open = (deviceId: string, group: GroupIndex) => {
      const replica = Replica.on(completions, stores.get(deviceId), map, group);
      if (replica !== null) volume.replicas.push(replica);
      return replica;
    };
    return map.groups.map((group, at) => group.map(({ deviceId }) => open(deviceId, at)));
  }

  /** The engine of a volume, over the replicas that are there, on the shard of the first of them if that can be. */
  private async assemble(
    volume: HostedVolume,
    map: VolumeMap,
    stores: ReadonlyMap<string, NodeDevice>,
  ): Promise<HostedEngine> {
    const there = this.shardFor(volume, map, stores);
    const replicas = this.replicasOf(volume, map, stores, there === null ? this.ports.completions : null);
    return there === null ? this.assembleHere(volume, map, replicas) : this.assembleThere(there, volume, map, replicas);
  }

  /** The shard of a volume's first member that is there; null for this one. */
  private shardFor(
    { managed }: HostedVolume,
    map: VolumeMap,
    stores: ReadonlyMap<string, NodeDevice>,
  ): EngineShard | null {
    if (managed) return null;
    const devices = map.groups.flat().flatMap(({ deviceId }) => stores.get(deviceId) ?? []);
    // What is in another process is reached from here.
    if (!devices.every(isDriven)) return null;
    const first = devices.find(({ failed }) => !failed);
    const shard = first === undefined ? null : (this.ports.engineShard?.(first.shard) ?? null);
    return shard?.hasRoom ? shard : null;
  }

  private assembleThere(
    there: EngineShard,
    volume: HostedVolume,
    map: VolumeMap,
    replicas: readonly (readonly (Replica | null)[])[],
  ): Promise<EngineElsewhere> {
    const authority = this.authorityOf(volume);
    const opening = {
      map,
      members: replicas.map((group) => group.map((replica) => (replica === null ? null : placedMember(replica)))),
    };
    const { length } = opening.members;
    check(length === map.groups.length, 'an engine gets members of other groups than its volume has', length);
    return there.open(opening, {
      change: (next) => authority.change(next),
      // What it asks when it is about to be closed may come late.
      makeRoom: async (ids) => (volume.engine === null ? undefined : this.makeRoom(volume, ids)),
      onEvent: (event) => this.noteEvent(volume, event),
      nextJobId: () => this.jobs.nextId(),
      onJob: (job) => this.noteJob(volume, job),
    });
  }

  private assembleHere(
    volume: HostedVolume,
    map: VolumeMap,
    replicas: readonly (readonly (Replica | null)[])[],
  ): VolumeEngine {
    const { completions, memory, clock, watch } = this.ports;
    const { times } = this.parts;
    const authority = this.authorityOf(volume);
    return new VolumeEngine({
      completions,
      memory,
      clock,
      watch,
      record: map,
      members: membersOf(replicas),
      scratch: this.memoryOf(volume.place),
      buffers: this.buffers,
      readOnly: false,
      commit: (next, wanted) => authority.change(next, wanted),
      renew: () => this.renew(volume),
      ...(volume.managed ? { holdMs: () => times.now.holdMs } : {}),
      ownFlushMs: () => times.now.ownFlushMs,
      makeRoom: (deviceIds) => this.makeRoom(volume, deviceIds),
      onEvent: (event) => this.noteEvent(volume, event),
      nextJobId: () => this.jobs.nextId(),
      onJob: (job) => this.noteJob(volume, job),
    });
  }

  /**
   * Another client may have been heard to have attached a volume when its own attach was in effect, and no engine was there to be
   * deposed: it would wait for a newer map for ever, of which nobody tells it. Throws `ERR_STRAKE_UNAVAILABLE`.
   */
  private demandHeld({ id, name, managed }: HostedVolume): void {
    if (!managed || this.parts.managed()?.isHeld(id)) return;
    throw new StrakeError('UNAVAILABLE', `volume ${name} was attached by another client when it was to be served`);
  }

  /** A newer map that somebody else has decided may have been heard of while there was no engine to be told. */
  private adoptPending(volume: HostedVolume): void {
    if (volume.managed && this.parts.managed()?.isPending(volume.id)) volume.ownEngine?.adopt();
  }

  /** See `ManagedAuthority.renew`; where nobody else decides, the map is what it was. */
  private renew({ id, managed, stored }: HostedVolume): Promise<VolumeMap> {
    const authority = managed ? this.parts.managed() : null;
    return authority?.renew(id) ?? Promise.resolve(stored);
  }

  /** Lets all other volumes on these devices give back what was discarded. One that cannot tells its own clients. */
  private async makeRoom({ engine: asking, place }: HostedVolume, deviceIds: readonly string[]): Promise<void> {
    check(asking !== null, 'a volume that is not served asks for room', place);
    const others = [...this.engines].filter((engine) => engine !== asking);
    await Promise.allSettled(others.map((engine) => engine.releaseOn(deviceIds)));
  }

  private noteEvent(volume: HostedVolume, event: VolumeEvent): void {
    const told = storageEvent(volume.name, event);
    if (told !== null) this.parts.onEvent(told);
  }

  private noteJob(volume: HostedVolume, job: BookedJob): void {
    const { group, position } = job;
    const deviceId = volume.engine?.record.groups[group]?.[position]?.deviceId ?? null;
    this.jobs.add(job, () => ({ volumeId: volume.id, volume: volume.name, deviceId }));
  }

  /** What may take long comes to an end; no engine begins any more. Requests go on. */
  endWork(): void {
    this.ending = true;
    for (const engine of this.engines) engine.endWork();
  }

  /** Another client has attached a volume: requests fail, and nothing more is asked for it, also if it is just being closed. */
  depose(volumeId: string, reason: string): void {
    for (const engine of this.engines) if (engine.record.id === volumeId) engine.depose(reason);
  }

  /** Engines on this thread that are being closed: they are those of no volume any more. */
  get closing(): VolumeEngine[] {
    const isClosing = (engine: HostedEngine) => engine.status().state === 'closed';
    return [...this.engines].filter((engine) => engine instanceof VolumeEngine).filter(isClosing);
  }

  /** Ends the service of a volume in order, if it has begun. */
  async stop(volume: HostedVolume): Promise<void> {
    const { engine, replicas, place } = volume;
    check(engine === null || place >= 0, 'a volume is served that has no memory', place);
    volume.engine = null;
    volume.replicas = [];
    volume.place = -1;
    if (engine !== null) {
      await engine.close();
      check(this.engines.delete(engine), 'an engine is stopped that does not serve', place);
    }
    for (const replica of replicas) replica.close();
    if (place < 0) return;
    const start = this.memoryOf(place);
    this.ports.memory.whenFree(start, VOLUME_ENGINE_SCRATCH_BYTES, () => {
      check(!this.freePlaces.includes(place), 'the memory of a volume is given back twice', place);
      this.freePlaces.push(place);
    });
  }

  /** Ends the service of a volume in order, and gives the right to write back. Rejects with a `StrakeError`. */
  async end(volume: HostedVolume): Promise<void> {
    const { engine } = volume;
    await this.stop(volume);
    if (engine instanceof VolumeEngine && engine.mayLose) {
      const what = `volume ${volume.name} could not be flushed when it was closed (${engine.status().reason})`;
      throw new StrakeError('UNAVAILABLE', `${what}: what was written since its last flush may be lost`);
    }
    const last = engine?.lastMap ?? null;
    check(last === null || last.id === volume.id, 'a volume is given back with the map of another', volume.place);
    if (last !== null) await this.authorityOf(volume).release(last);
    else if (volume.managed) this.parts.managed()?.giveUp(volume.id, 'it is served here no more');
  }

  /**
   * Lets a device that has come back go on where it was, in places from which it has not been taken out. Resolves to whether it
   * could in all of them: otherwise it was opened anew.
   */
  async rejoinOn(volume: HostedVolume, engine: VolumeEngine, device: NodeDevice): Promise<boolean> {
    let isSame = true;
    for (const { group, position } of placesOf(volume.stored, device.deviceId)) {
      if (!engine.members.isMissed(group, position)) continue;
      const { member } = await this.newReplica(volume, device, group);
      if (!engine.rejoin(group, position, member) && engine.members.isMissed(group, position)) isSame = false;
    }
    return isSame;
  }

  /** Begins to bring the places of a device up to date, unless they are, or that goes on already. */
  async resumeOn(volume: HostedVolume, engine: HostedEngine, device: NodeDevice): Promise<void> {
    const { deviceId, incarnation } = device;
    // It may just be on its way out.
    await engine.changesEnded();
    for (const { group, position } of placesOf(volume.stored, deviceId)) {
      if (await engine.resume(group, position, incarnation)) continue;
      const replica = await this.newReplica(volume, device, group);
      if (engine instanceof VolumeEngine) engine.attach(group, position, replica.member);
      else await engine.attachPlaced(group, position, placedMember(replica));
    }
  }

  /** Puts a device in the places of one that is lost, and begins to rebuild what it held; resolves to the jobs. */
  async replaceIn(volume: HostedVolume, lostId: string, device: NodeDevice): Promise<BookedJob[]> {
    const { engine } = volume;
    check(engine !== null, 'a device is replaced in a volume that is not served', volume.place);
    const jobs: BookedJob[] = [];
    for (const { group, position } of placesOf(volume.stored, lostId)) {
      const replica = await this.newReplica(volume, device, group);
      if (engine instanceof VolumeEngine) {
        jobs.push(await engine.replace(group, position, device.deviceId, replica.member));
      } else jobs.push(await engine.replacePlaced(group, position, placedMember(replica)));
    }
    return jobs;
  }

  /** A replica on a device that may not know the volume yet. */
  private async newReplica(volume: HostedVolume, device: NodeDevice, group: GroupIndex): Promise<Replica> {
    const managed = volume.managed ? this.parts.managed() : null;
    const map = managed?.mapOf(volume.id, group) ?? replicaOf(volume.stored, group);
    const here = volume.engine === null || volume.engine instanceof VolumeEngine;
    const replica = await Replica.make(here ? this.ports.completions : null, device, map);
    if (device.failed) throw new StrakeError('UNAVAILABLE', `${device.path} has failed while it was opened`);
    check(volume.engine !== null, 'a replica is made of a volume that is not served', volume.place);
    volume.replicas.push(replica);
    return replica;
  }
}

/** What the shard of an engine has to know of a member. */
function placedMember({ device, page }: Replica): PlacedMember {
  check(isDriven(device), 'a member of another process is asked for by another shard', device.order);
  const { shard, number, deviceId, slotBytes: segmentBytes, incarnation } = device;
  const { flushed, settled } = device.ownOf(page);
  const isSettled = compareFlushes(settled, NO_FLUSH) > 0;
  return {
    shard,
    device: number,
    page,
    deviceId,
    segmentBytes,
    incarnation,
    flushed,
    settled: isSettled ? settled : null,
  };
}

/** What serves replicas on this shard; null where one is missing. */
function membersOf(replicas: readonly (readonly (Replica | null)[])[]): (SegmentMember | null)[][] {
  return replicas.map((group) => group.map((replica) => replica?.member ?? null));
}

function isCurrent(volume: HostedVolume, { group, deviceId }: Replica): boolean {
  return volume.stored.groups[group].some((member) => member.deviceId === deviceId && member.state === 'in-sync');
}

/**
 * The engine of the volume that a name or an id means. Throws as `VolumeDirectory.find`, `ERR_STRAKE_NAME_CONFLICT` if only its
 * name keeps it from service, and as `servingEngine`.
 */
export function engineOf(volumes: VolumeDirectory, text: string): HostedEngine {
  const volume = volumes.find(text);
  if (volumes.inConflict(volume)) throw volumes.conflictOf(volume);
  return servingEngine(volume);
}

/** The engine of a volume that serves. Throws `ERR_STRAKE_UNPROVEN` or `ERR_STRAKE_UNAVAILABLE` if it does not. */
export function servingEngine({ engine, name, unproven, reason }: HostedVolume): HostedEngine {
  if (engine?.serving) return engine;
  if (engine !== null) throw new StrakeError('UNAVAILABLE', `volume ${name} is being started or stopped`);
  throw new StrakeError(unproven ? 'UNPROVEN' : 'UNAVAILABLE', `volume ${name}: ${reason}`);
}
