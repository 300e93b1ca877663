/** Letting go of a device. */

import * as assert from 'uvu/assert';
import { EIO } from '#strake/core/errno.js';
import { SimDevice } from '#strake/sim/disk/device.js';
import { check, run } from '../support/check.js';
import { deviceIdOf, SimNode, VOLUME_NAME } from '../support/sim-node.js';
import { diskOf, randomOf, SLOT } from '../support/sim-store.js';

check('a device that a volume uses is not let go of', [], async () => {
  const sim = new SimNode(1);
  for (const [number, disk] of [diskOf(16), diskOf(16), diskOf(16)].entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror();
  const used = sim.engine.record.groups[0].map(({ deviceId }) => deviceId);
  const unused = [0, 1, 2].map(deviceIdOf).filter((deviceId) => !used.includes(deviceId));
  assert.is(await sim.write(0, 0, 1), 4096);
  const errors = await Promise.all(
    used.map((deviceId) => sim.settle(sim.node.forget(deviceId)).then(String, (error) => error.code)),
  );
  assert.equal(errors, ['ERR_STRAKE_VOLUME_BUSY', 'ERR_STRAKE_VOLUME_BUSY']);
  await sim.settle(sim.node.forget(unused[0]));
  assert.is(await sim.write(0, 0, 2), 4096);
  assert.is(await sim.read(0, 0), 2);
  await sim.settle(sim.node.close());
});

check('a device is let go of when nothing is in flight on it', [], async () => {
  const disk = diskOf(64);
  const sim = new SimNode(1);
  await sim.format(disk, 0);
  const device = new SimDevice(sim.loop, disk);
  await sim.settle(sim.node.open(device, { path: 'disk' }));
  const spec = { id: 'b'.repeat(32), name: VOLUME_NAME, layout: 'single', copies: 1, createdMs: 1 } as const;
  await sim.settle(sim.node.create({ ...spec, sizeBytes: 64 * SLOT }));
  for (let stripe = 0; stripe < 60; stripe += 1) assert.is(await sim.write(stripe, 0, 1), 4096);
  // Freed slots are discarded, some at a time; that may take long.
  disk.faults.add({ ops: ['discard'], action: { kind: 'slow', byUs: 100_000 } });
  await sim.settle(sim.node.delete(VOLUME_NAME));
  await sim.settle(sim.node.forget(deviceIdOf(0)));
  assert.is(device.inFlight, 0);
});

check('a request that still waits for a device is answered before the device is let go of', [], async () => {
  const disks = [diskOf(16), diskOf(16)];
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror();
  // Twice: a block that was written once waits for a sync before it is written again.
  for (const value of [1, 2]) assert.is(await sim.write(0, 0, value), 4096);
  const [{ superblock }] = sim.node.stores.values();
  const { dataOffset } = superblock.layout;
  disks[1].faults.add({ ops: ['write'], start: dataOffset, action: { kind: 'slow', byUs: 100_000 } });
  disks[1].faults.add({ ops: ['sync'], action: { kind: 'error', errno: EIO } });
  const slow = sim.begin((token) => sim.engine.write(sim.area(1), 4096, 0, 0, token));
  assert.is(await sim.flush(), 0);
  const { groups } = sim.engine.status();
  assert.is(groups[0].find(({ deviceId }) => deviceId === deviceIdOf(1))?.state, 'offline');
  await sim.settle(sim.node.forget(deviceIdOf(1)));
  assert.is(await sim.settle(slow), 4096);
  await sim.settle(sim.node.close());
});

check('a device that is let go of while it is being taken out can come back at once', [], async () => {
  const disks = [diskOf(16), diskOf(16)];
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror();
  assert.is(await sim.write(0, 0, 1), 4096);
  disks[1].vanished = true;
  disks[0].faults.add({ ops: ['sync'], action: { kind: 'slow', byUs: 100_000 } });
  const flush = sim.begin((token) => sim.engine.flush(token));
  await sim.loop.run(() => sim.engine.status().state === 'degraded');
  await sim.settle(sim.node.forget(deviceIdOf(1)));
  disks[1].powerCut(randomOf(1));
  disks[1].vanished = false;
  await sim.settle(sim.node.takeBack(await sim.open(disks[1])));
  await sim.jobsEnded();
  assert.equal([await sim.settle(flush), sim.engine.status().state], [0, 'ok']);
  await sim.settle(sim.node.close());
});

run();
