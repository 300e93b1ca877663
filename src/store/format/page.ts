/**
 * What all pages of the tree share: their headers, the references that lead to them, and how what they say is refused.
 *
 * Decoding trusts nothing: what a page says is checked against what it must be, and a violation is a `PageProblem` that names
 * it. Checksums of pages are checked by whoever follows the reference. `docs/disk-format.md` lays out the fields.
 */

import { check } from '../../core/check.js';
import { getId, PageProblem, putId, putUint64, viewOf } from '../../layout/fields.js';
import { REFERENCE_BYTES, REFERENCE_PLACE, REFERENCE_PRESENT } from './format.js';

/** Where the current version of a page is, and its checksum. */
export interface Reference {
  readonly present: boolean;
  readonly place: number;
  readonly checksum: number;
}

/** One for all: a large device has half a million pages that were never written. */
const ABSENT: Reference = Object.freeze({ present: false, place: 0, checksum: 0 });

/** The reference to a page that is not there. */
export function absent(): Reference {
  return ABSENT;
}

export function putReference(view: DataView, at: number, { present, place, checksum }: Reference): void {
  check(place === 0 || place === 1, 'a reference leads to neither of two places', place);
  view.setUint32(at, checksum, true);
  view.setUint32(at + 4, (present ? REFERENCE_PRESENT : 0) | (place === 1 ? REFERENCE_PLACE : 0), true);
}

export function getReference(view: DataView, at: number): Reference {
  const flags = view.getUint32(at + 4, true);
  if (flags > (REFERENCE_PRESENT | REFERENCE_PLACE)) throw new PageProblem(`unknown flags at byte ${at}`);
  const present = (flags & REFERENCE_PRESENT) !== 0;
  return { present, place: (flags & REFERENCE_PLACE) !== 0 ? 1 : 0, checksum: view.getUint32(at, true) };
}

/** Writes references one behind the other. */
export function putReferences(view: DataView, start: number, references: readonly Reference[]): void {
  for (let index = 0; index < references.length; index += 1) {
    putReference(view, start + index * REFERENCE_BYTES, references[index]);
  }
}

/** So many references that lie one behind the other. */
export function getReferences(view: DataView, start: number, count: number): Reference[] {
  // A page has hundreds: `Array.from` takes longer than reading them.
  const references: Reference[] = [];
  for (let index = 0; index < count; index += 1) references.push(getReference(view, start + index * REFERENCE_BYTES));
  return references;
}

/** Where a page is, and for which root it is written. */
export interface PagePosition {
  /** Number of the page in its region. */
  readonly index: number;
  readonly deviceId: string;
  /** Of the root that it is written for, or of the batch of the journal. */
  readonly sequence: number;
}

export function putHeader(page: Uint8Array, magic: number, { index, deviceId, sequence }: PagePosition): DataView {
  const view = viewOf(page);
  page.fill(0);
  view.setUint32(0, magic, true);
  view.setUint32(4, index, true);
  putId(view, 8, deviceId);
  putUint64(view, 24, sequence);
  return view;
}

export function checkHeader(page: Uint8Array, magic: number, index: number, deviceId: string): DataView {
  const view = viewOf(page);
  if (view.getUint32(0, true) !== magic) throw new PageProblem('it is a page of another kind');
  if (view.getUint32(4, true) !== index) throw new PageProblem(`it is page ${view.getUint32(4, true)}`);
  if (getId(view, 8) !== deviceId) throw new PageProblem(`it belongs to device ${getId(view, 8)}`);
  return view;
}
