/** What a volume's engine is made of. */

import type { Watch } from '../core/watch.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type { MapChange } from '../ports/map-authority.js';
import type { Memory } from '../ports/memory.js';
import type { SegmentMember } from '../ports/segment-member.js';
import type { CopyBuffers } from './jobs/copy-buffers.js';
import type { JobOptions } from './jobs/job.js';
import type { VolumeJobsOptions } from './jobs/volume-jobs.js';

export interface VolumeEngineOptions extends VolumeJobsOptions {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  /** Of the shard. */
  readonly watch: Watch;
  readonly record: VolumeMap;
  /** By group and position; null where a device is missing. */
  readonly members: readonly (readonly (SegmentMember | null)[])[];
  /** Start of `VOLUME_ENGINE_SCRATCH_BYTES` of page-aligned memory. */
  readonly scratch: number;
  /** Shared with other engines. */
  readonly buffers: CopyBuffers;
  readonly readOnly: boolean;
  /** Has a changed map decided and brought into effect. See `MapAuthority.change`. */
  readonly commit: (record: VolumeMap, wanted: () => boolean) => Promise<MapChange<VolumeMap>>;
  /** Resolves to the map in effect after whatever somebody else has decided; without, nobody else decides. */
  readonly renew?: () => Promise<VolumeMap>;
  /**
   * Of a volume that managers decide about: for how many milliseconds requests are held that need one, or a last copy that has
   * gone. Without, nobody is waited for.
   */
  readonly holdMs?: () => number;
  /** For how many milliseconds a modification goes unflushed before the engine flushes by itself. Absent: 5000. */
  readonly ownFlushMs?: () => number;
  /** A device of these is full: lets other volumes give back what was discarded there. Never rejects. */
  readonly makeRoom: (deviceIds: readonly string[]) => Promise<void>;
  readonly resync?: JobOptions;
}
