/** What a cluster refuses: strangers, second writers, addresses that others reach, and nodes that stand alone. */

import { chmodSync, copyFileSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { ClusterProcesses, serving } from '../support/cluster-processes.js';
import { ask, file, refused } from '../support/node-commands.js';
import { scratchFolder, socketPath } from '../support/scratch.js';
import { strake } from '../support/strake.js';

const SIZE = 4 << 20;

async function mirrored(): Promise<ClusterProcesses> {
  const cluster = await ClusterProcesses.start();
  await cluster.addNodes('n1', 'n2');
  await cluster.ask(['volume', 'create', 'main', '--size', String(SIZE), '--on', 'n1,n2']);
  return cluster;
}

check('a second writer is refused, or takes over, and the first writes no more', async () => {
  const cluster = await mirrored();
  const first = await cluster.export('main');
  const writer = await first.connect();
  await writer.write(0, Buffer.alloc(4096, 1));
  const second = ['volume', 'export', 'main', '--socket', join(cluster.folder, 'x.sock'), ...cluster.reach];
  await refused(second, 5, 'VOLUME_BUSY', {}, strake);
  const third = await cluster.export('main', '--take-over');
  const reader = await third.connect();
  assert.equal(await reader.read(0, 4096), Buffer.alloc(4096, 1));
  // It is told by an error, or by the end of its connection.
  await writer.write(0, Buffer.alloc(4096, 2)).then(
    () => assert.unreachable('a writer that has been replaced is told that it has written'),
    () => {},
  );
  const { code, stderr } = await first.process.ended;
  assert.is(code, 1, stderr);
  assert.equal(await reader.read(0, 4096), Buffer.alloc(4096, 1));
  await reader.destroy();
  await third.process.stop();
  await cluster.stop();
});

check('who has no key, another one, or one that others may read, gets nothing', async () => {
  const cluster = await mirrored();
  const status = ['cluster', 'status', '--manager', cluster.address];
  await refused(status, 2, 'INVALID_ARGUMENT');
  await refused([...status, '--key-file', join(cluster.folder, 'none')], 1, 'NOT_FOUND');
  const other = join(scratchFolder(), 'other.key');
  writeFileSync(other, `${'5a'.repeat(32)}\n`, { mode: 0o600 });
  const stranger = await refused([...status, '--key-file', other], 4, 'NO_MANAGER');
  assert.match(String(stranger.message), 'does not have the key of this cluster');
  const open = join(scratchFolder(), 'open.key');
  copyFileSync(cluster.keyFile, open);
  chmodSync(open, 0o644);
  await refused([...status, '--key-file', open], 1, 'NO_PERMISSION');
  writeFileSync(other, 'no key\n');
  await refused([...status, '--key-file', other], 2, 'INVALID_ARGUMENT');
  await cluster.stop();
});

check('a node of another cluster is refused, and so is a name that another node has', async () => {
  const cluster = await mirrored();
  const folder = join(cluster.folder, 'stranger');
  await ask(['cluster', 'init', folder]);
  const names = async () => {
    const { nodes } = (await cluster.ask(['node', 'list'])) as { nodes: { name: string }[] };
    return nodes.map(({ name }) => name).sort();
  };
  const start = async (device: string, name: string) => {
    const [listen, control] = [socketPath(), socketPath()];
    const place = ['--device', device, '--listen', listen, '--control', control, '--name', name];
    // It starts all the same: clients may be there that have its replicas open.
    const node = await serving(['node', 'start', folder, ...place, ...cluster.reach]);
    assert.equal(await names(), ['n1', 'n2']);
    return (await node.stop()).stderr;
  };
  const device = file(folder, 'disk.img');
  await ask(['device', 'format', device]);
  assert.match(await start(device, 'n3'), `belongs to cluster ${cluster.clusterId}, and not to`);
  await ask(['device', 'format', device, '--cluster', cluster.clusterId, '--confirm', device]);
  assert.match(await start(device, 'n1'), /n1/);
  await cluster.stop();
});

check('addresses that others reach are refused unless that is meant', async () => {
  const folder = join(scratchFolder(), 'net');
  await ask(['cluster', 'init', folder]);
  const error = await refused(['manager', 'start', folder, '--listen', '0.0.0.0:0'], 2, 'ADDRESS', {}, strake);
  assert.match(String(error.remedy), /--insecure-network/);
  await refused(['manager', 'start', folder, '--listen', 'localhost:1'], 2, 'INVALID_ARGUMENT', {}, strake);
});

check('a cluster is made once, and a second manager does not run beside the first', async () => {
  const cluster = await ClusterProcesses.start();
  const folder = join(cluster.folder, 'manager');
  await refused(['manager', 'start', folder, '--listen', join(cluster.folder, 'm2.sock')], 5, 'IN_USE', {}, strake);
  await cluster.managerProcess?.stop();
  await refused(['cluster', 'init', folder], 1, 'EXISTS');
  const status = ['cluster', 'status', ...cluster.reach];
  await refused(status, 4, 'NO_MANAGER');
});

check('options that would do nothing are refused before anything is done', async () => {
  const folder = join(scratchFolder(), 'nothing');
  const reach = ['--manager', socketPath(), '--key-file', join(folder, 'none')];
  for (const args of [
    ['cluster', 'init', folder, '--name', 'n1'],
    ['cluster', 'init', folder, '--node', folder, '--cluster-id', 'ab'.repeat(16)],
    ['volume', 'export', 'main', '--socket', socketPath(), '--port', '0', ...reach],
    ['volume', 'export', 'main', '--read-only', '--take-over', ...reach],
  ]) {
    const { message, remedy } = await refused(args, 2, 'INVALID_ARGUMENT');
    assert.match(`${message} ${remedy}`, '--', args.join(' '));
  }
  assert.not.ok(existsSync(folder));
});

run();
