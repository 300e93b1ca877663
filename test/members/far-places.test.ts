/** Volumes over devices of this node and of others: each group has one here, by which it is known when the node is opened again. */

import * as assert from 'uvu/assert';
import { StrakeError } from '#strake/core/errors.js';
import type { NodeDevice } from '#strake/node/node-device.js';
import { newVolume } from '#strake/volumes/placement.js';
import { check, run } from '../support/check.js';

/** The groups of a volume over so many devices here (a, b, ...) and elsewhere (z, y, ...), of which those elsewhere have more room. */
function groupsOf(here: number, elsewhere: number, copies: number): string[] {
  const device = (shard: number) => (_: unknown, at: number) => {
    const deviceId = String.fromCharCode(shard < 0 ? 122 - at : 97 + at).repeat(32);
    const freeSlots = shard < 0 ? 100 : 50;
    const known = { shard, deviceId, freeSlots, slotBytes: 1 << 20, hasRoom: true, failed: false, incarnation: 1 };
    return [deviceId, known as unknown as NodeDevice] as const;
  };
  const stores = new Map([
    ...Array.from({ length: here }, device(0)),
    ...Array.from({ length: elsewhere }, device(-1)),
  ]);
  const spec = { id: '1'.repeat(32), name: 'v', sizeBytes: 1 << 20, createdMs: 1, copies } as const;
  const { groups } = newVolume(stores, { ...spec, layout: copies === 1 ? 'single' : 'mirror' });
  return groups.map((group) => group.map(({ deviceId }) => deviceId[0]).join(''));
}

check('each group has a device of this node, and of others as many as there are', () => {
  assert.equal(groupsOf(4, 0, 2), ['ab', 'cd']);
  assert.equal(groupsOf(1, 1, 2), ['az']);
  assert.equal(groupsOf(2, 2, 2), ['az', 'by']);
  assert.equal(groupsOf(1, 3, 2), ['az']);
  assert.equal(groupsOf(3, 1, 2), ['az', 'bc']);
  assert.equal(groupsOf(2, 4, 3), ['azy', 'bxw']);
  assert.equal(groupsOf(2, 2, 1), ['a']);
});

check('no volume lies on other nodes alone', () => {
  for (const copies of [1, 2, 3]) {
    try {
      groupsOf(0, 3, copies);
      assert.unreachable();
    } catch (error) {
      assert.instance(error, StrakeError);
      assert.match((error as StrakeError).message, /would lie on other nodes alone/);
    }
  }
});

run();
