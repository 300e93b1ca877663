/**
 * How a trial of a cluster ends when nothing happens any more: one client serves the volume, everything is read, all copies
 * in-sync are equal, and each disk is checked.
 */

import { differences } from '../oracle/copies-check.js';
import { checkDisk } from '../trial/trial-checks.js';
import { HEALING_MS, SimViolation } from '../trial/trial-world.js';
import type { Cluster } from './cluster.js';
import { inSyncOf } from './maps-oracle.js';

/** Between attempts to serve the volume, and how long it is served before that counts. */
const RETRY_US = 200_000;
const SETTLING_US = 3_000_000;
/** Less than the time for which requests are held: who waits until that is over waits for what nobody does. */
const SOON_MS = 45_000;

/** All processes are up. Throws a `SimViolation`, or a `HistoryViolation`, if something is not as it should be. */
export async function endCluster(cluster: Cluster): Promise<void> {
  const { world, volume, nodes, clients, readers } = cluster;
  const beganUs = world.nowUs;
  await serveAgain(cluster);
  await readAgain(cluster);
  for (const client of [...clients, ...readers]) await client.rest();
  const tookMs = Math.floor((world.nowUs - beganUs) / 1000);
  if (tookMs > SOON_MS) throw new SimViolation(`requests were answered only ${tookMs} ms after all was well again`);
  // If all copies were opened anew the first flush tells that what was not flushed may be lost.
  const isFlushed = (await volume.flush(true)) || (await volume.flush());
  if (!isFlushed) throw new SimViolation('the volume is not offered when all is well again');
  await volume.sweep();
  volume.history.checkpoint();
  await cluster.holder.giveBack();
  for (const client of [...clients, ...readers]) client.die();
  await checkCopies(cluster);
  for (const node of nodes) await node.close();
  for (const node of nodes) {
    for (const disk of node.disks) if (!disk.exchanged) await checkDisk(world, disk, false);
  }
}

/** Somebody serves the volume, in bounded time, and goes on to. */
async function serveAgain(cluster: Cluster): Promise<void> {
  const { world, clients } = cluster;
  const untilUs = world.nowUs + 1000 * HEALING_MS;
  for (;;) {
    const serving = clients.find((client) => client.serves);
    if (serving !== undefined) {
      cluster.holder = serving;
      // Longer than any time after which somebody is given up.
      await world.pause(SETTLING_US);
      if (serving.serves) return;
    } else await cluster.holder.serve(true);
    if (world.nowUs > untilUs) throw new SimViolation('nobody serves the volume when all is well again');
    await world.pause(RETRY_US);
  }
}

/** Who only reads goes on to, in bounded time. */
async function readAgain({ world, readers }: Cluster): Promise<void> {
  for (const reader of readers) {
    const { answered, connections, process, name } = reader;
    const goesOn = () => reader.serves && (connections.length === 0 || reader.answered > answered);
    await world.until(goesOn, process, `${name} reads again`);
  }
}

async function checkCopies({ world, nodes, maps }: Cluster): Promise<void> {
  for (const map of maps.newest()) {
    const current = inSyncOf(map);
    const copies = nodes.flatMap(({ process, program }) =>
      [...program.node.stores.values()].flatMap((store) => {
        const page = store.pageOf(map.volume.id, map.group);
        return current.includes(store.deviceId) && page >= 0 ? [{ completions: process, store, page }] : [];
      }),
    );
    const found = await world.settle(differences(copies));
    if (found.length > 0) throw new SimViolation(`copies of group ${map.group} differ: ${found.join('\n')}`);
  }
}
