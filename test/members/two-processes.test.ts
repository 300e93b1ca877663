/**
 * A mirror over two processes, on files: one serves the segments of its device, the other one has the other copy and serves the
 * volume over NBD. Each of them is killed while a client writes.
 */

import * as assert from 'uvu/assert';
import { makeClusterKey } from '#strake/keys/cluster-key.js';
import { check, run } from '../support/check.js';
import { CLOSED, fsckAll } from '../support/fsck.js';
import { NodeLoad } from '../support/node-load.js';
import { formatAll, NodeProcess } from '../support/node-process.js';
import { scratchFile, scratchFolder, socketPath } from '../support/scratch.js';
import { SectorHistory } from '../support/sector-history.js';

const MIB = 1 << 20;
const SIZE = 6 * MIB;

/** Two devices of one cluster, its key, and where segments are served. */
async function setUp() {
  const [near, far] = [scratchFile(32 * MIB), scratchFile(32 * MIB)];
  const [nearId, farId] = await formatAll([near, far]);
  const keyFile = `${scratchFolder()}/key`;
  makeClusterKey(keyFile);
  const segments = { socket: socketPath() };
  const serve = () => NodeProcess.start({ devices: [far], network: { keyFile, segments } });
  const host = () => NodeProcess.start({ devices: [near], network: { keyFile, peers: [segments] } });
  return { near, far, nearId, farId, serve, host };
}

async function checkAll(node: NodeProcess, history: SectorHistory, what: string): Promise<Buffer> {
  const client = await node.connect('main');
  const content = await client.read(0, SIZE);
  history.check(content, 'death', what);
  await client.destroy();
  return content;
}

check('each of two processes is killed under load, and both copies are equal in the end', async () => {
  const { near, far, nearId, farId, serve, host } = await setUp();
  let serving = await serve();
  let node = await host();
  await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout: 'mirror' });
  await node.reach('main', 'ok');
  const history = new SectorHistory(1, SIZE, true);

  const load = await NodeLoad.start(node, 'main', history, { seed: 1 });
  await load.reach(300);
  await serving.kill();
  // Requests go on without the other copy.
  await load.reach(900);
  await node.reach('main', 'degraded');
  await load.stop();
  await checkAll(node, history, 'after the death of the other copy');

  serving = await serve();
  await node.reach('main', 'ok');
  const more = await NodeLoad.start(node, 'main', history, { seed: 2 });
  await more.reach(300);
  await node.kill();
  await more.stop();
  node = await host();
  await node.reach('main', 'ok');
  await checkAll(node, history, 'after the death of the engine');

  await node.close();
  await serving.close();
  await fsckAll([near, far], CLOSED, 'closed in order');
  const contents: Buffer[] = [];
  for (const [device, missing] of [
    [near, farId],
    [far, nearId],
  ]) {
    const alone = await NodeProcess.start({ devices: [device], without: { main: [missing] } });
    contents.push(await checkAll(alone, history, `from ${device} alone`));
    await alone.close();
  }
  assert.ok(contents[0].equals(contents[1]), 'the copies are equal');
});

run();
