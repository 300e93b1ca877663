/** Jobs of a node: known by ids, ended in bounded time, and in nobody's way. */

import * as assert from 'uvu/assert';
import { JOBS_KEPT_MAX } from '#strake/core/limits.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { check, run } from '../support/check.js';
import { rejects } from '../support/sim.js';
import { deviceIdOf, SimNode, VOLUME_NAME } from '../support/sim-node.js';
import { diskOf, SLOT } from '../support/sim-store.js';

/** So slow that no job comes to its end. */
const SLOWLY = 16;
const SECOND_US = 1_000_000;

/** A node with a mirror on its first two devices, in which some segments are written. */
async function mirrored(seed = 1) {
  const disks = [diskOf(64), diskOf(64), diskOf(64)];
  const sim = new SimNode(seed);
  for (const [number, disk] of disks.slice(0, 2).entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror();
  for (let stripe = 0; stripe < 6; stripe += 1) assert.is(await sim.write(stripe, 0, stripe), 4096);
  return { sim, disks };
}

/** Lets simulated time pass. */
async function pass(sim: SimNode, us: number): Promise<void> {
  await sim.settle(sim.begin((token) => sim.loop.after(us / 1000, token)));
}

/** Simulated time that something takes. */
async function timeOf(sim: SimNode, work: Promise<unknown>): Promise<number> {
  const before = sim.loop.nowUs;
  await sim.settle(work);
  return sim.loop.nowUs - before;
}

check('a node, and a volume, end within a second whatever the rate of their jobs', [], async () => {
  const { sim } = await mirrored();
  const other = { id: 'b'.repeat(32), name: 'other', layout: 'single', copies: 1, createdMs: 1 } as const;
  await sim.settle(sim.node.create({ ...other, sizeBytes: SLOT }));
  sim.engine.scrub({ bytesPerSecond: SLOWLY });
  await pass(sim, SECOND_US / 2);
  assert.ok((await timeOf(sim, sim.node.grow('other', 2 * SLOT))) < SECOND_US);
  assert.ok((await timeOf(sim, sim.node.delete(VOLUME_NAME))) < SECOND_US);
  const [job] = sim.node.jobs.list();
  assert.equal([job.volume, job.state, job.reason], [VOLUME_NAME, 'cancelled', 'the volume is being stopped']);
  await sim.settle(sim.node.close());

  const again = await mirrored();
  again.sim.engine.scrub({ bytesPerSecond: SLOWLY });
  await pass(again.sim, SECOND_US / 2);
  assert.ok((await timeOf(again.sim, again.sim.node.close())) < SECOND_US);
});

check('jobs are known by ids that are not given again, and only so many that have ended are kept', [], async () => {
  const { sim } = await mirrored();
  sim.node.jobs.beginAbove(1000);
  for (let count = 1; count <= JOBS_KEPT_MAX + 5; count += 1) {
    const job = sim.engine.scrub();
    assert.is(job.id, 1000 + count);
    await sim.settle(job.unwound);
  }
  const last = sim.engine.scrub({ bytesPerSecond: SLOWLY });
  const ids = sim.node.jobs.list().map(({ id }) => id);
  assert.is(ids.length, JOBS_KEPT_MAX + 1);
  assert.equal([ids[0], ids.at(-1)], [last.id - JOBS_KEPT_MAX, last.id]);
  await rejects(sim.node.jobs.cancel(1001), /there is no job/);
  assert.is((await sim.node.jobs.cancel(ids[0])).state, 'done', 'what has ended stays as it is');
  assert.is((await sim.node.jobs.cancel(last.id)).state, 'cancelled');
  await sim.settle(sim.node.close());
});

check('a copy whose resync was cancelled is brought up to date when its device is given once more', [], async () => {
  const { sim, disks } = await mirrored();
  disks[1].vanished = true;
  assert.is(await sim.write(0, 0, 7), 4096);
  await sim.settle(sim.node.forget(deviceIdOf(1)));
  disks[1].vanished = false;
  const entry = await sim.open(disks[1]);
  disks[1].faults.add({ ops: ['write'], action: { kind: 'slow', byUs: 100_000 } });
  await sim.settle(sim.node.takeBack(entry));
  const job = sim.node.jobs.list().at(-1);
  assert.equal([job?.kind, job?.deviceId, job?.state], ['resync', deviceIdOf(1), 'running']);
  sim.node.jobs.cancel(job?.id ?? 0);
  await sim.loop.run(() => !sim.engine.isSynced(0, 0) && !sim.engine.isSynced(0, 1));
  await sim.settle(sim.engine.changesEnded());
  assert.equal(sim.states().sort(), ['in-sync', 'offline']);
  disks[1].faults.clear();
  await sim.settle(sim.node.takeBack(entry));
  await sim.settle(sim.node.takeBack(entry));
  await sim.jobsEnded();
  assert.equal(sim.states(), ['in-sync', 'in-sync']);
  const resyncs = sim.node.jobs.list().filter(({ kind }) => kind === 'resync');
  assert.is(resyncs.length, 2, 'what goes on already is not begun a second time');
  await sim.settle(sim.node.close());
});

check(
  'a device that is given while a resync of it is being given up is brought up to date all the same',
  [],
  async () => {
    const { sim, disks } = await mirrored();
    disks[1].vanished = true;
    assert.is(await sim.write(0, 0, 7), 4096);
    await sim.settle(sim.node.forget(deviceIdOf(1)));
    disks[1].vanished = false;
    const entry = await sim.open(disks[1]);
    disks[1].faults.add({ ops: ['write'], action: { kind: 'slow', byUs: 100_000 } });
    await sim.settle(sim.node.takeBack(entry));
    const [job] = sim.node.jobs.list().filter(({ kind }) => kind === 'resync');
    await sim.loop.run(() => sim.states()[1] === 'syncing' || sim.states()[0] === 'syncing');
    sim.node.jobs.cancel(job.id);
    await sim.settle(sim.node.takeBack(entry));
    await sim.jobsEnded();
    await sim.settle(sim.engine.changesEnded());
    assert.equal(sim.states(), ['in-sync', 'in-sync']);
    await sim.settle(sim.node.close());
  },
);

/** Asks for things in an order drawn from a seed, without waiting, and then closes the node. */
async function interleave(seed: number): Promise<void> {
  const { sim, disks } = await mirrored(seed);
  const random = new SimRandom(seed);
  const { node } = sim;
  const names = [VOLUME_NAME, 'one', 'two'];
  const name = () => names[random.below(names.length)];
  const spare: SimDisk = disks[2];
  await sim.format(spare, 2);
  await sim.open(spare);
  let made = 0;
  const store = () => [...node.stores.values()][random.below(node.stores.size)];
  const operations: (() => unknown)[] = [
    () => {
      made += 1;
      const id = made.toString(16).padStart(32, 'c');
      const spec = { id, name: name(), layout: 'mirror', copies: 2, createdMs: 1 } as const;
      return node.create({ ...spec, sizeBytes: 4 * SLOT });
    },
    () => node.delete(name()),
    () => node.grow(name(), (64 + random.below(64)) * SLOT),
    () => node.scrub(name(), random.chance(0.5) ? SLOWLY : 0),
    () => node.jobs.list().length > 0 && node.jobs.cancel(node.jobs.list()[0].id),
    () => node.takeBack(store()),
    () => node.forget(store().superblock.deviceId),
    () => node.replace(store().superblock.deviceId, store()),
    () => node.started(name()),
    () => node.volumeReports(),
  ];
  if (random.chance(0.5))
    disks[random.below(3)].faults.add({ action: { kind: 'slow', byUs: 50_000 }, probability: 0.2 });
  const asked: Promise<unknown>[] = [];
  for (let step = 0; step < 40; step += 1) {
    const operation = operations[random.below(operations.length)];
    asked.push((async () => operation())().catch(() => {}));
    if (random.chance(0.5)) await pass(sim, random.below(20_000));
  }
  if (random.chance(0.5)) await sim.settle(Promise.all(asked));
  const closed = node.close();
  await sim.settle(Promise.all(asked));
  await sim.settle(closed.catch(() => {}));
  assert.equal([node.stores.size, node.volumes.size], [0, 0], `seed ${seed}`);
}

check('control calls come to their ends in whatever order they are asked for', [], async () => {
  for (let seed = 1; seed <= 60; seed += 1) await interleave(seed);
});

run();
