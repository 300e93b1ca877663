/** Which records a store takes for requests. What comes from another process may be anything. */

import { ENTRY_WORDS } from '../layout/block-entry.js';
import {
  REQUEST_ACCEPT,
  REQUEST_ALLOCATE,
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_FUA,
  REQUEST_KEEP,
  REQUEST_MARKED,
  REQUEST_NEWER,
  REQUEST_POISON,
  REQUEST_READ,
  REQUEST_RELEASE,
  REQUEST_RELEASE_ZERO,
  REQUEST_RESTAMP,
  REQUEST_SAME,
  REQUEST_WRITE,
  REQUEST_ZERO,
  type SegmentRequest,
} from '../ports/segment-request.js';
import { OP_ACCEPT_BLOCK, OP_FLAG_RELEASE } from './store-op.js';

/** The flags that each kind may have. */
const FLAGS: Readonly<Record<number, number>> = {
  [REQUEST_READ]: 0,
  [REQUEST_WRITE]: REQUEST_FUA | REQUEST_NEWER | REQUEST_SAME | REQUEST_COPY,
  [REQUEST_ZERO]: REQUEST_FUA | REQUEST_KEEP | REQUEST_NEWER | REQUEST_SAME | OP_FLAG_RELEASE,
  [REQUEST_ALLOCATE]: 0,
  [REQUEST_RELEASE]: REQUEST_RELEASE_ZERO,
  [REQUEST_ENTRIES]: 0,
  [REQUEST_ACCEPT]: 0,
  [REQUEST_POISON]: 0,
  [REQUEST_FLUSH]: REQUEST_MARKED,
  [REQUEST_RESTAMP]: 0,
  [OP_ACCEPT_BLOCK]: 0,
};
/** Kinds that are about a whole chunk, or the whole volume. */
const WHOLE: ReadonlySet<number> = new Set([REQUEST_ALLOCATE, REQUEST_RELEASE, REQUEST_FLUSH, REQUEST_RESTAMP]);

/** Whether a record is a request for a volume of which a chunk has so many blocks. */
export function isRequest(request: SegmentRequest, chunkBlocks: number): boolean {
  const { kind, flags, chunk } = request;
  const known = FLAGS[kind];
  if (known === undefined || (flags & ~known) !== 0) return false;
  if (!Number.isSafeInteger(chunk) || chunk < 0) return false;
  if (!isFlush(request.generation, request.flushNumber)) return false;
  return WHOLE.has(kind) || (isRange(request, chunkBlocks) && hasEntries(request));
}

function isFlush(generation: number, flushNumber: number): boolean {
  return Number.isSafeInteger(generation) && generation >= 0 && Number.isSafeInteger(flushNumber) && flushNumber >= 0;
}

function isRange({ block, blocks, flags }: SegmentRequest, chunkBlocks: number): boolean {
  if (!Number.isInteger(block) || !Number.isInteger(blocks) || block < 0) return false;
  const least = (flags & OP_FLAG_RELEASE) !== 0 ? 0 : 1;
  return blocks >= least && block + blocks <= chunkBlocks;
}

/** Whether there are as many entries as the request speaks of. */
function hasEntries({ kind, flags, blocks, entries }: SegmentRequest): boolean {
  const lists =
    kind === REQUEST_ENTRIES ? 1 : Number((flags & REQUEST_SAME) !== 0) + Number((flags & REQUEST_COPY) !== 0);
  return lists === 0 || (entries !== null && entries.length >= lists * blocks * ENTRY_WORDS);
}
