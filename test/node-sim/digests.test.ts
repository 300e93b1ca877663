/** What a copy has lost of what was settled long ago is told by digests, on stores as they are, and mended. */

import * as assert from 'uvu/assert';
import type { NodeStore } from '#strake/node/node-store.js';
import { DIGEST_CHUNKS, LIST_PAGE_CHUNKS } from '#strake/ports/limits.js';
import { LIST_ALL, LIST_DIGESTS, SegmentList } from '#strake/ports/segment-list.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { MemberLists } from '#strake/store/member-lists.js';
import { SlotTable } from '#strake/store/running/slot-table.js';
import type { SegmentStore } from '#strake/store/segment-store.js';
import { check, run } from '../support/check.js';
import { DirectMember } from '../support/direct-member.js';
import { deviceIdOf, SimNode } from '../support/sim-node.js';
import { BLOCK, diskOf } from '../support/sim-store.js';

const SLOTS = 16;
const STRIPES = 5;

/** A mirror that was closed in order: each of its segments has a block with a value, and is settled. */
async function closed(): Promise<SimDisk[]> {
  const disks = [diskOf(SLOTS), diskOf(SLOTS)];
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror();
  for (let stripe = 0; stripe < STRIPES; stripe += 1) {
    assert.is(await sim.write(stripe, 0, 1 + stripe), BLOCK);
    assert.is(await sim.flush(), 0);
  }
  for (let more = 0; more < 2; more += 1) assert.is(await sim.flush(), 0);
  await sim.settle(sim.node.close());
  return disks;
}

/** Changes what one device has of the volume, behind the back of any engine. */
async function change(disks: SimDisk[], number: number, how: (sim: SimNode, member: DirectMember) => Promise<unknown>) {
  const sim = new SimNode(2);
  await sim.open(disks[number]);
  const { store } = sim.node.stores.get(deviceIdOf(number)) as NodeStore;
  const [page] = store.volumeTable.indexesOf('a'.repeat(32));
  const member = new DirectMember(sim.loop, store, page);
  await how(sim, member);
  assert.is(await sim.settle(sim.begin((token) => member.flush(token))), 0);
  member.close();
  await sim.settle(sim.node.close());
}

async function valuesOf(disks: readonly SimDisk[]): Promise<number[]> {
  const sim = new SimNode(3);
  for (const disk of disks) await sim.open(disk);
  await sim.assemble();
  await sim.jobsEnded();
  assert.equal(sim.states(), ['in-sync', 'in-sync']);
  const values: number[] = [];
  // Reads take turns: both copies are asked.
  for (let turn = 0; turn < 4; turn += 1) {
    for (let stripe = 0; stripe < STRIPES; stripe += 1) values.push(await sim.read(stripe, 0));
  }
  await sim.settle(sim.node.close());
  return values;
}

const EXPECTED = Array.from({ length: 4 * STRIPES }, (_, at) => 1 + (at % STRIPES));

check('a segment that one device has lost is there again when the volume serves', async () => {
  for (const number of [0, 1]) {
    const disks = await closed();
    await change(disks, number, (sim, member) => sim.settle(member.release(2)));
    assert.equal(await valuesOf(disks), EXPECTED, `device ${number}`);
  }
});

check('a segment that one device has as it was before is brought up to date', async () => {
  for (const number of [0, 1]) {
    const disks = await closed();
    await change(disks, number, async (sim, member) => {
      await sim.settle(member.release(2));
      member.mark(1, 1);
      assert.is(await sim.settle(sim.begin((token) => member.allocate(2, token))), 0);
      // It has content, and the stamp of an older write.
      sim.loop.bytes.fill(9, sim.area(0), sim.area(0) + BLOCK);
      const { loop } = sim;
      const write = (token: number) => member.write(2, 0, 1, sim.area(0), -1, 1, 0, 0, token);
      assert.is(await loop.settle(sim.begin(write)), BLOCK);
    });
    assert.equal(await valuesOf(disks), EXPECTED, `device ${number}`);
  }
});

/** Lists of a store that has these segments, in the slots of this order. */
function listsOf(stripes: readonly number[], flushNumberOf: (stripe: number) => number): MemberLists {
  const slots = new SlotTable(stripes.length, 1);
  for (const [slot, stripe] of stripes.entries()) {
    slots.assign(slot as Parameters<SlotTable['assign']>[0], 0, stripe, 0);
    slots.generations[slot] = 3;
    slots.flushNumbers[slot] = flushNumberOf(stripe);
  }
  const port = { register: () => 0, unregister: () => {}, defer: () => {} };
  const [completions, store] = [port as never, { slots } as unknown as SegmentStore];
  return new MemberLists(completions, store, 0, { group: 0, groups: 1 });
}

function digestsOf(stripes: readonly number[], flushNumberOf: (stripe: number) => number): Map<number, string> {
  const lists = listsOf(stripes, flushNumberOf);
  const digests = new Map<number, string>();
  for (const page = new SegmentList().begin(LIST_DIGESTS); ; page.cursor = page.next) {
    lists.fill(page);
    for (let at = 0; at < page.count; at += 1) {
      assert.not(digests.has(page.chunks[at]), 'a range is told once');
      digests.set(page.chunks[at], `${page.generations[at]} ${page.flushNumbers[at]}`);
    }
    if (page.next < 0) return digests;
    assert.is(page.count, LIST_PAGE_CHUNKS);
  }
}

check('a page has no more entries than were asked for, and the next one goes on behind them', [], () => {
  const stripes = Array.from({ length: 10 }, (_, at) => (9 - at) * DIGEST_CHUNKS);
  const lists = listsOf(stripes, () => 1);
  for (const kind of [LIST_ALL, LIST_DIGESTS]) {
    for (const most of [1, 3, 9, 10, 11]) {
      const found: number[] = [];
      for (const page = new SegmentList().begin(kind); ; page.cursor = page.next) {
        page.most = most;
        lists.fill(page);
        assert.ok(page.count <= most, `${page.count} entries where ${most} may be`);
        found.push(...page.chunks.subarray(0, page.count));
        if (page.next < 0) break;
        assert.is(page.count, most);
      }
      assert.equal(
        found.sort((one, other) => one - other),
        [...stripes].reverse(),
      );
    }
  }
});

check('digests of as many ranges as there are agree in any order of slots, and tell every difference', [], () => {
  const ranges = LIST_PAGE_CHUNKS + 10;
  const stripes = Array.from({ length: 2 * ranges }, (_, at) => Math.floor(at / 2) * DIGEST_CHUNKS + 7 * (at % 2));
  const digests = digestsOf(stripes, (stripe) => stripe % 1000);
  assert.is(digests.size, ranges);
  const differing = (other: Map<number, string>) =>
    [...new Set([...digests.keys(), ...other.keys()])].filter((first) => digests.get(first) !== other.get(first));
  const turned = [...stripes].reverse();
  assert.equal(differing(digestsOf(turned, (stripe) => stripe % 1000)), []);
  const [one, two, three] = [5, 900, ranges - 1].map((range) => range * DIGEST_CHUNKS);
  assert.equal(differing(digestsOf(turned, (stripe) => (stripe % 1000) + (stripe === one ? 1 : 0))), [one]);
  const lost = turned.filter((stripe) => stripe !== two && stripe !== three && stripe !== three + 7);
  assert.equal(differing(digestsOf(lost, (stripe) => stripe % 1000)), [two, three]);
  // Two segments that have each other's stamp.
  const swapped = (stripe: number) => (stripe === two ? two + 7 : stripe === two + 7 ? two : stripe) % 1000;
  assert.equal(differing(digestsOf(turned, swapped)), [two]);
});

run();
