/** What bounds the rings between two shards of a node. */

import {
  BUFFER_CLASSES,
  CLIENT_REQUESTS_MAX,
  CONTROL_CALLS_MAX,
  NODE_VOLUMES_MAX,
  PIECES_MAX,
  SHARD_REQUESTS_MAX,
} from '../core/limits.js';

/** Requests and lists of one shard in flight at another; more wait where they are asked. */
export const CALLS_MAX = 4096;
/** Requests that wait there: those of all volumes of a node, and of their control work. */
export const WAITING_MAX = NODE_VOLUMES_MAX * (PIECES_MAX + CONTROL_CALLS_MAX);
/** Entries of the ring of requests: one for each of these, and as many for members that are opened and closed. */
export const REQUEST_RING_ENTRIES = 2 * CALLS_MAX;
/** Entries of the ring of replies: two for each, and as many for memory that comes back late. */
export const REPLY_RING_ENTRIES = 4 * CALLS_MAX;
/** Requests in flight that have entries of blocks. */
export const ENTRY_AREAS = 64;
/** Lists in flight. */
export const LIST_AREAS = 4;
/** Members of volumes that a shard has open at another: each volume has some for each of its groups. Of more it serves none. */
export const MEMBERS_MAX = 4096;

/**
 * Requests to volumes whose engines are on another shard in flight there: each has a buffer of its own, or is one of a connection
 * or of a program.
 */
export const VOLUME_CALLS_MAX =
  BUFFER_CLASSES.reduce((sum, { count }) => sum + count, 0) + SHARD_REQUESTS_MAX + CLIENT_REQUESTS_MAX;
/** Entries of the ring of such requests. */
export const VOLUME_RING_ENTRIES = 8192;
/** Entries of the ring of their replies: one for each, and as many for memory that comes back late. */
export const VOLUME_REPLY_RING_ENTRIES = 2 * VOLUME_RING_ENTRIES;
/** Room for the extents that one request asks for. */
export const EXTENTS_BYTES = 64 << 10;
