/**
 * Every mechanism that orders writes of the segment store, and every image that a power cut in the middle of it may leave: a
 * sample that takes seconds. `npm run crash-images` looks at more of them, with more seeds.
 */

import * as assert from 'uvu/assert';
import { check, repetitions, run } from '../support/check.js';
import { CrashEnumeration } from '../support/crash-images.js';
import { WORKLOADS, type Workload } from '../support/crash-workloads.js';

const SEED = Number(process.env.STRAKE_SEED ?? 1);
/** Images of one instant that are recovered, so that all workloads together have some more than are demanded. */
const PER_INSTANT = repetitions(35, 5);
/** Few images have to be cut again more often, so that there are some of each workload. */
const AGAIN_ONE_IN = repetitions(64, 24);
const DISTINCT = repetitions(10_000, 1_500);

const digests = new Set<number>();
const sums = { images: 0, instants: 0, exhaustive: 0, sampled: 0 };

for (const workload of WORKLOADS) {
  check(`C5 F2 all that power cuts may leave can be recovered: ${workload.name}`, async () => {
    const onImage = (digest: number) => digests.add(digest);
    const counts = await new CrashEnumeration({
      seed: SEED,
      workload,
      perInstant: PER_INSTANT,
      againOneIn: AGAIN_ONE_IN,
      onImage,
    }).run();
    assert.equal(counts.failures, []);
    assert.ok(counts.exhaustive > 0 && counts.ofRecovery > 0, JSON.stringify(counts));
    sums.images += counts.images;
    sums.instants += counts.instants;
    sums.exhaustive += counts.exhaustive;
    sums.sampled += counts.sampled;
  });
}

check('those were enough of them', () => {
  console.log(JSON.stringify({ ...sums, distinct: digests.size }));
  assert.ok(digests.size >= DISTINCT, `only ${digests.size} images`);
});

check('a device that lies about a sync is found out, and each image can be had again by its name', async () => {
  const workload: Workload = {
    name: 'lie',
    work: async (life) => {
      await life.all(life.worker.write(0, 0), life.worker.write(1, 0));
      life.disk.faults.add({ ops: ['sync'], action: { kind: 'lie' } });
      await life.all(life.worker.flush());
    },
  };
  const { failures } = await new CrashEnumeration({ seed: SEED, workload, perInstant: PER_INSTANT }).run();
  assert.ok(failures.length > 0);
  for (const failure of failures) {
    const only = /image 'lie\/(.*?)'/.exec(failure)?.[1];
    const again = await new CrashEnumeration({ seed: SEED, workload, only }).run();
    assert.equal(again.failures, [failure]);
  }
});

run();
