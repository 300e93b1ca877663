/**
 * The engine's own flush: of what nobody else flushes.
 *
 * Until a flush nothing is settled, so that whatever was modified has to be compared should this writer die, and what was
 * discarded keeps its slots. The engine flushes by itself when it has modified so many chunks since the last flush began, and
 * when something has gone unflushed for so long. Any flush counts, whoever has asked for it, so beside clients that flush there
 * are none of its own; and without modifications there are none at all.
 *
 * Requests of clients go on meanwhile. A flush of theirs waits for one that runs, as for any other.
 */

import { check } from '../../core/check.js';
import type { Watch, Watched } from '../../core/watch.js';
import type { Clock } from '../../ports/clock.js';
import type { ChunkIndex } from '../../ports/ids.js';
import { OWN_FLUSH_CHUNKS } from '../limits.js';

export class OwnFlush implements Watched {
  private readonly clock: Clock;
  private readonly watch: Watch;
  private readonly flush: () => Promise<unknown>;
  private readonly afterMs: () => number;
  /** Chunks that were modified since the last flush began. */
  private readonly chunks = new Set<number>();
  /** The one that was modified last: most often it is the next as well. */
  private lastChunk = -1;
  /** When the first of them was. */
  private sinceMs = 0;
  /** A flush has been asked for that has not begun. */
  private asked = false;
  private ended = false;

  /**
   * `afterMs`: how long a modification goes unflushed; it is looked at every `WATCH_MS`. `flush`: flushes the volume; what comes
   * of it is for others to notice.
   */
  constructor(clock: Clock, watch: Watch, afterMs: () => number, flush: () => Promise<unknown>) {
    this.afterMs = afterMs;
    this.clock = clock;
    this.watch = watch;
    this.flush = flush;
    watch.add(this);
  }

  /** A modification of a chunk has ended, and the next flush to begin covers it. */
  note(chunk: ChunkIndex): void {
    // One that is asked for has not begun, and covers this too. At the end only counts whether there is anything.
    if (chunk === this.lastChunk || this.asked || (this.ended && this.modified)) return;
    this.lastChunk = chunk;
    if (this.chunks.size === 0) {
      this.sinceMs = this.clock.nowMs();
      if (!this.ended) this.watch.start();
    }
    this.chunks.add(chunk);
    check(this.chunks.size <= OWN_FLUSH_CHUNKS, 'an engine has not flushed what it should have', this.chunks.size);
    if (this.chunks.size >= OWN_FLUSH_CHUNKS) this.ask();
  }

  /** A flush begins, which covers all that has ended. */
  begun(): void {
    this.chunks.clear();
    this.lastChunk = -1;
    this.asked = false;
  }

  /** Whether anything was modified that no flush which has begun covers. */
  get modified(): boolean {
    return this.chunks.size > 0;
  }

  get busy(): boolean {
    return this.chunks.size > 0 && !this.asked && !this.ended;
  }

  tick(nowMs: number): void {
    if (this.busy && nowMs - this.sinceMs >= this.afterMs()) this.ask();
  }

  private ask(): void {
    if (this.asked || this.ended) return;
    check(this.chunks.size > 0, 'an engine flushes by itself what is flushed');
    this.asked = true;
    void this.flush();
  }

  /** None begins any more. */
  close(): void {
    this.ended = true;
    this.watch.remove(this);
  }
}
