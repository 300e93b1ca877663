/**
 * Pages of references: those of the directory lead to pages of slots, those of its index to pages of the directory, and those of
 * the volume directory to pages of volumes.
 */

import { check } from '../../core/check.js';
import {
  DIRECTORY_ENTRIES,
  type DIRECTORY_INDEX_MAGIC,
  type DIRECTORY_MAGIC,
  PAGE_HEADER_BYTES,
  type VOLUME_DIRECTORY_MAGIC,
} from './format.js';
import { checkHeader, getReferences, type PagePosition, putHeader, putReferences, type Reference } from './page.js';

/** What a page of references leads to. */
export type DirectoryKind = typeof DIRECTORY_MAGIC | typeof DIRECTORY_INDEX_MAGIC | typeof VOLUME_DIRECTORY_MAGIC;

/** Writes a page of references; those that are missing are of pages that are not there. */
export function encodeDirectory(
  page: Uint8Array,
  kind: DirectoryKind,
  position: PagePosition,
  references: readonly Reference[],
): void {
  check(references.length <= DIRECTORY_ENTRIES, 'a page of the directory has too many entries', references.length);
  check(position.sequence > 0, 'references are written for no checkpoint', position.sequence);
  const view = putHeader(page, kind, position);
  putReferences(view, PAGE_HEADER_BYTES, references);
}

/** Reads the `DIRECTORY_ENTRIES` references of a page. Throws a `PageProblem`. */
export function decodeDirectory(page: Uint8Array, kind: DirectoryKind, index: number, deviceId: string): Reference[] {
  const view = checkHeader(page, kind, index, deviceId);
  return getReferences(view, PAGE_HEADER_BYTES, DIRECTORY_ENTRIES);
}
