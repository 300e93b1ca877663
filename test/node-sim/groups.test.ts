/** Each group of a volume has a map of its own: what is stored where, and what counts after crashes. */

import * as assert from 'uvu/assert';
import { EIO } from '#strake/core/errno.js';
import type { NodeStore } from '#strake/node/node-store.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { check, run } from '../support/check.js';
import { numberOf, SimNode, VOLUME_NAME } from '../support/sim-node.js';
import { diskOf, randomOf, SLOT } from '../support/sim-store.js';

const STRIPES = [0, 1, 2, 3];

/** A mirror in two groups, on four devices. */
async function mirror() {
  const disks = Array.from({ length: 4 }, () => diskOf(16));
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror();
  for (const stripe of STRIPES) assert.is(await sim.write(stripe, 0, 10 + stripe), 4096);
  const groups = sim.engine.record.groups.map((group) => group.map(({ deviceId }) => numberOf(deviceId)));
  assert.is(groups.length, 2);
  return { disks, sim, groups };
}

async function reopen(disks: readonly SimDisk[], seed: number): Promise<SimNode> {
  const sim = new SimNode(seed);
  for (const disk of disks) await sim.open(disk);
  await sim.assemble();
  return sim;
}

function deviceOf({ node }: SimNode, number: number): NodeStore {
  const found = [...node.stores.values()].find(({ deviceId }) => numberOf(deviceId) === number);
  assert.ok(found);
  return found;
}

/** What a device has of the volume: the map of its group, and what it knows of itself. */
function replicaOn(sim: SimNode, number: number, id: string) {
  const device = deviceOf(sim, number);
  const [map, ...others] = device.replicasOf(id);
  assert.equal(others, []);
  const { volumeTable } = device.store;
  return { map, own: volumeTable.ownOf(volumeTable.indexOf(id, map.group)) };
}

async function readAll(sim: SimNode): Promise<void> {
  for (let turn = 0; turn < 2; turn += 1) {
    for (const stripe of STRIPES) assert.is(await sim.read(stripe, 0), 10 + stripe, `segment ${stripe}`);
  }
}

/** Lets every write and sync of these disks hang from now on. */
function stick(disks: readonly SimDisk[]): void {
  for (const disk of disks) disk.faults.add({ ops: ['write', 'sync'], action: { kind: 'stick' } });
}

check('a change of one group is stored on the devices of that group, and on no others', [], async () => {
  const { disks, sim, groups } = await mirror();
  const { id } = sim.engine.record;
  const versions = (numbers: readonly number[]) => numbers.map((number) => replicaOn(sim, number, id).map.mapVersion);
  const before = groups.map(versions);
  const [[stays, fails], others] = groups;
  disks[fails].faults.add({ ops: ['write'], action: { kind: 'error', errno: EIO } });
  assert.is(await sim.write(0, 0, 10), 4096);
  assert.equal(sim.states().toSorted(), ['in-sync', 'offline']);
  assert.equal(versions(others), before[1]);
  assert.equal(versions([stays]), [before[0][0] + 1]);
  assert.is(sim.engine.record.versions[1], before[1][0]);
  disks[fails].faults.clear();
  for (const disk of disks) disk.kill(randomOf(1));
  const again = await reopen(disks, 2);
  await again.jobsEnded();
  assert.is(again.engine.status().state, 'ok');
  await readAll(again);
  await again.settle(again.node.close());
});

check('devices note who holds the volume, what has been served, and what has been answered', [], async () => {
  const { disks, sim, groups } = await mirror();
  const { id, generation, holder } = sim.engine.record;
  const all = groups.flat();
  for (const number of all) {
    const { map, own } = replicaOn(sim, number, id);
    assert.equal([map.holder, map.lease, map.generation], [holder, 'exclusive', generation]);
    assert.equal([own.servedGeneration, own.answered], [generation, true]);
  }
  const [[stays, fails], others] = groups;
  disks[fails].faults.add({ ops: ['write'], count: 1, action: { kind: 'error', errno: EIO } });
  assert.is(await sim.write(0, 0, 10), 4096);
  await sim.loop.run(() => sim.states().includes('offline'));
  // Writes under the map before may have been under way when this one was stored.
  assert.is(replicaOn(sim, stays, id).own.answered, false);
  assert.ok(others.every((number) => replicaOn(sim, number, id).own.answered));
  await sim.settle(sim.node.close());
  const again = new SimNode(2);
  for (const disk of disks) await again.open(disk);
  for (const number of [stays, ...others]) {
    const { map, own } = replicaOn(again, number, id);
    assert.equal([map.lease, own.answered, own.servedGeneration], ['released', true, generation]);
  }
});

check(
  'a volume of which nobody has a group is refused by the number of the group, until its devices are there',
  [],
  async () => {
    const { disks, sim, groups } = await mirror();
    await sim.settle(sim.node.close());
    const half = await reopen(
      groups[0].map((number) => disks[number]),
      2,
    );
    const { unproven, reason, engine } = half.node.volume(VOLUME_NAME);
    assert.equal([unproven, engine], [true, null]);
    assert.match(reason, /group 1 of its 2/);
    assert.match(reason, /bring back the devices/);
    assert.is(
      await half.settle(half.node.startWithout(VOLUME_NAME, []).catch(({ code }) => code)),
      'ERR_STRAKE_UNPROVEN',
    );
    const [one, other] = groups[1];
    await half.settle(half.node.takeBack(await half.open(disks[one])));
    assert.match(half.node.volume(VOLUME_NAME).reason, /is missing, which may hold newer data/);
    await half.settle(half.node.takeBack(await half.open(disks[other])));
    await half.jobsEnded();
    assert.is(half.engine.status().state, 'ok');
    await readAll(half);
    await half.settle(half.node.close());
  },
);

check('a start that a crash has cut off in one group costs no copy its place', [], async () => {
  const { disks, sim, groups } = await mirror();
  const { id } = sim.engine.record;
  await sim.settle(sim.node.close());
  const cut = new SimNode(2);
  for (const disk of disks) await cut.open(disk);
  const before = replicaOn(cut, groups[0][0], id).map;
  stick(groups[1].map((number) => disks[number]));
  cut.node.assemble(new Map()).catch(() => {});
  await cut.loop.run(() => replicaOn(cut, groups[0][0], id).map.mapVersion > before.mapVersion);
  for (const number of groups[0]) assert.is(await cut.settle(deviceOf(cut, number).store.flushed()), 0);
  for (const disk of disks) disk.faults.clear();
  for (const disk of disks) disk.powerCut(randomOf(1));
  const again = await reopen(disks, 3);
  assert.equal([again.engine.status().state, again.engine.status().jobs], ['ok', []]);
  assert.is(again.engine.record.generation, before.generation + 2);
  await readAll(again);
  await again.settle(again.node.close());
});

/** Begins something that changes the header, of which the second group hears nothing before the power fails. */
async function cutOff(change: (sim: SimNode) => Promise<unknown>) {
  const { disks, sim, groups } = await mirror();
  const { id, headerVersion } = sim.engine.record;
  assert.is(await sim.flush(), 0);
  stick(groups[1].map((number) => disks[number]));
  change(sim).catch(() => {});
  const reached = () =>
    groups[0].every((number) => replicaOn(sim, number, id).map.volume.headerVersion > headerVersion);
  await sim.loop.run(reached);
  for (const number of groups[0]) assert.is(await sim.settle(deviceOf(sim, number).store.flushed()), 0);
  for (const disk of disks) disk.faults.clear();
  for (const disk of disks) disk.powerCut(randomOf(1));
  return reopen(disks, 2);
}

check('a name that has reached one group only is the name of the volume', [], async () => {
  const again = await cutOff((sim) => sim.node.rename(VOLUME_NAME, 'w'));
  again.volume = 'w';
  await again.jobsEnded();
  assert.is(again.engine.status().state, 'ok');
  await readAll(again);
  await again.settle(again.node.close());
});

check('a size that has reached one group only is that of the volume', [], async () => {
  const again = await cutOff((sim) => sim.node.grow(VOLUME_NAME, 128 * SLOT));
  await again.jobsEnded();
  assert.equal([again.engine.sizeBytes, again.engine.status().state], [128 * SLOT, 'ok']);
  await readAll(again);
  await again.settle(again.node.close());
});

check('a deletion that has reached one group only is one of the volume', [], async () => {
  const again = await cutOff((sim) => sim.node.delete(VOLUME_NAME));
  assert.is(again.node.volumes.size, 0);
  assert.ok(again.node.deviceStatus().every(({ usedSlots }) => usedSlots === 0));
  assert.equal(again.node.awaitedDevices(), []);
  await again.settle(again.node.close());
});

run();
