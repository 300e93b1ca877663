/** A thousand small volumes on one node: made, listed, used by some, found again at the next start. */

import * as assert from 'uvu/assert';
import { NODE_VOLUMES_MAX } from '#strake/core/limits.js';
import { formatDevice, openNode } from '#strake/index.js';
import { check, repetitions, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { NbdClient } from '../support/nbd-client.js';
import { scratchFile, socketPath } from '../support/scratch.js';
import { keepShards } from '../support/shards.js';

const COUNT = repetitions(NODE_VOLUMES_MAX, 120);
const SLOT = 64 << 10;
/** So large that a device has room for all volumes that lie on it, and sparse. */
const DEVICE = 1 << 30;
/** Volumes that are made at a time. */
const LANES = 8;

async function formatted(count: number): Promise<string[]> {
  await keepShards();
  const paths = Array.from({ length: count }, () => scratchFile(DEVICE));
  let clusterId: string | undefined;
  for (const path of paths) {
    const cluster = clusterId === undefined ? {} : { clusterId };
    ({ clusterId } = await formatDevice(path, { slotBytes: SLOT, ...cluster }));
  }
  return paths;
}

for (const shards of [1, 2]) {
  check(`as many volumes as a node may have are served on ${shards} shards, and found again`, async () => {
    const paths = await formatted(4);
    const node = await openNode({ devices: paths, shards });
    const names = Array.from({ length: COUNT }, (_, at) => `v${at}`);
    for (let at = 0; at < COUNT; at += LANES) {
      await Promise.all(names.slice(at, at + LANES).map((name) => node.createVolume({ name, sizeBytes: SLOT })));
    }
    if (COUNT === NODE_VOLUMES_MAX) {
      const more = node.createVolume({ name: 'more', sizeBytes: SLOT });
      assert.match((await failure('BUSY', more)).message, `at most ${COUNT} volumes`);
    }
    const used = names.filter((_, at) => at % 50 === 7);
    for (const name of used) await node.volume(name).write(Buffer.alloc(4096, name), 0);
    assert.is((await node.volumes()).length, COUNT);
    await node.close();

    const again = await openNode({ devices: paths, shards });
    const volumes = await again.volumes();
    assert.equal(
      volumes.map(({ name, state }) => `${name} ${state}`).toSorted(),
      names.map((name) => `${name} ok`).toSorted(),
    );
    const socket = socketPath();
    await again.serve({ socket });
    for (const name of used) {
      const client = await NbdClient.connect(socket, { name });
      assert.ok((await client.read(0, 4096)).equals(Buffer.alloc(4096, name)), name);
      await client.destroy();
    }
    await again.deleteVolume(names[0]);
    assert.is((await again.volumes()).length, COUNT - 1);
    await again.close();
  });
}

run();
