/** A shard that has devices of a node dies at any instant: what goes on without it, what is stopped, and what comes back. */

import * as assert from 'uvu/assert';
import { check, repetitions, run } from '../support/check.js';
import { SectorHistory } from '../support/sector-history.js';
import { SimLoad } from '../support/sim-load.js';
import { AREAS, deviceIdOf, SimNode } from '../support/sim-node.js';
import { diskOf, randomOf, SLOT } from '../support/sim-store.js';

const SEEDS = Number(process.env.STRAKE_SEEDS ?? repetitions(20, 4));
const SEGMENTS = 8;

check('clients of a mirror go on when the shard of a copy dies, and the copy comes back', [], async () => {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const random = randomOf(seed);
    const sim = new SimNode(seed);
    const disks = [diskOf(80), diskOf(80)];
    for (const [number, disk] of disks.entries()) await sim.format(disk, number);
    await sim.open(disks[0]);
    await sim.openAway(disks[1], 1);
    await sim.createMirror(2, SEGMENTS);
    const history = new SectorHistory(seed, SEGMENTS * SLOT);
    const load = new SimLoad(sim, history, random.fork('load'), random.between(4, AREAS));
    for (let death = 0; death < 3; death += 1) {
      await load.reach(random.between(1, 200));
      await sim.loseShard();
      assert.equal(sim.states(), ['in-sync', 'offline'], `seed ${seed}`);
      assert.equal([...sim.node.devices.keys()], [deviceIdOf(0)]);
      await load.reach(random.between(1, 100));
      const entry = await sim.openAway(disks[1], 1);
      await sim.settle(sim.node.takeBack(entry));
      await load.run(() => sim.engine.status().jobs.every(({ state }) => state !== 'running'));
      assert.equal(sim.states(), ['in-sync', 'in-sync'], `seed ${seed}`);
    }
    await load.stop();
    for (let turn = 0; turn < 3; turn += 1) history.check(await load.content(), 'death', `seed ${seed}`);
    await sim.settle(sim.node.close());
  }
});

check('a volume whose copies were all there is stopped, says why, and serves again when one is back', [], async () => {
  const sim = new SimNode(7);
  const disks = [diskOf(80), diskOf(80), diskOf(80)];
  for (const [number, disk] of disks.entries()) await sim.format(disk, number);
  // The third is here, and has no copy.
  await sim.openAway(disks[0], 0);
  await sim.openAway(disks[1], 1);
  await sim.createMirror(2, SEGMENTS);
  await sim.open(disks[2]);
  assert.is(await sim.write(1, 2, 77), 4096);
  await sim.loseShard();
  const [report] = sim.node.volumeReports();
  assert.equal([report.status, report.reason], [null, 'its shard has died']);
  assert.throws(() => sim.engine, /its shard has died/);
  for (const number of [0, 1]) {
    const entry = await sim.openAway(disks[number], number);
    await sim.settle(sim.node.takeBack(entry));
  }
  await sim.jobsEnded();
  assert.equal(sim.states(), ['in-sync', 'in-sync']);
  for (let turn = 0; turn < 4; turn += 1) assert.is(await sim.read(1, 2), 77);
  await sim.settle(sim.node.close());
});

check(
  'a deleted volume gives its slots back on another shard, and its note goes when nobody needs it',
  [],
  async () => {
    const sim = new SimNode(8);
    const disks = [diskOf(80), diskOf(80)];
    for (const [number, disk] of disks.entries()) await sim.format(disk, number);
    await sim.open(disks[0]);
    await sim.openAway(disks[1], 1);
    await sim.createMirror(2, SEGMENTS);
    for (let stripe = 0; stripe < SEGMENTS; stripe += 1) await sim.write(stripe, 0, stripe + 1);
    await sim.settle(sim.shard.refresh());
    const away = sim.node.devices.get(deviceIdOf(1));
    const { id } = sim.node.volume('v');
    assert.equal([away?.segmentsOf(id, null), away?.segmentsOf(id, 0)], [SEGMENTS, SEGMENTS]);
    await sim.settle(sim.node.delete('v'));
    assert.equal([away?.segmentsOf(id, null), away?.isGone(id), away?.knows(id)], [0, true, true]);
    assert.is(sim.node.deviceStatus().find(({ shard }) => shard === 1)?.usedSlots, 0);
    await sim.settle(sim.node.close());
  },
);

check('the page of a deleted volume goes to another one, also of a device on another shard', [], async () => {
  const sim = new SimNode(9);
  const disk = diskOf(80);
  await sim.format(disk, 0);
  const device = await sim.openAway(disk, 0);
  // More than there are pages.
  for (let number = 0; number < device.replicasMax + 2; number += 1) {
    const about = {
      id: number.toString(16).padStart(32, '0'),
      name: `v${number}`,
      layout: 'single',
      copies: 1,
    } as const;
    await sim.settle(sim.node.create({ ...about, createdMs: 1, sizeBytes: SLOT }));
    await sim.settle(sim.node.delete(`v${number}`));
  }
  await sim.settle(sim.node.close());
});

run();
