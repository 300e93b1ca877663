/**
 * The engine of a volume that runs on another shard of this process, as whoever decides about volumes knows it: a volume, whose
 * requests cross over once, and control calls.
 *
 * What it tells at once is what that shard has told last: with the answer to each call, and before each control operation.
 */

import type { JobOptions, JobPlace } from '../client/jobs/job.js';
import type { VolumeEngine } from '../client/volume-engine.js';
import type { JobProgress, VolumeEvent, VolumeStatus } from '../client/volume-events.js';
import type { FlushId } from '../layout/flush-id.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { GroupIndex, MemberPosition } from '../ports/ids.js';
import type { MapChange } from '../ports/map-authority.js';
import type { Volume } from '../ports/volume.js';

/** A job as it is listed, wherever it runs. */
export interface BookedJob extends JobPlace {
  readonly running: boolean;
  readonly progress: JobProgress;
  /** Ends it, if it has not ended. */
  cancel(): void | Promise<void>;
}

/** Where a member is whose engine is on another shard, and what it says when it is opened. */
export interface PlacedMember {
  /** The shard that drives its device, and the number by which that is known there. */
  readonly shard: number;
  readonly device: number;
  /** Of the replica. */
  readonly page: number;
  readonly deviceId: string;
  readonly segmentBytes: number;
  readonly incarnation: number;
  readonly flushed: FlushId;
  readonly settled: FlushId | null;
}

/** What an engine is made of. */
export interface EngineOpening {
  readonly map: VolumeMap;
  /** By group and position; null where a device is missing. */
  readonly members: readonly (readonly (PlacedMember | null)[])[];
}

/** What an engine needs of whoever decides about its volume. */
export interface EngineHooks {
  /** See `MapAuthority.change`. */
  readonly change: (map: VolumeMap) => Promise<MapChange<VolumeMap>>;
  /** See `VolumeEngineOptions.makeRoom`. */
  readonly makeRoom: (deviceIds: readonly string[]) => Promise<void>;
  readonly onEvent: (event: VolumeEvent) => void;
  readonly nextJobId: () => number;
  readonly onJob: (job: BookedJob) => void;
}

/** A shard that runs engines of volumes. */
export interface EngineShard {
  /** Whether it could run another one. */
  readonly hasRoom: boolean;
  /** Rejects with a `StrakeError`. */
  open(opening: EngineOpening, hooks: EngineHooks): Promise<EngineElsewhere>;
}

/** Methods of the names of `VolumeEngine` do the same. */
export interface EngineElsewhere extends Volume {
  readonly shard: number;
  readonly record: VolumeMap;
  readonly serving: boolean;
  readonly lastMap: VolumeMap | null;
  /** Its shard has died: nothing is answered any more. */
  readonly lost: boolean;
  start(): Promise<void>;
  status(): VolumeStatus;
  isSynced(group: GroupIndex, position: MemberPosition): boolean;
  changesEnded(): Promise<void>;
  resume(group: GroupIndex, position: MemberPosition, incarnation: number): Promise<boolean>;
  attachPlaced(group: GroupIndex, position: MemberPosition, place: PlacedMember): Promise<BookedJob>;
  replacePlaced(group: GroupIndex, position: MemberPosition, place: PlacedMember): Promise<BookedJob>;
  loseDevice(deviceId: string, reason: string): Promise<boolean>;
  grow(sizeBytes: number): Promise<void>;
  rename(name: string): Promise<void>;
  scrub(options?: JobOptions): Promise<BookedJob>;
  releaseOn(deviceIds: readonly string[]): Promise<void>;
  depose(reason: string): void;
  endWork(): void;
  close(): Promise<void>;
}

/** The engine of a volume: here, or on another shard. */
export type HostedEngine = VolumeEngine | EngineElsewhere;

/** The shard on which a volume is served. */
export function shardOf(served: Volume): number {
  return 'shard' in served && typeof served.shard === 'number' ? served.shard : 0;
}
