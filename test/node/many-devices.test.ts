/** Devices that are added to a running node, up to its bound, and taken out again. */

import * as assert from 'uvu/assert';
import { NODE_STORES_MAX } from '#strake/core/limits.js';
import { formatDevice, openNode } from '#strake/index.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { scratchFile } from '../support/scratch.js';
import { keepShards } from '../support/shards.js';

const DEVICE = 8 << 20;

async function formatted(count: number): Promise<string[]> {
  await keepShards();
  const paths = Array.from({ length: count }, () => scratchFile(DEVICE));
  let clusterId: string | undefined;
  for (const path of paths) {
    ({ clusterId } = await formatDevice(path, {
      slotBytes: 64 << 10,
      ...(clusterId === undefined ? {} : { clusterId }),
    }));
  }
  return paths;
}

check('a running node takes devices up to its bound, and again when one has left', [], async () => {
  const paths = await formatted(NODE_STORES_MAX + 1);
  const node = await openNode({ devices: paths.slice(0, 1) });
  try {
    for (const path of paths.slice(1, NODE_STORES_MAX)) await node.addDevice(path);
    assert.is((await node.devices()).length, NODE_STORES_MAX);
    const [last] = paths.slice(-1);
    const error = await failure('BUSY', node.addDevice(last));
    assert.match(error.message, `at most ${NODE_STORES_MAX} devices`);
    assert.match(error.remedy, /out of the node/);
    // A place is given back by each device that leaves, and by each that could not be opened.
    const [first] = await node.devices();
    for (let round = 0; round < 2; round += 1) {
      await node.removeDevice(first.deviceId);
      await failure('NOT_FORMATTED', node.addDevice(scratchFile(DEVICE)));
      assert.is((await node.addDevice(first.path)).deviceId, first.deviceId);
    }
    const volume = await node.createVolume({ name: 'main', sizeBytes: 1 << 20, layout: 'mirror' });
    await volume.write(new Uint8Array(4096).fill(7), 0);
    assert.is((await node.status()).volumes[0].state, 'ok');
  } finally {
    await node.close();
  }
});

run();
