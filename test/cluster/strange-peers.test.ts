/** Processes of a cluster and peers that are none of theirs: garbage, silence, other protocols, older stores, devices of others. */

import { cpSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, repetitions, run } from '../support/check.js';
import { ClusterProcesses, serving } from '../support/cluster-processes.js';
import { made, refused } from '../support/node-commands.js';
import { NodeLoad, randomOf } from '../support/node-load.js';
import { atEnd, socketPath, until } from '../support/scratch.js';
import { SectorHistory } from '../support/sector-history.js';
import { strake } from '../support/strake.js';
import { up } from '../support/up.js';

const SIZE = 4 << 20;
const LAYOUT = ['--size', String(SIZE), '--layout', 'mirror:2', '--on', 'n1,n2'];

function garbage(bytes: number, seed: number): Buffer {
  const random = randomOf(seed);
  return Buffer.from(Array.from({ length: bytes }, () => random(256)));
}

/** What strangers say first. */
const WORDS: readonly Buffer[] = [
  Buffer.alloc(0),
  Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
  Buffer.from('NBDMAGICIHAVEOPT\0\u0003'),
  Buffer.from('STKW'),
  Buffer.alloc(128, 0xff),
  Buffer.alloc(1 << 20),
  garbage(4096, 1),
  Buffer.concat([Buffer.from('STKW'), garbage(8192, 2)]),
];

/** Connects, says something, in pieces of one byte if `slowly`, and resolves when the other side has ended it. */
function say(path: string, words: Buffer, slowly = false): Promise<void> {
  return new Promise((resolve) => {
    const socket = createConnection(path, () => {
      if (!slowly) socket.write(words);
      else for (const byte of words) socket.write(Buffer.of(byte));
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve());
    socket.resume();
  });
}

/** Listens in the place of a manager or a node, and does something with each connection. */
function impostor(path: string, answer: (socket: Socket) => void): Promise<() => Promise<void>> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    answer(socket);
  });
  const end = () => {
    for (const socket of sockets) socket.destroy();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  };
  atEnd(() => void end());
  return new Promise((resolve) => server.listen(path, () => resolve(end)));
}

const IMPOSTORS: readonly (readonly [string, (socket: Socket) => void])[] = [
  ['answers with garbage', (socket) => socket.end(garbage(8192, 3))],
  ['never answers', () => {}],
  ['ends at once', (socket) => socket.destroy()],
  ['speaks HTTP', (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
];
/** Two of them in brief. */
const SOME = IMPOSTORS.slice(0, repetitions(4, 2));

async function mirrored(): Promise<ClusterProcesses> {
  const cluster = await ClusterProcesses.start();
  await cluster.addNodes('n1', 'n2');
  await cluster.ask(['volume', 'create', 'main', ...LAYOUT]);
  return cluster;
}

check('strangers who say anything to a manager and to nodes keep nothing from others', async () => {
  const cluster = await mirrored();
  const history = new SectorHistory(71, SIZE);
  const served = await cluster.export('main');
  const load = await NodeLoad.start(served, 'main', history, { connections: 1, depth: 3, seed: 1 });
  for (const path of [cluster.address, String(cluster.node('n1').process.data.address)]) {
    const silent = Array.from({ length: 8 }, () => say(path, WORDS[0]));
    // Who is no peer is told from one by the first bytes that it sends.
    const loud = WORDS.slice(4).map((words) => say(path, words));
    await Promise.all(loud);
    const others = WORDS.slice(1, 4).map((words) => say(path, words, true));
    await load.reach(100);
    assert.is((await cluster.ask(['cluster', 'status'])).verdict, 'ok');
    void Promise.all([...silent, ...others]);
  }
  await load.stop();
  assert.is(load.failed, 0);
  assert.is((await served.process.stop()).code, 0);
  await cluster.stop();
});

check('a manager that is none is told by name, and the next one is tried', async () => {
  const cluster = await mirrored();
  for (const [what, answer] of SOME) {
    const path = socketPath();
    const end = await impostor(path, answer);
    const key = ['--key-file', cluster.keyFile];
    const { message } = await refused(['cluster', 'status', '--manager', path, ...key], 4, 'NO_MANAGER');
    assert.ok(String(message).includes(path), what);
    const both = ['--manager', path, '--manager', cluster.address, ...key];
    const { code, stderr } = await strake(['cluster', 'status', ...both, '--exit-code']);
    assert.is(code, 0, `${what}: ${stderr}`);
    await end();
  }
  await cluster.stop();
});

check('a stranger in the place of a node is done without, as a node is that is gone', async () => {
  const cluster = await mirrored();
  const history = new SectorHistory(72, SIZE);
  const served = await cluster.export('main');
  const load = await NodeLoad.start(served, 'main', history, { connections: 1, depth: 3, seed: 2 });
  await load.reach(50);
  for (const [what, answer] of SOME) {
    const path = String(cluster.node('n2').process.data.address);
    await cluster.node('n2').process.kill();
    rmSync(path, { force: true });
    const end = await impostor(path, answer);
    await load.reach(100);
    await cluster.untilCopies('main', 'in-sync', 'offline');
    await end();
    await cluster.restart('n2');
    await cluster.untilCopies('main', 'in-sync');
    assert.is(load.failed, 0, what);
  }
  await load.stop();
  const client = await served.connect();
  for (let turn = 0; turn < 4; turn += 1) history.check(await client.read(0, SIZE), 'death', 'from each copy');
  await client.destroy();
  assert.is((await served.process.stop()).code, 0);
  await cluster.stop();
});

check('maps from the future: a manager on an older store decides nothing, and says so', async () => {
  const cluster = await mirrored();
  const folder = join(cluster.folder, 'manager');
  const older = join(cluster.folder, 'older');
  assert.is((await cluster.managerProcess?.stop())?.code, 0);
  cpSync(folder, older, { recursive: true });
  await cluster.startManager();
  const served = await cluster.export('main');
  const client = await served.connect();
  await client.write(0, Buffer.alloc(4096, 5));
  await client.destroy();
  assert.is((await served.process.stop()).code, 0);
  assert.is((await cluster.managerProcess?.stop())?.code, 0);
  const stale = await serving(['manager', 'start', older, '--listen', cluster.address]);
  const { code, stderr } = await stale.ended;
  assert.is(code, 5, stderr);
  assert.match(stderr, 'ERR_STRAKE_STALE_METADATA');
  await cluster.startManager();
  const again = await cluster.export('main');
  const reader = await again.connect();
  assert.equal(await reader.read(0, 4096), Buffer.alloc(4096, 5));
  await reader.destroy();
  assert.is((await again.process.stop()).code, 0);
  await cluster.stop();
});

check('a volume that its node decides about is left alone by a manager, and served by the node as before', async () => {
  const cluster = await ClusterProcesses.start();
  const { folder, devices } = await made(1);
  for (const path of devices) {
    const confirm = ['--cluster', cluster.clusterId, '--confirm', path];
    assert.is((await strake(['device', 'format', path, ...confirm])).code, 0);
  }
  const alone = await up([folder, '--create', `mine=${SIZE},single`]);
  assert.is((await alone.stop()).code, 0);
  const node = await serving(['node', 'start', folder, '--name', 'n1', ...cluster.reach]);
  await until('the node to be known', async () => {
    const { nodes } = (await cluster.ask(['node', 'list'])) as { nodes: { name: string; devices: number }[] };
    return nodes.some(({ name, devices: count }) => name === 'n1' && count === 1);
  });
  assert.equal((await cluster.ask(['volume', 'list'])).volumes, []);
  await refused(['volume', 'export', 'mine', ...cluster.reach], 1, 'NO_VOLUME', {}, strake);
  await refused(['up', folder], 5, 'IN_USE', {}, strake);
  assert.is((await node.stop()).code, 0);
  const again = await up([folder]);
  const [{ name, state }] = again.data.volumes as { name: string; state: string }[];
  assert.equal([name, state], ['mine', 'ok']);
  assert.is((await again.stop()).code, 0);
  await cluster.stop();
});

run();
