/**
 * What is a request, and what is a list: checked where they arrive, before anything is done for them. Pure functions, which say
 * what is wrong, and with which value.
 */

import type { FlushNumber, Generation, GroupIndex } from '../ports/ids.js';
import { LIST_PAGE_CHUNKS } from '../ports/limits.js';
import { CHUNK_DOUBT, LIST_KINDS, type SegmentList } from '../ports/segment-list.js';
import {
  REQUEST_ACCEPT,
  REQUEST_AGREED,
  REQUEST_ALLOCATE,
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_FUA,
  REQUEST_KEEP,
  REQUEST_KINDS,
  REQUEST_MARKED,
  REQUEST_NEWER,
  REQUEST_POISON,
  REQUEST_READ,
  REQUEST_RELEASE,
  REQUEST_RELEASE_ZERO,
  REQUEST_RESTAMP,
  REQUEST_SAME,
  REQUEST_SETTLED,
  REQUEST_WRITE,
  REQUEST_ZERO,
  type SegmentRequest,
} from '../ports/segment-request.js';
import { ENTRY_WORDS } from './block-entry.js';

/** Flags that each kind may bear. */
const FLAGS: number[] = [];
FLAGS[REQUEST_READ] = REQUEST_SETTLED;
FLAGS[REQUEST_WRITE] = REQUEST_FUA | REQUEST_NEWER | REQUEST_SAME | REQUEST_COPY;
FLAGS[REQUEST_ZERO] = REQUEST_FUA | REQUEST_KEEP | REQUEST_NEWER | REQUEST_SAME;
FLAGS[REQUEST_ALLOCATE] = 0;
FLAGS[REQUEST_RELEASE] = REQUEST_RELEASE_ZERO;
FLAGS[REQUEST_ENTRIES] = 0;
FLAGS[REQUEST_ACCEPT] = 0;
FLAGS[REQUEST_POISON] = REQUEST_NEWER | REQUEST_SAME;
FLAGS[REQUEST_FLUSH] = REQUEST_MARKED;
FLAGS[REQUEST_AGREED] = 0;
FLAGS[REQUEST_RESTAMP] = 0;

/** Whether the kind works on blocks. */
const BLOCKS: boolean[] = [];
for (const kind of [REQUEST_READ, REQUEST_WRITE, REQUEST_ZERO, REQUEST_ENTRIES, REQUEST_ACCEPT, REQUEST_POISON]) {
  BLOCKS[kind] = true;
}

/** What a member is: the chunks of its volume, the share of them that it has, and the blocks of each. */
export interface RequestBounds {
  readonly chunks: number;
  readonly chunkBlocks: number;
  /** It has the chunks whose number leaves `group` when it is divided by `groups`. */
  readonly group: GroupIndex;
  readonly groups: number;
}

/** Why a record is no request to such a member; null if it is one. */
export function requestError(request: SegmentRequest, bounds: RequestBounds): string | null {
  const { kind, flags } = request;
  if (!(Number.isInteger(kind) && kind >= 0 && kind < REQUEST_KINDS)) return `there is no request of kind ${kind}`;
  if ((flags & ~FLAGS[kind]) !== 0) return `a request of kind ${kind} has no flags ${flags}`;
  if (kind === REQUEST_POISON && (flags & (REQUEST_NEWER | REQUEST_SAME)) === 0) {
    return 'blocks are to become unreadable whatever they hold; that needs the condition NEWER or SAME';
  }
  if (!isFlushPoint(request.generation, request.flushNumber)) {
    return `flush ${request.flushNumber} of generation ${request.generation} is no point in a volume's history`;
  }
  if (kind === REQUEST_FLUSH || kind === REQUEST_AGREED) return null;
  const { chunk } = request;
  if (!(Number.isSafeInteger(chunk) && chunk >= 0 && chunk < bounds.chunks)) {
    return `chunk ${chunk} is not one of the ${bounds.chunks} of the volume`;
  }
  if (chunk % bounds.groups !== bounds.group) return `chunk ${chunk} belongs to another group`;
  return BLOCKS[kind] === true ? blocksError(request, bounds.chunkBlocks) : null;
}

function isFlushPoint(generation: Generation, flushNumber: FlushNumber): boolean {
  return Number.isSafeInteger(generation) && generation >= 0 && Number.isSafeInteger(flushNumber) && flushNumber >= 0;
}

function blocksError({ kind, block, blocks, flags, entries }: SegmentRequest, chunkBlocks: number): string | null {
  const whole = Number.isInteger(block) && Number.isInteger(blocks);
  if (!whole || block < 0 || blocks < 1 || block + blocks > chunkBlocks) {
    return `blocks ${block} to ${block + blocks} are no range of the ${chunkBlocks} of a chunk`;
  }
  let lists = kind === REQUEST_ENTRIES ? 1 : 0;
  if ((flags & REQUEST_SAME) !== 0) lists += 1;
  if ((flags & REQUEST_COPY) !== 0) lists += 1;
  if (lists === 0) return null;
  const words = lists * blocks * ENTRY_WORDS;
  if (entries !== null && entries.length >= words) return null;
  return `${entries?.length ?? 0} words of entries are given where ${blocks} blocks need ${words}`;
}

/** Why a record is no list of a member; null if it is one. */
export function listError(list: SegmentList): string | null {
  const { kind, firstChunk, endChunk, cursor, most } = list;
  if (!(Number.isInteger(kind) && kind >= 0 && kind < LIST_KINDS)) return `there is no list of kind ${kind}`;
  const whole = Number.isSafeInteger(firstChunk) && Number.isSafeInteger(endChunk);
  if (!whole || firstChunk < 0 || endChunk < firstChunk) return `chunks ${firstChunk} to ${endChunk} are no range`;
  if (!isFlushPoint(list.sinceGeneration, list.sinceNumber)) {
    return `flush ${list.sinceNumber} of generation ${list.sinceGeneration} is no point in a volume's history`;
  }
  if (!Number.isSafeInteger(cursor) || cursor < 0) return `a list does not go on at ${cursor}`;
  if (!Number.isInteger(most) || most < 1 || most > LIST_PAGE_CHUNKS) return `a page of a list has no ${most} entries`;
  return null;
}

/** Whether what a list says of a chunk is that it is in doubt. */
export function isInDoubt(state: number): boolean {
  return (state & CHUNK_DOUBT) !== 0;
}
