/**
 * The shard's end of the rings to an in-process client: requests become operations on volumes, their ends become replies.
 *
 * Requests are checked as if they came from outside: a client that writes nonsense gets errors, and hurts nobody else. One that
 * breaks the rings themselves, by nonsense among their indices or by leaving its replies where they are, is not served any
 * more.
 */

import { EBADF, EINVAL } from '../core/errno.js';
import { BLOCK_BYTES, CLIENT_CHUNK_BYTES, CLIENT_REQUESTS_MAX } from '../core/limits.js';
import { alignDown, alignUp } from '../core/units.js';
import type { Watch, Watched } from '../core/watch.js';
import { COMPLETION_ABANDONED, type CompletionPort } from '../ports/completion.js';
import { DEVICE_FAST_ONLY, DEVICE_FUA, DEVICE_KEEP_ALLOCATED } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import type { Volume } from '../ports/volume.js';
import { RingConsumer, RingCorruptError, RingProducer } from '../ring/spsc-ring.js';
import {
  REPLY_DONE,
  REPLY_LATE,
  REQUEST_DISCARD,
  REQUEST_FLUSH,
  REQUEST_READ,
  REQUEST_WRITE,
  REQUEST_ZERO,
} from './ring-protocol.js';

export interface RingServiceOptions {
  readonly requests: SharedArrayBuffer;
  readonly replies: SharedArrayBuffer;
  /** Where the client's buffers are, and how long that region is; both in whole pages. */
  readonly memoryStart: number;
  readonly memoryBytes: number;
  readonly volume: (device: number) => Volume | undefined;
  /** Wakes the client. */
  readonly wake: () => void;
  /** The rings cannot be believed: nothing is taken from them or put into them any more. */
  readonly onBroken: (why: string) => void;
}

const FLAGS_KNOWN = DEVICE_FUA | DEVICE_KEEP_ALLOCATED | DEVICE_FAST_ONLY;

export class RingService implements Watched {
  private readonly completions: CompletionPort;
  private readonly memory: Memory;
  private readonly options: RingServiceOptions;
  private readonly watch: Watch;
  private readonly requests: RingConsumer;
  private readonly replies: RingProducer;
  private readonly token: number;
  /** By tag: where the request's payload lies. */
  private readonly starts = new Uint32Array(CLIENT_REQUESTS_MAX);
  private readonly lengths = new Uint32Array(CLIENT_REQUESTS_MAX);
  private running = 0;
  private unpublished = false;
  private broken = false;
  private readonly batchEnd = () => {
    if (this.unpublished) this.publish();
  };

  constructor(completions: CompletionPort, memory: Memory, watch: Watch, options: RingServiceOptions) {
    this.completions = completions;
    this.memory = memory;
    this.watch = watch;
    this.options = options;
    this.requests = new RingConsumer(options.requests);
    this.replies = new RingProducer(options.replies);
    this.token = completions.register({
      complete: (tag, result, flags) => this.end(tag, result, flags),
    });
    completions.onBatchEnd(this.batchEnd);
    watch.add(this);
    this.drain();
  }

  get busy(): boolean {
    return this.running > 0;
  }

  tick(): void {}

  /** Takes what the client has written. Called when it has woken this shard. */
  drain(): void {
    if (this.broken) return;
    const { requests } = this;
    try {
      do {
        for (let word = requests.next(); word >= 0; word = requests.next()) this.begin(word);
        requests.release();
      } while (!requests.sleep());
    } catch (error) {
      this.breakFor(error);
    }
  }

  /** Ends the service of this client. What is thrown for other reasons goes on. */
  private breakFor(error: unknown): void {
    if (!(error instanceof RingCorruptError)) throw error;
    if (this.broken) return;
    this.broken = true;
    this.options.onBroken(error.message);
  }

  private begin(word: number): void {
    const { words, floats } = this.requests;
    const op = words[word];
    const tag = words[word + 1];
    const length = words[word + 3];
    const offset = floats[(word >> 1) + 2];
    const memory = words[word + 6];
    const flags = words[word + 7];
    const span = floats[(word >> 1) + 4];
    if (tag < 0 || tag >= CLIENT_REQUESTS_MAX) return;
    const volume = this.options.volume(words[word + 2]);
    const bad = (flags & ~FLAGS_KNOWN) !== 0 ? EINVAL : 0;
    const error = volume === undefined ? EBADF : bad || this.check(op, volume, offset, length, span, memory);
    if (volume === undefined || error !== 0) {
      this.reply(REPLY_DONE, tag, -error, 0, 0);
      return;
    }
    this.starts[tag] = memory;
    this.lengths[tag] = length;
    this.running += 1;
    this.watch.start();
    const token = this.token + tag;
    switch (op) {
      case REQUEST_READ:
        volume.read(memory, length, offset, token);
        break;
      case REQUEST_WRITE:
        volume.write(memory, length, offset, flags, token);
        break;
      case REQUEST_FLUSH:
        volume.flush(token);
        break;
      case REQUEST_DISCARD:
        volume.discardRange(offset, span, flags, token);
        break;
      default:
        volume.zero(offset, span, flags, token);
    }
  }

  private end(tag: number, result: number, flags: number): void {
    this.running -= 1;
    this.reply(REPLY_DONE, tag, result, flags, 0);
    if ((flags & COMPLETION_ABANDONED) === 0) return;
    const start = this.starts[tag];
    // Whole blocks around the payload were used.
    const from = alignDown(start, BLOCK_BYTES);
    const to = alignUp(start + this.lengths[tag], BLOCK_BYTES);
    this.memory.whenFree(from, to - from, () => this.reply(REPLY_LATE, 0, 0, 0, start));
  }

  private check(op: number, volume: Volume, offset: number, length: number, span: number, memory: number): number {
    if (op === REQUEST_FLUSH) return 0;
    if (!Number.isSafeInteger(offset) || offset < 0) return EINVAL;
    if (op === REQUEST_DISCARD || op === REQUEST_ZERO) {
      return Number.isSafeInteger(span) && span > 0 && offset + span <= volume.sizeBytes ? 0 : EINVAL;
    }
    if (op !== REQUEST_READ && op !== REQUEST_WRITE) return EINVAL;
    if (length <= 0 || length > CLIENT_CHUNK_BYTES || offset + length > volume.sizeBytes) return EINVAL;
    // Whole blocks around the payload are used as well: where these lie in whole pages, the region holds them too.
    if ((memory - offset) % BLOCK_BYTES !== 0) return EINVAL;
    const { memoryStart, memoryBytes } = this.options;
    return memory >= memoryStart && memory + length <= memoryStart + memoryBytes ? 0 : EINVAL;
  }

  /** The ring has an entry for each request in flight, and as many again for what is late. */
  private reserveReply(): number {
    try {
      const word = this.replies.reserve();
      if (word < 0) throw new RingCorruptError('nobody takes its replies');
      return word;
    } catch (error) {
      this.breakFor(error);
      return -1;
    }
  }

  private reply(kind: number, tag: number, result: number, flags: number, memory: number): void {
    const word = this.broken ? -1 : this.reserveReply();
    if (word < 0) return;
    const { words } = this.replies;
    words[word] = kind;
    words[word + 1] = tag;
    words[word + 2] = result;
    words[word + 3] = flags;
    words[word + 4] = memory;
    this.unpublished = true;
    // What ends behind an `await` ends between two batches, and the next one might be long in coming.
    if (!this.completions.inBatch) this.publish();
  }

  private publish(): void {
    if (!this.unpublished || this.broken) return;
    this.unpublished = false;
    if (this.replies.publish()) this.options.wake();
  }

  close(): void {
    this.watch.remove(this);
    this.completions.offBatchEnd(this.batchEnd);
    this.completions.unregister(this.token);
  }
}
