/** What is opened and what is refused: other people's data, devices in use, and things that are no devices. */

import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Device, inspectDevice, type OpenDeviceOptions, openDevice } from '#strake/index.js';
import { check, loop, type Need, root, run, tool } from '../support/check.js';
import { failure } from '../support/failure.js';
import { atEnd, loopDevice, output, scratchFile, scratchFolder } from '../support/scratch.js';
import { keepShards } from '../support/shards.js';
import { exportDevice, command as main, strake } from '../support/strake.js';

const MIB = 1 << 20;

// Opening and closing is all that most tests do.
test.before(async () => void (await keepShards()));

/** Opens, and closes again what was opened, so that a test that expects a refusal leaves nothing. */
async function tryOpen(path: string, options: OpenDeviceOptions = {}): Promise<void> {
  await (await openDevice(path, options)).close();
}

/** A file with these bytes planted in zeroes. */
function planted(...places: readonly (readonly [number, string])[]): string {
  const content = Buffer.alloc(4 * MIB);
  for (const [at, bytes] of places) content.write(bytes, at, 'latin1');
  return scratchFile(content);
}

/** A disk that nbdkit's partitioning plugin makes: a real partition table around one partition. */
function partitioned(type: 'gpt' | 'mbr'): string {
  const disk = scratchFile(0);
  const part = scratchFile(MIB);
  output('nbdkit', '-U', '-', 'partitioning', part, `partition-type=${type}`, '--run', `nbdcopy "$uri" ${disk}`);
  return disk;
}

function made(program: string, ...options: string[]): string {
  const file = scratchFile(4 * MIB);
  output(program, ...options, file);
  return file;
}

function luks(): string {
  const file = join(scratchFolder(), 'luks.img');
  const secret = ['--object', 'secret,id=key,data=secret'];
  output('qemu-img', 'create', '-q', ...secret, '-f', 'luks', '-o', 'key-secret=key,iter-time=10', file, '4M');
  return file;
}

const FOREIGN: readonly (readonly [string, readonly Need[], () => string, RegExp])[] = [
  ['ext4', [tool('mkfs.ext4')], () => made('mkfs.ext4', '-q', '-F'), /ext/],
  ['swap space', [tool('mkswap')], () => made('mkswap', '-q'), /swap/],
  ['a GPT', [tool('nbdkit'), tool('nbdcopy')], () => partitioned('gpt'), /gpt/],
  ['an MBR', [tool('nbdkit'), tool('nbdcopy')], () => partitioned('mbr'), /dos partition table/],
  ['LUKS', [tool('qemu-img')], luks, /luks/],
  ['a file system that only blkid knows', [tool('mkfs.minix'), tool('blkid')], () => made('mkfs.minix'), /minix/],
  ['an LVM label', [], () => planted([512, 'LABELONE'], [536, 'LVM2 001']), /lvm2/],
  ['a member of an md array', [], () => planted([4096, '\xfc\x4e\x2b\xa9']), /linux raid/],
];

for (const [what, needs, make, name] of FOREIGN) {
  check(`${what} is opened for writing only if the device is named twice`, needs, async () => {
    const path = make();
    const before = readFileSync(path);
    const refused = await failure('SIGNATURE', tryOpen(path));
    assert.match(refused.message, name);
    assert.match(refused.message, path);
    await failure('INVALID_ARGUMENT', tryOpen(path, { confirm: `${path}x` }));
    await failure('INVALID_ARGUMENT', tryOpen(path, { confirm: basename(path) }));
    await tryOpen(path, { readOnly: true });
    assert.ok(before.equals(readFileSync(path)), 'refusing and reading change nothing');
    await tryOpen(path, { confirm: path });
    const device = await openDevice(path, { confirm: path });
    await device.write(new Uint8Array(8192), 0);
    await device.close();
  });
}

check('a confirmation that names another device is refused, also where none is needed', async () => {
  const path = scratchFile(MIB);
  await failure('INVALID_ARGUMENT', tryOpen(path, { confirm: scratchFile(MIB) }));
  await tryOpen(path, { confirm: path });
});

check('a mounted device is not opened for writing, confirmed or not', [loop, tool('mkfs.ext4')], async () => {
  const disk = loopDevice(made('mkfs.ext4', '-q', '-F'));
  const place = join(scratchFolder(), 'mounted');
  mkdirSync(place);
  output('mount', disk.path, place);
  const unmount = () => output('umount', place);
  atEnd(() => execFileSync('sh', ['-c', `! mountpoint -q ${place} || umount --lazy ${place}`]));
  const refused = await failure('IN_USE', tryOpen(disk.path, { confirm: disk.path }));
  assert.match(refused.message, `mounted at ${place}`);
  assert.ok((await inspectDevice(disk.path)).users.includes(`mounted at ${place}`));
  await tryOpen(disk.path, { readOnly: true });
  unmount();
  await tryOpen(disk.path, { confirm: disk.path });
  disk.detach();
});

check(
  'a disk with a mounted partition is not opened for writing',
  [loop, tool('mkfs.ext4'), tool('addpart')],
  async () => {
    const sectors = (4 * MIB) / 512;
    const image = Buffer.alloc(8 * MIB);
    readFileSync(made('mkfs.ext4', '-q', '-F')).copy(image, 4 * MIB);
    const disk = loopDevice(scratchFile(image), '--partscan');
    // Told to the kernel by hand, since not every kernel reads partition tables.
    output('addpart', disk.path, '1', String(sectors), String(sectors));
    atEnd(() => execFileSync('sh', ['-c', `! test -e ${disk.path}p1 || delpart ${disk.path} 1`]));
    const place = join(scratchFolder(), 'partition');
    mkdirSync(place);
    output('mount', `${disk.path}p1`, place);
    atEnd(() => execFileSync('sh', ['-c', `! mountpoint -q ${place} || umount --lazy ${place}`]));
    const refused = await failure('IN_USE', tryOpen(disk.path, { confirm: disk.path }));
    assert.match(refused.message, `mounted at ${place}`);
    output('umount', place);
    await tryOpen(disk.path, { confirm: disk.path });
    const part = await openDevice(`${disk.path}p1`, { confirm: `${disk.path}p1` });
    assert.is(part.sizeBytes, 4 * MIB);
    await failure('IN_USE', tryOpen(disk.path));
    await part.close();
    output('delpart', disk.path, '1');
    disk.detach();
  },
);

check('a symbolic link is refused, except for one in /dev that leads to a block device', [root, loop], async () => {
  const file = scratchFile(MIB);
  const link = join(scratchFolder(), 'link');
  symlinkSync(file, link);
  const refused = await failure('SYMLINK', tryOpen(link));
  assert.match(refused.message, file);
  await failure('SYMLINK', tryOpen(link, { readOnly: true, confirm: link }));
  const dangling = join(scratchFolder(), 'dangling');
  symlinkSync(`${file}.gone`, dangling);
  await failure('NOT_FOUND', tryOpen(dangling));

  const disk = loopDevice(file);
  const byName = `/dev/strake-test-${process.pid}`;
  symlinkSync(disk.path, byName);
  atEnd(() => rmSync(byName, { force: true }));
  const device = await openDevice(byName);
  assert.is(device.path, disk.path);
  await device.close();
  const toFile = `/dev/strake-test-${process.pid}-file`;
  symlinkSync(file, toFile);
  atEnd(() => rmSync(toFile, { force: true }));
  await failure('SYMLINK', tryOpen(toFile, { readOnly: true }));
  disk.detach();
});

check('what is no device is refused without being opened', async () => {
  const fifo = join(scratchFolder(), 'fifo');
  output('mkfifo', fifo);
  for (const path of [fifo, scratchFolder(), '/dev/null', '/dev/zero']) {
    const refused = await failure('NOT_A_DEVICE', tryOpen(path));
    assert.match(refused.message, path);
    await failure('NOT_A_DEVICE', tryOpen(path, { readOnly: true }));
    await failure('NOT_A_DEVICE', inspectDevice(path));
  }
});

check('what does not exist is not found, by any call', async () => {
  const path = join(scratchFolder(), 'nothing');
  assert.match((await failure('NOT_FOUND', tryOpen(path))).message, path);
  await failure('NOT_FOUND', tryOpen(join(path, 'below')));
  await failure('NOT_FOUND', inspectDevice(path));
  await failure('INVALID_ARGUMENT', tryOpen(''));
});

check('a file is refused for its size: too small, or not whole blocks', async () => {
  for (const size of [0, 1, 100, 512, 4095]) {
    const refused = await failure('TOO_SMALL', tryOpen(scratchFile(size)));
    assert.match(refused.message, String(size));
  }
  for (const size of [4097, 8192 + 100, 8192 + 600, MIB + 511, MIB - 1]) {
    const refused = await failure('BAD_SIZE', tryOpen(scratchFile(size)));
    assert.match(refused.message, String(size));
  }
  for (const size of [0, 100, 8192 + 600]) assert.is((await inspectDevice(scratchFile(size))).sizeBytes, size);
  await tryOpen(scratchFile(4096));
});

check('a read-only device is opened for reading only', [loop], async () => {
  const disk = loopDevice(scratchFile(MIB), '--read-only');
  await failure('READ_ONLY', tryOpen(disk.path));
  const device = await openDevice(disk.path, { readOnly: true });
  assert.is(device.facts.readOnly, true);
  await device.read(new Uint8Array(4096), 0);
  await failure('READ_ONLY', device.write(new Uint8Array(4096), 0));
  await failure('READ_ONLY', device.discard(0, 4096));
  await failure('READ_ONLY', device.writeZeroes(0, 4096));
  await device.close();
  disk.detach();
});

check('a file without permission is refused', [root, tool('setpriv')], async () => {
  const path = scratchFile(MIB);
  output('chown', '65534:65534', path);
  chmodSync(path, 0o600);
  // Root without capabilities is a user like any other.
  const command = ['--bounding-set=-all', '--inh-caps=-all', process.execPath, main];
  const args = [...command, 'device', 'show', path, '-o', 'json'];
  try {
    output('setpriv', ...args);
  } catch (error) {
    const { status, stderr } = error as { status: number; stderr: string };
    assert.is(status, 1);
    assert.is(JSON.parse(stderr).code, 'ERR_STRAKE_NO_PERMISSION');
    return;
  }
  throw new Error('the file was opened without permission');
});

check('two openings of one device: a writer is alone, readers are not', async () => {
  const path = scratchFile(MIB);
  const writer = await openDevice(path);
  await failure('IN_USE', tryOpen(path));
  await failure('IN_USE', tryOpen(path, { readOnly: true }));
  assert.match((await inspectDevice(path)).users.join(), `process ${process.pid}`);
  await writer.close();
  const readers = await Promise.all([1, 2, 3].map(() => openDevice(path, { readOnly: true })));
  await failure('IN_USE', tryOpen(path));
  for (const reader of readers) await reader.close();
  await tryOpen(path);
});

for (const kind of ['file', 'loop device'] as const) {
  const needs = kind === 'file' ? [] : [loop];
  check(`two processes on one ${kind}: the second is refused and told who holds it`, needs, async () => {
    const file = scratchFile(MIB);
    const disk = kind === 'file' ? { path: file, detach: () => {} } : loopDevice(file);
    const server = await exportDevice(disk.path);
    for (const options of [[], ['--read-only']]) {
      const second = await strake(['export', disk.path, ...options, '-o', 'json']);
      assert.is(second.code, 5);
      assert.is(JSON.parse(second.stderr).code, 'ERR_STRAKE_IN_USE');
      if (kind === 'file') assert.match(second.stderr, `process ${server.child.pid}`);
    }
    assert.ok((await inspectDevice(disk.path)).users.length > 0);
    await server.stop();
    const first = await exportDevice(disk.path, ['--read-only']);
    const second = await exportDevice(disk.path, ['--read-only']);
    await failure('IN_USE', tryOpen(disk.path));
    await Promise.all([first.stop(), second.stop()]);
    disk.detach();
  });
}

check('a process that is killed leaves its device free', async () => {
  const path = scratchFile(MIB);
  const server = await exportDevice(path);
  await failure('IN_USE', tryOpen(path));
  server.child.kill('SIGKILL');
  assert.is((await server.ended).signal, 'SIGKILL');
  // Its lock lives until the kernel has ended its operations; opening waits for that.
  await tryOpen(path);
});

check('a loop device and the file under it are one storage', [loop], async () => {
  const file = scratchFile(MIB);
  const disk = loopDevice(file);
  const refused = await failure('IN_USE', tryOpen(file));
  assert.match(refused.message, disk.path);
  const device = await openDevice(disk.path);
  await failure('IN_USE', tryOpen(file));
  await failure('IN_USE', tryOpen(file, { readOnly: true }));
  await device.close();
  disk.detach();

  const held = await openDevice(file);
  const over = loopDevice(file);
  await failure('IN_USE', tryOpen(over.path));
  await failure('IN_USE', tryOpen(over.path, { readOnly: true }));
  await held.close();
  await tryOpen(over.path);
  over.detach();
  await tryOpen(file);
});

for (const options of [[], ['--sector-size', '4096'], ['--offset', '4096', '--sizelimit', '1048576']]) {
  check(`geometry is what the kernel says: losetup ${options.join(' ')}`, [loop, tool('blockdev')], async () => {
    const disk = loopDevice(scratchFile(3 * MIB), ...options);
    const said = output('blockdev', '--getsize64', '--getss', '--getpbsz', '--getdiscardzeroes', disk.path).split('\n');
    for (const readOnly of [false, true]) {
      const device = await openDevice(disk.path, { readOnly });
      const { sizeBytes, logicalBlockBytes, physicalBlockBytes, kind } = device.facts;
      assert.equal([sizeBytes, logicalBlockBytes, physicalBlockBytes], said.slice(0, 3).map(Number));
      assert.is(kind, 'block');
      const queue = (name: string) => readFileSync(`/sys/block/${basename(disk.path)}/queue/${name}`, 'utf8').trim();
      assert.is(device.facts.writeCache, queue('write_cache') === 'write back');
      assert.is(device.facts.discardMaxBytes, Number(queue('discard_max_bytes')));
      await device.close();
    }
    disk.detach();
  });
}

check('a device whose file has been cut away is too small, not a crash', [loop], async () => {
  const file = scratchFile(MIB);
  const disk = loopDevice(file);
  truncateSync(file, 0);
  output('losetup', '--set-capacity', disk.path);
  await failure('TOO_SMALL', tryOpen(disk.path));
  disk.detach();
});

check('the null device reads as zeroes and takes what is written', async () => {
  const device = await openDevice('null:1M');
  assert.is(device.sizeBytes, MIB);
  assert.is(device.facts.kind, 'null');
  const bytes = new Uint8Array(5000).fill(7);
  await device.write(bytes, 123);
  await device.flush();
  await device.discard(0, MIB);
  await device.writeZeroes(1, 1000);
  await device.read(bytes, 123);
  assert.ok(bytes.every((byte) => byte === 0));
  await failure('OUT_OF_RANGE', device.read(bytes, MIB - 4999));
  await device.close();
  for (const path of ['null:100', 'null:4100']) await failure('BAD_SIZE', tryOpen(path));
  for (const path of ['null:abc', 'null:-1', 'null:1e99', 'null:9999999P']) {
    await failure('INVALID_ARGUMENT', tryOpen(path));
  }
});

check('opening can be given up', async () => {
  const path = scratchFile(MIB);
  const reason = new Error('no longer wanted');
  const early = await failure('ABORTED', openDevice(path, { signal: AbortSignal.abort(reason) }));
  assert.is(early.cause, reason);
  const controller = new AbortController();
  const opening = failure('ABORTED', openDevice(path, { signal: controller.signal }));
  controller.abort(reason);
  assert.is((await opening).cause, reason);
  await tryOpen(path);
});

/** A step of the model test; offsets and lengths are in bytes and of any alignment. */
type Step =
  | { readonly kind: 'write' | 'zero'; readonly at: number; readonly length: number; readonly fill: number }
  | { readonly kind: 'read'; readonly at: number; readonly length: number }
  | { readonly kind: 'flush' }
  | { readonly kind: 'neighbours'; readonly cuts: readonly number[]; readonly fill: number };

const MODEL_BYTES = 256 << 10;

function steps(): fc.Arbitrary<Step[]> {
  const range = fc
    .tuple(fc.nat(MODEL_BYTES), fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 70_000 })))
    .map(([at, length]) => ({ at: Math.min(at, MODEL_BYTES - length), length }));
  const fill = fc.integer({ min: 1, max: 255 });
  const change = fc.constantFrom('write' as const, 'zero' as const);
  const cuts = fc.uniqueArray(fc.nat(MODEL_BYTES), { minLength: 3, maxLength: 24 });
  const one: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ kind: change, range, fill }).map(({ kind, range: { at, length }, fill: value }): Step => {
      return { kind, at, length, fill: value };
    }),
    range.map((where): Step => ({ kind: 'read', ...where })),
    fc.constant<Step>({ kind: 'flush' }),
    fc.record({ kind: fc.constant('neighbours' as const), cuts, fill }),
  );
  return fc.array(one, { minLength: 1, maxLength: 40 });
}

function pattern(length: number, fill: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (fill + index) % 251);
}

async function apply(device: Device, model: Uint8Array, step: Step): Promise<void> {
  if (step.kind === 'flush') {
    await device.flush();
  } else if (step.kind === 'read') {
    const bytes = new Uint8Array(step.length);
    await device.read(bytes, step.at);
    assert.ok(Buffer.from(bytes).equals(model.subarray(step.at, step.at + step.length)), JSON.stringify(step));
  } else if (step.kind === 'neighbours') {
    // Disjoint writes at the same time that share blocks: none may undo another.
    const cuts = [...step.cuts].sort((one, other) => one - other);
    const writes = cuts.slice(1).map((end, index) => {
      const bytes = pattern(end - cuts[index], step.fill + index);
      model.set(bytes, cuts[index]);
      return device.write(bytes, cuts[index], { fua: index % 3 === 0 });
    });
    await Promise.all(writes);
  } else if (step.kind === 'zero') {
    model.fill(0, step.at, step.at + step.length);
    await device.writeZeroes(step.at, step.length, { keepAllocated: step.fill % 2 === 0 });
  } else {
    const bytes = pattern(step.length, step.fill);
    model.set(bytes, step.at);
    await device.write(bytes, step.at);
  }
}

for (const options of [['--sector-size', '4096'], []]) {
  const name = options.length > 0 ? 'a 4Kn loop device' : 'a loop device with 512-byte blocks';
  check(`reads and writes of any alignment on ${name} do what a byte array does`, [loop], async () => {
    const file = scratchFile(MODEL_BYTES);
    const disk = loopDevice(file, ...options);
    const model = new Uint8Array(MODEL_BYTES);
    const device = await openDevice(disk.path);
    assert.is(device.facts.logicalBlockBytes, options.length > 0 ? 4096 : 512);
    const property = fc.asyncProperty(steps(), async (list) => {
      for (const step of list) await apply(device, model, step);
      const all = new Uint8Array(MODEL_BYTES);
      await device.read(all, 0);
      assert.ok(Buffer.from(all).equals(model), 'the whole device');
    });
    await fc.assert(property, { numRuns: 25, seed: 7 });
    await device.flush();
    await device.close();
    disk.detach();
    assert.ok(readFileSync(file).equals(model), 'the file under it');
  });
}

run();
