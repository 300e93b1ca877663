/** The budget of memory for block tables: what may be asked for, and a device that has more tables than it holds. */

import * as assert from 'uvu/assert';
import { tableMemory } from '#strake/embed/table-memory.js';
import { formatDevice, openNode } from '#strake/index.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { scratchFile } from '../support/scratch.js';

const MIB = 1 << 20;
const GIB = 1 << 30;

check('the budget is a sixteenth of the memory that there is, within its bounds, and what was asked for', () => {
  assert.is(tableMemory(undefined, 1, 4 * GIB), 256 * MIB);
  assert.is(tableMemory(undefined, 1, 128 * MIB), 16 * MIB);
  assert.is(tableMemory(undefined, 1, 64 * GIB), GIB);
  assert.is(tableMemory(undefined, 4, 4 * GIB), 64 * MIB, 'nodes of one process divide it');
  assert.is(tableMemory(48 * MIB + 5, 1, 4 * GIB), 48 * MIB, 'whole tables');
});

check('a budget that is larger than memory, or out of bounds, is refused', async () => {
  assert.throws(
    () => tableMemory(256 * MIB, 1, 128 * MIB),
    ({ code, message, remedy }: Error & { code: string; remedy: string }) =>
      code === 'ERR_STRAKE_INVALID_ARGUMENT' && message.includes('128 MiB') && remedy.includes('8 MiB'),
  );
  const devices = [scratchFile(8 * MIB)];
  for (const size of [0, 16 * MIB - 1, GIB + 1, 2 ** 53]) {
    const error = await failure('INVALID_ARGUMENT', openNode({ devices, tableMemory: size }));
    assert.match(error.message, 'tableMemory');
  }
});

check('a device with more segments than tables fit in the budget reads what was written to each', async () => {
  const segments = 5000;
  const path = scratchFile(420 * MIB);
  await formatDevice(path, { slotBytes: 64 << 10 });
  const node = await openNode({ devices: [path], shards: 1, tableMemory: 16 * MIB });
  const volume = await node.createVolume({ name: 'main', sizeBytes: segments * (64 << 10) });
  const bytes = (segment: number) => Buffer.alloc(4096, `segment ${segment} `);
  for (let first = 0; first < segments; first += 200) {
    const list = Array.from({ length: 200 }, (_, at) => first + at);
    await Promise.all(list.map((segment) => volume.write(bytes(segment), segment * (64 << 10))));
  }
  const status = await node.status();
  assert.is(status.tableMemory, 16 * MIB);
  assert.is(status.devices[0].tableBytes, 16 * MIB, 'it has used all of it, and no more');
  for (let first = 0; first < segments; first += 200) {
    const list = Array.from({ length: 200 }, (_, at) => first + at);
    const found = await Promise.all(
      list.map(async (segment) => {
        const read = Buffer.alloc(4096);
        await volume.read(read, segment * (64 << 10));
        return read.equals(bytes(segment));
      }),
    );
    assert.ok(found.every((same) => same));
  }
  assert.is((await node.status()).devices[0].tableBytes, 16 * MIB);
  await node.close();
});

run();
