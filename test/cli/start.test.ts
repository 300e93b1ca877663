/** `npm start`: a node that is made once, and is there again at the next start. */

import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run, tool } from '../support/check.js';
import { atEnd, output, project, scratchFile } from '../support/scratch.js';
import { strake } from '../support/strake.js';
import { nodeFolder, up } from '../support/up.js';

const GIB = 1 << 30;

/** Starts it, does something, and stops it with SIGINT. */
async function started(folder: string, action: (uri: string) => Promise<void> | void): Promise<void> {
  const program = [join(project, 'scripts', 'start.mjs')];
  const node = await up([], { program, env: { STRAKE_DATA: folder } });
  const [{ name, uri, layout, copies, sizeBytes }] = node.data.volumes as Record<string, unknown>[];
  assert.equal([name, layout, copies, sizeBytes], ['main', 'mirror', 2, GIB]);
  assert.is((node.data.devices as unknown[]).length, 4);
  await action(String(uri));
  const { code, stderr } = await node.stop();
  assert.is(code, 0, stderr);
  assert.match(stderr, 'everything acknowledged is on the device');
}

check(
  'npm start makes a node that keeps its data',
  [tool('nbdcopy'), tool('mkfs.ext4'), tool('qemu-img')],
  async () => {
    const folder = nodeFolder();
    const image = scratchFile(GIB);
    output('mkfs.ext4', '-q', '-F', '-d', join(project, 'docs'), image);
    await started(folder, (uri) => {
      assert.is(output('nbdinfo', '--size', uri).trim(), String(GIB));
      output('nbdcopy', image, uri);
    });
    const files = readdirSync(folder).sort();
    assert.equal(files, ['device0.img', 'device1.img', 'device2.img', 'device3.img']);
    await started(folder, async (uri) => {
      assert.match(output('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, uri), 'identical');
      const status = await strake(['status', '--exit-code', '--node', folder]);
      assert.is(status.code, 0, status.stdout);
    });
  },
);

check('what is left of an interrupted start, or strange to it, is no obstacle', async () => {
  const folder = nodeFolder();
  // As the first version left it: a raw device that is no device of a node.
  output('truncate', '-s', '64M', join(folder, 'device.img'));
  output('truncate', '-s', '512M', join(folder, 'device1.img'));
  await started(folder, () => {});
  assert.ok(existsSync(join(folder, 'device.img')));
});

check('a folder whose path is too long for a socket', async () => {
  const folder = join(tmpdir(), `strake-long-${process.pid}`, 'x'.repeat(100));
  atEnd(() => rmSync(join(folder, '..'), { recursive: true, force: true }));
  mkdirSync(folder, { recursive: true });
  await started(folder, async () => {
    assert.is((await strake(['status', '--node', folder])).code, 0);
  });
});

run();
