/** Memory of block tables that several stores share: what each is promised, and who gives way to whom. */

import * as assert from 'uvu/assert';
import type { SlotIndex, TablePage } from '#strake/core/ids.js';
import { SimDevice } from '#strake/sim/disk/device.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { formatDevice } from '#strake/store/opening/format-device.js';
import { openStore } from '#strake/store/opening/open-store.js';
import { TableCache } from '#strake/store/running/table-cache.js';
import { TableMemory } from '#strake/store/running/table-memory.js';
import { STORE_OWN_BYTES } from '#strake/store/store-start.js';
import { check, repetitions, run } from '../support/check.js';
import { DirectMember } from '../support/direct-member.js';
import { BLOCK, CLUSTER_ID, diskOf, randomOf, replicaMap, SLOT } from '../support/sim-store.js';

const SLOTS = 64;

/** Memory of so many pages, of which `budget` are used as long as the promises leave it at that. */
function memoryOf(pages: number, budget: number): { readonly loop: SimLoop; readonly tables: TableMemory } {
  const loop = new SimLoop({ seed: 1, arenaBytes: pages * BLOCK });
  return { loop, tables: new TableMemory(loop, { memoryStart: 0, bytes: pages * BLOCK, budgetBytes: budget * BLOCK }) };
}

/** Takes pages for so many slots from `first` on. Returns those that were there. */
function takeAll(cache: TableCache, first: number, count: number): TablePage[] {
  const pages = Array.from({ length: count }, (_, at) => cache.take((first + at) as SlotIndex));
  return pages.filter((page) => page >= 0);
}

function heldBy(cache: TableCache): number {
  return cache.heldBytes / BLOCK;
}

check('a store gets what it is promised, though another has taken all the memory that there was', [], () => {
  const { tables } = memoryOf(12, 8);
  const first = new TableCache(tables, 2, SLOTS);
  const pages = takeAll(first, 0, 10);
  assert.is(heldBy(first), 8, 'it has the whole budget, and goes on by giving up its own');
  // All are in use, so that nothing of it can be given up.
  for (const page of pages.slice(-8)) first.pin(page);
  const second = new TableCache(tables, 2, SLOTS);
  const promised = takeAll(second, 0, 2);
  assert.is(promised.length, 2);
  for (const page of promised) second.pin(page);
  assert.equal([takeAll(second, 2, 1).length, takeAll(first, 20, 1).length], [0, 0]);
  for (const page of pages.slice(-8)) first.unpin(page);
  // The budget counts again as soon as it can.
  assert.is(takeAll(second, 10, 1).length, 1);
  assert.is(heldBy(first) + heldBy(second), 8);
});

check('the longest unused page goes, of whichever store has more than it is promised', [], () => {
  const { tables } = memoryOf(12, 6);
  const [first, second] = [new TableCache(tables, 2, SLOTS), new TableCache(tables, 2, SLOTS)];
  const has = (slot: number) => first.find(slot as SlotIndex) >= 0;
  takeAll(first, 0, 4);
  takeAll(second, 0, 3);
  assert.is(has(0), false, 'the first of all that were used');
  assert.ok(has(1));
  takeAll(second, 3, 1);
  assert.equal([has(1), has(2)], [true, false]);
  takeAll(second, 4, 20);
  assert.equal([heldBy(first), heldBy(second)], [2, 4], 'it keeps what it is promised');
  takeAll(first, 10, 8);
  assert.is(heldBy(first) + heldBy(second), 6);
  assert.ok(heldBy(first) > 2);
});

check('a page that is in use, or holds what the device does not have, is never given up', [], () => {
  const { tables } = memoryOf(4, 4);
  const cache = new TableCache(tables, 2, SLOTS);
  const [used, changed] = takeAll(cache, 0, 4);
  cache.pin(used);
  cache.setChanged(changed);
  takeAll(cache, 10, 20);
  assert.equal([cache.find(0 as SlotIndex), cache.find(1 as SlotIndex)], [used, changed]);
  assert.equal(cache.changedPages(), [changed]);
});

check('what a store had is free when it is gone, and no operation that was given up can use it', [], () => {
  const { loop, tables } = memoryOf(4, 0);
  const gone = new TableCache(tables, 2, SLOTS);
  const [late] = takeAll(gone, 0, 2);
  gone.pin(late);
  loop.lend(gone.memoryOf(late));
  gone.leave();
  const next = new TableCache(tables, 2, SLOTS);
  assert.not.ok(takeAll(next, 0, 2).includes(late));
  assert.throws(() => new TableCache(tables, 2, SLOTS), /did not answer/);
  loop.takeBack(next.memoryOf(late));
  assert.ok(takeAll(new TableCache(tables, 2, SLOTS), 0, 2).includes(late));
});

check('a page whose reading was given up is used again when that has ended, and not before', [], () => {
  const { loop, tables } = memoryOf(4, 4);
  const cache = new TableCache(tables, 2, SLOTS);
  const [late] = takeAll(cache, 0, 1);
  cache.pin(late);
  loop.lend(cache.memoryOf(late));
  cache.forget(0 as SlotIndex);
  const others = takeAll(cache, 1, 8);
  assert.equal([others.includes(late), heldBy(cache)], [false, 3]);
  loop.takeBack(cache.memoryOf(late));
  assert.ok(takeAll(cache, 10, 1).includes(late));
  assert.is(heldBy(cache), 4);
});

/** Two devices whose block tables share few pages are read and written side by side. */
async function live(seed: number): Promise<void> {
  const random = randomOf(seed);
  const budget = 4 + random.below(6);
  const pages = budget + 2 * 3;
  const payload = 2 * STORE_OWN_BYTES + pages * BLOCK;
  const loop = new SimLoop({ seed, arenaBytes: payload + 8 * BLOCK });
  const range = { memoryStart: 2 * STORE_OWN_BYTES, bytes: pages * BLOCK, budgetBytes: budget * BLOCK };
  const tables = new TableMemory(loop, range);
  const waiting: ((result: number) => void)[] = [];
  const base = loop.register({ complete: (tag, result) => waiting[tag](result) });
  const call = (begin: (token: number) => void) =>
    new Promise<number>((resolve) => begin(base + waiting.push(resolve) - 1));
  const open = async (place: number) => {
    const common = { completions: loop, memory: loop, memoryStart: place * STORE_OWN_BYTES };
    const ports = {
      ...common,
      device: new SimDevice(loop, diskOf(16)),
      tables,
      bounds: { activeSlots: 2, tablePages: 3 },
    };
    const deviceId = String(place + 1).repeat(32);
    await formatDevice(ports, { deviceId, clusterId: CLUSTER_ID, slotBytes: SLOT, nowMs: 1 });
    const opened = await openStore(ports, { path: 'disk' }, { onDamage: assert.unreachable, mayForget: () => false });
    const page = await opened.store.putReplica(replicaMap(undefined, {}, deviceId));
    return { ...opened, member: new DirectMember(loop, opened.store, page), model: new Map<number, number>() };
  };
  const use = async ({ member, model, store }: Awaited<ReturnType<typeof open>>, memory: number) => {
    for (let turn = 0; turn < 40; turn += 1) {
      const stripe = random.below(10);
      const at = payload + memory * BLOCK;
      const words = new Uint32Array(loop.bytes.buffer, loop.bytes.byteOffset + at, BLOCK / 4);
      if (random.chance(0.5)) {
        if (!model.has(stripe)) assert.is(await call((token) => member.allocate(stripe, token)), 0);
        words.fill(seed + turn);
        assert.is(await call((token) => member.write(stripe, 1, 1, at, -1, seed + turn, 1, 0, token)), BLOCK);
        model.set(stripe, seed + turn);
      } else {
        assert.is(await call((token) => member.read(stripe, 1, 1, at, token)), BLOCK);
        assert.ok(
          words.every((word) => word === (model.get(stripe) ?? 0)),
          `seed ${seed}`,
        );
      }
      assert.ok(store.tables.heldBytes >= 0);
    }
    // Checkpoints write what was changed, and nobody waits for pages of the other.
    assert.is(await call((token) => member.flush(token, false)), 0);
  };
  const close = async ({ member, store, checkpointer }: Awaited<ReturnType<typeof open>>) => {
    member.close();
    assert.is(await checkpointer.close(), 0);
    store.dispose();
  };
  const course = async () => {
    const [first, second] = [await open(0), await open(1)];
    await Promise.all([use(first, 0), use(second, 1)]);
    await close(second);
    await use(first, 0);
    await close(first);
  };
  await loop.settle(course());
}

check('stores that share few pages read what was written, and none waits for another', [], async () => {
  const seeds = repetitions(200, 20);
  for (let seed = 1; seed <= seeds; seed += 1) await live(seed);
});

run();
