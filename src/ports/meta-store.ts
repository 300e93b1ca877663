/**
 * Where a manager keeps what it has decided: records, each a text under a name, and how many batches have been committed, which
 * is the *metadata sequence*. One manager has a store open at a time.
 *
 * A batch is atomic: after a crash at any instant all of it is there or nothing. What a commit has resolved for is durable.
 */

/** A record: what JSON made of it, under a name of printable ASCII characters. */
export interface MetaRecord {
  readonly key: string;
  readonly value: string;
}

/** A record that is to be put in place of the one of its name, or taken away. */
export interface MetaChange {
  readonly key: string;
  /** null: taken away; that it is not there is no error. */
  readonly value: string | null;
}

/** Everything that a store has. */
export interface MetaContents {
  /** Batches committed so far: 0 of a new store. */
  readonly sequence: number;
  /** In the order of their names. */
  readonly records: readonly MetaRecord[];
}

/** Changes that are committed together. No name is in it twice. */
export interface MetaBatch {
  /** The sequence that the store has to have: another one means that somebody else has committed, and nothing is done. */
  readonly expected: number;
  /** The sequence that it has afterwards: `expected` + 1. */
  readonly next: number;
  readonly changes: readonly MetaChange[];
}

export interface MetaStore {
  /** Reads everything. Rejects with a `StrakeError` if the store is not whole. */
  load(): Promise<MetaContents>;
  /**
   * Makes a batch durable; one at a time. Rejects with a `StrakeError`: `ERR_STRAKE_STALE_METADATA` if the store has another
   * sequence than is expected, `ERR_STRAKE_NO_SPACE` if there is no room, when the store has what it had before, and
   * `ERR_STRAKE_IO` if it is not known whether it was done. Whoever is refused must not decide any more.
   */
  commit(batch: MetaBatch): Promise<void>;
  /** Nothing may be under way. */
  close(): Promise<void>;
}
