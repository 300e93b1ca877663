/** Failpoints: a node kills itself just before, or just after, an operation of its devices that a rule names. */

import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { computeLayout } from '#strake/store/format/format.js';
import { check, run } from '../support/check.js';
import { formatAll, NodeProcess } from '../support/node-process.js';
import { scratchFile } from '../support/scratch.js';

const MIB = 1 << 20;
const BLOCK = 4096;
const DEVICE = 16 * MIB;

for (const kill of ['before', 'done'] as const) {
  check(
    `a node dies ${kill === 'before' ? 'before a write reaches' : 'when a write has reached'} its device`,
    async () => {
      const file = scratchFile(DEVICE);
      await formatAll([file]);
      const node = await NodeProcess.start({ devices: [file] });
      await node.call('createVolume', { name: 'main', sizeBytes: MIB });
      const client = await node.connect('main');
      await client.write(0, Buffer.alloc(BLOCK, 0x11));
      const { dataOffset, copyOffset } = computeLayout(DEVICE, 64 << 10);
      await node.call('injectFaults', [{ op: 'write', start: dataOffset, end: copyOffset, skip: 1, count: 1, kill }]);
      await client.write(BLOCK, Buffer.alloc(BLOCK, 0x22));
      const died = await client.write(2 * BLOCK, Buffer.alloc(BLOCK, 0x33)).then(
        () => false,
        () => true,
      );
      assert.ok(died, 'nobody was told of the write');
      assert.is((await node.ended).signal, 'SIGKILL');
      const data = readFileSync(file).subarray(dataOffset);
      assert.equal([data[0], data[BLOCK]], [0x11, 0x22]);
      assert.is(data[2 * BLOCK] === 0x33, kill === 'done', 'the write was carried out, or not begun');
    },
  );
}

check('a node dies while it opens its devices', async () => {
  const file = scratchFile(DEVICE);
  await formatAll([file]);
  const faults = [{ op: 'write', end: BLOCK, count: 1, kill: 'before' }];
  const failure = await NodeProcess.start({ devices: [file], faults }).catch((error: Error) => error);
  assert.instance(failure, Error);
  assert.match((failure as Error).message, 'ended with SIGKILL');
  await (await NodeProcess.start({ devices: [file] })).close();
});

run();
