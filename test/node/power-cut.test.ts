/**
 * Devices lose power again and again while clients write: what was flushed is there, and nothing is there that was not
 * written last, or under way.
 */

import * as assert from 'uvu/assert';
import { check, repetitions, run } from '../support/check.js';
import { faulty } from '../support/faulty-disk.js';
import { CLOSED, CRASHED, fsckAll } from '../support/fsck.js';
import { EIO } from '../support/nbd-client.js';
import { NodeLoad, randomOf } from '../support/node-load.js';
import { formatAll, NodeProcess } from '../support/node-process.js';
import { PowerDisk } from '../support/power-disk.js';
import { SectorHistory } from '../support/sector-history.js';

const MIB = 1 << 20;
const SIZE = 4 * MIB;
const SLOT = 64 << 10;
/** Cuts in all; more by STRAKE_TEST_CUTS. */
const CUTS = Number(process.env.STRAKE_TEST_CUTS ?? repetitions(30, 6));
const SEED = Number(process.env.STRAKE_TEST_SEED ?? Date.now() % 1e6);

async function newDisks(count: number) {
  const disks = Array.from({ length: count }, () => new PowerDisk(24 * MIB));
  await formatAll(
    disks.map(({ file }) => file),
    SLOT,
  );
  for (const disk of disks) await disk.on();
  const node = await NodeProcess.start({ devices: disks.map(({ path }) => path) });
  await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout: count === 1 ? 'single' : 'mirror' });
  return { disks, node, history: new SectorHistory(count, SIZE) };
}

async function checkAll(node: NodeProcess, history: SectorHistory, what: string): Promise<void> {
  const client = await node.connect('main');
  history.check(await client.read(0, SIZE), 'power cut', what);
  await client.destroy();
}

for (const [count, name] of [
  [1, 'a single device'],
  [2, 'both devices of a mirror at once'],
] as const) {
  check(`a power cut loses nothing that was flushed: ${name}`, faulty, async () => {
    const random = randomOf(SEED + count);
    const { disks, history, node: first } = await newDisks(count);
    let node = first;
    for (let cycle = 0; cycle < CUTS / 3; cycle += 1) {
      const what = `seed ${SEED}, cut ${cycle}`;
      const load = await NodeLoad.start(node, 'main', history, { seed: SEED + cycle, errors: [EIO] });
      await load.reach(1 + random(300));
      for (const disk of disks) disk.cut();
      await node.kill();
      await load.stop();
      for (const disk of disks) await disk.detach();
      await fsckAll(
        disks.map(({ file }) => file),
        CRASHED,
        what,
      );
      for (const disk of disks) await disk.on();
      node = await NodeProcess.start({ devices: disks.map(({ path }) => path) });
      await checkAll(node, history, what);
      const { state, counters } = await node.volume('main');
      assert.equal([state, counters.unrecoverableBlocks, counters.poisonedBlocks], ['ok', 0, 0], what);
    }
    await node.close();
    for (const disk of disks) await disk.detach();
    await fsckAll(
      disks.map(({ file }) => file),
      CLOSED,
      'closed in order',
    );
  });
}

check(
  'a power cut of one device of a mirror loses nothing, and it is brought up to date when it returns',
  faulty,
  async () => {
    const random = randomOf(SEED);
    const { disks, history, node } = await newDisks(2);
    for (let cycle = 0; cycle < CUTS / 3; cycle += 1) {
      const what = `seed ${SEED}, cut ${cycle}`;
      const victim = disks[cycle % 2];
      const { path } = victim;
      const { devices } = await node.status();
      const deviceId = devices.find((device) => device.path === path)?.deviceId as string;
      const load = await NodeLoad.start(node, 'main', history, { seed: SEED + cycle });
      await load.reach(1 + random(200));
      victim.cut();
      await load.reach(100);
      await node.reach('main', 'degraded');
      await load.reach(50);
      // Nothing that was acknowledged is lost, flushed or not: the other copy has it.
      await load.stop();
      const client = await node.connect('main');
      history.check(await client.read(0, SIZE), 'death', what);
      await client.destroy();
      await node.call('removeDevice', deviceId);
      await victim.detach();
      await fsckAll([victim.file], CRASHED, what);
      await victim.on();
      const again = await NodeLoad.start(node, 'main', history, { seed: SEED - cycle - 1 });
      await node.call('addDevice', victim.path);
      await node.reach('main', 'ok');
      await again.reach(50);
      await again.stop();
    }
    await node.close();
    for (const disk of disks) await disk.detach();
    await fsckAll(
      disks.map(({ file }) => file),
      CLOSED,
      'closed in order',
    );
    const final = await NodeProcess.start({ devices: disks.map(({ file }) => file) });
    await checkAll(final, history, 'both copies');
    await final.close();
  },
);

run();
