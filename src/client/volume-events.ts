/** What a volume tells its owner: events, counters and state. */

import type { MemberState } from '../layout/volume-map.js';
import type { BlockIndex, ChunkIndex, FlushNumber, GroupIndex, MapVersion, MemberPosition } from '../ports/ids.js';

export type VolumeEvent =
  | {
      readonly kind: 'member-offline' | 'member-syncing' | 'member-in-sync';
      readonly group: GroupIndex;
      readonly position: MemberPosition;
      readonly deviceId: string;
      readonly reason: string;
    }
  | {
      /** Blocks that were bad on one member and have been rewritten from another; that could not; and so on. */
      readonly kind: 'repaired' | 'unrecoverable' | 'accepted' | 'poisoned';
      readonly deviceId: string;
      readonly stripe: ChunkIndex;
      readonly block: BlockIndex;
    }
  /** `suspended`: requests are held, as another client has attached it, or all copies of a group were opened anew. */
  | { readonly kind: 'stopped' | 'suspended'; readonly reason: string }
  | { readonly kind: 'job-ended'; readonly job: JobProgress };

export type JobKind = 'resync' | 'rebuild' | 'scrub' | 'reclaim';

/** How far a job is. Sizes are in bytes of the volume's segments. */
export interface JobProgress {
  /** Unique in the life of the node. */
  readonly id: number;
  readonly kind: JobKind;
  /** Where it works; -1 for all groups or positions. */
  readonly group: GroupIndex;
  readonly position: MemberPosition;
  readonly state: 'running' | 'done' | 'failed' | 'cancelled';
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly segmentsDone: number;
  readonly segmentsTotal: number;
  readonly bytesCopied: number;
  /** The most that it was asked to read or copy in a second; 0 for no limit. */
  readonly bytesPerSecond: number;
  /** For how long it has run. */
  readonly elapsedMs: number;
  /** Why it has failed, or was cancelled; empty otherwise. */
  readonly reason: string;
}

/** Counts since the start of the engine. */
export class VolumeCounters {
  /** Blocks rewritten from another copy. */
  repairedBlocks = 0;
  /** Blocks that a read found on no member. */
  unrecoverableBlocks = 0;
  /** Blocks whose content was taken as it was after a crash, as there was nothing better. */
  acceptedSuspects = 0;
  /** Blocks that were made unreadable because their content is lost. */
  poisonedBlocks = 0;
  /** Writes acknowledged with fewer copies than the volume has. */
  degradedWrites = 0;
  /** Reads that failed on one member and were repeated. */
  retriedReads = 0;
  /** Blocks made equal at the start. */
  reconciledBlocks = 0;
  /** Requests answered with EBUSY. */
  refused = 0;
}

/** `suspended`: requests are held until it is known who goes on. */
export type VolumeState = 'starting' | 'suspended' | 'ok' | 'degraded' | 'syncing' | 'failed' | 'closed';

export interface MemberStatus {
  readonly deviceId: string;
  readonly state: MemberState;
  readonly present: boolean;
}

export interface VolumeStatus {
  readonly state: VolumeState;
  /** Why it has failed; empty otherwise. */
  readonly reason: string;
  readonly mapVersion: MapVersion;
  readonly flushNumber: FlushNumber;
  readonly groups: readonly (readonly MemberStatus[])[];
  readonly counters: Readonly<VolumeCounters>;
  readonly jobs: readonly JobProgress[];
}
