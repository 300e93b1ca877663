/** `npm start`: a cluster that is made once, and is there again at the next start; or the node that lies there already. */

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
async function started(
  folder: string,
  action: (uri: string, data: Record<string, unknown>) => Promise<void> | void,
): Promise<void> {
  const program = [join(project, 'scripts', 'start.mjs')];
  const node = await up([], { program, env: { STRAKE_DATA: folder } });
  const [{ name, uri, layout, copies, sizeBytes }] = node.data.volumes as Record<string, unknown>[];
  assert.equal([name, layout, copies, sizeBytes], ['main', 'mirror', 2, GIB]);
  await action(String(uri), node.data);
  const { code, stderr } = await node.stop();
  assert.is(code, 0, stderr);
  assert.match(stderr, 'everything acknowledged is on the device');
}

check(
  'npm start makes a cluster of four nodes that keeps its data',
  [tool('nbdcopy'), tool('mkfs.ext4'), tool('qemu-img')],
  async () => {
    const folder = nodeFolder();
    const image = scratchFile(GIB);
    output('mkfs.ext4', '-q', '-F', '-d', join(project, 'docs'), image);
    await started(folder, (uri, { nodes }) => {
      assert.equal(nodes, ['n1', 'n2', 'n3', 'n4']);
      assert.is(output('nbdinfo', '--size', uri).trim(), String(GIB));
      output('nbdcopy', image, uri);
    });
    assert.equal(readdirSync(folder).sort(), ['manager', 'n1', 'n2', 'n3', 'n4']);
    await started(folder, async (uri, { manager, keyFile }) => {
      assert.match(output('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, uri), 'identical');
      const reach = ['--manager', String(manager), '--key-file', String(keyFile)];
      const status = await strake(['cluster', 'status', '--exit-code', ...reach]);
      assert.is(status.code, 0, status.stdout);
    });
  },
);

check('a single node that lies there goes on, also if its making was interrupted', async () => {
  const folder = nodeFolder();
  // As the first version left it: a raw device that is no device of a node.
  output('truncate', '-s', '64M', join(folder, 'device.img'));
  output('truncate', '-s', '512M', join(folder, 'device1.img'));
  for (let turn = 0; turn < 2; turn += 1) {
    await started(folder, async (_, { devices, cluster }) => {
      assert.equal([(devices as unknown[]).length, cluster], [4, undefined]);
      assert.is((await strake(['status', '--exit-code', '--node', folder])).code, 0);
    });
  }
  assert.ok(existsSync(join(folder, 'device.img')));
  assert.not(existsSync(join(folder, 'manager')));
});

check('a folder whose path is too long for a socket', async () => {
  const folder = join(tmpdir(), `strake-long-${process.pid}`, 'x'.repeat(100));
  atEnd(() => rmSync(join(folder, '..'), { recursive: true, force: true }));
  mkdirSync(folder, { recursive: true });
  await started(folder, async (_, { manager, keyFile }) => {
    const reach = ['--manager', String(manager), '--key-file', String(keyFile)];
    assert.is((await strake(['cluster', 'status', ...reach])).code, 0);
  });
});

run();
