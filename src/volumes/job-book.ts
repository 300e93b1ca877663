/** The jobs of all volumes of a node: those that go on, and so many of those that have ended. */

import type { JobProgress } from '../client/volume-events.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { JOBS_KEPT_MAX } from '../core/limits.js';
import type { BookedJob } from './engine-elsewhere.js';

/** A job of a node, as plain data. */
export interface JobReport extends JobProgress {
  readonly volumeId: string;
  /** Name of the volume. */
  readonly volume: string;
  /** The device that is brought up to date; null for a job that has to do with all. */
  readonly deviceId: string | null;
}

interface Entry {
  readonly job: BookedJob;
  readonly about: () => Pick<JobReport, 'volumeId' | 'volume' | 'deviceId'>;
}

export class JobBook {
  /** In the order of their beginnings. */
  private entries: Entry[] = [];
  private lastId = 0;

  /** Ids begin above this one: those of an earlier worker of the same node are not given again. */
  beginAbove(id: number): void {
    this.lastId = Math.max(this.lastId, id);
  }

  nextId(): number {
    this.lastId += 1;
    return this.lastId;
  }

  add(job: BookedJob, about: Entry['about']): void {
    check(job.id > 0 && job.id <= this.lastId, 'a job has a number that was not given', job.id);
    check(!this.entries.some((entry) => entry.job.id === job.id), 'two jobs of a node have one number', job.id);
    this.entries.push({ job, about });
    const ended = this.entries.filter((entry) => !entry.job.running);
    const dropped = new Set(ended.slice(0, Math.max(0, ended.length - JOBS_KEPT_MAX)));
    if (dropped.size > 0) this.entries = this.entries.filter((entry) => !dropped.has(entry));
  }

  list(): JobReport[] {
    return this.entries.map(report);
  }

  /** Cancels a job, if it has not ended. Rejects with `ERR_STRAKE_NO_JOB`. */
  async cancel(id: number): Promise<JobReport> {
    const found = this.entries.find(({ job }) => job.id === id);
    if (found === undefined) throw new StrakeError('NO_JOB', `there is no job ${id}`);
    await found.job.cancel();
    return report(found);
  }
}

function report({ job, about }: Entry): JobReport {
  return { ...job.progress, ...about() };
}
