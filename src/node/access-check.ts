/**
 * Whether a request that has come from another process is admitted: decided before anything is done for it, by numbers alone.
 *
 * The order is part of the protocol: a peer is told the first of the things that are wrong.
 */

import { REQUEST_ENTRIES, REQUEST_READ } from '../ports/segment-request.js';
import {
  KIND_LIST,
  KIND_REQUEST,
  STATUS_NEED_MAP,
  STATUS_NEW_INCARNATION,
  STATUS_NOT_OPEN,
  STATUS_NOT_YET,
  STATUS_OK,
  STATUS_STALE_MAP,
} from '../wire/messages.js';
import type { Role } from '../wire/ticket.js';

/** What a replica is when a request comes. */
export interface ReplicaAccess {
  /** Of the map that is stored. */
  readonly mapVersion: number;
  /** Whether that map has been answered. */
  readonly answered: boolean;
  /** Whether a map is being stored, which may be the one that a request comes under. */
  readonly storing: boolean;
  /** Of the device. */
  readonly incarnation: number;
  /** As what the session has opened it. */
  readonly role: Role;
  /** Whether clients may read here that do not write: see `ReplicaGate.isReadable`. */
  readonly readable: boolean;
  /** Whether the map that is stored is of the generation under which the session has opened it, and of a volume that is. */
  readonly current: boolean;
}

/** What a request says of itself. */
export interface RequestAccess {
  readonly kind: number;
  readonly mapVersion: number;
  /** 0 for any. */
  readonly incarnation: number;
}

/** Whether a kind leaves everything as it is. */
function looks(kind: number): boolean {
  return kind === KIND_LIST || kind === KIND_REQUEST + REQUEST_READ || kind === KIND_REQUEST + REQUEST_ENTRIES;
}

/** Whether a kind brings what applications have written. */
function readsContent(kind: number): boolean {
  return kind === KIND_REQUEST + REQUEST_READ;
}

/**
 * `STATUS_OK` if a request is admitted now, `STATUS_NOT_YET` if it waits until the map is answered, else what it is answered.
 * `replica` is null if it is not open on the session.
 */
export function admission(replica: ReplicaAccess | null, request: RequestAccess): number {
  if (replica === null) return STATUS_NOT_OPEN;
  if (replica.role === 'reader' && !looks(request.kind)) return STATUS_NOT_OPEN;
  // Whatever version it names: the right to change anything is that of the next generation's holder, or nobody's any more.
  if (!replica.current && !looks(request.kind)) return STATUS_STALE_MAP;
  if (request.mapVersion < replica.mapVersion) return STATUS_STALE_MAP;
  if (request.mapVersion > replica.mapVersion) return replica.storing ? STATUS_NOT_YET : STATUS_NEED_MAP;
  if (!replica.answered) return STATUS_NOT_YET;
  // No lease says so, so nobody asks who goes by the rules.
  if (replica.role === 'reader' && readsContent(request.kind) && !replica.readable) return STATUS_STALE_MAP;
  if (request.incarnation !== 0 && request.incarnation !== replica.incarnation) return STATUS_NEW_INCARNATION;
  return STATUS_OK;
}
