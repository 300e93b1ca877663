/**
 * What clients of a cluster of processes meet while its manager is away: data flows, and what waits or is refused is told by name.
 * And two clients that both want to write, one after the other, under load.
 */

import * as assert from 'uvu/assert';
import { check, repetitions, run } from '../support/check.js';
import { ClusterProcesses, type Export } from '../support/cluster-processes.js';
import { refused } from '../support/node-commands.js';
import { NodeLoad } from '../support/node-load.js';
import { standStill, until } from '../support/scratch.js';
import { SectorHistory } from '../support/sector-history.js';
import { strake } from '../support/strake.js';

const SIZE = 4 << 20;
const EIO = 5;
/** For how long data flows without a manager: a minute in full. */
const AWAY_MS = repetitions(60_000, 2_000);
/** A load that leaves the machine something. */
const LIGHT = { connections: 1, depth: 3 };

async function mirrored(): Promise<ClusterProcesses> {
  const cluster = await ClusterProcesses.start();
  await cluster.addNodes('n1', 'n2');
  await cluster.ask(['volume', 'create', 'main', '--size', String(SIZE), '--layout', 'mirror:2', '--on', 'n1,n2']);
  return cluster;
}

async function sameOnEachCopy(served: Export, history: SectorHistory): Promise<void> {
  const client = await served.connect();
  for (let turn = 0; turn < 4; turn += 1) history.check(await client.read(0, SIZE), 'death', 'from each copy');
  await client.destroy();
}

/** Waits until nothing has been answered for a while. */
async function untilHeld(load: NodeLoad): Promise<void> {
  let [answers, sinceMs] = [-1, performance.now()];
  await until('requests to wait', () => {
    if (load.acknowledged + load.failed !== answers)
      [answers, sinceMs] = [load.acknowledged + load.failed, performance.now()];
    return performance.now() - sinceMs > 1_000;
  });
}

check('while the manager is dead data flows, and changes and attaches are refused by its name', async () => {
  const cluster = await mirrored();
  const history = new SectorHistory(51, SIZE);
  const served = await cluster.export('main');
  const load = await NodeLoad.start(served, 'main', history, { ...LIGHT, seed: 1 });
  await load.reach(100);
  await cluster.managerProcess?.kill();
  const deadline = performance.now() + AWAY_MS;
  const commands = [
    ['volume', 'create', 'other', '--size', '1M'],
    ['volume', 'export', 'main', '--take-over'],
    ['volume', 'grow', 'main', '--size', '8M'],
    ['cluster', 'status'],
  ];
  // Each asks for as long as a manager may take to start, so they do it at the same time.
  const refusals = commands.map((command) => refused([...command, ...cluster.reach], 4, 'NO_MANAGER', {}, strake));
  for (const { message, remedy, retryable } of await Promise.all(refusals)) {
    assert.ok(String(message).includes(cluster.address), String(message));
    assert.match(String(remedy), 'strake manager start');
    assert.is(retryable, true);
  }
  while (performance.now() < deadline) await load.reach(200);
  await cluster.startManager();
  await cluster.ask(['volume', 'create', 'other', '--size', '1M']);
  await load.reach(100);
  await load.stop();
  assert.is(load.failed, 0);
  await sameOnEachCopy(served, history);
  const { code, stderr } = await served.process.stop();
  assert.is(code, 0, stderr);
  assert.ok(stderr.includes(`the manager at ${cluster.address} is not reached`), stderr);
  await cluster.stop();
});

check('while the manager stands still data flows; what needs it waits, and goes on with it', async () => {
  const cluster = await mirrored();
  const history = new SectorHistory(52, SIZE);
  const served = await cluster.export('main');
  const load = await NodeLoad.start(served, 'main', history, { ...LIGHT, seed: 2 });
  await load.reach(100);
  const manager = cluster.managerProcess;
  if (manager === null) throw new Error('no manager runs');
  await standStill(manager.child);
  const deadline = performance.now() + AWAY_MS;
  while (performance.now() < deadline) await load.reach(200);
  // A node dies: nobody can take its copies out, so writes wait, and none of them fails.
  await cluster.node('n2').process.kill();
  await untilHeld(load);
  manager.child.kill('SIGCONT');
  await load.reach(200);
  await cluster.untilCopies('main', 'in-sync', 'offline');
  await cluster.restart('n2');
  await cluster.untilCopies('main', 'in-sync');
  await load.stop();
  assert.is(load.failed, 0);
  await sameOnEachCopy(served, history);
  assert.is((await served.process.stop()).code, 0);
  await cluster.stop();
});

check(
  'two clients that take a volume from each other under load lose nothing, and the first writes no more',
  async () => {
    const cluster = await mirrored();
    const history = new SectorHistory(53, SIZE);
    let served = await cluster.export('main');
    for (let turn = 0; turn < repetitions(6, 2); turn += 1) {
      const load = await NodeLoad.start(served, 'main', history, { seed: 60 + turn, errors: [EIO] });
      await load.reach(200);
      const second = await cluster.export('main', '--take-over');
      // Its clients get errors, or lose their connections, and it ends and says why.
      const { code, stderr } = await served.process.ended;
      assert.is(code, 1, stderr);
      await load.reachOrEnd(1 << 30);
      served = second;
      await sameOnEachCopy(served, history);
    }
    assert.is((await served.process.stop()).code, 0);
    await cluster.stop();
  },
);

run();
