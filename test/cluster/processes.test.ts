/** A cluster of processes: mirrors over two nodes, and the death of each of its processes under load. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { ClusterProcesses } from '../support/cluster-processes.js';
import { NodeLoad } from '../support/node-load.js';
import { SectorHistory } from '../support/sector-history.js';

const SIZE = 4 << 20;
const LAYOUT = ['--size', String(SIZE), '--layout', 'mirror:2'];

/** Two nodes with a mirror over them. */
async function mirrored(): Promise<ClusterProcesses> {
  const cluster = await ClusterProcesses.start();
  await cluster.addNodes('n1', 'n2');
  await cluster.ask(['volume', 'create', 'main', ...LAYOUT, '--on', 'n1,n2']);
  return cluster;
}

check('a mirror over two nodes has what a client wrote, also for the next client', async () => {
  const cluster = await mirrored();
  const history = new SectorHistory(31, SIZE);
  const first = await cluster.export('main');
  const load = await NodeLoad.start(first, 'main', history, { seed: 1 });
  await load.reach(300);
  await load.stop();
  assert.is(load.failed, 0);
  assert.is((await first.process.stop()).code, 0);
  const { holder, lease, generation } = await cluster.show('main');
  assert.equal([lease, generation], ['released', 1]);
  assert.not.equal(holder, '');
  const second = await cluster.export('main');
  const client = await second.connect();
  for (let turn = 0; turn < 2; turn += 1) history.check(await client.read(0, SIZE), 'death', 'from each copy');
  await client.destroy();
  await second.process.stop();
  await cluster.stop();
});

check('a killed node does not keep a mirror from its clients, and is brought up to date when it is back', async () => {
  const cluster = await mirrored();
  const history = new SectorHistory(32, SIZE);
  const served = await cluster.export('main');
  const load = await NodeLoad.start(served, 'main', history, { seed: 2 });
  await load.reach(200);
  await cluster.node('n2').process.kill();
  await load.reach(300);
  await cluster.untilCopies('main', 'in-sync', 'offline');
  await cluster.restart('n2');
  await cluster.untilCopies('main', 'in-sync');
  await load.reach(100);
  await load.stop();
  assert.is(load.failed, 0, 'no request is answered with an error');
  const client = await served.connect();
  for (let turn = 0; turn < 4; turn += 1) history.check(await client.read(0, SIZE), 'death', 'from each copy');
  await client.destroy();
  await served.process.stop();
  await cluster.stop();
});

check('a killed client is replaced by another that takes over, and nothing acknowledged is lost', async () => {
  const cluster = await mirrored();
  const history = new SectorHistory(33, SIZE);
  let served = await cluster.export('main');
  for (let turn = 0; turn < 3; turn += 1) {
    const load = await NodeLoad.start(served, 'main', history, { seed: 40 + turn });
    await load.reach(200);
    await served.process.kill();
    await load.reachOrEnd(1 << 30);
    served = await cluster.export('main', '--take-over');
    const client = await served.connect();
    history.check(await client.read(0, SIZE), 'death', `after death ${turn}`);
    await client.destroy();
  }
  assert.is((await cluster.show('main')).generation, 4);
  await served.process.stop();
  await cluster.stop();
});

check('the manager is killed and started again under load, and is not missed meanwhile', async () => {
  const cluster = await mirrored();
  const history = new SectorHistory(34, SIZE);
  const served = await cluster.export('main');
  const load = await NodeLoad.start(served, 'main', history, { seed: 3 });
  await load.reach(100);
  await cluster.managerProcess?.kill();
  await load.reach(300);
  await cluster.startManager();
  await load.reach(100);
  // It decides again: a member that fails is taken out.
  await cluster.node('n1').process.kill();
  await load.reach(200);
  await cluster.restart('n1');
  await cluster.untilCopies('main', 'in-sync');
  await load.stop();
  assert.is(load.failed, 0);
  const client = await served.connect();
  for (let turn = 0; turn < 2; turn += 1) history.check(await client.read(0, SIZE), 'death', 'from each copy');
  await client.destroy();
  await served.process.stop();
  await cluster.stop();
});

run();
