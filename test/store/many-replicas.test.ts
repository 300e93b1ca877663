/** A large device knows more than 256 replicas: by pages that a directory leads to, and that are emptied and used again. */

import * as assert from 'uvu/assert';
import { EBUSY } from '#strake/core/errno.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { check, run } from '../support/check.js';
import { fsck } from '../support/damaged-store.js';
import { DirectMember } from '../support/direct-member.js';
import { diskOf, randomOf, replicaMap, SimStore, VOLUME_ID } from '../support/sim-store.js';

const GIB = 2 ** 30;
/** Beyond the 508 pages that one page of the directory leads to. */
const REPLICAS = 520;

function idOf(number: number): string {
  return String(number).padStart(32, 'f');
}

async function opened(disk: SimDisk, seed: number, format = false): Promise<SimStore> {
  const store = new SimStore(disk, seed);
  if (format) await store.format();
  await store.open(!format);
  return store;
}

function put(store: SimStore, map: ReplicaMap): Promise<number> {
  return store.settle(store.opened.store.putReplica(map));
}

/** Ids of volumes by their pages. */
function known({ opened: { store } }: SimStore): Map<number, string> {
  return new Map(store.replicas.flatMap((map, page) => (map === undefined ? [] : [[page, map.volume.id]])));
}

for (const end of ['closed', 'cut']) {
  check(`replicas beyond the first page of their directory are there again, ${end}`, async () => {
    const disk = new SimDisk({ sizeBytes: GIB });
    const store = await opened(disk, 1, true);
    const { layout } = store.opened.store.superblock;
    assert.equal([layout.volumePages, layout.volumeDirectoryPages], [1024, 3]);
    const wanted = new Map([[0, VOLUME_ID]]);
    for (let page = 1; page < REPLICAS; page += 1) {
      assert.is(await put(store, replicaMap(idOf(page), { mapVersion: page })), page);
      wanted.set(page, idOf(page));
    }
    const member = new DirectMember(store.loop, store.opened.store, REPLICAS - 1);
    assert.is(await store.settle(store.start((token) => member.allocate(7, token))), 0);
    member.close();
    if (end === 'closed') await store.close();
    else disk.powerCut(randomOf(1));
    for (const seed of [2, 3]) {
      const again = await opened(disk, seed);
      assert.equal(known(again), wanted);
      const { replicas, slots } = again.opened.store;
      assert.is(replicas[REPLICAS - 1]?.mapVersion, REPLICAS - 1);
      assert.is(slots.usedBy(REPLICAS - 1), 1);
      await again.close();
    }
    const { verdict, counts } = await fsck(disk);
    assert.equal([verdict, counts.volumes], ['clean', REPLICAS]);
  });
}

for (const end of ['closed', 'cut']) {
  check(`a page that was emptied stays empty until it is used again, ${end}`, async () => {
    const disk = diskOf(6);
    const store = await opened(disk, 1, true);
    for (const page of [1, 2, 3]) assert.is(await put(store, replicaMap(idOf(page))), page);
    const member = new DirectMember(store.loop, store.opened.store, 2);
    assert.is(await store.settle(store.start((token) => member.allocate(7, token))), 0);
    const forget = (page: number) => store.settle(store.opened.store.forgetReplica(page));
    assert.is(await forget(2), -EBUSY);
    await store.settle(member.release(7));
    member.close();
    // The tree has the pages.
    await store.settle(store.opened.store.runCheckpoint('all'));
    assert.equal([await forget(2), await forget(3)], [2, 3]);
    assert.is(store.opened.store.volumeTable.indexOf(idOf(2), 0), -1);
    assert.is(await put(store, replicaMap(idOf(9))), 2);
    if (end === 'closed') await store.close();
    else disk.powerCut(randomOf(1));
    const wanted = new Map([
      [0, VOLUME_ID],
      [1, idOf(1)],
      [2, idOf(9)],
    ]);
    for (const seed of [2, 3]) {
      const again = await opened(disk, seed);
      assert.equal(known(again), wanted);
      await again.close();
    }
    assert.is((await fsck(disk)).verdict, 'clean');
  });
}

run();
