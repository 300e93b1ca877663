/** A manager over its real store: where no room is left it steps down by name, and everything that it answered is there later. */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { StrakeError } from '#strake/core/errors.js';
import { foundCluster } from '#strake/manager/found.js';
import { Manager } from '#strake/manager/manager.js';
import { LmdbStore } from '#strake/meta/lmdb-store.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { check, root, run } from '../support/check.js';
import { CLUSTER, FakeStorageNode, idOf, KEY } from '../support/manager-world.js';
import { atEnd, output, scratchFolder } from '../support/scratch.js';

check('a manager whose disk is full steps down, and has everything that it answered', [root], async () => {
  const folder = join(scratchFolder(), 'full');
  mkdirSync(folder);
  output('mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder);
  const unmounted = atEnd(() => output('umount', '--lazy', folder));
  const directory = join(folder, 'manager');
  const loop = new SimLoop({ seed: 1, arenaBytes: 4096 });
  const nodes = [new FakeStorageNode('a', 1), new FakeStorageNode('b', 1)];
  const steppedDown: StrakeError[] = [];
  const start = async (store: LmdbStore) => {
    const manager = await Manager.open({
      ...{ store, clock: loop, completions: loop, key: KEY, wallNowMs: () => 0 },
      onStepDown: (error) => steppedDown.push(error),
    });
    for (const node of nodes) {
      for (const member of node.members) member.report = () => ({ ...report(member), replicasFree: 9999 });
      await loop.settle(node.register(manager));
    }
    return manager;
  };
  const report = (member: FakeStorageNode['members'][number]) => Object.getPrototypeOf(member).report.call(member);

  const store = await LmdbStore.make(directory);
  await foundCluster(store, { clusterId: CLUSTER });
  const manager = await start(store);
  const answered: string[] = [];
  for (let number = 0; number < 3000 && steppedDown.length === 0; number += 1) {
    const name = `v${number}`;
    const request = { volumeId: idOf(name), name, sizeBytes: 1 << 24, layout: 'mirror', copies: 2, on: [] } as const;
    let done = false;
    void manager.create(request).then(() => {
      done = true;
      answered.push(name);
    });
    await loop.run(() => done || steppedDown.length > 0);
  }
  assert.equal(
    steppedDown.map(({ code }) => code),
    ['ERR_STRAKE_NO_SPACE'],
  );
  assert.ok(answered.length > 50, `${answered.length} volumes`);
  await loop.settle(manager.close());
  await store.close();
  output('mount', '-o', 'remount,size=8m', folder);
  const again = await LmdbStore.open(directory);
  const next = await start(again);
  const listed = await loop.settle(next.volumes());
  assert.equal(listed.map(({ name }) => name).sort(), [...answered].sort());
  await loop.settle(next.close());
  await again.close();
  unmounted();
  output('umount', folder);
});

run();
