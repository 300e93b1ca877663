/** A job of an engine that runs on another shard, as it was told last. */

import type { JobPlace } from '../client/jobs/job.js';
import type { JobProgress } from '../client/volume-events.js';
import type { BookedJob } from '../volumes/engine-elsewhere.js';

const NOTHING = { bytesDone: 0, bytesTotal: 0, segmentsDone: 0, segmentsTotal: 0, bytesCopied: 0 };

export class AwayJob implements BookedJob {
  readonly id: number;
  readonly kind: JobPlace['kind'];
  readonly group: JobPlace['group'];
  readonly position: JobPlace['position'];
  private readonly askToCancel: () => Promise<unknown>;
  private known: JobProgress;

  /** `id`: its number in the node; `place` says the one that it has there. */
  constructor(id: number, { kind, group, position }: JobPlace, askToCancel: () => Promise<unknown>) {
    this.id = id;
    this.kind = kind;
    this.group = group;
    this.position = position;
    this.askToCancel = askToCancel;
    const since = { state: 'running', bytesPerSecond: 0, elapsedMs: 0, reason: '' } as const;
    this.known = { id, kind, group, position, ...NOTHING, ...since };
  }

  learn(progress: JobProgress): void {
    this.known = { ...progress, id: this.id };
  }

  get running(): boolean {
    return this.known.state === 'running';
  }

  get progress(): JobProgress {
    return this.known;
  }

  async cancel(): Promise<void> {
    if (this.running) await this.askToCancel();
  }

  /** Its engine has gone, and it with that, whether anybody has told how it ended or not. */
  drop(): void {
    if (this.running) this.known = { ...this.known, state: 'cancelled', reason: 'the volume is being stopped' };
  }
}
