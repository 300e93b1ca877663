/** What is settled of a replica: told with flushes, and known after a crash as far as a batch or a checkpoint has taken it along. */

import * as assert from 'uvu/assert';
import { compareFlushes, type FlushId, NO_FLUSH } from '#strake/layout/flush-id.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import type { MemberState } from '#strake/layout/volume-map.js';
import { REQUEST_AGREED, REQUEST_FLUSH, REQUEST_MARKED, SegmentRequest } from '#strake/ports/segment-request.js';
import { check, repetitions, run } from '../support/check.js';
import { fsck } from '../support/damaged-store.js';
import { diskOf, randomOf, replicaMap, SimStore, SLOT_BLOCKS } from '../support/sim-store.js';

const flushOf = (generation: number, flushNumber: number): FlushId => ({ generation, flushNumber });

async function opened(seed = 1) {
  const disk = diskOf(4);
  const store = new SimStore(disk, seed);
  await store.format();
  await store.open();
  assert.is(await store.settle(store.allocate(0)), 0);
  assert.is(await store.settle(store.flush()), 0);
  return { disk, store };
}

/** An engine flushes, and tells that so much is settled. */
async function tell(store: SimStore, generation: number, flushNumber: number): Promise<void> {
  const request = new SegmentRequest().begin(REQUEST_FLUSH, 0, 0);
  request.settledGeneration = generation;
  request.settledNumber = flushNumber;
  assert.is(await store.settle(store.submit(request)), 0);
}

async function agree(store: SimStore, generation: number, flushNumber: number): Promise<void> {
  const request = new SegmentRequest().begin(REQUEST_AGREED, 0, 0);
  request.generation = generation;
  request.flushNumber = flushNumber;
  assert.is(await store.settle(store.submit(request)), 0);
}

function settledOf(store: SimStore): FlushId {
  return store.opened.store.volumeTable.settled.of(0);
}

/** What the device knows when it is opened again. */
async function reopened(disk: SimStore['device']['disk'], seed = 2): Promise<FlushId> {
  const store = new SimStore(disk, seed);
  await store.open(true, false);
  const settled = settledOf(store);
  const known = store.member.settled;
  assert.equal(known ?? NO_FLUSH, settled, 'members tell the next engine the same');
  await store.close();
  assert.is((await fsck(disk)).verdict, 'clean');
  return settled;
}

function mapOf(state: MemberState, mapVersion: number): ReplicaMap {
  const map = replicaMap(undefined, { mapVersion });
  return { ...map, members: map.members.map((member) => ({ ...member, state })) };
}

check('it goes along with the next batch, and costs none of its own', [], async () => {
  const { disk, store } = await opened();
  const known = settledOf(store);
  assert.ok(compareFlushes(known, flushOf(2, 7)) < 0);
  const { position } = store.opened.store.journal;
  await tell(store, 2, 7);
  await tell(store, 2, 9);
  assert.equal(store.opened.store.journal.position, position, 'no batch was written');
  const before = disk.clone();
  before.kill(randomOf(1));
  assert.equal(await reopened(before), known);

  assert.is(await store.settle(store.write(0, 0, 1, 3)), 4096);
  assert.is(store.opened.store.journal.position.sequence, position.sequence + 1, 'that of the first write');
  disk.kill(randomOf(1));
  assert.equal(await reopened(disk), flushOf(2, 9));
});

check('it is in the page after a checkpoint, also if no batch came behind it', [], async () => {
  for (const end of ['checkpoint', 'close'] as const) {
    const { disk, store } = await opened();
    // Nothing else of the page is new.
    await store.settle(store.opened.store.runCheckpoint('half'));
    await agree(store, 2, 7);
    if (end === 'close') await store.close();
    else await store.settle(store.opened.store.runCheckpoint('half'));
    disk.kill(randomOf(1));
    assert.equal(await reopened(disk), flushOf(2, 7), end);
  }
});

check('it only rises, whichever way it is told and kept', [], async () => {
  const { disk, store } = await opened();
  const later = async (block: number) => assert.is(await store.settle(store.write(0, block, 1, 3)), 4096);
  await tell(store, 2, 7);
  await later(0);
  for (const [generation, flushNumber] of [
    [2, 6],
    [1, 90],
    [0, 0],
  ]) {
    await tell(store, generation, flushNumber);
    await agree(store, Math.max(1, generation), flushNumber);
    await later(1);
    assert.equal(settledOf(store), flushOf(2, 7));
  }
  const crashed = disk.clone();
  crashed.kill(randomOf(1));
  assert.equal(await reopened(crashed), flushOf(2, 7));
  // A generation counts for more than a number.
  await tell(store, 3, 1);
  await later(2);
  disk.kill(randomOf(1));
  assert.equal(await reopened(disk), flushOf(3, 1));
  const again = new SimStore(disk, 3);
  await again.open();
  await tell(again, 2, 8);
  await again.close();
  assert.equal(await reopened(disk), flushOf(3, 1));
});

check('a device that is not in-sync knows nothing, and is told nothing', [], async () => {
  for (const state of ['offline', 'syncing'] as const) {
    const { disk, store } = await opened();
    await tell(store, 2, 7);
    assert.is(await store.settle(store.opened.store.putReplica(mapOf(state, 2))), 0);
    assert.equal(settledOf(store), NO_FLUSH);
    await tell(store, 2, 9);
    await agree(store, 2, 9);
    assert.is(await store.settle(store.write(0, 0, 1, 3)), 4096);
    const crashed = disk.clone();
    crashed.kill(randomOf(1));
    assert.equal(await reopened(crashed), NO_FLUSH, state);

    assert.is(await store.settle(store.opened.store.putReplica(mapOf('in-sync', 3))), 0);
    await agree(store, 2, 8);
    assert.is(await store.settle(store.write(0, 1, 1, 3)), 4096);
    disk.kill(randomOf(1));
    assert.equal(await reopened(disk), flushOf(2, 8), 'from then on it knows what it is told');
  }
});

check('another replica on the same page knows nothing of it', [], async () => {
  const { disk, store } = await opened();
  await store.close();
  const again = new SimStore(disk, 2);
  await again.open(true);
  await again.settle(again.member.release(0));
  await tell(again, 2, 7);
  assert.is(await again.settle(again.opened.store.forgetReplica(0)), 0);
  assert.is(await again.settle(again.opened.store.putReplica(replicaMap('e'.repeat(32)))), 0);
  assert.equal(settledOf(again), NO_FLUSH);
  await again.close();
  const last = new SimStore(disk, 3);
  await last.open();
  assert.equal(settledOf(last), NO_FLUSH);
  await last.close();
});

check(
  'whenever the power fails, what is known to be settled is there, and is behind by one flush at most',
  [],
  async () => {
    let known = 0;
    for (let seed = 1; seed <= repetitions(200, 40); seed += 1) {
      const random = randomOf(seed);
      const { disk, store } = await opened(seed);
      const blocks = 4 * SLOT_BLOCKS;
      for (let chunk = 1; chunk < 4; chunk += 1) assert.is(await store.settle(store.allocate(chunk)), 0);
      let flushed = 0;
      const life = async () => {
        for (let round = 1; round <= blocks; round += 1) {
          const at = round - 1;
          await store.write(Math.floor(at / SLOT_BLOCKS), at % SLOT_BLOCKS, 1, round);
          if (random.chance(0.1)) await store.opened.store.runCheckpoint(random.chance(0.5) ? 'half' : 'all');
          const request = new SegmentRequest().begin(REQUEST_FLUSH, 0, 0);
          // All rounds before this one have been flushed. Half of the flushes have a batch of their own, with their mark.
          const flags = round % 2 === 0 ? REQUEST_MARKED : 0;
          Object.assign(request, {
            settledGeneration: 2,
            settledNumber: round,
            generation: 2,
            flushNumber: round,
            flags,
          });
          await store.submit(request);
          flushed = round;
        }
      };
      void life();
      let turns = random.below(1500);
      await store.loop.run(() => {
        turns -= 1;
        return turns < 0 || flushed === blocks;
      });
      disk.powerCut(random);

      const again = new SimStore(disk, seed + 1000);
      await again.open(true);
      const { generation, flushNumber } = settledOf(again);
      const settled = generation === 2 ? flushNumber : 0;
      // The last one may have found nothing to go along with.
      assert.ok(settled >= flushed - 1, `seed ${seed}: ${settled} is settled, and ${flushed} were flushed`);
      for (let round = 1; round < settled; round += 1) {
        const at = round - 1;
        const found = await again.settle(again.read(Math.floor(at / SLOT_BLOCKS), at % SLOT_BLOCKS));
        assert.equal(found, new Array(8).fill(round), `seed ${seed}: round ${round} of ${settled} that are settled`);
      }
      known += settled;
      await again.close();
    }
    assert.ok(known > 100, 'marks have been recovered');
  },
);

run();
