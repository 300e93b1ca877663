/**
 * The memory that payloads live in. Offsets are bytes from its start; payloads move by descriptors, never through
 * JavaScript objects.
 */
export interface Memory {
  /** All of it. */
  readonly bytes: Uint8Array;
  /** The same, for headers in network byte order. */
  readonly view: DataView;
  /** Copies, in order with the operations started before and after; the ranges may overlap. */
  copy(to: number, from: number, lengthBytes: number): void;
  /** Sets bytes, likewise. */
  fill(at: number, lengthBytes: number, value: number): void;
  /** Carries out the copies and fills that have been asked for, with all that has been asked for before them. */
  carryOut(): void;
  /**
   * CRC32C of bytes as they are now, an unsigned number of 32 bits: copies and fills that have been asked for and not yet
   * submitted are not in it. Throws if the range leaves the memory.
   */
  checksum(at: number, lengthBytes: number): number;
  /**
   * An operation that begins here is told to have ended (`COMPLETION_ABANDONED`) and goes on: its memory counts as used until
   * `takeBack`.
   */
  lend(at: number): void;
  takeBack(at: number): void;
  /**
   * Sets the first words of `sums` to the CRC32C of each of so many blocks of 4 KiB, which begin at `at`, as `checksum` of each
   * would. Throws if the range leaves the memory, or there are fewer words.
   */
  checksums(at: number, blocks: number, sums: Uint32Array): void;
  /**
   * Calls `done` when no operation that was given up (`COMPLETION_ABANDONED`) can use memory in this range any more: at once if
   * none can now, perhaps never. The range has to hold such operations whole.
   */
  whenFree(at: number, lengthBytes: number, done: () => void): void;
}
