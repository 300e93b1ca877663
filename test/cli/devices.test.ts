/** Devices of a node that cannot be opened, do not answer, or are named in several ways, as a user of the commands sees it. */

import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, loop, run, tool } from '../support/check.js';
import { commandsOfOneProcess } from '../support/command-process.js';
import { faulty, faultyDisk } from '../support/faulty-disk.js';
import { loopDevice, output, standStill, until } from '../support/scratch.js';
import { strake } from '../support/strake.js';
import { nodeFolder, type UpProcess, up } from '../support/up.js';

const MIB = 1 << 20;
const DEVICE_BYTES = 24 * MIB;

type Json = Record<string, unknown>;
type Check = { name: string; state: string; text: string; remedy: string };

function file(folder: string, name: string): string {
  const path = join(folder, name);
  const opened = openSync(path, 'w');
  ftruncateSync(opened, DEVICE_BYTES);
  closeSync(opened);
  return path;
}

/** Commands that have to work share a process, as a start takes much longer than they do. */
const together = commandsOfOneProcess();

async function ask(...args: string[]): Promise<Json> {
  const { code, stdout, stderr } = await together([...args, '-o', 'json']);
  assert.is(code, 0, `${args.join(' ')}: ${stderr}`);
  return JSON.parse(stdout) as Json;
}

async function refused(exitCode: number, name: string, ...args: string[]): Promise<Json> {
  const { code, stderr } = await strake([...args, '-o', 'json']);
  assert.is(code, exitCode, `${args.join(' ')}: ${stderr}`);
  const error = JSON.parse(stderr.trim().split('\n').at(-1) ?? '') as Json;
  assert.is(error.code, `ERR_STRAKE_${name}`, String(error.message));
  return error;
}

/** Formats a device, and returns its id. */
async function format(path: string, cluster: string, label = ''): Promise<string> {
  const { deviceId } = await ask(
    'device',
    'format',
    path,
    '--cluster',
    cluster,
    '--label',
    label,
    '--slot-size',
    '64k',
  );
  return String(deviceId);
}

function configured(folder: string, devices: readonly string[]): string {
  writeFileSync(join(folder, 'strake.json'), JSON.stringify({ devices }));
  return folder;
}

/** Makes a volume on these devices alone. */
async function withVolume(devices: readonly string[], name: string, layout: string): Promise<void> {
  const node = await up([configured(nodeFolder(), devices), '--create', `${name}=1M,${layout}`]);
  assert.is(node.data.verdict, 'ok');
  await node.stop();
}

async function checkOf(folder: string, name: string): Promise<Check> {
  const { checks } = await ask('status', '--node', folder);
  const found = (checks as Check[]).find((one) => one.name === name);
  assert.ok(found, `a check of ${name}`);
  return found as Check;
}

function states(node: UpProcess): string[] {
  return (node.data.volumes as Json[]).map(({ name, state }) => `${name} ${state}`).sort();
}

const CLUSTER = 'c'.repeat(32);

check(
  'a node with a dead, a hung, a read-only, a foreign and a doubled device serves what it can, and names the rest',
  [...faulty, tool('qemu-io')],
  async () => {
    const folder = nodeFolder();
    const hung = await faultyDisk(DEVICE_BYTES);
    const [left, right, locked, foreign] = ['left', 'right', 'locked', 'foreign'].map((name) =>
      file(folder, `${name}.dev`),
    );
    const readOnly = loopDevice(locked, '--read-only');
    for (const path of [left, right, locked, hung.path]) if (path !== locked) await format(path, CLUSTER);
    await format(foreign, 'f'.repeat(32));
    readOnly.detach();
    const lockedId = await format(locked, CLUSTER);
    await withVolume([left, right], 'main', 'mirror:2');
    await withVolume([hung.path], 'late', 'single');
    await withVolume([locked], 'stuck', 'single');
    const disk = loopDevice(locked, '--read-only');
    const [dead, blank, fifo] = [join(folder, 'dead.dev'), file(folder, 'blank.dev'), join(folder, 'fifo')];
    output('mkfifo', fifo);
    const again = join(folder, 'again.dev');
    linkSync(left, again);
    const link = join(folder, 'link.dev');
    symlinkSync(right, link);
    const around = `${folder}/../${folder.split('/').at(-1)}/left.dev`;
    const named = [foreign, left, dead, hung.path, disk.path, again, link, right, blank, fifo, folder, around];
    await standStill(hung.nbdkit);
    const node = await up([configured(folder, named), '--device-wait', '1']);
    let told = '';
    node.child.stderr?.on('data', (text: string) => {
      told += text;
    });
    try {
      assert.equal(states(node), ['main ok']);
      output('qemu-io', '-f', 'raw', '-c', 'write -P 7 0 64k', '-c', 'flush', node.uri('main'));
      const expected: [string, string, RegExp, RegExp][] = [
        [foreign, 'WRONG_DEVICE', /belongs to cluster f+/, /--cluster/],
        [dead, 'NOT_FOUND', /cannot/, /device add .*dead\.dev.*device replace/],
        [hung.path, 'TIMED_OUT', /not answered/, /joins when it answers/],
        [disk.path, 'READ_ONLY', /read-only/, /setrw.*device add/],
        [blank, 'NOT_FORMATTED', /blank\.dev/, /device format .*blank\.dev --cluster/],
        [fifo, 'NOT_A_DEVICE', /FIFO/, /block device/],
        [folder, 'NOT_A_DEVICE', /directory/, /block device/],
      ];
      const { unavailable, doubled, verdict } = await ask('status', '--node', folder);
      assert.is(verdict, 'critical');
      for (const [path, code, text, remedy] of expected) {
        const found = await checkOf(folder, `device ${path}`);
        assert.is(found.state, 'critical');
        assert.match(found.text, text);
        assert.match(found.remedy, remedy);
        assert.is((unavailable as Json[]).find((one) => one.path === path)?.code, `ERR_STRAKE_${code}`, path);
      }
      assert.is((unavailable as Json[]).length, expected.length);
      assert.is((unavailable as Json[]).find(({ path }) => path === disk.path)?.deviceId, lockedId);
      assert.equal(doubled, [
        { path: again, same: left },
        { path: left, same: left },
        { path: link, same: right },
      ]);
      assert.match((await checkOf(folder, `device ${again}`)).text, 'taken once');
      // Control calls go on, also for other devices while one is asked for that does not answer.
      await refused(5, 'IN_USE', 'device', 'add', hung.path, '--node', folder);
      await ask('volume', 'create', 'other', '--size', '1M', '--node', folder);
      hung.nbdkit.kill('SIGCONT');
      await until('the hung device to join', async () => {
        const { volumes } = await ask('status', '--node', folder);
        return (volumes as Json[]).some(({ name, state }) => name === 'late' && state === 'ok');
      });
      assert.ok(Array.isArray((await ask('status', '--node', folder)).unavailable));
      disk.detach();
      await ask('device', 'add', locked, '--node', folder);
      const { volumes } = await ask('status', '--node', folder);
      assert.equal((volumes as Json[]).map(({ name, state }) => `${name} ${state}`).sort(), [
        'late ok',
        'main ok',
        'other ok',
        'stuck ok',
      ]);
    } finally {
      hung.nbdkit.kill('SIGCONT');
    }
    await node.stop();
    assert.match(told, `device-joined: ${hung.path} has answered`);
    await hung.remove();
  },
);

check('a volume that waits for a device which cannot be opened says which and why', [loop], async () => {
  const folder = nodeFolder();
  const [left, right] = [file(folder, 'left.dev'), file(folder, 'right.dev')];
  await format(left, CLUSTER);
  const lost = await format(right, CLUSTER);
  await withVolume([left, right], 'main', 'mirror:2');
  const disk = loopDevice(right, '--read-only');
  const node = await up([configured(folder, [left, disk.path])]);
  assert.equal(states(node), ['main unproven']);
  assert.match((await checkOf(folder, 'volume main')).text, new RegExp(`${lost} is missing.*${disk.path}.*read-only`));
  // Nothing is made anew under a name that may be on what is not there.
  const { volume } = (await ask('volume', 'start', 'main', '--without', disk.path, '--node', folder)) as Json;
  void volume;
  const { volumes } = await ask('status', '--node', folder);
  assert.is((volumes as Json[])[0].state, 'degraded');
  await node.stop();
  disk.detach();
});

check('what a start cannot find is not made anew, and nothing at all is an error', [], async () => {
  const folder = nodeFolder();
  const [left, gone] = [file(folder, 'left.dev'), join(folder, 'gone.dev')];
  await format(left, CLUSTER);
  const node = await up([configured(folder, [left, gone]), '--create', 'main=1M,single']);
  assert.equal(states(node), []);
  assert.match((await node.stop()).stderr, /main is not made.*gone\.dev/);
  const error = await refused(1, 'NOT_FOUND', 'up', configured(folder, [gone]));
  assert.match(String(error.message), 'gone.dev');
  await refused(1, 'NO_DEVICE', 'up', configured(folder, [gone, folder, file(folder, 'blank.dev')]));
});

check('a device is found by every name that leads to it, and its holder is named', [], async () => {
  const folder = nodeFolder();
  const [left, right, fresh] = ['left.dev', 'right.dev', 'fresh.dev'].map((name) => file(folder, name));
  const ids = [await format(left, CLUSTER, 'disk0'), await format(right, CLUSTER, 'disk1')];
  await format(fresh, CLUSTER);
  await withVolume([left, right], 'main', 'mirror:2');
  const links = join(folder, 'by-id');
  mkdirSync(links);
  const [byId, hard] = [join(links, 'left'), join(links, 'hard')];
  symlinkSync('../left.dev', byId);
  linkSync(left, hard);
  const node = await up([configured(folder, [left, right])]);
  const at = ['--node', folder];
  for (const name of [byId, hard, left, `${links}/../left.dev`, ids[0], ids[0].slice(0, 8), 'disk0']) {
    const { deviceId } = await ask('device', 'scrub', name, '--wait', ...at);
    assert.is(deviceId, ids[0], name);
  }
  for (const name of [byId, hard, left]) {
    const { deviceId } = await ask('device', 'add', name, ...at);
    assert.is(deviceId, ids[0], 'it is a part of the node already');
  }
  await refused(1, 'NO_DEVICE', 'device', 'scrub', fresh, ...at);
  await refused(5, 'VOLUME_BUSY', 'device', 'replace', byId, fresh, ...at);
  assert.equal((await ask('status', ...at)).unavailable, []);
  assert.is((await node.stop()).code, 0);
});

check('of a device and its copy neither is taken, and both stay as they are', [loop], async () => {
  const folder = nodeFolder();
  const [first, copied, third] = ['first.dev', 'copied.dev', 'third.dev'].map((name) => file(folder, name));
  for (const path of [first, copied, third]) await format(path, CLUSTER);
  await withVolume([copied], 'one', 'single');
  await withVolume([first, third], 'main', 'mirror:2');
  const copy = join(folder, 'copy.dev');
  copyFileSync(copied, copy);
  const before = readFileSync(copied);
  for (const devices of [
    [copy, first, copied, third],
    [copied, third, copy, first],
  ]) {
    const node = await up([configured(folder, devices)]);
    assert.equal(states(node), ['main ok']);
    for (const path of [copy, copied]) {
      const { text, remedy } = await checkOf(folder, `device ${path}`);
      assert.match(text, /are the same device .*nothing tells which/);
      assert.match(remedy, /device add/);
    }
    await node.stop();
    assert.ok(readFileSync(copied).equals(before));
    assert.ok(readFileSync(copy).equals(before));
  }
  // The one that somebody names is taken.
  const node = await up([configured(folder, [copy, first, copied, third])]);
  await ask('device', 'add', copied, '--node', folder);
  const { volumes } = await ask('status', '--node', folder);
  assert.equal((volumes as Json[]).map(({ name, state }) => `${name} ${state}`).sort(), ['main ok', 'one ok']);
  await refused(5, 'WRONG_DEVICE', 'device', 'add', copy, '--node', folder);
  await node.stop();
  // A loop device over a file is the file, and a device of its own to the kernel.
  const disk = loopDevice(first);
  const twice = await up([configured(folder, [first, disk.path, third])]);
  assert.equal(states(twice), ['main ok']);
  assert.match((await checkOf(folder, `device ${first}`)).text, `attached to ${disk.path}`);
  await twice.stop();
  disk.detach();
});

run();
