/** Pages of volumes that are given to other volumes: when that may be, and what is left of the last one. */

import * as assert from 'uvu/assert';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { check, run } from '../support/check.js';
import { fsck } from '../support/damaged-store.js';
import { DirectMember } from '../support/direct-member.js';
import { diskOf, randomOf, replicaMap, SimStore, VOLUME_ID } from '../support/sim-store.js';

const PAGES = 3;
const BOUNDS = { activeSlots: 8, tablePages: 16, volumes: PAGES };
const [OLD, NEW] = ['d', 'e'].map((digit) => digit.repeat(32));

function deleted(id: string, mapVersion = 9): ReplicaMap {
  return replicaMap(id, { mapVersion, deleted: true });
}

check('a map that a manager has decided keeps what proves it, over a crash and a checkpoint', async () => {
  const { store, disk, put } = await opened();
  const map = { ...replicaMap(OLD, { mapVersion: 2 ** 32 + 1 }), authentication: '9'.repeat(32) };
  const index = await put(map);
  await store.close();
  assert.is((await fsck(disk)).verdict, 'clean');
  const again = await opened(disk, false);
  assert.equal(again.store.opened.store.replicas[index], map);
  await again.store.close();
});

async function opened(disk = diskOf(8), format = true) {
  const store = new SimStore(disk, 1, BOUNDS);
  if (format) await store.format();
  await store.open();
  const { volumeTable } = store.opened.store;
  const put = (map: ReplicaMap) => store.settle(store.opened.store.putReplica(map));
  return { store, disk, volumeTable, put };
}

check('the page of a note is given away only if the note is not needed, is durable, and has no slots', async () => {
  const { store, volumeTable, put, disk } = await opened();
  const index = await put(replicaMap(OLD));
  assert.is(await put(deleted('f'.repeat(32))), 2);
  const asked: string[] = [];
  const member = new DirectMember(store.loop, store.opened.store, index);
  const allocate = (token: number) => member.allocate(5, token);
  assert.is(await store.settle(store.start(allocate)), 0);
  await put(deleted(OLD));
  store.mayForget = ({ volume: { id } }) => {
    asked.push(id);
    return id === OLD;
  };
  assert.not(volumeTable.hasRoom, 'it has a slot');
  assert.is(await put(replicaMap(NEW)), -28);
  assert.not(asked.includes(OLD));
  await store.settle(member.release(5));
  assert.ok(volumeTable.hasRoom);
  // A newer note is on its way.
  const writing = store.opened.store.putReplica(deleted(OLD, 10));
  await store.loop.run(() => store.opened.store.replicas[index]?.mapVersion === 10);
  assert.not(volumeTable.hasRoom, 'it is not durable');
  await store.settle(writing);
  store.mayForget = () => false;
  assert.is(await put(replicaMap(NEW)), -28);
  store.mayForget = ({ volume: { id } }) => id === OLD;
  assert.is(await put(replicaMap(NEW)), index);
  assert.equal(
    store.opened.store.replicas.flatMap((map) => map?.volume.id ?? []),
    [VOLUME_ID, NEW, 'f'.repeat(32)],
  );
  member.close();
  await store.close();
  assert.is((await fsck(disk)).verdict, 'clean');
});

check('a volume has nothing of the one that had its page: no flush that is remembered', async () => {
  const { store, volumeTable, put, disk } = await opened();
  await put(deleted('f'.repeat(32)));
  const index = await put(replicaMap(OLD));
  const member = new DirectMember(store.loop, store.opened.store, index);
  member.mark(7, 70);
  assert.is(await store.settle(store.start((token) => member.flush(token, true))), 0);
  assert.equal(volumeTable.flushedMarks[index], { generation: 7, flushNumber: 70 });
  await put(deleted(OLD));
  store.mayForget = ({ volume: { id } }) => id === OLD;
  assert.is(await put(replicaMap(NEW)), index);
  const expected = { generation: 0, flushNumber: 0 };
  assert.equal(volumeTable.flushedMarks[index], expected);
  disk.powerCut(randomOf(1));
  const again = await opened(disk, false);
  assert.is(again.volumeTable.indexOf(NEW, 0), index);
  assert.equal(again.volumeTable.flushedMarks[index], expected);
  await again.store.close();
});

check('notes are given away in turn, so that each stays as long as it can', async () => {
  const { store, put } = await opened();
  for (const digit of ['1', '2']) await put(deleted(digit.repeat(32)));
  store.mayForget = () => true;
  const indices: number[] = [];
  for (const digit of ['3', '4', '5', '6']) {
    indices.push(await put(replicaMap(digit.repeat(32))));
    await put(deleted(digit.repeat(32)));
  }
  assert.equal(indices, [1, 2, 1, 2]);
  await store.close();
});

run();
