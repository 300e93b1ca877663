/** Segments of a group that their device has left: what version 1 left behind is given back when the device is opened. */

import * as assert from 'uvu/assert';
import { viewOf } from '#strake/layout/fields.js';
import { replicaOf } from '#strake/layout/replica-map.js';
import type { VolumeMap } from '#strake/layout/volume-map.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { type Layout, PAGE_BYTES, pageOffset, SLOT_FREE } from '#strake/store/format/format.js';
import type { OpenedStore } from '#strake/store/opening/open-store.js';
import { check, repetitions, run } from '../support/check.js';
import { fsck, resealTree } from '../support/damaged-store.js';
import { randomOf, type SimStore } from '../support/sim-store.js';
import { ENDS, firstDevices, heldOn, migrated, opened } from '../support/version-1.js';

const PER_INSTANT = repetitions(20, 4);
const GROUPS = 2;

/** The stripes of the segments of a page, in order. */
function stripesOf({ store }: OpenedStore, page: number): number[] {
  const { slots } = store;
  const used = Array.from({ length: slots.slots }, (_, slot) => slot).filter(
    (slot) => slots.states[slot] !== SLOT_FREE && slots.volumes[slot] === page,
  );
  return used.map((slot) => slots.stripes[slot]).sort((one, other) => one - other);
}

async function close({ sim, store, checkpointer }: { sim: SimStore } & OpenedStore): Promise<void> {
  await sim.settle(checkpointer.close());
  store.dispose();
}

/** The device of version 1 that its volume's map does not name, once it has taken the map of a group. */
async function takenOver(group: number, end: 'closed' | 'killed'): Promise<{ disk: SimDisk; stripes: number[] }> {
  const { disk } = firstDevices('closed')[3];
  const device = await opened(disk, 1);
  const stripes = stripesOf(device, 0);
  const map = device.store.volumeTable.legacy.get(0)?.map as VolumeMap;
  const { deviceId } = device.store.superblock;
  const groups = map.groups.map((members, at) =>
    at === group ? members.map((member, place) => (place === 0 ? { ...member, deviceId } : member)) : members,
  );
  assert.is(await device.sim.settle(device.store.putReplica(replicaOf({ ...map, groups }, group))), 0);
  if (end === 'closed') await close(device);
  else disk.kill(randomOf(1));
  return { disk, stripes };
}

for (const end of ['closed', 'killed'] as const) {
  for (const group of [0, 1]) {
    check(
      `a device that has taken the map of group ${group} gives back what it has of others, ${end}`,
      [],
      async () => {
        const { disk, stripes } = await takenOver(group, end);
        const kept = stripes.filter((stripe) => stripe % GROUPS === group);
        assert.ok(stripes.length > 0 && kept.length < stripes.length === (group !== 1), stripes.join());
        const before = await fsck(disk, true);
        const told = before.problems.filter(({ text }) => /of a group that the device has left/.test(text));
        assert.is(told.length, stripes.length - kept.length);
        const device = await opened(disk, 2);
        assert.equal(stripesOf(device, 0), kept);
        assert.is(device.store.slots.usedSlots, kept.length);
        await close(device);
        const after = await fsck(disk, true);
        assert.equal([after.verdict, after.counts.usedSlots, after.problems], ['clean', kept.length, []]);
      },
    );
  }
}

/** Makes a segment of the volume on page 0 one of its other group, in the slot table of a device of version 1. */
function strayed(disk: SimDisk, layout: Layout, slot: number): void {
  for (const place of [0, 1]) {
    const offset = pageOffset(layout.slotTableOffset, Math.floor(slot / 31), place);
    const page = disk.peek(offset, PAGE_BYTES);
    const at = ((slot % 31) + 1) * 128;
    if (viewOf(page).getUint8(at + 34) === 0) continue;
    viewOf(page).setUint32(at + 16, viewOf(page).getUint32(at + 16, true) + 1001, true);
    disk.poke(offset, page);
  }
  resealTree(disk, layout);
}

check('whatever a power cut leaves of an opening that gives slots back, the next one does it', [], async () => {
  const [, { disk }] = firstDevices('closed');
  const { superblock } = await fsck(disk);
  const layout = superblock?.layout as Layout;
  const original = await fsck(disk);
  const { slots } = await opened(disk.clone(), 1).then(({ store }) => store);
  const mine = Array.from({ length: slots.slots }, (_, slot) => slot).filter(
    (slot) => slots.states[slot] !== SLOT_FREE && slots.volumes[slot] === 0,
  );
  assert.ok(mine.length > 1);
  strayed(disk, layout, mine[0]);
  assert.ok((await fsck(disk)).counts.usedSlots === original.counts.usedSlots);
  const instants: SimDisk[] = [];
  disk.onDurable = () => instants.push(disk.clone());
  await migrated(disk);
  disk.onDurable = () => {};
  const held = await heldOn(disk);
  const report = await fsck(disk, true);
  assert.equal([report.problems, report.counts.usedSlots], [[], original.counts.usedSlots - 1]);
  let images = 0;
  for (const [number, instant] of instants.entries()) {
    const random = new SimRandom(5, number);
    for (const crashed of instant.crashImages({ limit: PER_INSTANT, random })) {
      images += 1;
      await migrated(crashed, images);
      assert.equal(await heldOn(crashed), held, `instant ${number}, ${crashed.origin}`);
      assert.equal((await fsck(crashed, true)).problems, []);
    }
  }
  assert.ok(images > instants.length);
});

for (const end of ENDS) {
  check(`devices as version 1 left them have no such segments, ${end}`, [], async () => {
    for (const { disk } of firstDevices(end)) {
      const before = (await fsck(disk)).counts.usedSlots;
      await migrated(disk);
      assert.is((await fsck(disk)).counts.usedSlots, before);
    }
  });
}

run();
