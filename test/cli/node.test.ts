/** `strake up` and what talks to it, end to end: devices in files, data over NBD, stopping and starting again. */

import { copyFileSync, existsSync, linkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, loop, run, tool } from '../support/check.js';
import { greedyClient } from '../support/greedy-client.js';
import { ask, file, type Json, made, refused } from '../support/node-commands.js';
import { type Ending, loopDevice, output, scratchFile, startProcess, until } from '../support/scratch.js';
import { strake } from '../support/strake.js';
import { nodeFolder, type UpProcess, up } from '../support/up.js';

const MIB = 1 << 20;
const VOLUME_BYTES = 32 * MIB;

/** An image with content that is nowhere the same. */
function image(): string {
  const words = new Uint32Array(VOLUME_BYTES / 4);
  let state = 12345;
  for (let index = 0; index < words.length; index += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[index] = state;
  }
  return scratchFile(new Uint8Array(words.buffer));
}

function assertSame(uri: string, path: string): void {
  assert.match(output('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', path, uri), 'identical');
}

function checkStopped({ code, stderr }: Ending): void {
  assert.is(code, 0, stderr);
  assert.match(stderr, 'everything acknowledged is on the device');
}

/** A client that stays connected until it is told to go. */
async function connected(uri: string, path: string): Promise<() => Promise<void>> {
  const client = startProcess('qemu-io', ['-f', 'raw', '-t', 'none', uri], { stdin: 'pipe' });
  client.stdin?.write('write -P 1 0 4k\n');
  await until(
    `a client of ${path}`,
    () => new Promise<boolean>((resolve) => client.stdout?.once('data', () => resolve(true))),
  );
  return () =>
    new Promise((resolve) => {
      client.on('close', () => resolve());
      client.stdin?.end('quit\n');
    });
}

check('a node keeps data over stop, start and crash', [tool('nbdcopy'), tool('qemu-img')], async () => {
  const { folder } = await made(3);
  const content = image();
  let node = await up([folder, '--create', `main=${VOLUME_BYTES},mirror:2`]);
  assert.is(node.data.schema, 'strake.up');
  assert.equal([node.data.dir, node.data.verdict, node.data.pid], [folder, 'ok', node.child.pid]);
  for (const socket of [node.data.address, node.data.control]) assert.is(statSync(String(socket)).mode & 0o777, 0o600);
  output('nbdcopy', '--flush', content, node.uri('main'));
  assertSame(node.uri('main'), content);
  const { volumes, verdict } = await ask(['status', '--node', folder]);
  const [{ allocatedBytes, state, uri }] = volumes as Json[];
  assert.equal([verdict, allocatedBytes, state, uri], ['ok', 2 * VOLUME_BYTES, 'ok', node.uri('main')]);
  checkStopped(await node.stop());
  for (const socket of [node.data.address, node.data.control]) assert.is(existsSync(String(socket)), false);
  node = await up([folder, '--create', `main=${VOLUME_BYTES},mirror:2`]);
  assertSame(node.uri('main'), content);
  node.child.kill('SIGKILL');
  await node.ended;
  node = await up([folder]);
  assertSame(node.uri('main'), content);
  const down = await ask(['down', '--node', folder]);
  assert.is(down.pid, node.child.pid);
  checkStopped(await node.ended);
});

check('volumes are made, grown, listed, shown, scrubbed and deleted', [tool('nbdinfo'), tool('qemu-io')], async () => {
  const { folder } = await made(2);
  const node = await up([folder]);
  const env = { STRAKE_NODE: folder };
  const created = await ask(['volume', 'create', 'main', '--size', '16M'], env);
  assert.equal([created.layout, created.copies, created.sizeBytes], ['mirror', 2, 16 * MIB]);
  await ask(['volume', 'create', 'one', '--size', '8M', '--layout', 'single'], env);
  await refused(['volume', 'create', 'one', '--size', '8M'], 1, 'EXISTS', env);
  await refused(['volume', 'create', 'odd', '--size', '1000'], 2, 'INVALID_ARGUMENT', env);
  await refused(['volume', 'create', 'a/b', '--size', '1M'], 2, 'INVALID_ARGUMENT', env);
  const { volumes } = await ask(['volume', 'list'], env);
  assert.equal((volumes as Json[]).map(({ name }) => name).sort(), ['main', 'one']);
  const leave = await connected(node.uri('main'), 'main');
  await refused(['volume', 'delete', 'main', '--confirm', 'main'], 5, 'VOLUME_BUSY', env);
  assert.is((await ask(['volume', 'grow', 'main', '--size', '24M'], env)).sizeBytes, 24 * MIB);
  assert.is(output('nbdinfo', '--size', node.uri('main')).trim(), String(24 * MIB), 'a new client sees the new size');
  await leave();
  output('qemu-io', '-f', 'raw', '-c', 'write -P 9 20M 1M', '-c', 'flush', node.uri('main'));
  const scrubbed = await ask(['volume', 'scrub', 'main', '--wait'], env);
  assert.match(JSON.stringify(scrubbed.jobs), '"scrub"');
  await ask(['device', 'scrub', 'disk0', '--wait', '60'], env);
  await refused(['volume', 'delete', 'main'], 5, 'HOLDS_DATA', env);
  await refused(['volume', 'delete', 'main', '--confirm', 'one'], 2, 'INVALID_ARGUMENT', env);
  await refused(['volume', 'show', 'none'], 1, 'NO_VOLUME', env);
  await until('the client to be gone', async () => {
    const { code } = await strake(['volume', 'delete', 'main', '--confirm', 'main'], env);
    return code === 0;
  });
  await refused(['volume', 'show', 'main'], 1, 'NO_VOLUME', env);
  assert.throws(() => output('nbdinfo', '--size', node.uri('main')));
  checkStopped(await node.stop());
});

check('a lost device is told of, and replaced', [tool('nbdcopy'), tool('qemu-img')], async () => {
  const { folder, devices, ids, cluster } = await made(2);
  const content = image();
  let node = await up([folder, '--create', `main=${VOLUME_BYTES}`]);
  output('nbdcopy', '--flush', content, node.uri('main'));
  checkStopped(await node.stop());
  rmSync(devices[1]);
  node = await up([folder]);
  assert.is(node.data.verdict, 'critical', 'the lost device could hold newer data');
  const env = { STRAKE_NODE: folder };
  await refused(['volume', 'start', 'main', '--without', 'ffffff'], 1, 'NO_DEVICE', env);
  assert.is((await ask(['volume', 'start', 'main', '--without', ids[1]], env)).state, 'degraded');
  assertSame(node.uri('main'), content);
  const asked = await strake(['status', '--exit-code', '-o', 'json'], env);
  assert.is(asked.code, 3);
  assert.match(asked.stdout, ids[1]);
  assert.is((await strake(['status'], env)).code, 0, 'without --exit-code it has answered, and that is all');
  const fresh = file(folder, 'new.img');
  await refused(['device', 'replace', ids[1], fresh], 1, 'NOT_FORMATTED', env);
  await refused(['device', 'replace', 'ffff', fresh], 1, 'NO_DEVICE', env);
  // The device of the other copy is no other device, by whatever name.
  const linked = join(folder, 'linked.img');
  linkSync(devices[0], linked);
  const { message } = await refused(['device', 'replace', ids[1], devices[0]], 5, 'WRONG_DEVICE', env);
  for (const part of ['main', ids[0], ids[1]]) assert.ok(String(message).includes(part), String(message));
  await refused(['device', 'replace', ids[1], linked], 5, 'WRONG_DEVICE', env);
  rmSync(linked);
  await ask(['device', 'format', fresh, '--cluster', cluster]);
  // Somebody may have added it already, or it was there at the start: it is no worse for that.
  await ask(['device', 'add', fresh], env);
  const { devices: after } = await ask(['device', 'replace', ids[1].slice(0, 12), fresh, '--wait'], env);
  assert.is((after as Json[]).length, 2);
  assert.is((await strake(['status', '--exit-code'], env)).code, 0);
  checkStopped(await node.stop());
  rmSync(devices[0]);
  node = await up([folder, '--without', `main=${ids[0]}`]);
  assert.is(node.data.verdict, 'degraded');
  assertSame(node.uri('main'), content);
  checkStopped(await node.stop());
});

check('a device that comes back after writes without it is brought up to date', [tool('qemu-io')], async () => {
  const { folder, devices, ids } = await made(2);
  let node = await up([folder, '--create', 'main=16M']);
  const write = (pattern: number) =>
    output('qemu-io', '-f', 'raw', '-c', `write -P ${pattern} 0 4M`, '-c', 'flush', node.uri('main'));
  write(1);
  checkStopped(await node.stop());
  const away = join(folder, 'away');
  copyFileSync(devices[1], away);
  rmSync(devices[1]);
  node = await up([folder, '--without', `main=${ids[1]}`]);
  write(2);
  copyFileSync(away, devices[1]);
  await ask(['device', 'add', devices[1], '--node', folder]);
  await until('all copies to be current', async () => (await ask(['status', '--node', folder])).verdict === 'ok');
  checkStopped(await node.stop());
  rmSync(devices[0]);
  node = await up([folder, '--without', `main=${ids[0]}`]);
  output('qemu-io', '-f', 'raw', '-c', 'read -P 2 0 4M', node.uri('main'));
  checkStopped(await node.stop());
});

check('a volume whose newest copy may be missing starts only when told to', [tool('qemu-io')], async () => {
  const { folder, devices, ids } = await made(2);
  let node = await up([folder, '--create', 'main=16M']);
  checkStopped(await node.stop());
  const away = join(folder, 'away');
  copyFileSync(devices[1], away);
  rmSync(devices[1]);
  node = await up([folder, '--without', `main=${ids[1]}`]);
  output('qemu-io', '-f', 'raw', '-c', 'write -P 2 0 4M', '-c', 'flush', node.uri('main'));
  checkStopped(await node.stop());
  rmSync(devices[0]);
  copyFileSync(away, devices[1]);
  node = await up([folder]);
  const env = { STRAKE_NODE: folder };
  const status = await ask(['status'], env);
  assert.is(status.verdict, 'critical');
  assert.match(JSON.stringify(status.checks), '--without');
  const [unproven] = status.volumes as Json[];
  assert.is(unproven.state, 'unproven');
  const started = await ask(['volume', 'start', 'main', '--without', ids[0]], env);
  assert.is(started.name, 'main');
  output('qemu-io', '-f', 'raw', '-c', 'read -P 0 0 4M', node.uri('main'));
  checkStopped(await node.stop());
});

check('what cannot be a node is refused, and says why', async () => {
  const { folder, devices, cluster } = await made(1);
  const stranger = await made(1);
  const blank = file(folder, 'blank.img');
  const nothing = nodeFolder();
  await refused(['up', nothing], 1, 'NO_DEVICE');
  await refused(['up', join(nothing, 'none')], 1, 'NOT_FOUND');
  await refused(['up', folder, '--device', blank], 1, 'NOT_FORMATTED');
  await refused(['up', folder, '--cluster', cluster, '--device', stranger.devices[0]], 5, 'WRONG_DEVICE');
  await refused(['up', folder, '--cluster', 'f'.repeat(32)], 5, 'WRONG_DEVICE');
  await refused(['up', folder, '--cluster', cluster, '--host', '0.0.0.0'], 2, 'ADDRESS');
  await refused(['up', folder, '--socket', 'a', '--port', '1'], 2, 'INVALID_ARGUMENT');
  await refused(['up', folder], 2, 'INVALID_ARGUMENT', { STRAKE_PORT: 'x' });
  for (const create of ['main', 'main=', 'main=1G,raid', 'main=0', '=1G']) {
    await refused(['up', folder, '--create', create], 2, 'INVALID_ARGUMENT');
  }
  await refused(['device', 'format', devices[0]], 5, 'SIGNATURE');
  await refused(['device', 'format', blank, '--cluster', 'x'], 2, 'INVALID_ARGUMENT');
  await refused(['device', 'format', blank, '--slot-size', '5000'], 2, 'INVALID_ARGUMENT');
  await refused(['status', '--node', folder], 4, 'NO_NODE');
});

check('a configuration is checked key by key', async () => {
  const { folder, devices } = await made(1);
  const config = join(folder, 'strake.json');
  const wrong: [unknown, string][] = [
    [{ device: [] }, '"device"'],
    [{ listen: { sock: 'x' } }, '"listen.sock"'],
    [{ listen: { socket: 'x', port: 1 } }, 'listen'],
    [{ listen: { port: 70000 } }, 'listen.port'],
    [{ devices: 'd0.img' }, 'devices'],
    [{ devices: ['d0.img', 7] }, 'devices[1]'],
    [{ without: { main: 'x' } }, 'without.main'],
    [{ devices: ['*/d0.img'] }, 'last part'],
    [[], 'an object'],
  ];
  for (const [content, expected] of wrong) {
    writeFileSync(config, JSON.stringify(content));
    const { message } = await refused(['up', folder], 2, 'INVALID_ARGUMENT');
    assert.ok(String(message).includes(expected), `${message} names ${expected}`);
  }
  writeFileSync(config, '{"devices": [');
  await refused(['up', folder], 2, 'INVALID_ARGUMENT');
  writeFileSync(
    config,
    JSON.stringify({ devices: ['d?.img', 'gone.img'], listen: { socket: 'my.sock' }, control: 'c' }),
  );
  const node = await up([config]);
  assert.equal([node.data.address, node.data.control], [join(folder, 'my.sock'), join(folder, 'c')]);
  assert.equal(
    (node.data.devices as Json[]).map(({ path }) => path),
    devices,
  );
  await refused(['up', folder], 5, 'IN_USE');
  const { verdict, unavailable } = await ask(['status', '--node', config]);
  assert.equal([verdict, (unavailable as Json[])[0].code], ['critical', 'ERR_STRAKE_NOT_FOUND']);
  const { stderr } = await node.stop();
  assert.match(stderr, 'gone.img', 'what is missing is told of');
});

check('options win over variables, variables over the configuration', [tool('nbdinfo')], async () => {
  const { folder } = await made(1);
  writeFileSync(join(folder, 'strake.json'), JSON.stringify({ listen: { socket: 'file.sock' } }));
  const env = { STRAKE_SOCKET: join(folder, 'env.sock') };
  const addresses: [readonly string[], NodeJS.ProcessEnv, RegExp][] = [
    [[], {}, /file\.sock$/],
    [[], env, /env\.sock$/],
    [['--port', '0'], env, /^127\.0\.0\.1:\d+$/],
  ];
  for (const [args, variables, expected] of addresses) {
    const node: UpProcess = await up([folder, '--create', 'main=1M', ...args], { env: variables });
    assert.match(String(node.data.address), expected);
    const [{ uri, layout }] = node.data.volumes as Json[];
    assert.is(layout, 'single', 'one device has room for one copy');
    assert.is(output('nbdinfo', '--size', String(uri)).trim(), String(MIB));
    checkStopped(await node.stop());
  }
});

check('a second signal does not wait for a client that does not take its answers', async () => {
  const { folder } = await made(1);
  const node = await up([folder, '--create', 'main=16M', '--drain', '60']);
  let told = '';
  node.child.stderr?.on('data', (text: string) => {
    told += text;
  });
  const client = await greedyClient(String(node.data.address), 'main');
  node.child.kill('SIGINT');
  await until('the first signal to be taken', () => told.includes('stopping'));
  // Signals right after the first count as the same.
  await until('the process to end', () => !node.child.kill('SIGINT'));
  assert.is((await node.ended).code, 130);
  client.destroy();
});

check('loop devices are devices like others', [loop, tool('qemu-io')], async () => {
  const folder = nodeFolder();
  const disks = [0, 1].map((index) => loopDevice(file(folder, `back${index}`)));
  const paths = disks.map(({ path }) => path);
  const { clusterId } = await ask(['device', 'format', paths[0]]);
  await ask(['device', 'format', paths[1], '--cluster', String(clusterId)]);
  writeFileSync(join(folder, 'strake.json'), JSON.stringify({ devices: paths }));
  let node = await up([folder, '--create', 'main=16M']);
  output('qemu-io', '-f', 'raw', '-c', 'write -P 3 1M 2M', '-c', 'flush', node.uri('main'));
  checkStopped(await node.stop());
  node = await up([folder]);
  output('qemu-io', '-f', 'raw', '-c', 'read -P 3 1M 2M', node.uri('main'));
  checkStopped(await node.stop());
  for (const disk of disks) disk.detach();
});

run();
