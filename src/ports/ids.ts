/**
 * Numbers that name a thing, or count one, with a type for each kind, so that one is not taken for another: a block of a chunk is
 * not how many blocks there are, and a generation is no flush number. They are plain numbers when the program runs.
 *
 * A `Named` number is made of a plain one by `as` alone, where it is known to be one: what indexes memory is that. A `Kind` takes
 * any plain number, such as the result of arithmetic, and refuses a number of another kind: so of two that stand side by side,
 * neither can take the other's place. Where such numbers come in, the record that brings them is checked as a whole
 * (`layout/request-checks.ts`).
 */

declare const KIND: unique symbol;

/** A number that is the name of one kind of thing. */
export type Named<Name extends string> = number & { readonly [KIND]: Name };
/** A number that may be of this kind, and is of no other. */
export type Kind<Name extends string> = number & { readonly [KIND]?: Name };

/** A slot-sized part of a volume, counted from its beginning: the number of a segment. */
export type ChunkIndex = Kind<'chunk'>;
/** A block, counted from the beginning of its chunk. */
export type BlockIndex = Kind<'block'>;
/** How many blocks. */
export type BlockCount = Kind<'blocks'>;
/** A placement group of a volume, counted from 0. */
export type GroupIndex = Kind<'group'>;
/** Counts the engines that a volume has had. */
export type Generation = Kind<'generation'>;
/** Counts the flushes of a volume within a generation. */
export type FlushNumber = Kind<'flush number'>;
/** Counts the changes of the map of a group. */
export type MapVersion = Kind<'map version'>;
/** Where a member is among those of its group, counted from 0. */
export type MemberPosition = Kind<'position of a member'>;
