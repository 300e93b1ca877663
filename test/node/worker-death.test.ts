/** The worker of a node dies while clients write: its volumes are served again, and nothing acknowledged is lost. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { NodeLoad } from '../support/node-load.js';
import { formatAll, NodeProcess } from '../support/node-process.js';
import { scratchFile, until } from '../support/scratch.js';
import { SectorHistory } from '../support/sector-history.js';

const MIB = 1 << 20;
const SIZE = 4 * MIB;

/** Kills the worker; resolves when its successor serves. */
async function killWorker(node: NodeProcess): Promise<void> {
  await node.call('killWorker');
  await until('the node to be opened again', () =>
    node.status().then(
      () => true,
      () => false,
    ),
  );
}

async function serving(node: NodeProcess) {
  return until('the volume to be served again', () => node.connect('main').catch(() => undefined));
}

for (const layout of ['single', 'mirror'] as const) {
  check(`a worker that dies under load loses nothing: ${layout}`, async () => {
    const files = Array.from({ length: layout === 'mirror' ? 2 : 1 }, () => scratchFile(24 * MIB));
    await formatAll(files);
    const node = await NodeProcess.start({ devices: files });
    await node.call('createVolume', { name: 'main', sizeBytes: SIZE, layout });
    const history = new SectorHistory(5, SIZE);
    for (let round = 0; round < 6; round += 1) {
      const load = await NodeLoad.start(node, 'main', history, { seed: 100 + round });
      await load.reach(50 + 70 * round);
      await killWorker(node);
      await load.stop();
      const client = await serving(node);
      history.check(await client.read(0, SIZE), 'death', `round ${round}`);
      await client.destroy();
      const { state, counters } = await node.volume('main');
      assert.equal([state, counters.poisonedBlocks, counters.unrecoverableBlocks], ['ok', 0, 0]);
    }
    await node.kill();
    const again = await NodeProcess.start({ devices: files });
    const client = await again.connect('main');
    history.check(await client.read(0, SIZE), 'death', 'after the death of the process too');
    await client.destroy();
    await again.close();
  });
}

check('a volume that went on without a device goes on without it after its worker has died', async () => {
  const files = [scratchFile(24 * MIB), scratchFile(24 * MIB)];
  const [, absent] = await formatAll(files);
  const first = await NodeProcess.start({ devices: files });
  await first.call('createVolume', { name: 'main', sizeBytes: SIZE, layout: 'mirror' });
  await first.close();
  const node = await NodeProcess.start({ devices: [files[0]], without: { main: [absent] } });
  const history = new SectorHistory(6, SIZE);
  const load = await NodeLoad.start(node, 'main', history, { seed: 3 });
  await load.reach(100);
  await killWorker(node);
  await load.stop();
  const client = await serving(node);
  history.check(await client.read(0, SIZE), 'death', 'without a device');
  await client.destroy();
  assert.is((await node.volume('main')).state, 'degraded');
  // A device that was added is there after the next death as well.
  await node.call('addDevice', files[1]);
  await node.reach('main', 'ok');
  await killWorker(node);
  const other = await serving(node);
  history.check(await other.read(0, SIZE), 'death', 'with the device');
  await other.destroy();
  assert.is((await node.volume('main')).state, 'ok');
  await node.close();
});

run();
