/**
 * A segment that was made equal to another copy takes that copy's stamp. Whatever a power cut leaves: a segment that has the
 * stamp and is not in doubt has all of the content.
 */

import * as assert from 'uvu/assert';
import type { SimDisk } from '#strake/sim/disk/disk.js';

import { openStore } from '#strake/store/opening/open-store.js';
import { check, repetitions, run } from '../support/check.js';
import { DirectMember } from '../support/direct-member.js';
import { diskOf, randomOf, SimStore } from '../support/sim-store.js';

const STRIPES = 4;
const BLOCKS = 3;
/** So small that slots leave the activity log all the time. */
const BOUNDS = { activeSlots: 2, tablePages: 3 };
/** Where the volume was before the copy, where it is while copying goes on, and the stamp of the source. */
const BEFORE = { generation: 1, flushNumber: 1 };
const DURING = { generation: 1, flushNumber: 9 };
const SOURCE = { generation: 1, flushNumber: 4 };
/** Images of each instant that are opened. */
const IMAGES = repetitions(24, 6);

const OLD = 100;
const NEW = 200;

function restamp(store: SimStore, stripe: number): Promise<number> {
  return store.start((token) => store.member.restamp(stripe, SOURCE.generation, SOURCE.flushNumber, token));
}

/** Makes a target that holds old content, durably. */
async function target(disk: SimDisk): Promise<SimStore> {
  const store = new SimStore(disk, 1, BOUNDS);
  await store.format();
  await store.open();
  store.member.mark(BEFORE.generation, BEFORE.flushNumber);
  for (let stripe = 0; stripe < STRIPES; stripe += 1) {
    await store.settle(store.allocate(stripe));
    for (let block = 0; block < BLOCKS; block += 1) await store.settle(store.write(stripe, block, 1, OLD + stripe));
    await store.settle(store.flush());
  }
  await store.settle(store.opened.store.runCheckpoint('all'));
  store.member.mark(DURING.generation, DURING.flushNumber);
  return store;
}

/** Copies segments as a resync does, with checkpoints and flushes between any two steps. */
async function copy(store: SimStore): Promise<void> {
  for (let stripe = 0; stripe < STRIPES; stripe += 1) {
    for (let block = 0; block < BLOCKS; block += 1) {
      await store.settle(store.write(stripe, block, 1, NEW + stripe));
      if (block === stripe) await store.settle(store.opened.store.runCheckpoint('half'));
    }
    if (stripe === 1) await store.settle(store.opened.store.runCheckpoint('all'));
    await store.settle(restamp(store, stripe));
    if (stripe === 2) await store.settle(store.opened.store.runCheckpoint('half'));
    if (stripe % 2 === 0) await store.settle(store.flush());
  }
  await store.settle(store.flush());
  await store.settle(store.opened.store.runCheckpoint('all'));
}

/** Opens an image; returns how many segments have the stamp of the source and are beyond doubt. */
async function judge(disk: SimDisk, what: string): Promise<number> {
  const store = new SimStore(disk, 2, BOUNDS);
  store.opened = await store.settle(openStore(store.ports, { path: 'disk' }, store.hooks));
  store.member = new DirectMember(store.loop, store.opened.store, 0);
  let equal = 0;
  for (const { stripe, generation, flushNumber, dirty } of [...store.member.segments()]) {
    if (dirty || generation !== SOURCE.generation || flushNumber !== SOURCE.flushNumber) continue;
    equal += 1;
    for (let block = 0; block < BLOCKS; block += 1) {
      const found = await store.settle(store.read(stripe, block));
      assert.equal(found, new Array(8).fill(NEW + stripe), `${what}: block ${block} of segment ${stripe}`);
    }
  }
  return equal;
}

check('C5 whatever a power cut leaves, who has the stamp of the source has its content', async () => {
  const disk = diskOf(STRIPES);
  const store = await target(disk);
  const instants: SimDisk[] = [];
  const record = () => instants.push(disk.clone());
  disk.onDurable = record;
  store.loop.onBatchEnd(record);
  await copy(store);
  disk.onDurable = () => {};
  let equal = 0;
  for (const [number, instant] of instants.entries()) {
    const random = randomOf(number + 1);
    for (let image = 0; image < IMAGES; image += 1) {
      equal += await judge(instant.sample(random), `instant ${number}, image ${image}`);
    }
  }
  assert.ok(instants.length > 50, `${instants.length} instants`);
  assert.ok(equal > instants.length, `${equal} segments had the stamp`);
  assert.is(await judge(disk.clone(), 'the end'), STRIPES);
});

check('a stamp is taken without journal room as well, and by no segment without a slot', async () => {
  const store = await target(diskOf(STRIPES));
  assert.is(await store.settle(restamp(store, STRIPES + 1)), 0);
  assert.not(store.member.has(STRIPES + 1));
  for (let turn = 0; store.opened.store.journal.freePages > 4 && turn < 1000; turn += 1) {
    await store.settle(store.write(0, 0, 1, OLD + turn));
    await store.settle(store.flush());
  }
  for (let stripe = 0; stripe < STRIPES; stripe += 1) await store.settle(restamp(store, stripe));
  await store.close();
  const again = new SimStore(store.device.disk, 2, BOUNDS);
  await again.open(true);
  const stamps = [...again.member.segments()].map(({ generation, flushNumber }) => ({ generation, flushNumber }));
  assert.equal(stamps, new Array(STRIPES).fill(SOURCE));
});

check('a segment that is being modified is not recorded as equal', async () => {
  const store = await target(diskOf(STRIPES));
  const write = store.write(1, 0, 1, NEW);
  assert.is(await store.settle(restamp(store, 1)), -16);
  assert.is(await store.settle(write), 4096);
  assert.is(store.member.stateOf(1)?.flushNumber, DURING.flushNumber);
  assert.is(await store.settle(restamp(store, 1)), 0);
  assert.is(store.member.stateOf(1)?.flushNumber, SOURCE.flushNumber);
});

check('a device that takes no more writes says so', async () => {
  const store = await target(diskOf(STRIPES));
  store.device.disk.faults.add({ ops: ['sync'], count: 1, action: { kind: 'error', errno: 5 } });
  assert.is(await store.settle(store.flush()), -5);
  assert.is(await store.settle(restamp(store, 0)), -5);
});

run();
