/** A process that enumerates crashes: one workload and seed after another, as it is told by `scripts/crash-images.mjs`. */

import { setImmediate } from 'node:timers/promises';
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
    onImage: async (digest) => {
      if (digests.push(digest) < TOGETHER) return;
      send(false);
      // A simulation lets nothing else happen in its process: not even what is sent be sent.
      await setImmediate();
    },
  });
  await enumeration.run();
  send(true);
}

process.on('disconnect', () => process.exit(1));
process.on('message', (job: CrashJob) => void enumerate(job));
