/** `npm start`: a device that is there again at the next start. */

import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run, tool } from '../support/check.js';
import { ending, output, project, scratchFile, scratchFolder, socketPath, startProcess } from '../support/scratch.js';

/** Starts it, waits for its address, does something, and stops it with SIGINT. */
async function started(folder: string, action: (uri: string) => void): Promise<void> {
  const args = [join(project, 'scripts', 'start.mjs'), '-o', 'jsonl', '--socket', socketPath()];
  const child = startProcess(process.execPath, args, { env: { ...process.env, STRAKE_DATA: folder } });
  const ended = ending(child);
  const line = await new Promise<string>((resolve) => child.stdout?.once('data', resolve));
  action(JSON.parse(line).uri);
  child.kill('SIGINT');
  const { code, stderr } = await ended;
  assert.is(code, 0, stderr);
  assert.match(stderr, 'everything acknowledged is on the device');
}

check(
  'npm start serves a device that keeps its data, a file system too',
  [tool('nbdcopy'), tool('mkfs.ext4')],
  async () => {
    const folder = join(scratchFolder(), 'start');
    const image = scratchFile(1 << 30);
    output('mkfs.ext4', '-q', '-F', '-d', join(project, 'docs'), image);
    await started(folder, (uri) => {
      assert.is(output('nbdinfo', '--size', uri).trim(), String(1 << 30));
      output('nbdcopy', image, uri);
    });
    await started(folder, (uri) => {
      assert.match(output('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, uri), 'identical');
    });
  },
);

run();
