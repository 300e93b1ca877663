/** A process that enumerates crashes: one workload and seed after another, as it is told by `scripts/crash-images.mjs`. */

import { CrashEnumeration } from './crash-images.js';
import { WORKLOADS } from './crash-workloads.js';

/** Digests that are sent together. */
const TOGETHER = 200;

interface CrashJob {
  readonly seed: number;
  /** Number of the workload. */
  readonly workload: number;
}

async function enumerate({ seed, workload }: CrashJob): Promise<void> {
  let digests: number[] = [];
  const send = (done: boolean) => {
    process.send?.({ digests, counts: enumeration.counts, done });
    digests = [];
  };
  const enumeration = new CrashEnumeration({
    seed,
    workload: WORKLOADS[workload],
    onImage: (digest) => {
      if (digests.push(digest) === TOGETHER) send(false);
    },
  });
  await enumeration.run();
  send(true);
}

process.on('message', (job: CrashJob) => void enumerate(job));
