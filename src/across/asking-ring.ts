/**
 * The way of what a shard asks of another: entries of a ring, which are written one by one and shown at the end of each batch.
 *
 * Before that this shard's engine takes what it was told to copy, as the other side may look at a payload as soon as it sees the
 * entry. When the other shard has died nothing is shown any more, and whoever asks is told in a batch of its own.
 */

import { check } from '../core/check.js';
import type { CompletionPort } from '../ports/completion.js';
import { RingProducer } from '../ring/spsc-ring.js';

const TAG_PUBLISH = 0;
const TAG_LOST = 1;

export interface AskingParts {
  readonly completions: CompletionPort;
  /** Wakes the other shard. */
  readonly wake: () => void;
  /** Whether the ends of a batch are being reported, so that the end of the batch is still to come. */
  readonly inBatch: () => boolean;
  /** Lets this shard's engine carry out what it has been asked to copy. */
  readonly takeCopies: () => void;
}

export class AskingRing {
  readonly words: Int32Array;
  readonly floats: Float64Array;
  private readonly parts: AskingParts;
  private readonly ring: RingProducer;
  private readonly token: number;
  private readonly onLost: () => void;
  private unpublished = false;
  private isLost = false;
  private disposed = false;
  /** Deferred, and to come. */
  private turns = 0;
  private readonly batchEnd = () => this.publish();

  /** `onLost`: ends what is in flight, as nothing is answered any more. */
  constructor(parts: AskingParts, memory: SharedArrayBuffer, onLost: () => void) {
    const { completions } = parts;
    this.parts = parts;
    this.onLost = onLost;
    this.ring = new RingProducer(memory);
    this.words = this.ring.words;
    this.floats = this.ring.floats;
    this.token = completions.register({ complete: (tag) => this.later(tag) });
    completions.onBatchEnd(this.batchEnd);
  }

  /** Whether the other shard has died. */
  get lost(): boolean {
    return this.isLost;
  }

  /** The first word of a new entry, whose first word is set to `what`. */
  entry(what: number): number {
    const word = this.ring.reserve();
    check(word >= 0, 'the ring to another shard is full', what);
    this.words[word] = what;
    if (!this.unpublished) {
      this.unpublished = true;
      // The end of this batch publishes it, or that of one which comes for nothing else.
      if (!this.parts.inBatch()) this.defer(TAG_PUBLISH);
    }
    return word;
  }

  /** Shows the other shard what has been asked. */
  publish(): void {
    if (!this.unpublished || this.isLost) return;
    this.unpublished = false;
    this.parts.takeCopies();
    if (this.ring.publish()) this.parts.wake();
  }

  /** The other shard has died. */
  lose(): void {
    if (this.isLost) return;
    this.isLost = true;
    // Ends are reported in a batch.
    this.defer(TAG_LOST);
  }

  private defer(tag: number): void {
    this.turns += 1;
    this.parts.completions.defer(this.token + tag, 0);
  }

  private later(tag: number): void {
    this.turns -= 1;
    check(this.turns >= 0, 'a turn has come that nobody has asked for', tag);
    // For its own sake the other one is nothing: the end of its batch publishes.
    if (tag === TAG_LOST) this.onLost();
    this.unregister();
  }

  /** Gives up the handler; nothing may be in flight. */
  dispose(): void {
    this.isLost = true;
    this.disposed = true;
    this.parts.completions.offBatchEnd(this.batchEnd);
    this.unregister();
  }

  /** What has been deferred would go to whoever registers under the same number next. */
  private unregister(): void {
    if (this.disposed && this.turns === 0) this.parts.completions.unregister(this.token);
  }
}
