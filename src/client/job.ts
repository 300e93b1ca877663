/** Background work on a volume that can be watched, slowed down and cancelled. */

import { StrakeError, toStrakeError } from '../core/errors.js';
import { RESYNC_DEPTH, RESYNC_DEPTH_BUSY, RESYNC_YIELD_MS } from '../core/limits.js';
import type { Clock } from '../ports/clock.js';
import type { MemberCalls } from './member-calls.js';
import type { JobKind, JobProgress } from './volume-events.js';

export interface JobOptions {
  /** The most bytes that are compared or copied in a second; no limit by default. */
  readonly bytesPerSecond?: number;
}

/** What a job needs of its surroundings. */
export interface JobHost {
  readonly clock: Clock;
  readonly calls: MemberCalls;
  /** Whether requests of clients are in flight. */
  busy(): boolean;
}

export class Job {
  readonly kind: JobKind;
  readonly group: number;
  readonly position: number;
  /** Resolves when the job has ended, however; `progress` tells how. */
  readonly ended: Promise<void>;
  bytesDone = 0;
  bytesTotal = 0;
  bytesCopied = 0;
  segmentsDone = 0;
  segmentsTotal = 0;
  private state: JobProgress['state'] = 'running';
  private reason = '';
  private cancelled = false;
  private readonly host: JobHost;
  private readonly bytesPerSecond: number;
  /** When the next bytes may be moved. */
  private dueMs = 0;

  /** Starts `work`, which calls `check` often, and `undo` if that fails. */
  constructor(
    kind: JobKind,
    group: number,
    position: number,
    host: JobHost,
    options: JobOptions,
    work: (job: Job) => Promise<void>,
    undo: (reason: string) => void,
  ) {
    this.kind = kind;
    this.group = group;
    this.position = position;
    this.host = host;
    this.bytesPerSecond = options.bytesPerSecond ?? 0;
    this.ended = this.run(work, undo);
  }

  private async run(work: (job: Job) => Promise<void>, undo: (reason: string) => void): Promise<void> {
    try {
      await work(this);
      this.state = 'done';
    } catch (error) {
      this.state = this.cancelled ? 'cancelled' : 'failed';
      this.reason = toStrakeError(error).message;
      undo(this.reason);
    }
  }

  /** Makes the job end soon. What it did stays; what is left will be found by the next one. */
  cancel(): void {
    this.cancelled = true;
  }

  get running(): boolean {
    return this.state === 'running';
  }

  get progress(): JobProgress {
    const { kind, group, position, state, bytesDone, bytesTotal, bytesCopied, segmentsDone, segmentsTotal, reason } =
      this;
    return { kind, group, position, state, bytesDone, bytesTotal, bytesCopied, segmentsDone, segmentsTotal, reason };
  }

  /** Throws once the job has been cancelled. */
  check(): void {
    if (this.cancelled) throw new StrakeError('ABORTED', 'the job was cancelled');
  }

  /** Goes through segments, several at a time, fewer while clients are busy. */
  async each(stripes: number[], segmentBytes: number, work: (stripe: number) => Promise<void>): Promise<void> {
    this.segmentsTotal = stripes.length;
    this.bytesTotal = stripes.length * segmentBytes;
    const left = stripes.slice().reverse();
    let failed = false;
    const worker = async (number: number) => {
      while (left.length > 0 && !failed) {
        this.check();
        if (number >= RESYNC_DEPTH_BUSY && this.host.busy()) {
          await this.pause(RESYNC_YIELD_MS);
          continue;
        }
        const stripe = left.pop();
        if (stripe === undefined) return;
        await work(stripe).catch((error) => {
          failed = true;
          throw error;
        });
        this.segmentsDone += 1;
        this.bytesDone += segmentBytes;
      }
    };
    const ends = await Promise.allSettled(Array.from({ length: RESYNC_DEPTH }, (_, number) => worker(number)));
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }

  /** Waits as long as the rate asks for before `bytes` are moved. */
  async pace(bytes: number): Promise<void> {
    this.check();
    if (this.bytesPerSecond === 0) return;
    const nowMs = this.host.clock.nowMs();
    const startMs = Math.max(this.dueMs, nowMs);
    this.dueMs = startMs + (bytes * 1000) / this.bytesPerSecond;
    if (startMs > nowMs) await this.pause(startMs - nowMs);
    this.check();
  }

  private pause(delayMs: number): Promise<number> {
    return this.host.calls.call((token) => this.host.clock.after(delayMs, token));
  }
}
