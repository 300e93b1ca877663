/** Other people's NBD clients against a raw export: what a user would do on the first day. */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  createReadStream,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, fuse, loop, root, run, tool } from '../support/check.js';
import {
  atEnd,
  ending,
  loopDevice,
  output,
  project,
  scratchFile,
  scratchFolder,
  startProcess,
  until,
} from '../support/scratch.js';
import { exportDevice } from '../support/strake.js';

const MIB = 1 << 20;

async function digest(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const part of createReadStream(path)) hash.update(part);
  return hash.digest('hex');
}

/** An ext4 image that holds the project's own sources, so that it is a real file system with real files. */
function fileSystemImage(sizeBytes: number): string {
  const image = scratchFile(sizeBytes);
  output('mkfs.ext4', '-q', '-F', '-d', join(project, 'src'), image);
  return image;
}

check('nbdinfo describes the export and its extents', [tool('nbdinfo')], async () => {
  const server = await exportDevice(scratchFile(8 * MIB), ['--description', 'the first device']);
  const info = JSON.parse(output('nbdinfo', '--json', server.uri)).exports[0];
  assert.is(info['export-size'], 8 * MIB);
  assert.is(info.description, 'the first device');
  assert.is(info.can_multi_conn, true);
  assert.is(info.can_flush, true);
  assert.is(info.can_fua, true);
  assert.is(info.can_trim, true);
  assert.is(info.can_df, true);
  assert.is(info.is_read_only, false);
  assert.equal(info.contexts, ['base:allocation']);
  const map = JSON.parse(output('nbdinfo', '--json', '--map', server.uri));
  assert.equal(map, [{ offset: 0, length: 8 * MIB, type: 3, description: 'hole,zero' }]);
  await server.stop();
});

check(
  'nbdcopy brings a file-system image in and out unchanged',
  [tool('nbdcopy'), tool('mkfs.ext4'), tool('qemu-img')],
  async () => {
    const image = fileSystemImage(48 * MIB);
    const device = scratchFile(48 * MIB);
    const server = await exportDevice(device);
    output('nbdcopy', '--flush', image, server.uri);
    assert.match(output('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, server.uri), /identical/);
    const back = scratchFile(48 * MIB);
    output('nbdcopy', server.uri, back);
    assert.is(await digest(back), await digest(image));
    const { code } = await server.stop();
    assert.is(code, 0);
    assert.is(await digest(device), await digest(image));
  },
);

check(
  'a file system over nbdfuse and a loop device holds thousands of files',
  [root, loop, fuse, tool('nbdfuse'), tool('mkfs.ext4'), tool('e2fsck')],
  async () => {
    const device = scratchFile(192 * MIB);
    const server = await exportDevice(device);
    const mount = join(scratchFolder(), 'fuse');
    const tree = join(scratchFolder(), 'tree');
    mkdirSync(mount);
    mkdirSync(tree);
    // nbdfuse shows a single file when it is mounted on a file.
    const shown = join(mount, 'nbd');
    const child = startProcess('nbdfuse', [mount, server.uri]);
    const ended = ending(child);
    atEnd(() => {
      spawnSync('umount', ['--lazy', mount]);
    });
    await until('nbdfuse to show the device', () => readdirSync(mount).includes('nbd'));
    const disk = loopDevice(shown);
    output('mkfs.ext4', '-q', '-F', disk.path);
    output('mount', disk.path, tree);
    const files = new Map<string, string>();
    for (let number = 0; number < 3000; number += 1) {
      const folder = join(tree, String(number % 37));
      mkdirSync(folder, { recursive: true });
      const name = join(folder, `${number}.txt`);
      const text = `${number} `.repeat(number % 2000);
      writeFileSync(name, text);
      files.set(name, text);
    }
    output('umount', tree);
    output('mount', disk.path, tree);
    for (const [name, text] of files) assert.is(readFileSync(name, 'utf8'), text, name);
    output('umount', tree);
    assert.match(output('e2fsck', '-fn', disk.path), /3\d\d\d\/\d+ files/);
    disk.detach();
    output('umount', mount);
    await ended;
    await server.stop();
    assert.match(output('e2fsck', '-fn', device), /3\d\d\d\/\d+ files/);
  },
);

for (const [what, blocks] of [
  ['aligned', '--bs=4k'],
  ['of any size and alignment', '--bsrange=512-70000 --bs_unaligned'],
] as const) {
  check(`fio verifies what it has written, requests ${what}`, [tool('fio')], async () => {
    const server = await exportDevice(scratchFile(32 * MIB));
    const report = join(scratchFolder(), 'fio.json');
    const load = [
      '--rw=randwrite',
      '--iodepth=32',
      '--size=32M',
      '--verify=crc32c',
      '--do_verify=1',
      '--verify_fatal=1',
      '--verify_state_save=0',
    ];
    const end = ['--output-format=json', `--output=${report}`, `--uri=${server.uri}`];
    output('fio', '--name=verify', '--ioengine=nbd', ...blocks.split(' '), ...load, ...end);
    const result = JSON.parse(readFileSync(report, 'utf8'));
    assert.is(result.jobs[0].error, 0);
    assert.ok(result.jobs[0].read.total_ios > 100, 'fio has read back what it wrote');
    await server.stop();
  });
}

check('a truncated backing file gives errors, not a hang', [tool('nbdcopy')], async () => {
  const device = scratchFile(8 * MIB);
  const server = await exportDevice(device);
  truncateSync(device, MIB);
  const copy = await ending(startProcess('nbdcopy', [server.uri, 'null:']));
  assert.is.not(copy.code, 0);
  await server.stop();
  assert.is(statSync(device).size, MIB);
  rmSync(device);
});

run();
