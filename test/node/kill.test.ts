/** The process of a node is killed again and again while clients write: nothing that was acknowledged is lost. */

import * as assert from 'uvu/assert';
import { check, repetitions, run } from '../support/check.js';
import { CLOSED, CRASHED, fsckAll } from '../support/fsck.js';
import { NodeLoad, randomOf } from '../support/node-load.js';
import { formatAll, NodeProcess } from '../support/node-process.js';
import { scratchFile } from '../support/scratch.js';
import { SectorHistory } from '../support/sector-history.js';

const MIB = 1 << 20;
const SIZE = 6 * MIB;
/** Kills in all; more by STRAKE_TEST_CYCLES. */
const CYCLES = Number(process.env.STRAKE_TEST_CYCLES ?? repetitions(100, 10));
const SEED = Number(process.env.STRAKE_TEST_SEED ?? Date.now() % 1e6);

/** A node with one volume on new devices, and what its sectors may hold. */
async function newNode(layout: 'single' | 'mirror', slotBytes: number, sealed: boolean) {
  const devices = Array.from({ length: layout === 'mirror' ? 2 : 1 }, () => scratchFile(32 * MIB));
  await formatAll(devices, slotBytes);
  const node = await NodeProcess.start({ devices });
  await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout });
  return { devices, node, history: new SectorHistory(slotBytes + devices.length, SIZE, sealed) };
}

async function checkAll(node: NodeProcess, history: SectorHistory, what: string): Promise<void> {
  const client = await node.connect('main');
  history.check(await client.read(0, SIZE), 'death', what);
  await client.destroy();
}

for (const [layout, slotBytes, content] of [
  ['single', 64 << 10, 'any'],
  ['mirror', 64 << 10, 'any'],
  ['single', 1 << 20, 'any'],
  ['mirror', 1 << 20, 'any'],
  // No checksum tells such content from another: which copy of a mirror has a write that was under way is not in the entries.
  ['mirror', 64 << 10, 'sealed'],
] as const) {
  const name = `${layout}, slots of ${slotBytes >> 10} KiB, ${content} content`;
  check(`a node killed under load has lost nothing: ${name}`, async () => {
    const random = randomOf(SEED + slotBytes);
    const { devices, history, node: first } = await newNode(layout, slotBytes, content === 'sealed');
    let node = first;
    for (let cycle = 0; cycle < CYCLES / 5; cycle += 1) {
      const what = `seed ${SEED}, cycle ${cycle}`;
      const load = await NodeLoad.start(node, 'main', history, { seed: SEED + cycle });
      await load.reach(1 + random(400));
      await node.kill();
      await load.stop();
      if (cycle % 4 === 0) await fsckAll(devices, CRASHED, what);
      node = await NodeProcess.start({ devices });
      await checkAll(node, history, what);
      const { state, counters } = await node.volume('main');
      assert.equal([state, counters.unrecoverableBlocks, counters.poisonedBlocks], ['ok', 0, 0], what);
    }
    await node.close();
    await fsckAll(devices, CLOSED, 'closed in order');
    const again = await NodeProcess.start({ devices });
    await checkAll(again, history, 'after closing in order');
    const { devices: opened } = await again.status();
    assert.ok(
      opened.every(({ recovery }) => !recovery.crashed),
      'closed in order',
    );
    await again.close();
  });
}

run();
