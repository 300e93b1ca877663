/** A node whose devices are on several threads: mirrors over two of them, their faults, the death of each, and the end in order. */

import * as assert from 'uvu/assert';
import { openNode } from '#strake/index.js';
import { makeClusterKey } from '#strake/keys/cluster-key.js';
import { check, run } from '../support/check.js';
import { NodeLoad } from '../support/node-load.js';
import { formatAll, NodeProcess } from '../support/node-process.js';
import { scratchFile, scratchFolder, socketPath, until } from '../support/scratch.js';
import { SectorHistory } from '../support/sector-history.js';

const MIB = 1 << 20;
const SIZE = 4 * MIB;

function files(count: number): string[] {
  return Array.from({ length: count }, () => scratchFile(24 * MIB));
}

/** By device, in the order in which they were named. */
async function shardsOf(node: NodeProcess, paths: readonly string[]): Promise<(number | undefined)[]> {
  const { devices } = await node.status();
  return paths.map((path) => devices.find((device) => device.path === path)?.shard);
}

check(
  'devices are spread over shards in the order in which they are named, and a mirror over two of them',
  async () => {
    const paths = files(5);
    await formatAll(paths);
    const node = await NodeProcess.start({ devices: paths, shards: 3 });
    assert.equal(await shardsOf(node, paths), [0, 1, 2, 0, 1]);
    await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout: 'mirror' });
    const history = new SectorHistory(11, SIZE);
    const load = await NodeLoad.start(node, 'main', history, { seed: 21 });
    await load.reach(400);
    await load.stop();
    // Started again, also on another number of threads.
    await node.close();
    for (const shards of [3, 1, 2]) {
      const again = await NodeProcess.start({ devices: paths, shards });
      const client = await again.connect('main');
      history.check(await client.read(0, SIZE), 'death', `on ${shards} shards`);
      await client.destroy();
      const { devices, volumes } = await again.status();
      assert.equal(
        devices.map(({ recovery }) => recovery.crashed),
        paths.map(() => false),
        'each was closed in order',
      );
      assert.is(volumes[0].state, 'ok');
      await again.close();
    }
  },
);

check('what clients write reaches each copy, wherever it is', async () => {
  const paths = files(2);
  await formatAll(paths);
  const node = await openNode({ devices: paths, shards: 2 });
  const volume = await node.createVolume({ name: 'main', sizeBytes: SIZE, layout: 'mirror' });
  // In one piece and in several, whole blocks and parts of them.
  for (const [offset, length] of [
    [0, 4096],
    [MIB - 512, 1024],
    [2 * MIB + 100, 300],
    [3 * MIB - 65536, 131072],
  ]) {
    const written = Buffer.alloc(length, `${offset}, `);
    await volume.write(written, offset);
    for (let turn = 0; turn < 4; turn += 1) {
      const read = Buffer.alloc(length);
      await volume.read(read, offset);
      assert.ok(read.equals(written), `at ${offset}`);
    }
  }
  await volume.flush();
  await node.deleteVolume('main');
  assert.equal(
    (await node.devices()).map(({ usedSlots }) => usedSlots),
    [0, 0],
    'each has given its slots back',
  );
  await node.close();
});

check('bad content of a copy on another shard is read from this one, and mended there', async () => {
  const paths = files(2);
  await formatAll(paths);
  const node = await NodeProcess.start({ devices: paths, shards: 2 });
  await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout: 'mirror' });
  const client = await node.connect('main');
  const data = Buffer.alloc(MIB, 'content');
  await client.write(0, data);
  await client.flush();
  await client.destroy();
  await node.close();
  const rotten = await openNode({
    devices: [paths[0], paths[1]],
    shards: 2,
    faults: [{ op: 'read', corrupt: true, count: 3, skip: 8 }],
  });
  const volume = rotten.volume('main');
  for (let turn = 0; turn < 6; turn += 1) {
    const read = Buffer.alloc(MIB);
    await volume.read(read, 0);
    assert.ok(read.equals(data), 'no bad content is ever read');
  }
  await rotten.close();
});

check('a device on another shard that fails leaves the mirror, which goes on', async () => {
  const paths = files(2);
  await formatAll(paths);
  const node = await openNode({ devices: paths, shards: 2 });
  const volume = await node.createVolume({ name: 'main', sizeBytes: SIZE, layout: 'mirror' });
  await volume.write(Buffer.alloc(65536, 1), 0);
  await volume.flush();
  const [other] = node.owner.otherLinks();
  await other.call('injectFaults', { rules: [{ op: 'sync', errno: 5 }] });
  await volume.write(Buffer.alloc(65536, 2), 0);
  await volume.flush();
  const { devices, volumes } = await node.status();
  assert.equal(
    devices.map(({ state }) => state),
    ['ok', 'failed'],
  );
  assert.is(volumes[0].state, 'degraded');
  const read = Buffer.alloc(65536);
  await volume.read(read, 0);
  assert.ok(read.every((byte) => byte === 2));
  await node.close();
});

check(
  'a shard that dies under load takes its devices along: clients of a mirror go on, and nothing is lost',
  async () => {
    const paths = files(4);
    await formatAll(paths);
    const node = await NodeProcess.start({ devices: paths, shards: 2 });
    assert.equal(await shardsOf(node, paths), [0, 1, 0, 1]);
    await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout: 'mirror' });
    const history = new SectorHistory(12, SIZE);
    // One set of connections for all of it.
    const load = await NodeLoad.start(node, 'main', history, { seed: 33 });
    for (let round = 1; round <= 3; round += 1) {
      await load.reach(150 * round);
      await node.call('killShard', 1);
      await node.reach('main', 'ok');
    }
    await load.reach(600);
    await load.stop();
    assert.is(load.failed, 0);
    const client = await node.connect('main');
    history.check(await client.read(0, SIZE), 'death', 'after it has died three times');
    await client.destroy();
    assert.equal(await shardsOf(node, paths), [0, 1, 0, 1]);
    await node.close();
  },
);

check('devices on each shard are served to other nodes, also after their shard has died', async () => {
  const paths = files(3);
  await formatAll(paths);
  const keyFile = `${scratchFolder()}/key`;
  makeClusterKey(keyFile);
  const segments = { socket: socketPath() };
  const serving = await NodeProcess.start({ devices: paths.slice(1), shards: 2, network: { keyFile, segments } });
  assert.equal(await shardsOf(serving, paths), [undefined, 0, 1]);
  const node = await NodeProcess.start({ devices: [paths[0]], network: { keyFile, peers: [segments] } });
  await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout: 'mirror', copies: 3 });
  const { devices, remote, volumes } = await node.status();
  assert.equal([devices.length, remote.map(({ state }) => state)], [1, ['ok', 'ok']]);
  const [members] = volumes[0].groups;
  assert.equal(
    members.map(({ path }) => path).toSorted(),
    [devices[0].path, ...remote.map(({ path }) => path)].toSorted(),
  );
  const history = new SectorHistory(13, SIZE);
  const load = await NodeLoad.start(node, 'main', history, { seed: 41 });
  await load.reach(150);
  await serving.call('killShard', 1);
  await load.reach(400);
  await node.reach('main', 'ok');
  await load.stop();
  assert.is(load.failed, 0);
  const client = await node.connect('main');
  for (let turn = 0; turn < 3; turn += 1) history.check(await client.read(0, SIZE), 'death', 'from each copy');
  await client.destroy();
  await node.close();
  await serving.close();
});

check('a volume whose only copy was on a shard that dies is served again when its device is back', async () => {
  const paths = files(2);
  const ids = await formatAll(paths);
  const node = await NodeProcess.start({ devices: paths, shards: 2 });
  // The one with most room is on the shard that stays.
  await node.call('createVolume', { name: 'here', sizeBytes: SIZE });
  await (await node.connect('here')).write(0, Buffer.alloc(MIB, 1));
  await node.call('createVolume', { name: 'there', sizeBytes: SIZE });
  const { groups } = await node.volume('there');
  assert.equal([groups[0][0].deviceId, await shardsOf(node, paths)], [ids[1], [0, 1]]);
  const client = await node.connect('there');
  await client.write(4096, Buffer.alloc(8192, 7));
  await client.flush();
  await node.call('killShard', 1);
  const again = await until('the volume to be served again', async () => {
    const one = await node.connect('there').catch(() => undefined);
    if (one === undefined) return undefined;
    const read = await one.read(4096, 8192).catch(() => undefined);
    if (read?.every((byte) => byte === 7)) return one;
    await one.destroy();
    return undefined;
  });
  await again.destroy();
  const other = await node.connect('here');
  assert.ok((await other.read(0, MIB)).every((byte) => byte === 1));
  await other.destroy();
  assert.equal([(await node.volume('here')).state, (await node.volume('there')).state], ['ok', 'ok']);
  await node.close();
});

run();
