/** Pages of the directory: references to the pages of the slot table. */

import { check } from '../../core/check.js';
import { DIRECTORY_ENTRIES, DIRECTORY_MAGIC, PAGE_HEADER_BYTES, REFERENCE_BYTES } from './format.js';
import { checkHeader, getReference, putHeader, putReference, type Reference } from './page.js';

export function encodeDirectory(
  page: Uint8Array,
  index: number,
  deviceId: string,
  sequence: number,
  slotPages: readonly Reference[],
): void {
  check(slotPages.length <= DIRECTORY_ENTRIES, 'a page of the directory has too many entries', slotPages.length);
  const view = putHeader(page, DIRECTORY_MAGIC, index, deviceId, sequence);
  slotPages.forEach((reference, at) => {
    putReference(view, PAGE_HEADER_BYTES + at * REFERENCE_BYTES, reference);
  });
}

export function decodeDirectory(page: Uint8Array, index: number, deviceId: string): Reference[] {
  const view = checkHeader(page, DIRECTORY_MAGIC, index, deviceId);
  return Array.from({ length: DIRECTORY_ENTRIES }, (_, at) =>
    getReference(view, PAGE_HEADER_BYTES + at * REFERENCE_BYTES),
  );
}
