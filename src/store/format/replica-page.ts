/**
 * The page of a replica, "SVL2": the map of one volume in one placement group, and what this device knows of itself. It replaces
 * "SVL1" (`volume-page.ts`), which had the map of a whole volume. The fields of the map are those of `src/layout/map-codec.ts`.
 */

import { check } from '../../core/check.js';
import { getCounter, getUint64, PageProblem, putUint64, viewOf } from '../../layout/fields.js';
import {
  getMap,
  PAGE_AT_ANSWERED,
  PAGE_AT_FLUSHED,
  PAGE_AT_SERVED,
  PAGE_AT_SETTLED,
  putMap,
} from '../../layout/map-codec.js';
import type { ReplicaMap, ReplicaOwn } from '../../layout/replica-map.js';
import { REPLICA_MAGIC } from './format.js';
import { checkHeader, type PagePosition, putHeader } from './page.js';

/** What a replica page holds. */
export interface ReplicaRecord {
  readonly map: ReplicaMap;
  readonly own: ReplicaOwn;
}

/** Writes a replica page. */
export function encodeReplica(page: Uint8Array, position: PagePosition, { map, own }: ReplicaRecord): void {
  check(position.index >= 0, 'a replica is written without a page', position.index);
  const view = putHeader(page, REPLICA_MAGIC, position);
  putMap(page, map);
  putUint64(view, PAGE_AT_SERVED, own.servedGeneration);
  putUint64(view, PAGE_AT_FLUSHED, own.flushed.generation);
  putUint64(view, PAGE_AT_FLUSHED + 8, own.flushed.flushNumber);
  view.setUint8(PAGE_AT_ANSWERED, own.answered ? 1 : 0);
  putUint64(view, PAGE_AT_SETTLED, own.settled.generation);
  putUint64(view, PAGE_AT_SETTLED + 8, own.settled.flushNumber);
}

/** Reads a replica page. Throws a `PageProblem`, and a `RangeError` for numbers beyond what the format has. */
export function decodeReplica(page: Uint8Array, index: number, deviceId: string): ReplicaRecord {
  const view = checkHeader(page, REPLICA_MAGIC, index, deviceId);
  return { map: getMap(page), own: decodeOwn(view) };
}

function decodeOwn(view: DataView): ReplicaOwn {
  const flushAt = (at: number) => ({ generation: getCounter(view, at), flushNumber: getCounter(view, at + 8) });
  const answered = view.getUint8(PAGE_AT_ANSWERED);
  if (answered > 1) throw new PageProblem('its layout is not one that this version knows');
  return {
    servedGeneration: getUint64(view, PAGE_AT_SERVED),
    answered: answered === 1,
    flushed: flushAt(PAGE_AT_FLUSHED),
    settled: flushAt(PAGE_AT_SETTLED),
  };
}

/** Whether a page of the volumes region has this form, and not that of version 1. */
export function isReplicaPage(page: Uint8Array): boolean {
  return viewOf(page).getUint32(0, true) === REPLICA_MAGIC;
}
