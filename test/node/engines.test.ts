/** Volumes are served on the shard of their first member, whichever of a node's shards that is. */

import * as assert from 'uvu/assert';
import { openNode } from '#strake/index.js';
import { makeClusterKey } from '#strake/keys/cluster-key.js';
import { check, run } from '../support/check.js';
import { CMD } from '../support/nbd-client.js';
import { NodeLoad } from '../support/node-load.js';
import { formatAll, NodeProcess } from '../support/node-process.js';
import { scratchFile, scratchFolder, socketPath, until } from '../support/scratch.js';
import { SectorHistory } from '../support/sector-history.js';

const MIB = 1 << 20;
const SIZE = 4 * MIB;

/** Devices of which the later ones have more room. */
async function growing(count: number): Promise<string[]> {
  const paths = Array.from({ length: count }, (_, at) => scratchFile((24 + 8 * at) * MIB));
  await formatAll(paths);
  return paths;
}

check('a volume is served where its first member is, and does there what it does anywhere', async () => {
  const paths = await growing(2);
  const node = await openNode({ devices: paths, shards: 2 });
  const volume = await node.createVolume({ name: 'main', sizeBytes: SIZE });
  const [told] = await node.volumes();
  assert.equal([told.shard, told.state], [1, 'ok']);
  const written = Buffer.alloc(3 * MIB, 'what is written');
  await volume.write(written, 512);
  await volume.flush();
  const read = Buffer.alloc(written.length);
  await volume.read(read, 512);
  assert.ok(read.equals(written));
  // In parts of blocks, which the engine reads first; and past what is there.
  await volume.write(Buffer.from('part'), 1000);
  await volume.read(read, 512);
  written.write('part', 488);
  assert.ok(read.equals(written));
  await volume.discard(MIB, MIB);
  await volume.writeZeroes(2 * MIB, 4096);
  const zero = Buffer.alloc(MIB);
  await volume.read(zero, MIB);
  assert.ok(zero.every((byte) => byte === 0));

  await node.renameVolume('main', 'other');
  await node.growVolume('other', 2 * SIZE);
  assert.equal([volume.name, volume.sizeBytes], ['other', 2 * SIZE]);
  await volume.write(Buffer.alloc(4096, 9), SIZE);
  const scrub = await node.scrub('other');
  const ended = await until('the scrub to end', async () =>
    (await node.jobs()).find(({ state }) => state !== 'running'),
  );
  assert.equal([ended.id, ended.kind, ended.state, ended.volume], [scrub.id, 'scrub', 'done', 'other']);
  assert.ok(ended.bytesDone > 0, 'how far it has come is told');
  const slow = await node.scrub('other', { bytesPerSecond: 4096 });
  assert.is((await node.cancelJob(slow.id)).state, 'cancelled');
  await node.deleteVolume('other');
  assert.equal(
    (await node.devices()).map(({ usedSlots }) => usedSlots),
    [0, 0],
  );
  await node.close();
});

check('what clients ask for over NBD reaches a volume on another shard: extents, zeroes, flushes', async () => {
  const paths = await growing(2);
  const node = await NodeProcess.start({ devices: paths, shards: 2 });
  await node.call('createVolume', { name: 'main', sizeBytes: SIZE });
  assert.is((await node.volume('main')).shard, 1);
  const client = await node.connect('main', true);
  await client.write(MIB, Buffer.alloc(MIB, 3));
  await client.flush();
  assert.is(await client.errorOf({ type: CMD.writeZeroes, offset: MIB, length: 8192 }), 0);
  assert.is(await client.errorOf({ type: CMD.trim, offset: MIB, length: 4096 }), 0);
  const { extents } = await client.ask({ type: CMD.blockStatus, offset: 0, length: SIZE });
  assert.equal(
    extents.map(({ length, flags }) => [length, flags]),
    [
      [MIB, 3],
      [MIB, 0],
      [2 * MIB, 3],
    ],
  );
  const data = await client.read(MIB, MIB);
  assert.ok(data.subarray(0, 8192).every((byte) => byte === 0) && data.subarray(8192).every((byte) => byte === 3));
  await client.destroy();
  await node.close();
});

check('a mirror whose first member is on another shard goes on when the shard of its second dies', async () => {
  const paths = await growing(3);
  const node = await NodeProcess.start({ devices: paths, shards: 3 });
  await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout: 'mirror' });
  const { shard, groups } = await node.volume('main');
  // The last two have most room, the last one of them more.
  assert.equal([shard, groups[0].map(({ path }) => path)], [2, [paths[2], paths[1]]]);
  const history = new SectorHistory(31, SIZE);
  const load = await NodeLoad.start(node, 'main', history, { seed: 51 });
  for (let round = 0; round < 2; round += 1) {
    await load.reach(150);
    await node.call('killShard', 1);
    const back = () => node.events.filter(({ kind }) => kind === 'member-in-sync').length > round;
    await until('the copy to be back', back);
  }
  await load.reach(200);
  await load.stop();
  assert.is(load.failed, 0);
  const client = await node.connect('main');
  for (let turn = 0; turn < 3; turn += 1) history.check(await client.read(0, SIZE), 'death', 'from each copy');
  await client.destroy();
  await node.close();
});

check('a volume whose own shard dies ends its connections, and is served again: nothing answered is lost', async () => {
  const paths = await growing(3);
  const node = await NodeProcess.start({ devices: paths, shards: 3 });
  await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout: 'mirror' });
  const history = new SectorHistory(32, SIZE);
  for (let round = 0; round < 3; round += 1) {
    assert.is((await node.volume('main')).shard, 2);
    const load = await NodeLoad.start(node, 'main', history, { seed: 61 + round });
    await load.reach(150);
    await node.call('killShard', 2);
    // What had no answer has none.
    await load.reachOrEnd(1_000_000);
    await load.stop();
    assert.is(load.failed, 0);
    await node.reach('main', 'ok');
    const client = await until('the volume to be served again', () => node.connect('main').catch(() => undefined));
    history.check(await client.read(0, SIZE), 'death', `after death ${round + 1}`);
    await client.destroy();
  }
  await node.close();
});

check('a device takes the place of a lost one in a volume that another shard serves', async () => {
  const paths = await growing(4);
  const node = await openNode({ devices: paths.slice(0, 3), shards: 3 });
  const volume = await node.createVolume({ name: 'main', sizeBytes: SIZE, layout: 'mirror' });
  await volume.write(Buffer.alloc(SIZE, 5), 0);
  await volume.flush();
  const [{ shard, groups }] = await node.volumes();
  assert.is(shard, 2);
  const [, second] = groups[0];
  await node.owner.otherLinks()[0].call('injectFaults', { rules: [{ op: 'sync', errno: 5, count: 1 }] });
  await volume.write(Buffer.alloc(4096, 6), 0);
  await volume.flush();
  assert.is((await node.volumes())[0].state, 'degraded');
  await node.removeDevice(second.deviceId);
  const [job] = await node.replaceDevice(second.deviceId, paths[3]);
  assert.is(job.kind, 'rebuild');
  await until('the copy to be built', async () => (await node.volumes())[0].state === 'ok');
  await node.close();

  // From the new copy alone.
  const alone = await openNode({
    devices: [paths[3]],
    without: { main: [groups[0][0].deviceId] },
  });
  const read = Buffer.alloc(SIZE);
  await alone.volume('main').read(read, 0);
  assert.ok(read.subarray(0, 4096).every((byte) => byte === 6) && read.subarray(4096).every((byte) => byte === 5));
  await alone.close();
});

check('a volume without a device on the shard that serves it is served elsewhere when that dies', async () => {
  const [one, three, two, other, by] = await growing(5);
  const node = await openNode({ devices: [one, two, three], shards: 2 });
  const volume = await node.createVolume({ name: 'main', sizeBytes: SIZE, layout: 'mirror' });
  const [{ shard, groups }] = await node.volumes();
  assert.equal([shard, groups[0].map(({ path }) => path)], [1, [two, three]]);
  await volume.write(Buffer.alloc(SIZE, 5), 0);
  await volume.flush();
  assert.equal([(await node.addDevice(other)).shard, (await node.addDevice(by)).shard], [1, 0]);
  await node.owner.otherLinks()[0].call('injectFaults', { rules: [{ op: 'sync', errno: 5, count: 1 }] });
  await volume.write(Buffer.alloc(SIZE, 6), 0);
  await volume.flush();
  const [{ deviceId }] = groups[0];
  await node.removeDevice(deviceId);
  await node.replaceDevice(deviceId, by);
  const built = await until('the copy to be built', async () => {
    const [told] = await node.volumes();
    return told.state === 'ok' && told;
  });
  assert.is(built.shard, 1, 'it stays where it is');
  await node.owner.kill(1);
  await until('the volume to be served again', async () => (await node.volumes())[0].shard === 0);
  const read = Buffer.alloc(SIZE);
  // What it was known by is of no meaning any more, which the first operation is told.
  await until('it to be read', () =>
    volume.read(read, 0).then(
      () => true,
      () => false,
    ),
  );
  assert.ok(read.every((byte) => byte === 6));
  await node.close();
});

check('the first shard dies with all others, and volumes come back on theirs', async () => {
  const paths = await growing(2);
  const node = await NodeProcess.start({ devices: paths, shards: 2 });
  await node.call('createVolume', { name: 'main', sizeBytes: SIZE });
  const client = await node.connect('main');
  await client.write(0, Buffer.alloc(MIB, 8));
  await node.call('killWorker');
  const again = await until('the volume to be served again', () => node.connect('main').catch(() => undefined));
  assert.ok((await again.read(0, MIB)).every((byte) => byte === 8));
  assert.equal([(await node.volume('main')).shard, (await node.volume('main')).state], [1, 'ok']);
  await again.destroy();
  await client.destroy();
  await node.close();
});

check('a node that uses devices of others serves its volumes where its sessions are', async () => {
  const paths = await growing(2);
  const keyFile = `${scratchFolder()}/key`;
  makeClusterKey(keyFile);
  // Nobody is there.
  const peers = [{ socket: socketPath() }];
  const node = await openNode({ devices: paths, shards: 2, keyFile, peers });
  await node.createVolume({ name: 'main', sizeBytes: SIZE });
  const [{ shard, groups }] = await node.volumes();
  assert.equal([shard, groups[0][0].path], [0, paths[1]]);
  await node.close();
});

run();
