/**
 * Background work on a volume that can be watched, slowed down and cancelled.
 *
 * ```text
 *   running ─┬─ done, failed ──────────── over
 *            └─ cancelled ── unwinding ── over
 * ```
 *
 * A job that is cancelled has ended at once for whoever looks at it: it begins nothing more, and what it waits for by itself
 * (its rate, a buffer) is given up within `JOB_STEP_MS`. It is *over* when the device operations that it had begun have ended
 * as well; on a device that hangs these are given up after `IO_TIMEOUT_MS`, as any other. Until then its place is taken.
 */

import type { Calls } from '../../core/calls.js';
import { check } from '../../core/check.js';
import { StrakeError, toStrakeError } from '../../core/errors.js';
import { inLanes } from '../../core/in-lanes.js';
import { JOB_STEP_MS, RESYNC_DEPTH, RESYNC_DEPTH_BUSY, RESYNC_YIELD_MS } from '../../core/limits.js';
import type { Clock } from '../../ports/clock.js';
import type { ChunkIndex, GroupIndex, MemberPosition } from '../../ports/ids.js';
import type { JobKind, JobProgress } from '../volume-events.js';

export interface JobOptions {
  /** The most bytes that are compared or copied in a second; no limit by default. */
  readonly bytesPerSecond?: number;
}

/** Which job it is, and where it works; -1 for all groups or positions. */
export interface JobPlace {
  readonly id: number;
  readonly kind: JobKind;
  readonly group: GroupIndex;
  readonly position: MemberPosition;
}

/** What a job needs of its surroundings. */
export interface JobHost {
  readonly clock: Clock;
  readonly calls: Calls;
  /** Whether requests of clients are in flight. */
  busy(): boolean;
}

export class Job implements JobPlace {
  readonly id: number;
  readonly kind: JobKind;
  readonly group: GroupIndex;
  readonly position: MemberPosition;
  /** Resolves when the job has ended, however; `progress` tells how. */
  readonly ended: Promise<void>;
  /** Resolves when nothing of it goes on any more. */
  readonly unwound: Promise<void>;
  /** Whether nothing of it goes on any more. */
  over = false;
  bytesDone = 0;
  bytesTotal = 0;
  bytesCopied = 0;
  segmentsDone = 0;
  segmentsTotal = 0;
  private state: JobProgress['state'] = 'running';
  private reason = '';
  private readonly host: JobHost;
  private readonly bytesPerSecond: number;
  private readonly startedMs: number;
  private endedMs = 0;
  /** When the next bytes may be moved. */
  private dueMs = 0;
  private noteEnd: () => void = () => {};
  private readonly cancelCallbacks = new Set<() => void>();

  /** Starts `work`, which calls `check` often, and `undo` if that fails. */
  constructor(
    { id, kind, group, position }: JobPlace,
    host: JobHost,
    options: JobOptions,
    work: (job: Job) => Promise<void>,
    undo: (reason: string) => void,
  ) {
    this.id = id;
    this.kind = kind;
    this.group = group;
    this.position = position;
    this.host = host;
    this.bytesPerSecond = options.bytesPerSecond ?? 0;
    this.startedMs = host.clock.nowMs();
    this.ended = new Promise((resolve) => {
      this.noteEnd = resolve;
    });
    this.unwound = this.run(work, undo);
  }

  private async run(work: (job: Job) => Promise<void>, undo: (reason: string) => void): Promise<void> {
    try {
      await work(this);
      this.end('done', '');
    } catch (error) {
      this.end('failed', toStrakeError(error).message);
      undo(this.reason);
    }
    check(this.cancelCallbacks.size === 0, 'a job is over for which somebody waits', this.cancelCallbacks.size);
    this.over = true;
  }

  private end(state: JobProgress['state'], reason: string): void {
    if (this.state !== 'running') return;
    this.state = state;
    this.reason = reason;
    this.endedMs = this.host.clock.nowMs();
    this.noteEnd();
  }

  /** Ends the job. What it did stays; what is left will be found by the next one. */
  cancel(reason = 'it was cancelled'): void {
    this.end('cancelled', reason);
    for (const callback of this.cancelCallbacks) callback();
    this.cancelCallbacks.clear();
  }

  /** Calls back should the job be cancelled. Returns what calls that off. */
  onCancel(callback: () => void): () => void {
    this.cancelCallbacks.add(callback);
    return () => this.cancelCallbacks.delete(callback);
  }

  get running(): boolean {
    return this.state === 'running';
  }

  get progress(): JobProgress {
    const { id, kind, group, position, state, reason, bytesPerSecond } = this;
    const { bytesDone, bytesTotal, bytesCopied, segmentsDone, segmentsTotal } = this;
    const untilMs = this.running ? this.host.clock.nowMs() : this.endedMs;
    const elapsedMs = Math.round(untilMs - this.startedMs);
    const counts = { bytesDone, bytesTotal, bytesCopied, segmentsDone, segmentsTotal };
    return { id, kind, group, position, state, ...counts, bytesPerSecond, elapsedMs, reason };
  }

  /** Throws once the job has been cancelled. */
  check(): void {
    if (!this.running) throw new StrakeError('ABORTED', 'the job was cancelled');
  }

  /** Goes through segments, several at a time, fewer while clients are busy. */
  async each(stripes: number[], segmentBytes: number, work: (stripe: ChunkIndex) => Promise<void>): Promise<void> {
    check(this.segmentsTotal === 0, 'a job goes through segments a second time', this.id);
    this.segmentsTotal = stripes.length;
    this.bytesTotal = stripes.length * segmentBytes;
    const each = async (stripe: ChunkIndex) => {
      await work(stripe);
      this.segmentsDone += 1;
      check(this.segmentsDone <= this.segmentsTotal, 'a job has done more than there is', this.segmentsDone);
      this.bytesDone += segmentBytes;
    };
    await inLanes(RESYNC_DEPTH, stripes, each, (lane) => {
      this.check();
      if (lane < RESYNC_DEPTH_BUSY || !this.host.busy()) return null;
      return this.pauseUntil(this.host.clock.nowMs() + RESYNC_YIELD_MS);
    });
    check(this.segmentsDone === this.segmentsTotal, 'a job has left out segments', this.segmentsDone);
  }

  /** Waits as long as the rate asks for before `bytes` are moved. */
  async pace(bytes: number): Promise<void> {
    this.check();
    if (this.bytesPerSecond === 0) return;
    const startMs = Math.max(this.dueMs, this.host.clock.nowMs());
    this.dueMs = startMs + (bytes * 1000) / this.bytesPerSecond;
    await this.pauseUntil(startMs);
  }

  /** In steps: a timer cannot be called off, and whoever closes the volume has to wait for it. */
  private async pauseUntil(endMs: number): Promise<void> {
    const { calls, clock } = this.host;
    for (let nowMs = clock.nowMs(); nowMs < endMs; nowMs = clock.nowMs()) {
      const stepMs = Math.max(1, Math.min(endMs - nowMs, JOB_STEP_MS));
      const result = await calls.call((token) => clock.after(stepMs, token));
      this.check();
      if (result < 0) throw new StrakeError('ABORTED', 'the engine is being closed');
    }
  }
}
