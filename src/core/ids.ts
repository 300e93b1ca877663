/**
 * Numbers that name a thing, with a type for each kind of thing, so that one is not taken for another. They are plain numbers
 * when the program runs. Arithmetic with one gives a plain number; `as` makes it one again, where it is known to be one.
 */

declare const KIND: unique symbol;

/** A number that is the name of one kind of thing. */
type Named<Kind extends string> = number & { readonly [KIND]: Kind };

/** A slot of a device, counted from 0; -1 for none. */
export type SlotIndex = Named<'slot'>;
/** A page of the cache of block tables, counted from 0; -1 for none. */
export type TablePage = Named<'table page'>;

export const NO_SLOT = -1 as SlotIndex;
export const NO_PAGE = -1 as TablePage;
