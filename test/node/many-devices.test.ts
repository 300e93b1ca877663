/** Devices that are added to a running node, up to its bound, and taken out again. */

import * as assert from 'uvu/assert';
import { SHARD_STORES_MAX } from '#strake/core/limits.js';
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
  const paths = await formatted(SHARD_STORES_MAX + 1);
  const node = await openNode({ devices: paths.slice(0, 1), shards: 1 });
  try {
    for (const path of paths.slice(1, SHARD_STORES_MAX)) await node.addDevice(path);
    assert.is((await node.devices()).length, SHARD_STORES_MAX);
    const [last] = paths.slice(-1);
    const error = await failure('BUSY', node.addDevice(last));
    assert.match(error.message, `at most ${SHARD_STORES_MAX} devices`);
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

check('a node has as many devices as all its shards, and serves volumes on each of them', [], async () => {
  const paths = await formatted(SHARD_STORES_MAX + 1);
  const node = await openNode({ devices: paths, shards: 2 });
  const devices = await node.devices();
  const on = (shard: number) => devices.filter((device) => device.shard === shard).length;
  assert.equal([on(0), on(1)], [SHARD_STORES_MAX / 2 + 1, SHARD_STORES_MAX / 2]);
  const mirror = await node.createVolume({ name: 'mirror', sizeBytes: 4 << 20, layout: 'mirror' });
  const content = new Uint8Array(4 << 20).map((_, at) => at >> 16);
  await mirror.write(content, 0);
  await mirror.flush();
  // On each device one, in turn.
  for (let number = 0; number <= SHARD_STORES_MAX; number += 1) {
    const volume = await node.createVolume({ name: `v${number}`, sizeBytes: 1 << 20 });
    await volume.write(new Uint8Array(256 << 10).fill(number + 1), 0);
  }
  const served = (await node.volumes()).map(({ shard }) => shard);
  assert.ok(served.includes(0) && served.includes(1));
  await node.close();

  const again = await openNode({ devices: paths, shards: 2 });
  const read = new Uint8Array(content.length);
  await again.volume('mirror').read(read, 0);
  assert.equal(read, content);
  for (let number = 0; number <= SHARD_STORES_MAX; number += 1) {
    const part = new Uint8Array(4096);
    await again.volume(`v${number}`).read(part, 252 << 10);
    assert.ok(part.every((byte) => byte === number + 1));
  }
  assert.is((await again.status()).volumes.filter(({ state }) => state === 'ok').length, SHARD_STORES_MAX + 2);
  await again.close();
});

run();
