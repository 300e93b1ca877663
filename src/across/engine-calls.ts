/**
 * What the shard that decides about volumes and one that runs engines of them ask of each other, beside the data: control calls,
 * each answered once.
 */

import type { JobPlace } from '../client/jobs/job.js';
import type { VolumeEvent, VolumeStatus } from '../client/volume-events.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { GroupIndex, MemberPosition } from '../ports/ids.js';
import type { MapChange } from '../ports/map-authority.js';
import type { EngineOpening, PlacedMember } from '../volumes/engine-elsewhere.js';

/** What an engine is known by on its shard; not given again in the life of that. */
export type EngineNumber = number;

/** What an engine says of itself. */
export interface EngineReport {
  readonly status: VolumeStatus;
  /** Places of members that are being brought up to date, or at which that is being given up. */
  readonly synced: readonly { readonly group: GroupIndex; readonly position: MemberPosition }[];
}

/** What is asked of one engine. */
export interface EngineWorks {
  start: { request: null; result: null };
  attach: { request: MemberAttaching; result: JobPlace };
  replace: { request: MemberAttaching; result: JobPlace };
  resume: { request: { group: GroupIndex; position: MemberPosition; incarnation: number }; result: boolean };
  loseDevice: { request: { deviceId: string; reason: string }; result: boolean };
  grow: { request: { sizeBytes: number }; result: null };
  rename: { request: { name: string }; result: null };
  /** In bytes a second; 0 for no limit. */
  scrub: { request: { bytesPerSecond: number }; result: JobPlace };
  cancelJob: { request: { job: number }; result: null };
  releaseOn: { request: { deviceIds: readonly string[] }; result: null };
  changesEnded: { request: null; result: null };
  depose: { request: { reason: string }; result: null };
  /** Ends the service, and gives up the members; with the engine's `lastMap`. */
  close: { request: null; result: VolumeMap | null };
}

export interface MemberAttaching {
  readonly group: GroupIndex;
  readonly position: MemberPosition;
  readonly place: PlacedMember;
}

export type EngineWork = keyof EngineWorks;

/** Calls of the shard that decides. */
export interface EngineCalls {
  openEngine: { request: EngineOpening; response: { engine: EngineNumber; report: EngineReport } };
  work: {
    request: { engine: EngineNumber; name: EngineWork; request: unknown };
    response: { result: unknown; report: EngineReport };
  };
  /** What all engines say now. */
  reports: { request: null; response: readonly (readonly [EngineNumber, EngineReport])[] };
  /** See `VolumeEngine.endWork`: of all engines. */
  endEngineWork: { request: null; response: null };
  /** Puts a load on an engine, with these buffers of the shard that decides. See `load.ts`. */
  loadEngine: { request: { engine: EngineNumber; load: unknown; buffers: readonly number[] }; response: unknown };
}

/** Calls of the shard that has the engines. */
export interface AuthorityCalls {
  change: { request: { engine: EngineNumber; map: VolumeMap }; response: ChangeAnswer };
  makeRoom: { request: { engine: EngineNumber; deviceIds: readonly string[] }; response: null };
  event: { request: { engine: EngineNumber; event: VolumeEvent }; response: null };
  job: { request: { engine: EngineNumber; job: JobPlace }; response: null };
}

/** A refusal comes as an error of its own, as errors lose their kinds on the way. */
export type ChangeAnswer = Exclude<MapChange<VolumeMap>, { readonly kind: 'refused' }>;

/** Where calls go. Rejects with the `StrakeError` of the other side, or with `ERR_STRAKE_WORKER_DIED` if that has died. */
export interface Caller<Calls extends { readonly [Name in keyof Calls]: { request: unknown; response: unknown } }> {
  call<Name extends keyof Calls & string>(
    name: Name,
    request: Calls[Name]['request'],
  ): Promise<Calls[Name]['response']>;
}
