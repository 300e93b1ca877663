/**
 * Memory for payloads in flight, used again once they have been carried out: allocating it anew, zeroed, costs more than
 * copying into it.
 */

/** The least that is given out; pieces have sizes of powers of two from there. */
const PIECE_BYTES = 512;
/** Kept of each size at most. */
const KEPT_BYTES = 1 << 20;

export class BytePool {
  /** By size. */
  private readonly free: Uint8Array[][] = [];

  /** At least so many bytes, of any content. */
  take(lengthBytes: number): Uint8Array {
    const size = sizeOf(lengthBytes);
    return this.free[size]?.pop() ?? new Uint8Array(PIECE_BYTES << size);
  }

  /** Gives back what `take` has returned. Nobody may use it any more. */
  give(bytes: Uint8Array): void {
    const size = sizeOf(bytes.length);
    this.free[size] ??= [];
    const free = this.free[size];
    if (free.length * bytes.length < KEPT_BYTES) free.push(bytes);
  }
}

/** How often the least size has to be doubled. */
function sizeOf(lengthBytes: number): number {
  return lengthBytes <= PIECE_BYTES ? 0 : 32 - Math.clz32((lengthBytes - 1) >>> 9);
}
