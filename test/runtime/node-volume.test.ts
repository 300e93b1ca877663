/** Devices, and volumes of a node, as a program in the process uses them. */

import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { EBADF } from '#strake/core/errno.js';
import { SHARD_DEVICES_MAX } from '#strake/core/limits.js';
import { type Device, formatDevice, openDevice, openNode, type StrakeError } from '#strake/index.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { scratchFile } from '../support/scratch.js';

const MIB = 1 << 20;
const BLOCK = 4096;
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

check('a node counts the operations that each of its devices is given', async () => {
  const path = scratchFile(64 * MIB);
  await formatDevice(path);
  const node = await openNode({ devices: [path] });
  const volume = await node.createVolume({ name: 'main', sizeBytes: MIB });
  const count = async () => (await node.devices())[0].counters.operations;
  const made = await count();
  assert.ok(made > 0);
  assert.is(await count(), made);
  await volume.write(new Uint8Array(BLOCK).fill(1), 0);
  await volume.flush();
  const written = await count();
  // Data, what the journal says of it, and a flush.
  assert.ok(written >= made + 3, `${written - made} operations`);
  await volume.read(new Uint8Array(BLOCK), 0);
  assert.is(await count(), written + 1);
  await node.close();
});

check('what waits for a volume that is deleted reaches no other volume', async () => {
  const path = scratchFile(64 * MIB);
  await formatDevice(path);
  const node = await openNode({ devices: [path] });
  const { link } = node;
  await node.createVolume({ name: 'old', sizeBytes: MIB });
  // A program's requests wait in its own thread under the number that the volume has when they are made.
  const old = await link.call('findVolume', { name: 'old' });
  await node.deleteVolume('old');
  await node.createVolume({ name: 'new', sizeBytes: MIB });
  await node.volume('new').write(new Uint8Array(4096).fill(1), 0);
  assert.is(await link.client.transfer(true, old.device, 0, new Uint8Array(4096).fill(0xaa), 0), -EBADF);
  const content = new Uint8Array(4096);
  await node.volume('new').read(content, 0);
  assert.ok(content.every((byte) => byte === 1));
  await node.close();
});

check('a volume that is made anew under an old name has the old handle, and no other volume has', async () => {
  const path = scratchFile(64 * MIB);
  await formatDevice(path);
  const node = await openNode({ devices: [path] });
  await node.createVolume({ name: 'a', sizeBytes: MIB });
  const handle = node.volume('a');
  await handle.write(new Uint8Array(BLOCK).fill(1), 0);
  await node.deleteVolume('a');
  await node.createVolume({ name: 'a', sizeBytes: MIB });
  await handle.write(new Uint8Array(BLOCK).fill(2), 0);
  await node.deleteVolume('a');
  await node.createVolume({ name: 'b', sizeBytes: MIB });
  await failure('NO_VOLUME', handle.write(new Uint8Array(BLOCK).fill(3), 0));
  const content = new Uint8Array(MIB);
  await node.volume('b').read(content, 0);
  assert.ok(content.every((byte) => byte === 0));
  await node.close();
});

check('whoever has a volume keeps it when it is renamed, and its name then means another', async () => {
  const path = scratchFile(64 * MIB);
  await formatDevice(path);
  const node = await openNode({ devices: [path] });
  const made = await node.createVolume({ name: 'a', sizeBytes: MIB });
  const handle = node.volume('a');
  assert.is(handle, made);
  await handle.write(new Uint8Array(BLOCK).fill(1), 0);
  const { id } = handle;
  assert.match(String(id), /^[0-9a-f]{32}$/);
  await node.renameVolume('a', 'b');
  assert.is(handle.name, 'b');
  await node.createVolume({ name: 'a', sizeBytes: MIB });
  await node.volume('a').write(new Uint8Array(BLOCK).fill(2), 0);
  const content = new Uint8Array(BLOCK);
  for (const [volume, byte] of [
    [handle, 1],
    [node.volume('b'), 1],
    [node.volume(String(id)), 1],
    [node.volume('a'), 2],
  ] as const) {
    await volume.read(content, 0);
    assert.is(content[0], byte);
  }
  // Of what was renamed and deleted, nobody gets another volume by the old name.
  await node.deleteVolume(String(id));
  await failure('NO_VOLUME', handle.read(content, 0));
  await node.close();
});

check('what does not fit into a volume is not done in part, though its size is not known yet', async () => {
  const path = scratchFile(64 * MIB);
  await formatDevice(path);
  const node = await openNode({ devices: [path] });
  await node.createVolume({ name: 'a', sizeBytes: 4 * MIB });
  await node.close();
  const again = await openNode({ devices: [path] });
  const volume = again.volume('a');
  await failure('OUT_OF_RANGE', volume.write(new Uint8Array(2 * MIB).fill(1), 3 * MIB));
  const bytes = new Uint8Array(MIB);
  await volume.read(bytes, 3 * MIB);
  assert.ok(bytes.every((byte) => byte === 0));
  await again.close();
});

check('nothing to read or write is done at once, and bytes that are none are refused', async () => {
  const path = scratchFile(4 * MIB);
  const device = await openDevice(path);
  for (const offset of [0, 5, BLOCK, MIB, 4 * MIB]) {
    await device.write(new Uint8Array(0), offset);
    await device.read(new Uint8Array(0), offset);
  }
  for (const wrong of ['text', new Float64Array(512), new ArrayBuffer(BLOCK), undefined]) {
    await failure('INVALID_ARGUMENT', device.write(wrong as unknown as Uint8Array, 0));
    await failure('INVALID_ARGUMENT', device.read(wrong as unknown as Uint8Array, 0));
  }
  await device.close();
  assert.ok(readFileSync(path).every((byte) => byte === 0));
});

check('bytes that are given away while they wait are an error of their write alone', async () => {
  const device = await openDevice(scratchFile(16 * MIB));
  const other = await openDevice('null:1M');
  // More than there are buffers of this size.
  const all = Array.from({ length: 8 }, () => new Uint8Array(MIB).fill(5));
  const ends = all.map((bytes, index) =>
    device.write(bytes, index * MIB).then(
      () => 'done',
      () => 'failed',
    ),
  );
  await Promise.resolve();
  const given = all[7].buffer;
  structuredClone(given, { transfer: [given] });
  assert.equal(await Promise.all(ends), [...new Array(7).fill('done'), 'failed']);
  await other.write(new Uint8Array(512), 0);
  await device.write(new Uint8Array(512), 0);
  // Before they are even looked at: no bytes are no success.
  const lost = new Uint8Array(BLOCK).fill(9);
  const write = device.write(lost, 0, { fua: true });
  structuredClone(lost.buffer, { transfer: [lost.buffer] });
  await failure('OUT_OF_RANGE', write);
  await other.close();
  await device.close();
});

check('a device that a shard has no room for is free again', async () => {
  const path = scratchFile(MIB);
  process.env.STRAKE_SHARDS = '1';
  const devices: Device[] = [];
  while (devices.length < SHARD_DEVICES_MAX) devices.push(await openDevice('null:1M'));
  delete process.env.STRAKE_SHARDS;
  await failure('BUSY', openDevice(path));
  await (devices.pop() as Device).close();
  await (await openDevice(path)).close();
  for (const device of devices) await device.close();
});

check('a device that is added while its node is closed harms nothing', async () => {
  const [path, added] = [scratchFile(64 * MIB), scratchFile(64 * MIB)];
  const { clusterId } = await formatDevice(path);
  await formatDevice(added, { clusterId });
  const node = await openNode({ devices: [path] });
  const volume = await node.createVolume({ name: 'a', sizeBytes: 8 * MIB });
  await volume.write(new Uint8Array(8 * MIB).fill(1), 0);
  await node.injectFaults([{ op: 'write', delayMs: 40, count: 40 }]);
  const adding = node.addDevice(added).then(
    () => '',
    (error: StrakeError) => error.code,
  );
  // The device is being opened by then, which takes less time than closing.
  for (let turn = 0; turn < 3; turn += 1) await setImmediate();
  await node.close();
  assert.ok(['', 'ERR_STRAKE_CLOSED'].includes(await adding));
  const again = await openNode({ devices: [path, added] });
  const bytes = new Uint8Array(8 * MIB);
  await again.volume('a').read(bytes, 0);
  assert.ok(bytes.every((byte) => byte === 1));
  await again.close();
});

run();
