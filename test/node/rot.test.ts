/** Bits that flip on a device while a node serves: nobody gets wrong data, and where there is a good copy it is used. */

import { closeSync, fsyncSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { CMD, EIO } from '../support/nbd-client.js';
import { formatAll, NodeProcess } from '../support/node-process.js';
import { scratchFile, until } from '../support/scratch.js';
import { SectorHistory } from '../support/sector-history.js';

const MIB = 1 << 20;
const SIZE = 2 * MIB;
const BLOCK = 4096;

/** Where a block of the volume lies in a device's file: its content describes itself, so it is found by that. */
function placeOf(file: string, content: Uint8Array): number {
  const at = readFileSync(file).indexOf(content);
  assert.ok(at >= 0 && at % BLOCK === 0, 'the block is on the device');
  return at;
}

function flipBit(file: string, at: number): void {
  const descriptor = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(descriptor, byte, 0, 1, at);
  byte[0] ^= 0x10;
  writeSync(descriptor, byte, 0, 1, at);
  fsyncSync(descriptor);
  closeSync(descriptor);
}

async function filledNode(copies: number) {
  const files = Array.from({ length: copies }, () => scratchFile(24 * MIB));
  await formatAll(files);
  const node = await NodeProcess.start({ devices: files });
  const layout = copies === 1 ? 'single' : 'mirror';
  await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout, copies });
  const client = await node.connect('main');
  const history = new SectorHistory(copies, SIZE);
  const change = history.begin(0, history.count, 'write');
  const content = history.payload(change);
  await client.write(0, content);
  await client.flush();
  return { files, node, client, content };
}

for (const copies of [2, 3]) {
  check(`bits flipped on a copy of a mirror of ${copies} are read right, and mended`, async () => {
    const { files, node, client, content } = await filledNode(copies);
    const blocks = [0, 17, 200, SIZE / BLOCK - 1];
    const at = (block: number) => content.subarray(block * BLOCK, (block + 1) * BLOCK);
    for (const [index, file] of files.slice(1).entries()) {
      // Each copy rots elsewhere, so that each block has a good one.
      const places = blocks.map((block) => placeOf(file, at(block + index * (block === SIZE / BLOCK - 1 ? -1 : 1))));
      for (const [number, place] of places.entries()) flipBit(file, place + 1 + number * 1001);
      const mended = () => places.every((place) => content.includes(readFileSync(file).subarray(place, place + BLOCK)));
      assert.not(mended());
      let round = 0;
      await until('all bad blocks to be met and mended', async () => {
        // Members take turns, so every read may meet the good copy or the bad one; neither may be seen.
        assert.ok((await client.read(0, SIZE)).equals(content), 'read right');
        // Some more, not always as many, so that sooner or later it is each one's turn at each segment.
        round += 1;
        for (let more = round % (copies + 1); more > 0; more -= 1) await client.read(BLOCK, BLOCK);
        return mended();
      });
    }
    const { counters, state } = await node.volume('main');
    assert.equal([state, counters.repairedBlocks, counters.unrecoverableBlocks], ['ok', 4 * (copies - 1), 0]);
    const { checks, devices } = await node.status();
    for (const path of files.slice(1)) {
      assert.ok(checks.some(({ name, state: is }) => name === `device ${path}` && is === 'warning'));
      assert.ok((devices.find((device) => device.path === path)?.counters.checksumErrors ?? 0) > 0);
    }
    assert.ok(checks.some(({ name, text }) => name === 'data main' && text.includes('repaired')));
    await client.destroy();
    await node.close();
  });
}

check('a scrub finds and mends what nobody reads', async () => {
  const { files, node, client, content } = await filledNode(2);
  const places = [3, 77].map((block) => placeOf(files[0], content.subarray(block * BLOCK, (block + 1) * BLOCK)));
  for (const place of places) flipBit(files[0], place);
  await node.call('scrub', 'main');
  const job = await until('the scrub', async () => {
    const [one] = (await node.volume('main')).jobs;
    return one?.state !== 'running' && one;
  });
  assert.is(job.state, 'done');
  assert.is((await node.volume('main')).counters.repairedBlocks, 2);
  const mended = readFileSync(files[0]);
  assert.ok(places.every((place) => content.includes(mended.subarray(place, place + BLOCK))));
  await client.destroy();
  await node.close();
});

check('a bit flipped where there is no other copy is an error for its block alone, until that is written', async () => {
  const { files, node, client, content } = await filledNode(1);
  const [file] = files;
  flipBit(file, placeOf(file, content.subarray(5 * BLOCK, 6 * BLOCK)) + 99);
  assert.is(await client.errorOf({ type: CMD.read, offset: 5 * BLOCK, length: BLOCK }), EIO);
  // Also in a part, and in the middle of a larger read.
  assert.is(await client.errorOf({ type: CMD.read, offset: 5 * BLOCK + 512, length: 512 }), EIO);
  assert.is(await client.errorOf({ type: CMD.read, offset: 0, length: 64 << 10 }), EIO);
  assert.ok((await client.read(0, 5 * BLOCK)).equals(content.subarray(0, 5 * BLOCK)));
  assert.ok((await client.read(6 * BLOCK, SIZE - 6 * BLOCK)).equals(content.subarray(6 * BLOCK)));
  // A part of it would have to be read first.
  assert.is(await client.errorOf({ type: CMD.write, offset: 5 * BLOCK, payload: Buffer.alloc(512) }), EIO);
  assert.is((await node.status()).verdict, 'critical');
  assert.ok((await node.volume('main')).counters.unrecoverableBlocks > 0);
  await client.write(5 * BLOCK, content.subarray(5 * BLOCK, 6 * BLOCK));
  assert.ok((await client.read(0, SIZE)).equals(content));
  await client.destroy();
  await node.close();
});

run();
