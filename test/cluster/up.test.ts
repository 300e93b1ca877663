/** `strake up --nodes`: a whole cluster on files of a folder, in one process and in several, one after another on the same files. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { type Serving, serving } from '../support/cluster-processes.js';
import { commandsOfOneProcess } from '../support/command-process.js';
import { NbdClient } from '../support/nbd-client.js';
import { ask, type Json, refused } from '../support/node-commands.js';
import { checkRecord, records } from '../support/records.js';
import { until } from '../support/scratch.js';
import { strake } from '../support/strake.js';
import { nodeFolder } from '../support/up.js';

const SIZE = 4 << 20;

/** A start costs more than most commands. */
const together = commandsOfOneProcess();

function clientOf({ data }: Serving): Promise<NbdClient> {
  const [{ uri }] = data.volumes as { uri: string }[];
  return NbdClient.connect(decodeURIComponent(uri.slice(uri.indexOf('=') + 1)), { name: 'main' });
}

const COMMANDS: readonly (readonly [string, readonly string[]])[] = [
  ['strake.cluster.status', ['cluster', 'status']],
  ['strake.cluster.set', ['cluster', 'set', 'grace-ms=60000']],
  ['strake.node.list', ['node', 'list']],
  ['strake.device.list.cluster', ['device', 'list']],
  ['strake.events', ['events']],
  ['strake.volume.create.cluster', ['volume', 'create', 'FORMAT', '--size', '1M', '--on', 'n1']],
  ['strake.volume.list.cluster', ['volume', 'list']],
  ['strake.volume.show.cluster', ['volume', 'show', 'FORMAT']],
  ['strake.volume.grow.cluster', ['volume', 'grow', 'FORMAT', '--size', '2M']],
  ['strake.volume.rename.cluster', ['volume', 'rename', 'FORMAT', 'FORMAT2']],
  ['strake.volume.delete.cluster', ['volume', 'delete', 'FORMAT2', '--confirm', 'FORMAT2']],
];

/** Each command about a cluster prints people a table, and machines records. */
async function askAll({ data }: Serving): Promise<void> {
  const reach = ['--manager', String(data.manager), '--key-file', String(data.keyFile)];
  for (const format of ['table', 'json', 'jsonl']) {
    for (const [schema, args] of COMMANDS) {
      const words = args.map((word) => word.replace('FORMAT', format));
      const command = format === 'table' ? strake : together;
      const { code, stdout, stderr } = await command([...words, ...reach, '-o', format]);
      assert.equal([code, stderr], [0, ''], words.join(' '));
      if (format === 'table') assert.throws(() => JSON.parse(stdout), words.join(' '));
      else assert.ok(records(format, stdout, schema).length > 0);
    }
  }
}

check('a cluster of a folder in one process, and in several of which one is killed', async () => {
  const folder = nodeFolder();
  const args = ['up', folder, '--nodes', '2', '--device-size', '96M', '--create', `main=${SIZE}`];
  const content = Buffer.alloc(SIZE, 7);
  const inside = await serving(args);
  checkRecord(JSON.stringify(inside.data), 'strake.up.cluster');
  let client = await clientOf(inside);
  for (let at = 0; at < SIZE; at += 1 << 20) await client.write(at, content.subarray(at, at + (1 << 20)));
  await client.destroy();
  await askAll(inside);
  const { code, stderr } = await inside.stop();
  assert.is(code, 0, stderr);

  const apart = await serving([...args, '--processes']);
  const parts = apart.data.parts as { name: string; pid: number }[];
  assert.equal(
    parts.map(({ name }) => name),
    ['manager', 'n1', 'n2', 'export of main'],
  );
  assert.is(new Set(parts.map(({ pid }) => pid)).size, parts.length);
  client = await clientOf(apart);
  assert.is(Buffer.compare(await client.read(0, SIZE), content), 0);
  process.kill(parts[2].pid, 'SIGKILL');
  await client.write(0, Buffer.alloc(4096, 8));
  content.fill(8, 0, 4096);
  assert.is(Buffer.compare(await client.read(0, SIZE), content), 0);
  await client.destroy();
  const reach = ['--manager', join(folder, 'manager.sock'), '--key-file', join(folder, 'manager', 'cluster.key')];
  await until('the manager to miss the node', async () => {
    const { nodes } = (await ask(['node', 'list', ...reach])) as { nodes: Json[] };
    return nodes.some(({ name, state }) => name === 'n2' && state === 'down');
  });
  assert.is((await apart.stop()).code, 0);
});

/** Whether a process is there, and is no zombie. */
function runs(pid: number): boolean {
  try {
    return !/^.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

check('a command that is killed takes its processes with it, which end in order', async () => {
  const folder = nodeFolder();
  const args = ['up', folder, '--nodes', '2', '--device-size', '96M', '--create', `main=${SIZE}`];
  for (let turn = 0; turn < 2; turn += 1) {
    const apart = await serving([...args, '--processes']);
    const parts = apart.data.parts as { name: string; pid: number }[];
    assert.is(parts.length, 4);
    const client = await clientOf(apart);
    if (turn === 0) await client.write(0, Buffer.alloc(4096, 9));
    // The second start waits for nobody's devices, and finds what was written.
    else assert.equal(await client.read(0, 4096), Buffer.alloc(4096, 9));
    await client.destroy();
    // What others need ends after them, however long that takes.
    const last = parts[parts.length - 1].pid;
    process.kill(last, 'SIGSTOP');
    apart.child.kill('SIGKILL');
    await ask(['cluster', 'status', '--manager', String(apart.data.manager), '--key-file', String(apart.data.keyFile)]);
    process.kill(last, 'SIGCONT');
    for (const { name, pid } of parts) await until(`${name} to end`, () => !runs(pid));
  }
  for (const name of ['n1', 'n2']) {
    const { superblock } = (await ask(['device', 'show', join(folder, name, 'disk.img')])) as { superblock: Json };
    assert.is(superblock.clean, true, `${name} was closed in order`);
  }
});

check('what would do nothing, or leave nodes out, is refused', async () => {
  const folder = nodeFolder();
  const nodes = ['up', folder, '--nodes', '1', '--device-size', '96M'];
  const wrong = [
    [...nodes, '--device', 'x.img'],
    [...nodes, '--device-wait', '3'],
    [...nodes, '--processes', '--socket', join(folder, 'x.sock')],
    [...nodes, '--nodes', '17'],
    ['up', folder, '--processes'],
    ['up', folder, '--device-size', '1G'],
  ];
  for (const args of wrong) {
    const { message, remedy } = await refused(args, 2, 'INVALID_ARGUMENT');
    assert.match(`${message} ${remedy}`, /--nodes|--processes/, args.join(' '));
  }
  assert.equal(readdirSync(folder), [], 'nothing was made');
  const two = await serving(['up', folder, '--nodes', '2', '--device-size', '96M']);
  await refused([...nodes, '--nodes', '2'], 5, 'IN_USE', {}, strake);
  assert.is((await two.stop()).code, 0);
  assert.match(String((await refused(nodes, 2, 'INVALID_ARGUMENT')).remedy), '--nodes 2');
});

run();
