/** The jobs of one volume: those that go on, and of those that have ended the last of each kind and place. */

import { check } from '../../core/check.js';
import type { JobProgress, VolumeEvent } from '../volume-events.js';
import { Job, type JobHost, type JobOptions, type JobPlace } from './job.js';

export interface VolumeJobsOptions {
  /** Ids for jobs; 1 and on if absent. */
  readonly nextJobId?: () => number;
  /** A job has begun. */
  readonly onJob?: (job: Job) => void;
  readonly onEvent: (event: VolumeEvent) => void;
}

export class VolumeJobs {
  private readonly host: JobHost;
  private readonly options: VolumeJobsOptions;
  private jobs: Job[] = [];
  private lastId = 0;

  constructor(host: JobHost, options: VolumeJobsOptions) {
    this.host = host;
    this.options = options;
  }

  /** Begins a job; `undo` is called if `work` fails. */
  start(
    place: Omit<JobPlace, 'id'>,
    options: JobOptions,
    work: (job: Job) => Promise<void>,
    undo: (reason: string) => void,
  ): Job {
    const { kind, group, position } = place;
    this.lastId += 1;
    const id = this.options.nextJobId?.() ?? this.lastId;
    const same = this.jobs.filter((other) => !other.over && other.kind === kind && other.group === group);
    check(!same.some((other) => other.position === position), 'two jobs do the same work', id);
    check(!this.jobs.some((other) => other.id === id), 'two jobs have one number', id);
    const job = new Job({ id, kind, group, position }, this.host, options, work, undo);
    this.jobs = this.jobs.filter(
      (other) => !other.over || other.kind !== kind || other.group !== group || other.position !== position,
    );
    this.jobs.push(job);
    this.options.onJob?.(job);
    job.ended.then(() => this.options.onEvent({ kind: 'job-ended', job: job.progress }));
    return job;
  }

  /** The job of this kind that goes on, or is being given up. */
  unfinished(wanted: JobPlace['kind']): Job | undefined {
    return this.jobs.find(({ kind, over }) => kind === wanted && !over);
  }

  /** Whether a job goes on at just this place, or is being given up. */
  isSynced({ group, position }: Pick<JobPlace, 'group' | 'position'>): boolean {
    return this.jobs.some((job) => !job.over && job.group === group && job.position === position);
  }

  /** Resolves when nothing goes on any more of jobs at just this place that have been cancelled or have failed. */
  async givenUp({ group, position }: Pick<JobPlace, 'group' | 'position'>): Promise<void> {
    const ended = this.jobs.filter((job) => !job.running && job.group === group && job.position === position);
    await Promise.all(ended.map(({ unwound }) => unwound));
  }

  cancel(reason: string): void {
    for (const job of this.jobs) job.cancel(reason);
  }

  /** Resolves when nothing of those that are known now goes on any more. */
  async unwound(): Promise<void> {
    await Promise.all(this.jobs.map(({ unwound }) => unwound));
  }

  get progress(): JobProgress[] {
    return this.jobs.map(({ progress }) => progress);
  }
}
