/** Volumes of a node as a program in its process uses them. */

import * as assert from 'uvu/assert';
import { formatDevice, openNode } from '#strake/index.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { scratchFile } from '../support/scratch.js';

const MIB = 1 << 20;
const BYTES = 20_000;

check('closing a node finishes what programs have begun, and refuses the rest', async () => {
  const path = scratchFile(64 * MIB);
  await formatDevice(path);
  const node = await openNode({ devices: [path] });
  await node.createVolume({ name: 'main', sizeBytes: 16 * MIB });
  const volume = node.volume('main');
  // The first is known to the volume before the rest, which finds no room in the rings.
  await volume.write(new Uint8Array(BYTES), 0);
  const writes = Array.from({ length: 600 }, (_, index) =>
    volume.write(new Uint8Array(BYTES).fill(1 + (index % 255)), index * BYTES),
  );
  const closing = node.close();
  await failure('CLOSED', volume.read(new Uint8Array(1), 0));
  await failure('CLOSED', volume.flush());
  await Promise.all(writes);
  await closing;
  const again = await openNode({ devices: [path] });
  const bytes = new Uint8Array(600 * BYTES);
  await again.volume('main').read(bytes, 0);
  for (let index = 0; index < 600; index += 1) {
    const [first, last] = [bytes[index * BYTES], bytes[(index + 1) * BYTES - 1]];
    assert.equal([first, last], [1 + (index % 255), 1 + (index % 255)]);
  }
  await again.close();
});

run();
