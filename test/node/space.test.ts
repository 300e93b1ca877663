/** Volumes that promise more than there is: a full device refuses what needs room, harms nothing, and recovers. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { CLOSED, CRASHED, fsckAll } from '../support/fsck.js';
import { CMD, ENOSPC, FLAG, type NbdClient } from '../support/nbd-client.js';
import { codeOf, formatAll, NodeProcess } from '../support/node-process.js';
import { scratchFile, until } from '../support/scratch.js';

const MIB = 1 << 20;
const SLOT = 64 << 10;
const SIZE = 64 * MIB;

/** What a slot of a volume holds, by number. */
function content(tag: number, slot: number): Buffer {
  const words = new Uint32Array(SLOT / 4);
  for (let index = 0; index < words.length; index += 1)
    words[index] = Math.imul(index + 1, 0x9e3779b1) ^ (slot * 256 + tag);
  return Buffer.from(words.buffer);
}

/** Writes slots from `first` on until there is no room; returns the first that had none. */
async function fill(client: NbdClient, tag: number, first: number): Promise<number> {
  for (let slot = first; slot < SIZE / SLOT; slot += 1) {
    const error = await client.errorOf({ type: CMD.write, offset: slot * SLOT, payload: content(tag, slot) });
    if (error === 0) continue;
    assert.is(error, ENOSPC);
    return slot;
  }
  throw new Error('the device does not fill up');
}

async function checkSlots(client: NbdClient, tag: number, slots: readonly number[], what: string): Promise<void> {
  for (const slot of slots) {
    assert.ok((await client.read(slot * SLOT, SLOT)).equals(content(tag, slot)), `${what}: slot ${slot} of ${tag}`);
  }
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

for (const layout of ['single', 'mirror'] as const) {
  check(`a full device harms nothing, and what is trimmed or deleted can be used again: ${layout}`, async () => {
    const files = Array.from({ length: layout === 'mirror' ? 2 : 1 }, () => scratchFile(24 * MIB));
    await formatAll(files);
    let node = await NodeProcess.start({ devices: files });
    for (const name of ['one', 'two']) await node.call('createVolume', { name, sizeBytes: SIZE, layout });
    const one = await node.connect('one');
    const two = await node.connect('two');
    await two.write(0, content(2, 0));
    const full = await fill(one, 1, 0);
    // What is there can be read, written over, flushed; what is not there reads as zeroes, and nobody left the mirror.
    await checkSlots(one, 1, range(0, full), 'full');
    await checkSlots(two, 2, [0], 'full');
    assert.ok((await one.read(full * SLOT, SLOT)).equals(Buffer.alloc(SLOT)));
    await two.write(0, content(2, 0));
    await one.flush();
    assert.is(await two.errorOf({ type: CMD.write, offset: SLOT, payload: Buffer.alloc(512, 1) }), ENOSPC);
    assert.is((await node.volume('one')).state, 'ok');
    assert.is((await node.status()).verdict, 'critical');
    // Room that one gives back is the other's.
    for (const slot of [1, 3, 5])
      assert.is(await one.errorOf({ type: CMD.trim, offset: slot * SLOT, length: SLOT }), 0);
    assert.is(await fill(two, 2, 1), 4);
    for (const slot of [1, 3, 5]) assert.ok((await one.read(slot * SLOT, SLOT)).equals(Buffer.alloc(SLOT)));
    const kept = range(0, full).filter((slot) => ![1, 3, 5].includes(slot));
    await checkSlots(one, 1, kept, 'after trimming');
    await checkSlots(two, 2, range(0, 4), 'after trimming');
    await one.destroy();
    await two.destroy();
    await node.kill();
    await fsckAll(files, CRASHED, 'a full device');
    node = await NodeProcess.start({ devices: files });
    const [again, other] = [await node.connect('one'), await node.connect('two')];
    await checkSlots(again, 1, kept, 'after a crash');
    await checkSlots(other, 2, range(0, 4), 'after a crash');
    assert.is(await fill(other, 2, 4), 4);
    assert.is(await codeOf(node.call('deleteVolume', 'one')), 'ERR_STRAKE_VOLUME_BUSY');
    await again.disconnect();
    await node.call('deleteVolume', 'one');
    // All that it had, and nothing of it, is now the other's.
    assert.ok((await other.read(4 * SLOT, MIB)).equals(Buffer.alloc(MIB)));
    const whole = await fill(other, 2, 4);
    assert.is(whole, full + 1);
    await checkSlots(other, 2, range(0, whole), 'after deleting');
    await other.destroy();
    await node.close();
    await fsckAll(files, CLOSED, 'after deleting');
    const last = await NodeProcess.start({ devices: files });
    assert.equal(
      (await last.call<{ name: string }[]>('volumes')).map(({ name }) => name),
      ['two'],
    );
    await last.close();
  });
}

check(
  'what is trimmed while a copy is away is given back when it is current, and what is to be kept stays',
  async () => {
    const files = [scratchFile(24 * MIB), scratchFile(24 * MIB)];
    const ids = await formatAll(files);
    let node = await NodeProcess.start({ devices: files });
    await node.call('createVolume', { name: 'main', sizeBytes: MIB, layout: 'mirror' });
    let client = await node.connect('main');
    for (let slot = 0; slot < MIB / SLOT; slot += 1) await client.write(slot * SLOT, content(1, slot));
    await client.disconnect();
    await node.close();
    node = await NodeProcess.start({ devices: [files[0]], without: { main: [ids[1]] } });
    client = await node.connect('main');
    const keep = { type: CMD.writeZeroes, flags: FLAG.noHole, offset: 0, length: SLOT };
    assert.is(await client.errorOf(keep), 0);
    for (let at = SLOT; at < MIB; at += 3 * 4096) {
      assert.is(await client.errorOf({ type: CMD.trim, offset: at, length: Math.min(3 * 4096, MIB - at) }), 0);
    }
    assert.is((await node.volume('main')).allocatedBytes, MIB, 'the copy that is away has to learn of it first');
    await node.call('addDevice', files[1]);
    await node.reach('main', 'ok');
    const space = () => node.volume('main').then(({ allocatedBytes }) => allocatedBytes === 2 * SLOT);
    await until('the space to be given back', space);
    assert.ok((await client.read(0, MIB)).equals(Buffer.alloc(MIB)));
    assert.is(await client.errorOf({ type: CMD.trim, offset: 0, length: SLOT }), 0);
    await client.flush();
    await until('the last slots to be given back', () =>
      node.volume('main').then(({ allocatedBytes }) => allocatedBytes === 0),
    );
    await client.destroy();
    await node.close();
    await fsckAll(files, CLOSED, 'after trimming');
  },
);

check('a new volume shows nothing of a deleted one that had its slots', async () => {
  const file = scratchFile(24 * MIB);
  await formatAll([file]);
  const node = await NodeProcess.start({ devices: [file] });
  await node.call('createVolume', { name: 'secret', sizeBytes: SIZE });
  const secret = await node.connect('secret');
  const full = await fill(secret, 1, 0);
  await secret.disconnect();
  await node.call('deleteVolume', 'secret');
  await node.call('createVolume', { name: 'secret', sizeBytes: SIZE });
  const fresh = await node.connect('secret');
  for (let slot = 0; slot < full; slot += 1) await fresh.write(slot * SLOT + 4096 * (slot % 15), Buffer.alloc(512, 7));
  for (let slot = 0; slot < full; slot += 1) {
    const expected = Buffer.alloc(SLOT);
    expected.fill(7, 4096 * (slot % 15), 4096 * (slot % 15) + 512);
    assert.ok((await fresh.read(slot * SLOT, SLOT)).equals(expected), `slot ${slot}`);
  }
  await fresh.destroy();
  await node.close();
});

check('a volume grows, and is not made smaller', async () => {
  const file = scratchFile(24 * MIB);
  await formatAll([file]);
  const node = await NodeProcess.start({ devices: [file] });
  await node.call('createVolume', { name: 'main', sizeBytes: MIB });
  assert.is(await codeOf(node.call('growVolume', 'main', MIB / 2)), 'ERR_STRAKE_INVALID_ARGUMENT');
  assert.is(await codeOf(node.call('growVolume', 'main', 2 * MIB + 5)), 'ERR_STRAKE_INVALID_ARGUMENT');
  await node.call('growVolume', 'main', 2 * MIB);
  const client = await node.connect('main');
  assert.is(client.sizeBytes, 2 * MIB);
  await client.write(2 * MIB - SLOT, content(1, 1));
  await client.destroy();
  await node.kill();
  const again = await NodeProcess.start({ devices: [file] });
  const back = await again.connect('main');
  assert.is(back.sizeBytes, 2 * MIB);
  assert.ok((await back.read(2 * MIB - SLOT, SLOT)).equals(content(1, 1)));
  await back.destroy();
  await again.close();
});

run();
