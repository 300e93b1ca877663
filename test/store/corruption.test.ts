/**
 * Damage of every kind, done to small devices at rest and by the disk under a store that runs: what is wrong is
 * noticed, by whoever needs it and by `fsck`, and nobody ever gets wrong data.
 */

import * as assert from 'uvu/assert';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { dumpDevice } from '#strake/store/checking/dump.js';
import { deviceBytesMin, PAGE_BYTES, ROOT_BYTES } from '#strake/store/format/format.js';
import { check, repetitions, run } from '../support/check.js';
import {
  type Expected,
  type FlipCounts,
  flipOne,
  fsck,
  type KnownDevice,
  knownDevice,
  openAndRead,
  putAll,
  readAll,
  readerOf,
} from '../support/damaged-store.js';
import {
  BLOCK,
  diskOf,
  randomOf,
  replicaMap,
  SECTOR,
  SimStore,
  SLOT,
  SLOT_BLOCKS,
  VOLUME_ID,
} from '../support/sim-store.js';

/** STRAKE_FLIPS=all flips every bit, for half an hour; otherwise so many bits are chosen for each device. */
const ALL_FLIPS = process.env.STRAKE_FLIPS === 'all';
const FLIPS = repetitions(3500, 300);

for (const how of ['killed', 'closed'] as const) {
  check(`a flipped bit of the metadata of a device that was ${how} never gives wrong data`, async () => {
    const device = await knownDevice(how);
    const random = randomOf(11);
    const counts: FlipCounts = { flips: 0, refused: 0, unreadable: 0, right: 0 };
    const bytes = device.live.reduce((sum, { from, to }) => sum + to - from, 0);
    const stride = ALL_FLIPS ? 1 : Math.ceil(bytes / FLIPS);
    for (const { what, from, to } of device.live) {
      // The beginnings of structures, where their fields are, and every so many bytes of the rest.
      for (let at = from; at < to; at += at < from + 64 ? 1 : 1 + random.below(2 * stride - 1)) {
        const first = ALL_FLIPS ? 0 : random.below(8);
        for (let bit = first; bit < (ALL_FLIPS ? 8 : first + 1); bit += 1) {
          await flipOne(device, what, at, bit, counts, bit === first);
        }
      }
    }
    if (ALL_FLIPS) console.log(how, JSON.stringify(counts));
    assert.ok(counts.refused > 0 && counts.unreadable > 0 && counts.right > 0, JSON.stringify(counts));
  });
}

/** Where the blocks of a device's slots are, by stripe. */
async function slotOffsets(disk: SimDisk): Promise<Map<number, number>> {
  const { slots } = (await dumpDevice(readerOf(disk), { what: 'slots' })) as unknown as {
    slots: { stripe: number; offset: number }[];
  };
  return new Map(slots.map(({ stripe, offset }) => [stripe, offset]));
}

check('a flipped bit of data is an error of its block, and fsck names the block', async () => {
  const random = randomOf(5);
  for (const how of ['closed', 'killed'] as const) {
    const { disk, expected } = await knownDevice(how);
    const offsets = await slotOffsets(disk);
    for (const [key, value] of expected) {
      const [stripe, block] = [Math.floor(key / SLOT_BLOCKS), key % SLOT_BLOCKS];
      // After a kill the first writes of stripe 3 are believed only if their content matches.
      if (value === 0 || (how === 'killed' && stripe === 3)) continue;
      const offset = (offsets.get(stripe) ?? -1) + block * BLOCK;
      const copy = disk.clone();
      copy.flipBit(offset + random.below(BLOCK), random.below(8));
      assert.is((await fsck(copy)).problems.length, 0);
      const { problems, counts, verdict } = await fsck(copy, true);
      // After a kill all slots are in doubt: each entered the activity log together with its neighbours.
      const doubtful = how === 'killed';
      assert.equal([counts.badBlocks, counts.inDoubt], doubtful ? [0, 1] : [1, 0]);
      assert.is(verdict, doubtful ? 'recoverable' : 'damaged');
      if (!doubtful) assert.equal([problems[0].kind, problems[0].offset], ['data', offset]);
      const { refused, errors } = await openAndRead(copy, expected);
      assert.is(refused, '');
      assert.equal([...errors], [[-74, 1]], `block ${block} of stripe ${stripe}`);
    }
  }
});

interface Batch {
  readonly sequence: number;
  readonly durableSequence: number;
  readonly offset: number;
  readonly pages: number;
  readonly contents: { readonly list: readonly { type: string; slot: number; block: number }[] };
}

async function batchesOf(disk: SimDisk): Promise<Batch[]> {
  return ((await dumpDevice(readerOf(disk), { what: 'journal' })) as unknown as { batches: Batch[] }).batches;
}

check('a torn tail of the journal is no damage, and a hole before what is durable is', async () => {
  const { disk, expected } = await knownDevice('killed');
  const batches = await batchesOf(disk);
  const { durableSequence } = batches[batches.length - 1];
  let torn = 0;
  for (const [index, { sequence, offset, pages }] of batches.entries()) {
    for (let sector = 0; sector < pages * 8; sector += 1) {
      // As if this sector had not been written: what was there before were zeroes.
      const copy = disk.clone();
      copy.poke(offset + sector * SECTOR, new Uint8Array(SECTOR));
      const report = await fsck(copy);
      const { refused, errors } = await openAndRead(copy, withoutBatches(expected, batches.slice(index)));
      const what = `batch ${sequence}, sector ${sector}`;
      if (sequence <= durableSequence) {
        assert.equal([report.verdict, refused], ['damaged', 'ERR_STRAKE_DAMAGED'], what);
      } else {
        torn += 1;
        assert.equal([report.verdict, report.problems.length, refused, errors.size], ['recoverable', 0, '', 0], what);
        assert.is(report.torn, index < batches.length - 1 || sector > 0 || pages * 8 > 1, what);
      }
    }
  }
  assert.ok(torn > 0 && torn < 8 * batches.length);
});

/** What is expected if the last batches, of which nobody was promised that they stay, are not there. */
function withoutBatches(expected: Expected, batches: readonly Batch[]): Expected {
  const left: Expected = new Map(expected);
  for (const { contents } of batches) {
    for (const { type, block } of contents.list) if (type === 'block') left.set(3 * SLOT_BLOCKS + block, 0);
  }
  return left;
}

check('a changed bit of the last batch is damage, not a torn tail', async () => {
  const { disk, expected } = await knownDevice('killed');
  const batch = (await batchesOf(disk)).at(-1) as Batch;
  const random = randomOf(6);
  for (let sector = 0; sector < batch.pages * 8; sector += 1) {
    for (let time = 0; time < 20; time += 1) {
      const copy = disk.clone();
      copy.flipBit(batch.offset + sector * SECTOR + random.below(SECTOR), random.below(8));
      assert.is((await fsck(copy)).verdict, 'damaged');
      assert.is((await openAndRead(copy, expected)).refused, 'ERR_STRAKE_DAMAGED');
    }
  }
});

/** No wrong data, and nothing is wrong that fsck does not see. */
async function judge(disk: SimDisk, expected: Expected, what: string, noticed: boolean): Promise<void> {
  const { problems, verdict } = await fsck(disk, true);
  if (noticed) assert.ok(problems.length > 0, `${what}: fsck finds nothing`);
  const { refused, errors } = await openAndRead(disk, expected).catch((error: Error) => {
    throw new Error(`${what}: ${error.message}`);
  });
  if (refused !== '' || errors.size > 0) assert.is(verdict, 'damaged', `${what}: ${refused} ${[...errors].join(' ')}`);
}

/** Pages that are needed, one by one. */
function livePages({ live }: KnownDevice): { what: string; at: number }[] {
  return live.flatMap(({ what, from, to }) =>
    Array.from({ length: (to - from) / PAGE_BYTES }, (_, page) => ({ what, at: from + page * PAGE_BYTES })),
  );
}

check('a page of metadata in the place of another is not taken for it', async () => {
  for (const how of ['closed', 'killed'] as const) {
    const device = await knownDevice(how);
    const pages = livePages(device);
    const batches = await batchesOf(device.disk);
    const durable = batches.at(-1)?.durableSequence ?? 0;
    // A batch that nobody was promised may be missing, in whichever way.
    const promised = ({ at }: { at: number }) =>
      !batches.some(({ sequence, offset }) => offset === at && sequence > durable);
    for (const from of pages) {
      for (const to of pages.filter(promised)) {
        const bytes = device.disk.peek(from.at, PAGE_BYTES);
        if (Buffer.from(bytes).equals(device.disk.peek(to.at, PAGE_BYTES))) continue;
        const disk = device.disk.clone();
        disk.poke(to.at, bytes);
        await judge(disk, device.expected, `${from.what} ${from.at} over ${to.what} ${to.at}`, true);
      }
    }
  }
});

check('an older version of a page of metadata is not taken for the current one', async () => {
  for (const how of ['closed', 'killed'] as const) {
    const { disk, live, expected, layout } = await knownDevice(how);
    for (const { what, from } of live) {
      if (what === 'superblock' || what === 'journal') continue;
      const bytes = what === 'root' ? ROOT_BYTES : PAGE_BYTES;
      // Pages have their two places side by side, and so have the roots; the regions begin at `rootOffset`.
      const second = ((from - layout.rootOffset) / bytes) % 2 === 1;
      const stale = disk.clone();
      stale.poke(from, disk.peek(second ? from - bytes : from + bytes, bytes));
      await judge(stale, expected, `${how}: stale ${what} at ${from}`, true);
    }
  }
});

/** A life of a store in which every kind of metadata is written, and which ends in order. */
async function session(disk: SimDisk, expected: Expected, seed: number): Promise<void> {
  const store = new SimStore(disk, seed);
  await store.open();
  await putAll(store, expected, 0, [
    [3, 9001],
    [4, 9002],
  ]);
  await store.settle(store.flush());
  await putAll(store, expected, 2, [[7, 9003]]);
  await store.settle(store.zero(3, 0, SLOT_BLOCKS, true, 60));
  for (let block = 0; block < SLOT_BLOCKS; block += 1) expected.set(3 * SLOT_BLOCKS + block, 0);
  await store.settle(store.opened.store.putReplica(replicaMap(VOLUME_ID, { mapVersion: 2 })));
  await store.close();
}

check('a write that is lost, or lands elsewhere, never gives wrong data', async () => {
  const device = await knownDevice('closed');
  const random = randomOf(8);
  const pages = livePages(device);
  for (const kind of ['lose', 'misdirect'] as const) {
    for (let time = 0, acted = true; acted; time += 1) {
      const disk = device.disk.clone();
      const expected: Expected = new Map(device.expected);
      const anywhere = random.below(disk.geometry.sizeBytes / PAGE_BYTES - 16) * PAGE_BYTES;
      const toOffsetBytes = random.chance(0.5) ? anywhere : Math.min(random.pick(pages).at, 3 << 20);
      const action = kind === 'lose' ? ({ kind } as const) : ({ kind, toOffsetBytes } as const);
      disk.faults.add({ ops: ['write'], skip: time, count: 1, action });
      const error = await session(disk, expected, time + 1).then(
        () => undefined,
        (reason: Error) => reason,
      );
      acted = disk.faults.acted > 0;
      disk.faults.clear();
      const what = `write ${time}, ${kind} ${kind === 'lose' ? '' : toOffsetBytes}`;
      if (error !== undefined) throw new Error(`${what}: ${error.message}`);
      await judge(disk, expected, what, false);
    }
  }
});

check('a full device says so, stays consistent, and takes new segments when old ones are given back', async () => {
  const disk = diskOf(2);
  const expected: Expected = new Map();
  let store = new SimStore(disk, 1);
  await store.format();
  await store.open();
  const { slots } = store.opened.store.superblock.layout;
  for (let stripe = 0; stripe < slots; stripe += 1) await putAll(store, expected, stripe, [[1, stripe + 1]]);
  assert.is(store.opened.store.freeSlots, 0);
  assert.is(await store.settle(store.allocate(slots)), -28);
  assert.is(await store.settle(store.write(slots, 0, 1, 1)), -2);
  await readAll(store, expected, new Map());
  await store.close();
  assert.is((await fsck(disk, true)).verdict, 'clean');

  store = new SimStore(disk, 2);
  await store.open();
  assert.is(await store.settle(store.allocate(slots)), -28);
  assert.is(await store.settle(store.zero(0, 0, SLOT_BLOCKS, true, 99)), 0);
  await store.settle(store.member.release(1));
  for (const stripe of [0, 1]) expected.set(stripe * SLOT_BLOCKS + 1, 0);
  assert.is(await store.settle(store.flush()), 0);
  await putAll(store, expected, slots, [[3, 501]]);
  await putAll(store, expected, slots + 1, [[4, 502]]);
  assert.is(await store.settle(store.allocate(slots + 2)), -28);
  const errors = new Map<number, number>();
  await readAll(store, expected, errors);
  assert.is(errors.size, 0);
  assert.equal(await store.settle(store.read(slots, 1)), new Array(8).fill(0), 'nothing of the old segment shows');
  assert.equal(await store.settle(store.read(slots, 3)), new Array(8).fill(501));
  await store.close();
  const report = await fsck(disk, true);
  assert.equal([report.verdict, report.counts.usedSlots], ['clean', slots]);
});

check('after a failed sync modifications fail, reads work, and what was flushed is there again', async () => {
  const { disk, expected } = await knownDevice('closed');
  const { store, refused } = await openAndRead(disk, expected);
  assert.is(refused, '');
  await putAll(store, expected, 0, [[11, 801]]);
  disk.faults.add({ ops: ['sync'], count: 1, action: { kind: 'error', errno: 5 } });
  assert.is(await store.settle(store.flush()), -5);
  assert.is(store.member.fence(), 1);
  assert.is(await store.settle(store.write(0, 11, 1, 802)), -5);
  assert.is(await store.settle(store.zero(0, 0, 1, false, 1)), -5);
  assert.is(await store.settle(store.allocate(77)), -5);
  assert.is(await store.settle(store.flush()), -5);
  const errors = new Map<number, number>();
  await readAll(store, expected, errors);
  assert.is(errors.size, 0);
  assert.ok((await store.settle(store.opened.checkpointer.close())) < 0);
  store.opened.store.dispose();
  disk.kill(randomOf(1));
  assert.is((await fsck(disk, true)).verdict, 'recoverable');
  assert.equal([...(await openAndRead(disk, expected)).errors], []);
});

check('a write that fails leaves its block unreadable, and no other', async () => {
  const { disk, expected, layout } = await knownDevice('closed');
  const { store } = await openAndRead(disk, expected);
  const action = { kind: 'error', errno: 5 } as const;
  disk.faults.add({ ops: ['write'], start: layout.dataOffset, end: layout.copyOffset, action });
  assert.is(await store.settle(store.write(0, 5, 1, 701)), -5);
  assert.is(await store.settle(store.write(0, 12, 1, 702)), -5);
  disk.faults.clear();
  for (const live of [true, false]) {
    const errors = live ? new Map<number, number>() : (await openAndRead(disk, expected)).errors;
    if (live) await readAll(store, expected, errors);
    // What was never written reads as zeroes still.
    assert.equal([...errors], [[-74, 1]]);
    if (!live) continue;
    await store.settle(store.flush());
    await store.close();
    const { verdict, counts } = await fsck(disk, true);
    assert.equal([verdict, counts.suspectBlocks], ['clean', 1]);
  }
});

check('whoever waits to store a volume when the journal fails is told', async () => {
  const store = new SimStore(diskOf(2), 1);
  await store.format();
  await store.open();
  store.device.disk.faults.add({ ops: ['write'], action: { kind: 'error', errno: 5 } });
  const ids = Array.from({ length: 40 }, (_, index) => `${10 + index}`.padStart(32, 'b'));
  const puts = ids.map((id) => store.opened.store.putReplica(replicaMap(id)));
  assert.equal(new Set(await store.settle(Promise.all(puts))), new Set([-5]));
});

check('a block that cannot be read during recovery is not taken for one that was never written', async () => {
  const { disk, expected } = await knownDevice('killed');
  const offsets = await slotOffsets(disk);
  for (const { stripe, block, errno } of [
    { stripe: 3, block: 1, errno: -61 },
    { stripe: 0, block: 5, errno: -74 },
  ]) {
    for (const failures of [1, 2]) {
      const copy = disk.clone();
      const start = (offsets.get(stripe) ?? -1) + block * BLOCK;
      const action = { kind: 'error', errno: 5 } as const;
      copy.faults.add({ ops: ['read'], start, end: start + BLOCK, count: failures, action });
      const { errors } = await openAndRead(copy, expected);
      // A failure that goes away costs nothing; one that stays costs this block and no other.
      assert.equal([...errors], failures === 1 ? [] : [[errno, 1]]);
    }
  }
});

check('a slot that is given back and away again keeps its old table until the new tree counts', async () => {
  for (const lives of [1, 2]) {
    const disk = new SimDisk({ sizeBytes: deviceBytesMin(SLOT) });
    const expected: Expected = new Map();
    for (let life = 1; life <= lives; life += 1) {
      const store = new SimStore(disk, life);
      if (life === 1) await store.format();
      await store.open();
      await putAll(store, expected, 0, [[life, life]]);
      await store.close();
    }
    const store = new SimStore(disk, 9);
    await store.open();
    // This record makes replaying read the old table.
    await putAll(store, expected, 0, [[9, 9]]);
    await store.settle(store.member.release(0));
    await store.settle(store.flush());
    await putAll(store, expected, 1, [[5, 51]]);
    for (const block of [1, 2, 9]) expected.set(block, 0);
    // The root of the last checkpoint never reaches the device.
    const { rootOffset, volumesOffset } = store.opened.store.superblock.layout;
    disk.faults.add({ ops: ['write'], start: rootOffset, end: volumesOffset, action: { kind: 'lose' } });
    await store.close();
    disk.faults.clear();
    const { refused, errors } = await openAndRead(disk, expected);
    assert.equal([refused, errors.size], ['', 0], `after ${lives} lives`);
  }
});

run();
