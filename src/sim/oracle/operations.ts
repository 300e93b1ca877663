/**
 * Operations that clients have begun, in slots of typed arrays.
 *
 * A slot is taken again once its operation has ended and no version refers to it any more; the one that was taken longest
 * ago goes first, so that a message can tell as much as possible of what was long ago.
 */

import { larger } from './linearizability.js';

export const KIND_WRITE = 1;
export const KIND_ZERO = 2;
export const KIND_TRIM = 3;
export const KIND_READ = 4;
export const KIND_FLUSH = 5;

export const STATE_PENDING = 1;
/** Answered with success. */
export const STATE_ACKNOWLEDGED = 2;
/** Answered with an error: it may have been done in part, or be done later. */
export const STATE_FAILED = 3;
/** The process died before it answered, or power was lost before its answer: it may have been done or not. */
export const STATE_UNANSWERED = 4;

const CAPACITY = 1024;

export class Operations {
  capacity = CAPACITY;
  kind = new Uint8Array(CAPACITY);
  state = new Uint8Array(CAPACITY);
  fua = new Uint8Array(CAPACITY);
  value = new Int32Array(CAPACITY);
  /** First sector and number of sectors. */
  sector = new Int32Array(CAPACITY);
  count = new Int32Array(CAPACITY);
  began = new Float64Array(CAPACITY);
  /** From when on it has no effect any more: its answer if that was good, or the end of whoever was to carry it out. */
  ended = new Float64Array(CAPACITY);
  answered = new Float64Array(CAPACITY);
  /** Whether power was lost while it was under way, and the process went on. */
  crossed = new Uint8Array(CAPACITY);
  /** Who was to carry it out: a number that the caller gives to each that may write. */
  writer = new Int32Array(CAPACITY);
  /** Versions that refer to it. */
  references = new Int32Array(CAPACITY);
  private last = -1;

  begin(kind: number, value: number, sector: number, count: number, began: number, writer = 0): number {
    const slot = this.freeSlot();
    this.writer[slot] = writer;
    this.kind[slot] = kind;
    this.state[slot] = STATE_PENDING;
    this.fua[slot] = 0;
    this.crossed[slot] = 0;
    this.value[slot] = value;
    this.sector[slot] = sector;
    this.count[slot] = count;
    this.began[slot] = began;
    this.ended[slot] = Number.POSITIVE_INFINITY;
    this.answered[slot] = Number.POSITIVE_INFINITY;
    return slot;
  }

  end(slot: number, good: boolean, now: number): void {
    if (this.state[slot] !== STATE_PENDING) throw new Error(`operation ${slot} is not under way`);
    this.state[slot] = good ? STATE_ACKNOWLEDGED : STATE_FAILED;
    this.answered[slot] = now;
    if (good) this.ended[slot] = Math.min(this.ended[slot], now);
    // It may have been done before power was lost, and so be lost although this answer is good.
    if (good && this.crossed[slot] === 1) this.state[slot] = STATE_UNANSWERED;
  }

  /** When the first read that is still under way began. */
  firstPendingRead(): number {
    let first = Number.POSITIVE_INFINITY;
    for (let slot = 0; slot < this.capacity; slot += 1) {
      if (this.state[slot] === STATE_PENDING && this.kind[slot] === KIND_READ) {
        first = Math.min(first, this.began[slot]);
      }
    }
    return first;
  }

  /** The operation of the latest write of this value that is still known, or -1. */
  find(value: number): number {
    if (value === 0) return -1;
    for (let slot = 0; slot < this.capacity; slot += 1) {
      if (this.kind[slot] === KIND_WRITE && this.value[slot] === value) return slot;
    }
    return -1;
  }

  private freeSlot(): number {
    const { capacity, state, references } = this;
    // Much of what is looked at is taken: more slots are cheaper than looking further.
    const looks = capacity >> 2;
    for (let look = 0; look < looks; look += 1) {
      this.last = (this.last + 1) % capacity;
      if (state[this.last] !== STATE_PENDING && references[this.last] === 0) return this.last;
    }
    this.grow();
    this.last = capacity;
    return capacity;
  }

  private grow(): void {
    const length = 2 * this.capacity;
    this.capacity = length;
    this.kind = larger(this.kind, new Uint8Array(length));
    this.state = larger(this.state, new Uint8Array(length));
    this.fua = larger(this.fua, new Uint8Array(length));
    this.crossed = larger(this.crossed, new Uint8Array(length));
    this.writer = larger(this.writer, new Int32Array(length));
    this.value = larger(this.value, new Int32Array(length));
    this.sector = larger(this.sector, new Int32Array(length));
    this.count = larger(this.count, new Int32Array(length));
    this.began = larger(this.began, new Float64Array(length));
    this.ended = larger(this.ended, new Float64Array(length));
    this.answered = larger(this.answered, new Float64Array(length));
    this.references = larger(this.references, new Int32Array(length));
  }
}
