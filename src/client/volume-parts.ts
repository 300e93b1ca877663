/** What the parts of a volume's engine that do its control work share. */

import type { Calls } from '../core/calls.js';
import type { ChunkIndex } from '../ports/ids.js';
import type { Memory } from '../ports/memory.js';
import type { CopyBuffers } from './jobs/copy-buffers.js';
import type { MemberWork } from './members/member-work.js';
import type { Membership } from './mirror/membership.js';
import type { Pieces } from './requests/pieces.js';
import type { VolumeCounters, VolumeEvent } from './volume-events.js';

/** What all control work of a volume uses. */
export interface VolumeParts {
  readonly memory: Memory;
  readonly membership: Membership;
  readonly pieces: Pieces;
  readonly calls: Calls;
  readonly work: MemberWork;
  readonly buffers: CopyBuffers;
  readonly counters: VolumeCounters;
  /** A segment was modified that nobody flushes by himself. */
  onModified(stripe: ChunkIndex): void;
  onEvent(event: VolumeEvent): void;
}
