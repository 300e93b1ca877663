/**
 * First writes on their way whose records went to the journal beside their content: of each batch, how many contents have not
 * ended.
 *
 * Recovery takes a first write on trust once a batch says that the batch of its record is durable: a content that does not
 * match counts as one that came later. Of a content that never came, that would show what the slot had held before, which may be
 * another volume's. So no batch is called durable that is not older than all of these. What was flushed does not need that: it
 * is there, and matches.
 */

import { check } from '../../core/check.js';

export class FirstWrites {
  /** Batches in order, from the oldest with a content that has not ended; and how many of these each has. */
  private readonly sequences: number[] = [];
  private readonly counts: number[] = [];

  /** A content is handed over whose records are in a batch that is not older than those before. */
  begin(sequence: number): void {
    const last = this.sequences.length - 1;
    check(last < 0 || sequence >= this.sequences[last], 'a first write goes back in the journal', sequence);
    if (last >= 0 && this.sequences[last] === sequence) this.counts[last] += 1;
    else {
      this.sequences.push(sequence);
      this.counts.push(1);
    }
  }

  /** It has ended, or its records have been taken back by others that come later. */
  end(sequence: number): void {
    const { sequences, counts } = this;
    const at = sequences.indexOf(sequence);
    check(at >= 0 && counts[at] > 0, 'a first write ends twice, or was not begun', sequence);
    counts[at] -= 1;
    while (counts.length > 0 && counts[0] === 0) {
      sequences.shift();
      counts.shift();
    }
  }

  /** The oldest batch with a content that has not ended; infinite if all have. */
  get oldest(): number {
    return this.sequences.length === 0 ? Number.POSITIVE_INFINITY : this.sequences[0];
  }
}
