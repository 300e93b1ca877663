/** Slots of a deleted volume that cannot be given back: that is told, and done when the device is opened the next time. */

import * as assert from 'uvu/assert';
import { Calls } from '#strake/core/calls.js';
import { EIO } from '#strake/core/errno.js';
import type { StrakeError } from '#strake/core/errors.js';
import type { NodeStore } from '#strake/node/node-store.js';
import { releaseAll } from '#strake/node/releases.js';
import type { SegmentList } from '#strake/ports/segment-list.js';
import { check, run } from '../support/check.js';
import { DirectMember } from '../support/direct-member.js';
import { deviceIdOf, SimNode, VOLUME_NAME } from '../support/sim-node.js';
import { diskOf, randomOf } from '../support/sim-store.js';

const VOLUME_ID = 'a'.repeat(32);
const STRIPES = 4;

/** A mirror in whose segments is something. */
async function filled() {
  const disks = [diskOf(16), diskOf(16)];
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror();
  for (let stripe = 0; stripe < STRIPES; stripe += 1) assert.is(await sim.write(stripe, 0, 1), 4096);
  assert.is(await sim.flush(), 0);
  return { disks, sim };
}

const storeOf = ({ node }: SimNode, number: number) => (node.stores.get(deviceIdOf(number)) as NodeStore).store;

check('a device that fails while slots are given back is told of, and gives them back when it is opened', async () => {
  const { disks, sim } = await filled();
  const [, disk] = disks;
  const { volumeTable, superblock } = storeOf(sim, 1);
  const { journalOffset, dataOffset } = superblock.layout;
  const deleted = sim.node.delete(VOLUME_NAME);
  await sim.loop.run(() => volumeTable.isGone(VOLUME_ID));
  // The note is durable; what comes now is that the slots are free.
  assert.is(storeOf(sim, 1).slots.usedSlots, STRIPES);
  const error = { kind: 'error', errno: EIO } as const;
  disk.faults.add({ ops: ['write'], start: journalOffset, end: dataOffset, action: error });
  await sim.settle(deleted);
  const failures = sim.events.filter((event) => event.kind === 'device-failed');
  assert.equal(
    failures.map(({ deviceId }) => deviceId),
    [deviceIdOf(1)],
  );
  assert.match(JSON.stringify(failures[0]), /giving back segment/);
  assert.is(storeOf(sim, 0).slots.usedSlots, 0, 'it keeps nothing from the others');

  disk.faults.clear();
  for (const one of disks) one.kill(randomOf(1));
  const again = new SimNode(2);
  for (const one of disks) await again.open(one);
  await again.assemble();
  await again.loop.run(() => storeOf(again, 1).slots.usedSlots === 0);
  assert.equal([again.node.volumes.size, storeOf(again, 0).slots.usedSlots], [0, 0]);
  await again.settle(again.node.close());
});

/** A list of a store is made from memory, and no fault of its device can let it fail; that of a member elsewhere can. */
class Unlistable extends DirectMember {
  override list(page: SegmentList): void {
    this.port.defer(page.token, -EIO);
  }
}

check('a member that cannot say what it has is told of', async () => {
  const { sim } = await filled();
  const store = storeOf(sim, 1);
  const [page] = store.volumeTable.indexesOf(VOLUME_ID);
  const member = new Unlistable(sim.loop, store, page);
  const calls = new Calls(sim.loop);
  const failure = await sim.settle(releaseAll(calls, member, () => false).catch((error: StrakeError) => error));
  assert.is(failure?.code, 'ERR_STRAKE_IO');
  assert.match(failure?.message ?? '', /listing the segments of a deleted volume/);
  assert.is(store.slots.usedSlots, STRIPES);
  member.close();
  calls.close();
  await sim.settle(sim.node.close());
});

run();
