/** Waiting for what a node does in the background. */

import type { ControlJobs } from '../control/calls.js';
import { callNode } from '../control/client.js';
import { StrakeError } from '../core/errors.js';
import type { NodeJob } from '../embed/node-types.js';
import { Progress } from './progress.js';

const LOOK_MS = 200;

export interface WaitOptions {
  readonly quiet?: boolean;
  /** True waits for as long as it takes; a number of seconds ends with `ERR_STRAKE_TIMED_OUT`. */
  readonly wait?: number | true;
}

/** The jobs of a node, among them those that have been begun. */
async function look(socket: string, known: ControlJobs | null): Promise<ControlJobs> {
  try {
    const found = await callNode(socket, 'jobs', {});
    if (known === null || found.startedAt === known.startedAt) return found;
  } catch (error) {
    if (!(error instanceof StrakeError) || error.code !== 'ERR_STRAKE_NO_NODE' || known === null) throw error;
  }
  throw new StrakeError('NO_NODE', 'the node was stopped while its jobs were waited for, which ended them', {
    remedy: 'Begin again when it is up; a copy that was being brought up to date goes on by itself then.',
  });
}

/**
 * Waits until these jobs have ended. Throws `ERR_STRAKE_IO` if one has failed, `ERR_STRAKE_ABORTED` if one was cancelled,
 * `ERR_STRAKE_NO_JOB` if what became of one is not known, `ERR_STRAKE_NO_NODE` if the node was stopped meanwhile, and
 * `ERR_STRAKE_TIMED_OUT`, which leaves the jobs running.
 */
export async function waitForJobs(socket: string, begun: readonly NodeJob[], options: WaitOptions): Promise<void> {
  const kinds = [...new Set(begun.map(({ kind }) => kind))];
  const progress = new Progress(kinds.join(' and '), options.quiet);
  const deadline =
    typeof options.wait === 'number' ? performance.now() + options.wait * 1000 : Number.POSITIVE_INFINITY;
  let known: ControlJobs | null = null;
  try {
    for (;;) {
      known = await look(socket, known);
      const { jobs } = known;
      const now = begun.map((job) => latest(job, jobs));
      const sum = (field: 'bytesDone' | 'bytesTotal') => now.reduce((total, job) => total + job[field], 0);
      if (!now.some(({ state }) => state === 'running')) return checkEnds(now);
      progress.update(sum('bytesDone'), sum('bytesTotal'));
      if (performance.now() > deadline) {
        throw new StrakeError('TIMED_OUT', 'it is still running', {
          remedy: 'It goes on; `strake job list` shows how far, `strake job cancel` ends it.',
        });
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  } finally {
    progress.end();
  }
}

function latest({ id, kind, volume, volumeId }: NodeJob, jobs: readonly NodeJob[]): NodeJob {
  const found = jobs.find((job) => job.id === id && job.volumeId === volumeId);
  if (found !== undefined) return found;
  const what = `what became of job ${id} (${kind} of ${volume}) is not known`;
  throw new StrakeError('NO_JOB', `${what}: the worker that did it has ended, or many have ended since`, {
    remedy: '`strake status` tells how the volume is; a scrub can be begun again.',
  });
}

function checkEnds(jobs: readonly NodeJob[]): void {
  const bad = jobs.filter(({ state }) => state !== 'done');
  if (bad.length === 0) return;
  const what = bad.map(({ id, kind, volume, state, reason }) => `job ${id}, ${kind} of ${volume}, ${state}: ${reason}`);
  if (bad.every(({ state }) => state === 'cancelled')) {
    throw new StrakeError('ABORTED', what.join('; '), { remedy: 'What it did stays. Begin again for the rest.' });
  }
  throw new StrakeError('IO', what.join('; '), {
    remedy: '`strake status` tells what is wrong, and what to do about it.',
  });
}
