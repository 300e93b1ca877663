/** A node that stands alone becomes one of a cluster, and back, with all its bytes. */

import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { serving } from '../support/cluster-processes.js';
import { NbdClient } from '../support/nbd-client.js';
import { ask, made, refused } from '../support/node-commands.js';
import { scratchFolder, socketPath } from '../support/scratch.js';
import { strake } from '../support/strake.js';
import { up } from '../support/up.js';

const SIZE = 4 << 20;

check('the volumes of a node are adopted, served by a client, and given back, bytes equal', async () => {
  const { folder, cluster } = await made(2);
  const alone = await up([folder, '--create', `main=${SIZE},mirror:2`, '--create', `one=${SIZE},single`]);
  const content = Buffer.alloc(SIZE, 0);
  for (let at = 0; at < SIZE; at += 4) content.writeUInt32LE((at * 2_654_435_761) >>> 0, at);
  const write = async (socket: string, name: string) => {
    const client = await NbdClient.connect(socket, { name });
    for (let at = 0; at < SIZE; at += 1 << 20) await client.write(at, content.subarray(at, at + (1 << 20)));
    await client.destroy();
  };
  const equal = async (socket: string, name: string) => {
    const client = await NbdClient.connect(socket, { name });
    for (let turn = 0; turn < 2; turn += 1) assert.equal(Buffer.compare(await client.read(0, SIZE), content), 0, name);
    await client.destroy();
  };
  const volumes = ['main', 'one'];
  for (const name of volumes) await write(String(alone.data.address), name);
  const manager = join(scratchFolder(), 'adopting');
  const init = ['cluster', 'init', manager, '--node', folder, '--name', 'n1'];
  await refused(init, 5, 'IN_USE', {}, strake);
  assert.is((await alone.stop()).code, 0);
  for (let turn = 0; turn < 2; turn += 1) {
    // A second time it finds all of it done.
    const adopted = await ask(init);
    assert.is(adopted.clusterId, cluster);
    assert.equal(adopted.refused, []);
    assert.equal((adopted.volumes as string[]).sort(), turn === 0 ? volumes : []);
  }
  await refused(['up', folder], 5, 'MANAGED', {}, strake);
  const address = socketPath();
  const reach = ['--manager', address, '--key-file', join(manager, 'cluster.key')];
  const deciding = await serving(['manager', 'start', manager, '--listen', address]);
  const node = await serving(['node', 'start', folder, '--name', 'n1', ...reach]);
  for (const name of volumes) {
    const socket = socketPath();
    const client = await serving(['volume', 'export', name, '--socket', socket, ...reach]);
    await equal(socket, name);
    assert.is((await client.stop()).code, 0);
  }
  assert.is((await node.stop()).code, 0);
  const left = await ask(['cluster', 'leave', folder, '--name', 'n1', ...reach]);
  assert.equal([(left.volumes as string[]).sort(), left.refused], [volumes, []]);
  assert.is((await deciding.stop()).code, 0);
  const again = await up([folder]);
  for (const name of volumes) await equal(String(again.data.address), name);
  assert.is((await again.stop()).code, 0);
});

run();
