/** A newer map takes the place of an older one at a replica: durable, then drained, then answered, and never the other way round. */

import * as assert from 'uvu/assert';
import { ESTALE } from '#strake/core/errno.js';
import { NO_FLUSH } from '#strake/layout/flush-id.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import type { ReplicaGate } from '#strake/node/replica-gate.js';
import { check, run } from '../support/check.js';
import { SLOT } from '../support/sim-store.js';
import { deviceIdOf, TwoNodes } from '../support/two-nodes.js';

const VOLUME = 'a'.repeat(32);

function mapOf(mapVersion: number): ReplicaMap {
  const member = { state: 'in-sync', since: NO_FLUSH, incarnation: 1, flushNumber: 0, joined: 1 } as const;
  return {
    volume: {
      ...{ id: VOLUME, name: 'v', headerVersion: 0, createdMs: 1, sizeBytes: 64 * SLOT, layout: 'mirror', copies: 2 },
      ...{ segmentBytes: SLOT, deleted: false },
    },
    ...{ group: 0, groups: 1, mapVersion, generation: 1, holder: 'e'.repeat(32), lease: 'exclusive' },
    members: [0, 1].map((place) => ({ ...member, place, deviceId: deviceIdOf(place) })),
  };
}

async function gateOf(seed: number): Promise<{ readonly nodes: TwoNodes; readonly gate: ReplicaGate }> {
  const nodes = new TwoNodes(seed);
  await nodes.format();
  await nodes.startServing();
  const device = nodes.serving.host.stores.get(deviceIdOf(1));
  if (device === undefined) throw new Error('the device is not open');
  const gate = device.gate(VOLUME, 0);
  assert.ok((await nodes.settle(gate.storeMap(mapOf(1), null))) >= 0);
  return { nodes, gate };
}

check('a map is answered when what was admitted before it has ended, and what comes meanwhile waits', async () => {
  const { nodes, gate } = await gateOf(1);
  assert.ok(gate.answered);
  gate.enter();
  const order: string[] = [];
  gate.watch({ mapStored: () => order.push('stored') });
  const stored = gate.storeMap(mapOf(2), null).then(() => order.push('answered'));
  gate.wait({ proceed: () => order.push('resumed') });
  await nodes.pause(500_000);
  assert.equal(order, ['stored']);
  assert.equal([gate.map?.mapVersion, gate.answered, gate.storing], [2, false, true]);
  gate.leave();
  order.push('left');
  await nodes.settle(stored);
  await nodes.pause(1_000);
  assert.equal(order.slice(0, 2), ['stored', 'left']);
  assert.equal([...order.slice(2)].sort(), ['answered', 'resumed']);
  assert.equal([gate.answered, gate.storing, gate.idle], [true, false, true]);
});

check('an older map that comes later changes nothing, and what is noted as served is beside the newest', async () => {
  const { nodes, gate } = await gateOf(2);
  gate.enter();
  const noted = gate.noteServed(1).finally(() => gate.leave());
  const results = [gate.storeMap(mapOf(4), null), gate.storeMap(mapOf(3), null), noted];
  const [stored, older, served] = await nodes.settle(Promise.all(results));
  assert.ok(stored >= 0 && served >= 0);
  assert.is(older, -ESTALE);
  assert.equal([gate.map?.mapVersion, gate.answered, gate.servedGeneration], [4, true, 1]);
});

check('of two maps with one version the first stays', async () => {
  const { nodes, gate } = await gateOf(5);
  const [first, second] = [mapOf(2), { ...mapOf(2), members: mapOf(2).members.toReversed() }];
  assert.ok((await nodes.settle(gate.storeMap(first, null))) >= 0);
  assert.equal([gate.hasOther(first), gate.hasOther(second), gate.hasOther(mapOf(3))], [false, true, false]);
  assert.is(await nodes.settle(gate.storeMap(second, null)), -ESTALE);
  assert.equal(gate.map, first);
});

check(
  'a generation on which the copies have agreed is the one that was asked for, and is noted before a newer map is answered',
  async () => {
    const { nodes, gate } = await gateOf(3);
    // Whoever has attached it next hands out its map while the one before says that all copies are equal.
    gate.enter();
    let served = -1;
    const stored = gate.storeMap({ ...mapOf(2), generation: 2 }, null).then(() => {
      served = gate.servedGeneration;
    });
    await nodes.pause(500_000);
    assert.equal([gate.map?.generation, gate.storing], [2, true]);
    assert.ok((await nodes.settle(gate.noteServed(1))) >= 0);
    gate.leave();
    await nodes.settle(stored);
    assert.equal([served, gate.servedGeneration, gate.map?.generation, gate.answered], [1, 1, 2, true]);
    gate.enter();
    assert.ok((await nodes.settle(gate.noteServed(2 ** 24 - 1))) >= 0);
    gate.leave();
    assert.is(gate.servedGeneration, 2, 'none is served that has not begun');
  },
);

check('what a device notes of itself beside a map does not bring that map back', async () => {
  const { nodes, gate } = await gateOf(4);
  const { device } = gate;
  // A node whose volume has just been served, while a member leaves.
  const newer = device.keep({ ...mapOf(2), holder: 'd'.repeat(32) }, { answered: true });
  const noted = device.keep(mapOf(1), { servedGeneration: 1 });
  for (const result of await nodes.settle(Promise.all([newer, noted]))) assert.ok(result >= 0);
  assert.equal([gate.map?.mapVersion, gate.answered, gate.servedGeneration], [2, true, 1]);
});

run();
