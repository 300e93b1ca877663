/** Devices of version 1 that are opened for writing: they get the feature groups, and lose nothing, whatever happens meanwhile. */

import * as assert from 'uvu/assert';
import { StrakeError } from '#strake/core/errors.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { dumpDevice } from '#strake/store/checking/dump.js';
import { computeFirstLayout, pageOffset } from '#strake/store/format/format.js';
import { decodeSuperblock } from '#strake/store/format/superblock.js';
import { check, repetitions, run } from '../support/check.js';
import { changeRoot, fsck, readerOf, resealTree } from '../support/damaged-store.js';
import { randomOf, SLOT } from '../support/sim-store.js';
import { checkPages, ENDS, firstDevices, heldOn, migrated, opened, volumesOn } from '../support/version-1.js';
import { encodeVolume } from '../support/version-1-page.js';

/** Crash images of one instant that are opened. */
const PER_INSTANT = repetitions(40, 5);
const FLIPS = repetitions(600, 60);

/** The incompatible features of both superblocks, as a version that knows none reads them. */
function featuresOf(disk: SimDisk): number[] {
  const { copyOffset } = computeFirstLayout(disk.geometry.sizeBytes, SLOT);
  return [0, copyOffset].map((offset) => new DataView(disk.peek(offset, 64).buffer).getUint32(56, true));
}

for (const end of ENDS) {
  check(`devices of version 1 that were ${end} hold the same once they are migrated`, [], async () => {
    for (const { disk, pages, held } of firstDevices(end)) {
      assert.equal(featuresOf(disk), [0, 0]);
      await migrated(disk);
      assert.equal(await heldOn(disk), held);
      assert.equal((await fsck(disk, true)).problems, []);
      assert.equal(featuresOf(disk), [1, 1], 'a version that knows no feature refuses it');
      await checkPages(disk, pages);
      const { slots } = (await dumpDevice(readerOf(disk), { what: 'slots' })) as unknown as {
        slots: { volume: string; group: number | null; stripe: number }[];
      };
      const volumes = await volumesOn(disk);
      for (const { volume, group, stripe } of slots) {
        const groups = volumes.find(({ id, form }) => id === volume && form === 2)?.groups;
        assert.is(group, groups === undefined ? null : stripe % groups);
      }
      // Once more, and nothing changes.
      await migrated(disk, 2);
      assert.equal(await heldOn(disk), held);
      await checkPages(disk, pages);
    }
  });

  check(`devices of version 1 that were ${end} are looked at in their old form, without a change`, [], async () => {
    for (const { disk, pages } of firstDevices(end)) {
      const before = crc32c(disk.peek(0, disk.geometry.sizeBytes));
      const { verdict, problems } = await fsck(disk, true);
      const stranger = pages.some(({ named, deleted }) => named.length === 0 && !deleted);
      assert.is(verdict, stranger ? 'damaged' : end === 'closed' ? 'clean' : 'recoverable', JSON.stringify(problems));
      const volumes = await volumesOn(disk);
      assert.equal(
        volumes.map(({ index, form, id }) => [index, form, id]),
        pages.map(({ page, id }) => [page, 1, id]),
      );
      assert.is(crc32c(disk.peek(0, disk.geometry.sizeBytes)), before);
    }
  });
}

check(
  'a page whose map does not name the device stays as it is, byte by byte, until a map takes its place',
  [],
  async () => {
    const { disk, pages } = firstDevices('closed')[3];
    const { layout } = decodeSuperblock(disk.peek(0, 4096), crc32c);
    const bytes = () => [0, 1].map((place) => Buffer.from(disk.peek(pageOffset(layout.volumesOffset, 0, place), 4096)));
    const before = bytes();
    await migrated(disk);
    assert.equal(bytes(), before);
    const { sim, store, checkpointer } = await opened(disk, 2);
    assert.equal([...store.volumeTable.legacy.keys()], [0]);
    assert.equal(
      store.replicas.filter((map) => map !== undefined),
      [],
    );
    const { id } = pages[0];
    assert.equal(store.volumeTable.indexesOf(id), [0]);
    const { sim: other, store: holder, checkpointer: its } = await opened(firstDevices('closed')[0].disk, 3);
    const map = holder.replicas[holder.volumeTable.indexOf(id, 1)];
    if (map === undefined) throw new Error('the other device does not know the volume');
    const slots = store.slots.usedBy(0);
    assert.ok(slots > 0);
    assert.is(await sim.settle(store.putReplica({ ...map, mapVersion: map.mapVersion + 1 })), 0);
    assert.equal([store.volumeTable.legacy.size, store.slots.usedBy(0)], [0, slots]);
    await other.settle(its.close());
    holder.dispose();
    await sim.settle(checkpointer.close());
    store.dispose();
    assert.equal(
      (await volumesOn(disk)).map(({ form, group }) => [form, group]),
      [[2, 1]],
    );
  },
);

for (const end of ['closed', 'killed'] as const) {
  check(`entries from before groups are told from those of a second group that comes later, ${end}`, [], async () => {
    const [, { disk, pages, held }] = firstDevices('closed');
    await migrated(disk);
    const { id, page } = pages[0];
    const { sim, store, checkpointer } = await opened(disk, 2);
    const map = store.replicas[page];
    if (map === undefined) throw new Error('the device does not know the volume');
    const second = await sim.settle(store.putReplica({ ...map, group: 1 }));
    assert.ok(second >= 0 && second !== page);
    if (end === 'closed') {
      await sim.settle(checkpointer.close());
      store.dispose();
    } else disk.kill(randomOf(1));
    // The journal has the second page, and then the tree has it.
    for (const seed of [3, 4]) {
      const again = await opened(disk, seed);
      assert.equal(again.store.volumeTable.indexesOf(id), [page, second]);
      assert.is(again.store.slots.usedBy(second), 0);
      assert.ok(again.store.slots.usedBy(page) > 0);
      await again.sim.settle(again.checkpointer.close());
      again.store.dispose();
    }
    assert.equal(await heldOn(disk), held);
  });
}

check('a device without a page for its second group is refused, and stays as it is', [], async () => {
  const { disk, pages } = firstDevices('closed')[0];
  const superblock = decodeSuperblock(disk.peek(0, 4096), crc32c);
  const { layout, deviceId } = superblock;
  const [{ name, layout: kind, copies, ...rest }] = (await volumesOn(disk)) as unknown as Parameters<
    typeof encodeVolume
  >[2][];
  const bytes = new Uint8Array(4096);
  for (let page = 1; page < 256; page += 1) {
    const id = `9${page.toString(16).padStart(31, '0')}`;
    const note = { ...rest, name, layout: kind, copies, id, deleted: true };
    encodeVolume(bytes, { index: page, deviceId, sequence: 1 }, note, { generation: 0, flushNumber: 0 });
    disk.poke(pageOffset(layout.volumesOffset, page, 0), bytes);
  }
  changeRoot(disk, layout, (view) => {
    for (let page = 1; page < 256; page += 1) view.setUint32(128 + 8192 + 8 * page + 4, 1, true);
  });
  const before = crc32c(disk.peek(0, disk.geometry.sizeBytes));
  const error = await opened(disk).then(
    () => undefined,
    (reason: StrakeError) => reason,
  );
  assert.is(error?.code, 'ERR_STRAKE_NO_SPACE');
  assert.match(error?.message ?? '', /no page left for group 1 of volume wide/);
  assert.is(crc32c(disk.peek(0, disk.geometry.sizeBytes)), before);
  assert.equal(pages[0].named, [0, 1]);
});

check('a group whose map names a device twice has one copy there once it is migrated', [], async () => {
  const { disk, pages, held } = firstDevices('closed')[1];
  const { layout, deviceId } = decodeSuperblock(disk.peek(0, 4096), crc32c);
  const [{ id, page }] = pages;
  let copies = 0;
  // Every place of every group is the device's.
  for (const place of [0, 1] as const) {
    const offset = pageOffset(layout.volumesOffset, page, place);
    const bytes = disk.peek(offset, 4096);
    copies = Math.max(copies, bytes[91]);
    for (let at = 0; at < bytes[90] * bytes[91]; at += 1) {
      for (let byte = 0; byte < 16; byte += 1)
        bytes[512 + 64 * at + byte] = Number(`0x${deviceId.slice(2 * byte, 2 * byte + 2)}`);
    }
    disk.poke(offset, bytes);
  }
  assert.ok(copies > 1, 'the volume has several copies');
  resealTree(disk, layout);
  assert.is((await fsck(disk, true)).verdict, 'damaged', 'the check of it as it was tells');
  await migrated(disk);
  const ours = (await volumesOn(disk)).filter((one) => one.id === id);
  assert.ok(ours.length > 0);
  for (const { form, members } of ours) {
    assert.is(form, 2);
    assert.is(members.filter((member) => member.deviceId === deviceId).length, 1);
  }
  assert.equal(await heldOn(disk), held);
});

/** All instants of a migration at which the power might fail, as copies of the disk. */
async function instantsOf(disk: SimDisk): Promise<SimDisk[]> {
  const instants: SimDisk[] = [];
  disk.onDurable = () => instants.push(disk.clone());
  await migrated(disk);
  disk.onDurable = () => {};
  return instants;
}

for (const end of ENDS) {
  check(
    `whatever a power cut leaves of a migration is a device that opens and holds the same, ${end}`,
    [],
    async () => {
      const counts = { instants: 0, images: 0, features: new Set<string>() };
      for (const [number, { disk, pages, held }] of firstDevices(end).entries()) {
        for (const instant of await instantsOf(disk)) {
          counts.instants += 1;
          const random = new SimRandom(number, counts.instants);
          for (const crashed of instant.crashImages({ limit: PER_INSTANT, random })) {
            counts.images += 1;
            counts.features.add(featuresOf(crashed).join(' '));
            const what = `device ${number + 1}, instant ${counts.instants}, ${crashed.origin}`;
            try {
              await migrated(crashed, counts.images);
              assert.equal(await heldOn(crashed), held, what);
              await checkPages(crashed, pages);
            } catch (error) {
              throw new Error(`${what}: ${(error as Error).message}`, { cause: error });
            }
          }
        }
      }
      console.log(JSON.stringify({ ...counts, features: [...counts.features] }));
      assert.ok(counts.features.has('0 1') && counts.features.has('1 1'), 'the feature comes superblock by superblock');
    },
  );
}

check(
  'a device of version 1 with a flipped bit is refused and left alone, or migrated with nothing wrong',
  [],
  async () => {
    const random = new SimRandom(7);
    const counts = { refused: 0, migrated: 0, less: 0 };
    for (const end of ENDS) {
      const devices = firstDevices(end);
      const ranges = await Promise.all(devices.map(({ disk }) => metadataOf(disk)));
      for (let flip = 0; flip < FLIPS; flip += 1) {
        const { disk: original, held, pages } = devices[flip % devices.length];
        const disk = original.clone();
        const { layout } = decodeSuperblock(disk.peek(0, 4096), crc32c);
        const [offset, length] = random.pick(ranges[flip % devices.length]);
        disk.flipBit(offset + random.below(length), random.below(8));
        const before = crc32c(disk.peek(0, disk.geometry.sizeBytes));
        try {
          await migrated(disk, flip);
        } catch (error) {
          if (!(error instanceof StrakeError)) throw error;
          counts.refused += 1;
          assert.is(crc32c(disk.peek(0, disk.geometry.sizeBytes)), before, `${end} ${flip}: ${error.message}`);
          continue;
        }
        const now = await heldOn(disk);
        const table = offset >= layout.blockTableOffset && offset < layout.journalOffset;
        if (now.sha256 === held.sha256) counts.migrated += 1;
        else counts.less += 1;
        // The table of one slot is all that a device can lose and still open: its blocks are poison then.
        if (!table) assert.equal(now, held, `${end} ${flip}: byte ${offset}`);
        assert.is(now.segments, held.segments);
        await checkPages(disk, pages);
        if (!table) assert.equal((await fsck(disk, true)).problems, [], `${end} ${flip}: byte ${offset}`);
      }
    }
    console.log(JSON.stringify(counts));
    assert.ok(counts.refused > 0 && counts.migrated > 0);
  },
);

/** Where the metadata of a device lies that opening looks at: superblocks, roots, live pages, and the journal. */
async function metadataOf(disk: SimDisk): Promise<[number, number][]> {
  const reader = readerOf(disk);
  const { layout } = decodeSuperblock(disk.peek(0, 4096), crc32c);
  const ranges: [number, number][] = [
    [0, 320],
    [layout.copyOffset, 320],
    [layout.rootOffset, 14_464],
    [layout.rootOffset + 16_384, 14_464],
  ];
  const { slots } = (await dumpDevice(reader, { what: 'slots' })) as unknown as {
    slots: { slot: number; table: { offset: number } | null }[];
  };
  for (const { table } of slots) if (table !== null) ranges.push([table.offset, 256]);
  for (const region of [layout.volumesOffset, layout.directoryOffset, layout.slotTableOffset]) {
    for (let page = 0; page < 5; page += 1) {
      for (const place of [0, 1]) ranges.push([pageOffset(region, page, place), 640]);
    }
  }
  const { batches } = (await dumpDevice(reader, { what: 'journal' })) as unknown as {
    batches: { offset: number; pages: number }[];
  };
  for (const { offset, pages } of batches) ranges.push([offset, pages * 4096]);
  return ranges;
}

run();
