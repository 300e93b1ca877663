/** Waiting for what a node does in the background. */

import type { ControlVolume } from '../control/calls.js';
import { callNode } from '../control/client.js';
import { StrakeError } from '../core/errors.js';
import type { NodeVolumeStatus } from '../embed/node-types.js';
import { Progress } from './progress.js';

const LOOK_MS = 200;

type Job = NodeVolumeStatus['jobs'][number];

export interface WaitOptions {
  readonly quiet?: boolean;
  /** True waits for as long as it takes; a number of seconds ends with `ERR_STRAKE_TIMED_OUT`. */
  readonly wait?: number | true;
}

/** Jobs of some volumes, and of some kinds. */
export interface JobFilter {
  readonly volumes: readonly string[];
  readonly kinds: readonly Job['kind'][];
}

function jobsOf(volumes: readonly ControlVolume[], filter: JobFilter): Job[] {
  const chosen = volumes.filter(({ name }) => filter.volumes.includes(name));
  return chosen.flatMap(({ jobs }) => jobs.filter(({ kind }) => filter.kinds.includes(kind)));
}

/**
 * Waits until no such job is running. Throws `ERR_STRAKE_IO` if one has failed or was given up, and `ERR_STRAKE_TIMED_OUT`,
 * which leaves the jobs running.
 */
export async function waitForJobs(socket: string, filter: JobFilter, options: WaitOptions): Promise<void> {
  const progress = new Progress(filter.kinds.join(' and '), options.quiet);
  const deadline =
    typeof options.wait === 'number' ? performance.now() + options.wait * 1000 : Number.POSITIVE_INFINITY;
  try {
    for (;;) {
      const jobs = jobsOf((await callNode(socket, 'volumes', {})).volumes, filter);
      const sum = (field: 'bytesDone' | 'bytesTotal') => jobs.reduce((total, job) => total + job[field], 0);
      if (!jobs.some(({ state }) => state === 'running')) return checkEnds(jobs);
      progress.update(sum('bytesDone'), sum('bytesTotal'));
      if (performance.now() > deadline) {
        throw new StrakeError('TIMED_OUT', 'it is still running', {
          remedy: 'It goes on; `strake status` shows how far.',
        });
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  } finally {
    progress.end();
  }
}

function checkEnds(jobs: readonly Job[]): void {
  const bad = jobs.filter(({ state }) => state === 'failed' || state === 'cancelled');
  if (bad.length === 0) return;
  const what = bad.map(({ kind, state, reason }) => [kind, state, reason].filter(Boolean).join(' ')).join('; ');
  throw new StrakeError('IO', what, { remedy: '`strake status` tells what is wrong, and what to do about it.' });
}
