/** The manager: volumes, who holds them, what is decided about their maps, and what a restart leaves of it. */

import * as assert from 'uvu/assert';
import { memberInSync, memberOffline, memberSyncing } from '#strake/layout/map-changes.js';
import { type ReplicaMap, replicaOf, volumeOf } from '#strake/layout/replica-map.js';
import type { VolumeMap } from '#strake/layout/volume-map.js';
import type { ChangeAnswer } from '#strake/ports/manager.js';
import { isAuthentic } from '#strake/wire/maps.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { EPOCH, idOf, KEY, ManagerWorld } from '../support/manager-world.js';

/** A change of the first group, as its holder makes it. */
function change(world: ManagerWorld, client: string, map: ReplicaMap, make: (volume: VolumeMap) => VolumeMap) {
  const changed = replicaOf(make(volumeOf([map])), 0);
  const { volume, group, mapVersion: before } = map;
  return world.settle(
    world.manager.change({ clientId: idOf(client), volumeId: volume.id, group, before, map: changed }),
  );
}

function decided(answer: ChangeAnswer<ReplicaMap>): ReplicaMap {
  if (answer.kind !== 'decided') throw new Error('it was superseded');
  return answer.map;
}

const SINCE = { generation: 1, flushNumber: 3 };
const statesOf = (map: ReplicaMap) => map.members.map(({ state }) => state).join();

check('a volume is made, attached, loses a member, gets it back, and is released', async () => {
  const world = await ManagerWorld.begin();
  const created = await world.create('v', 2, ['a', 'b']);
  assert.is(created.maps.length, 1);
  assert.is(created.maps[0].mapVersion, EPOCH + 1);
  assert.ok(isAuthentic(created.maps[0], KEY));
  assert.equal(
    created.devices.map(({ nodeId }) => nodeId),
    world.nodes.slice(0, 2).map(({ nodeId }) => nodeId),
  );
  const [map] = (await world.attach('v', 'one')).maps;
  assert.equal([map.mapVersion, map.generation, map.holder, map.lease], [EPOCH + 2, 1, idOf('one'), 'exclusive']);
  await world.bring([map]);
  const out = decided(await change(world, 'one', map, (volume) => memberOffline(volume, 0, 1, SINCE)));
  assert.equal([out.mapVersion, statesOf(out)], [EPOCH + 3, 'in-sync,offline']);
  await world.bring([out]);
  const syncing = decided(await change(world, 'one', out, (volume) => memberSyncing(volume, 0, 1, 1, false)));
  assert.equal([syncing.members[1].joined, statesOf(syncing)], [EPOCH + 4, 'in-sync,syncing']);
  await world.bring([syncing]);
  const progress = { incarnation: 1, flushNumber: 5 };
  const back = decided(await change(world, 'one', syncing, (volume) => memberInSync(volume, 0, 1, progress)));
  assert.equal([back.members[1].joined, statesOf(back)], [EPOCH + 4, 'in-sync,in-sync']);
  assert.ok(isAuthentic(back, KEY));
  await world.bring([back]);
  const released = await world.settle(
    world.manager.detach({ clientId: idOf('one'), volumeId: map.volume.id, maps: [back] }),
  );
  assert.is(released.kind, 'released');
  const [listed] = await world.settle(world.manager.volumes());
  assert.equal([listed.lease, listed.groups[0].mapVersion], ['released', EPOCH + 6]);
  const kinds = (await world.settle(world.manager.events(0))).map(({ kind }) => kind);
  for (const kind of [
    'volume-created',
    'attached',
    'member-removal',
    'member-take-in',
    'member-promotion',
    'released',
  ]) {
    assert.ok(kinds.includes(kind), kind);
  }
});

check('a second client is refused while the holder is heard, and takes over where it is told to', async () => {
  const world = await ManagerWorld.begin();
  await world.create('v');
  await world.attach('v', 'one');
  const refused = await failure('VOLUME_BUSY', world.attach('v', 'two'));
  assert.match(refused.message, idOf('one'));
  const [map] = (await world.attach('v', 'two', true)).maps;
  assert.equal([map.generation, map.holder], [2, idOf('two')]);
});

run();
