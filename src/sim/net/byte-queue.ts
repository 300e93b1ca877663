/**
 * Bytes in order, first in, first out, in one piece of memory that is used again: what a simulated connection carries.
 */

/** Memory of a queue at first; it doubles when more is queued. */
const CAPACITY = 4096;

export class ByteQueue {
  private bytes = new Uint8Array(CAPACITY);
  private start = 0;
  private end = 0;

  get length(): number {
    return this.end - this.start;
  }

  /** Appends a copy of these bytes. */
  push(source: Uint8Array): void {
    if (this.start === this.end) this.start = this.end = 0;
    if (this.end + source.length > this.bytes.length) this.makeRoom(source.length);
    this.bytes.set(source, this.end);
    this.end += source.length;
  }

  /** The next bytes, of which there must be so many. They are the caller's until something is pushed. */
  take(lengthBytes: number): Uint8Array {
    this.start += lengthBytes;
    return this.bytes.subarray(this.start - lengthBytes, this.start);
  }

  private makeRoom(lengthBytes: number): void {
    const { bytes, length } = this;
    // Half of it has to be free afterwards, so that bytes are moved seldom.
    if (2 * (length + lengthBytes) > bytes.length) this.bytes = new Uint8Array(4 * (length + lengthBytes));
    this.bytes.set(bytes.subarray(this.start, this.end));
    this.start = 0;
    this.end = length;
  }
}
