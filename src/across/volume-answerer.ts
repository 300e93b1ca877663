/**
 * The answering end of the rings by which requests reach volumes whose engines are here, from the shard that has their servers
 * and programs. The payload stays in the arena of that shard, which this one's engine has as a guest.
 */

import { check } from '../core/check.js';
import { ESHUTDOWN } from '../core/errno.js';
import { BLOCK_BYTES } from '../core/limits.js';
import { alignDown, alignUp } from '../core/units.js';
import { COMPLETION_ABANDONED, type CompletionPort } from '../ports/completion.js';
import type { Memory } from '../ports/memory.js';
import type { Volume } from '../ports/volume.js';
import { RingConsumer, RingProducer } from '../ring/spsc-ring.js';
import { EXTENTS_BYTES, VOLUME_CALLS_MAX } from './limits.js';
import {
  VOLUME_BACK,
  VOLUME_DISCARD,
  VOLUME_DONE,
  VOLUME_EXTENTS,
  VOLUME_FLUSH,
  VOLUME_READ,
  VOLUME_WRITE,
  VOLUME_ZERO,
  type VolumeLink,
} from './volume-protocol.js';

export interface VolumeAnswererParts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly link: VolumeLink;
  /** Wakes the other shard. */
  readonly wake: () => void;
  /** The other shard's arena, and where it begins as this engine addresses it. */
  readonly guest: Uint8Array;
  readonly guestStart: number;
  /** Start of `EXTENTS_BYTES` of this shard's own memory. */
  readonly extents: number;
  /** The engine of this number; undefined if it serves no more. */
  readonly engine: (number: number) => Volume | undefined;
}

export class VolumeAnswerer {
  private readonly parts: VolumeAnswererParts;
  private readonly requests: RingConsumer;
  private readonly replies: RingProducer;
  private readonly token: number;
  /** By tag: where the payload of a request lies, as this engine addresses it, and its length. */
  private readonly memories = new Float64Array(VOLUME_CALLS_MAX);
  private readonly lengths = new Int32Array(VOLUME_CALLS_MAX);
  private running = 0;
  private unpublished = false;
  private ended = false;
  private readonly batchEnd = () => this.publish();

  constructor(parts: VolumeAnswererParts) {
    const { completions, link } = parts;
    this.parts = parts;
    this.requests = new RingConsumer(link.requests);
    this.replies = new RingProducer(link.replies);
    this.token = completions.register({ complete: (tag, result, flags) => this.end(tag, result, flags) });
    completions.onBatchEnd(this.batchEnd);
    this.drain();
  }

  /** Whether anything is in flight. */
  get busy(): boolean {
    return this.running > 0;
  }

  /** Takes what the other shard has asked. Called when it has woken this one. */
  drain(): void {
    if (this.ended) return;
    const { requests } = this;
    do {
      for (let word = requests.next(); word >= 0; word = requests.next()) this.begin(word);
      requests.release();
    } while (!requests.sleep());
  }

  private begin(word: number): void {
    const { words, floats } = this.requests;
    const tag = words[word + 1];
    check(tag >= 0 && tag < VOLUME_CALLS_MAX, 'a request of another shard to a volume has no tag', tag);
    const volume = this.parts.engine(words[word + 2]);
    this.running += 1;
    this.lengths[tag] = 0;
    const token = this.token + tag;
    if (volume === undefined) {
      this.parts.completions.defer(token, -ESHUTDOWN);
      return;
    }
    const memory = words[word + 3];
    const offset = floats[(word >> 1) + 2];
    const span = floats[(word >> 1) + 3];
    const flags = words[word + 8];
    switch (words[word]) {
      case VOLUME_READ:
        volume.read(this.payload(tag, memory, span), span, offset, token);
        return;
      case VOLUME_WRITE:
        volume.write(this.payload(tag, memory, span), span, offset, flags, token);
        return;
      case VOLUME_FLUSH:
        volume.flush(token);
        return;
      case VOLUME_DISCARD:
        volume.discardRange(offset, span, flags, token);
        return;
      case VOLUME_ZERO:
        volume.zero(offset, span, flags, token);
        return;
      default:
        check(words[word] === VOLUME_EXTENTS, 'the ring to volumes holds what nobody asks', words[word]);
        this.extents(volume, memory, word, token);
    }
  }

  /** Where a payload is, as this engine addresses it. */
  private payload(tag: number, memory: number, lengthBytes: number): number {
    const { guest, guestStart } = this.parts;
    const inside = memory >= 0 && memory + lengthBytes <= guest.length;
    check(inside, 'the payload of a volume lies outside of its arena', memory);
    this.memories[tag] = guestStart + memory;
    this.lengths[tag] = lengthBytes;
    return guestStart + memory;
  }

  /** What a volume tells of its extents it puts into memory of its own shard, at once; from there it is copied. */
  private extents(volume: Volume, memory: number, word: number, token: number): void {
    const { floats, words } = this.requests;
    const { guest, extents, memory: own } = this.parts;
    const room = words[word + 8];
    check(room <= EXTENTS_BYTES, 'extents are asked for that there is no room for', room);
    volume.extents(floats[(word >> 1) + 2], floats[(word >> 1) + 3], extents, room, token);
    guest.set(own.bytes.subarray(extents, extents + room), memory);
  }

  private end(tag: number, result: number, flags: number): void {
    this.running -= 1;
    check(this.running >= 0, 'more has ended than volumes were asked for', tag);
    if (this.ended) return;
    const word = this.reserve();
    const { words } = this.replies;
    words[word] = VOLUME_DONE;
    words[word + 1] = tag;
    words[word + 2] = result;
    words[word + 3] = flags;
    if ((flags & COMPLETION_ABANDONED) !== 0) this.returnLater(this.memories[tag], this.lengths[tag]);
    // What ends behind an `await` ends between two batches, and the next one might be long in coming.
    if (!this.parts.completions.inBatch) this.publish();
  }

  private reserve(): number {
    const word = this.replies.reserve();
    check(word >= 0, 'nobody takes the replies of volumes on this shard');
    this.unpublished = true;
    return word;
  }

  /** An operation was given up that may still use the payload, and whole blocks around it. */
  private returnLater(memory: number, lengthBytes: number): void {
    if (lengthBytes === 0) return;
    const { guestStart } = this.parts;
    const start = alignDown(memory, BLOCK_BYTES);
    this.parts.memory.whenFree(start, alignUp(memory + lengthBytes, BLOCK_BYTES) - start, () => {
      if (this.ended) return;
      const word = this.reserve();
      this.replies.words[word] = VOLUME_BACK;
      this.replies.words[word + 4] = memory - guestStart;
      this.publish();
    });
  }

  private publish(): void {
    if (!this.unpublished || this.ended) return;
    this.unpublished = false;
    if (this.replies.publish()) this.parts.wake();
  }

  /** The other shard asks for nothing any more, and all engines have been closed. */
  close(): void {
    check(this.running === 0, 'volumes are given up that are in use', this.running);
    this.ended = true;
    this.parts.completions.offBatchEnd(this.batchEnd);
    this.parts.completions.unregister(this.token);
  }
}
