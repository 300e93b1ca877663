/** Numbers of what a device has, with a type for each kind of thing; `src/ports/ids.ts` says how these types work. */

import type { Kind, Named } from '../ports/ids.js';

/** A slot of a device, counted from 0; -1 for none. */
export type SlotIndex = Named<'slot'>;
/** A slot as a record of the journal names it: there may be no such slot. */
export type SlotNumber = Kind<'slot'>;
/** A page of the cache of block tables, counted from 0; -1 for none. */
export type TablePage = Named<'table page'>;
/** A page of the volumes region, by which a store calls the replica that it holds; -1 for none. */
export type ReplicaPage = Kind<'replica page'>;

export const NO_SLOT = -1 as SlotIndex;
export const NO_PAGE = -1 as TablePage;
