/** No two copies of the same data on one device, wherever a map comes from; and one device in several groups, each by itself. */

import * as assert from 'uvu/assert';
import type { StrakeError } from '#strake/core/errors.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { deviceBytesMin } from '#strake/store/format/format.js';
import { check, run } from '../support/check.js';
import { deviceIdOf, numberOf, SimNode, VOLUME_NAME } from '../support/sim-node.js';
import { diskOf, randomOf, SLOT } from '../support/sim-store.js';

const STRIPES = [0, 1, 2, 3, 4, 5];

/** A mirror on the first `count` of these disks. */
async function mirror(count: number, slots = 16, copies = 2) {
  const disks = Array.from({ length: count }, () => diskOf(slots));
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror(copies);
  for (const stripe of STRIPES) assert.is(await sim.write(stripe, 0, 10 + stripe), 4096);
  return { disks, sim };
}

/** Opens these devices in a new life, and starts the mirror without those that are named. */
async function reopen(disks: readonly SimDisk[], without: readonly string[] = [], seed = 2): Promise<SimNode> {
  const sim = new SimNode(seed);
  for (const disk of disks) await sim.open(disk);
  await sim.assemble(without);
  return sim;
}

function refusal(sim: SimNode, work: Promise<unknown>): Promise<StrakeError> {
  return sim.settle(work).then(
    () => Promise.reject(new Error('it was not refused')),
    (error: StrakeError) => error,
  );
}

function storeOf(sim: SimNode, number: number) {
  const store = sim.node.stores.get(deviceIdOf(number));
  assert.ok(store);
  return store;
}

/** Reads everything, each time from another member. */
async function readAll(sim: SimNode): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) {
    for (const stripe of STRIPES) assert.is(await sim.read(stripe, 0), 10 + stripe, `segment ${stripe}`);
    await sim.read(0, 0);
  }
}

const MAPS = (sim: SimNode) => [...sim.node.stores.values()].map(({ store }) => JSON.stringify(store.replicas));

check('a device that has a copy takes no other place of its group, in whatever state it is', [], async () => {
  const { disks, sim: first } = await mirror(2);
  await first.settle(first.node.close());
  const sim = await reopen([disks[1]], [deviceIdOf(0)]);
  const before = MAPS(sim);
  const error = await refusal(sim, sim.node.replace(deviceIdOf(0), storeOf(sim, 1)));
  assert.is(error.code, 'ERR_STRAKE_WRONG_DEVICE');
  for (const part of [deviceIdOf(0), deviceIdOf(1), VOLUME_NAME, 'in-sync'])
    assert.ok(error.message.includes(part), part);
  assert.match(error.remedy, /another device/);
  assert.equal(MAPS(sim), before);
  assert.equal(sim.states(), ['offline', 'in-sync']);
  await readAll(sim);
  await sim.settle(sim.node.close());

  // Of three copies, one that is away, and one that is being brought up to date.
  const three = await mirror(3, 16, 3);
  await three.sim.settle(three.sim.node.close());
  const alone = await reopen([three.disks[2]], [0, 1].map(deviceIdOf), 3);
  const back = await alone.open(three.disks[1]);
  assert.equal(alone.states().toSorted(), ['in-sync', 'offline', 'offline']);
  assert.match((await refusal(alone, alone.node.replace(deviceIdOf(0), back))).message, /\(offline\)/);
  three.disks[1].faults.add({ ops: ['write'], action: { kind: 'slow', byUs: 100_000 } });
  await alone.settle(alone.node.takeBack(back));
  await alone.loop.run(() => alone.states().includes('syncing'));
  assert.match((await refusal(alone, alone.node.replace(deviceIdOf(0), back))).message, /\(syncing\)/);
  await alone.jobsEnded();
  await alone.settle(alone.node.close());
});

check('a device does not take its own place', [], async () => {
  const { disks, sim: first } = await mirror(2);
  await first.settle(first.node.close());
  const sim = await reopen([disks[1]], [deviceIdOf(0)]);
  const own = await sim.open(disks[0]);
  const error = await refusal(sim, sim.node.replace(deviceIdOf(0), own));
  assert.is(error.code, 'ERR_STRAKE_WRONG_DEVICE');
  assert.match(error.remedy, /device add/);
  await sim.settle(sim.node.takeBack(own));
  await sim.jobsEnded();
  assert.equal(sim.states(), ['in-sync', 'in-sync']);
  await readAll(sim);
  await sim.settle(sim.node.close());
});

check('of two replacements of one device at once the second finds nothing to replace', [], async () => {
  const { disks, sim: first } = await mirror(2);
  await first.settle(first.node.close());
  const sim = await reopen([disks[1]], [deviceIdOf(0)]);
  const spares = [diskOf(16), diskOf(16)];
  for (const [number, disk] of spares.entries()) await sim.format(disk, 2 + number);
  const [one, other] = [await sim.open(spares[0]), await sim.open(spares[1])];
  const done = sim.node.replace(deviceIdOf(0), one);
  const error = await refusal(sim, sim.node.replace(deviceIdOf(0), other));
  assert.is(error.code, 'ERR_STRAKE_NOT_FOUND');
  await sim.settle(done);
  await sim.jobsEnded();
  assert.equal(sim.engine.record.groups[0].map(({ deviceId }) => numberOf(deviceId)).toSorted(), [1, 2]);
  assert.equal(
    other.store.replicas.filter((replica) => replica !== undefined),
    [],
  );
  await readAll(sim);
  await sim.settle(sim.node.close());
});

check('a device that is too small for what is there takes no place', [], async () => {
  const { disks, sim: first } = await mirror(2);
  await first.settle(first.node.close());
  const sim = await reopen([disks[1]], [deviceIdOf(0)]);
  const small = new SimDisk({ sizeBytes: deviceBytesMin(SLOT) });
  await sim.format(small, 2);
  const before = MAPS(sim);
  const error = await refusal(sim, sim.node.replace(deviceIdOf(0), await sim.open(small)));
  assert.is(error.code, 'ERR_STRAKE_NO_SPACE');
  assert.match(error.message, /has room for 64 KiB, .* takes 384 KiB/);
  assert.equal(MAPS(sim).slice(0, 1), before);
  await sim.settle(sim.node.close());
});

check('a device in two groups keeps what it has of each, through a rebuild, a crash and a scrub', [], async () => {
  const { disks, sim: first } = await mirror(4);
  const groups = first.engine.record.groups.map((group) => group.map(({ deviceId }) => numberOf(deviceId)));
  assert.is(groups.length, 2);
  const [[lost], [twice]] = groups;
  await first.settle(first.node.close());
  const left = disks.filter((_, number) => number !== lost);
  const sim = await reopen(left, [deviceIdOf(lost)]);
  await sim.settle(sim.node.replace(deviceIdOf(lost), storeOf(sim, twice)));
  await sim.jobsEnded();
  assert.is(sim.engine.status().state, 'ok');
  await readAll(sim);
  for (const stripe of STRIPES) assert.is(await sim.write(stripe, 0, 10 + stripe), 4096);
  for (const disk of left) disk.kill(randomOf(1));

  const again = await reopen(left, [], 3);
  await again.jobsEnded();
  assert.is(again.engine.status().state, 'ok');
  await readAll(again);
  await again.settle(again.engine.scrub().ended);
  assert.is(again.engine.status().counters.repairedBlocks, 0);
  await again.settle(again.node.close());

  // Each copy by itself: all but one device of each group.
  const [[, partner], [, other]] = groups;
  const alone = await reopen([disks[twice]], [partner, other].map(deviceIdOf), 4);
  await readAll(alone);
  await alone.settle(alone.node.close());
});

run();
