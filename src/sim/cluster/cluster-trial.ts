/**
 * One trial of a whole cluster: a manager, nodes with devices, and clients that fight for a volume, each a process of its own
 * with the product's code in it, under the faults of a plan. What clients see is held against what a volume promises, whoever
 * serves it.
 *
 * ```text
 *   plan ──► faults ──► manager, nodes, clients: processes, hosts, clocks, disks, the network between them
 *                                              │
 *                connections to each client ───┴──► history ──► violations
 * ```
 *
 * At the end the faults stop, everybody starts again, one client attaches the volume, and everything is read; then each disk is
 * checked. A trial is a function of its plan.
 */

import { differences } from '../oracle/copies-check.js';
import type { TrialResult } from '../trial/trial.js';
import { checkDisk } from '../trial/trial-checks.js';
import { HEALING_MS, SimViolation, type TrialOptions } from '../trial/trial-world.js';
import { Cluster } from './cluster.js';
import { ClusterFaults } from './cluster-faults.js';
import type { ClusterPlan } from './cluster-plan.js';
import { inSyncOf } from './maps-oracle.js';

/** Between attempts to serve the volume at the end, and how long it is served before that counts. */
const RETRY_US = 200_000;
const SETTLING_US = 3_000_000;

export class ClusterTrial {
  private readonly cluster: Cluster;

  constructor(plan: ClusterPlan, options: TrialOptions) {
    this.cluster = new Cluster(plan, options);
  }

  async run(): Promise<TrialResult> {
    const { world, clients } = this.cluster;
    let failure: string | undefined;
    try {
      await world.run(Promise.race([this.live(), this.cluster.failed]));
    } catch (error) {
      failure = error instanceof Error ? textOf(error) : String(error);
      world.log(`failed: ${failure}`);
    }
    const requests = clients.flatMap((one) => one.connections).reduce((sum, { answered }) => sum + answered, 0);
    const { trace, nowUs } = world.time;
    const { hash, length } = trace;
    return { seed: world.plan.seed, hash, simulatedUs: nowUs, requests, events: length, faults: world.acted, failure };
  }

  private async end(faults: ClusterFaults): Promise<void> {
    const { cluster } = this;
    const { world, volume, nodes, clients } = cluster;
    world.log('faults stop');
    await faults.heal();
    if (cluster.isLost) return;
    await this.serveAgain();
    for (const client of clients) await client.rest();
    if (!(await volume.flush())) throw new SimViolation('the volume is not offered when all is well again');
    await volume.sweep();
    volume.history.checkpoint();
    await cluster.holder.giveBack();
    for (const client of clients) client.die();
    await this.checkCopies();
    for (const node of nodes) await node.close();
    for (const node of nodes) {
      for (const disk of node.disks) if (!disk.exchanged) await checkDisk(world, disk, false);
    }
  }

  /** Somebody serves the volume, in bounded time, and goes on to. */
  private async serveAgain(): Promise<void> {
    const { world, clients } = this.cluster;
    const untilUs = world.nowUs + 1000 * HEALING_MS;
    for (;;) {
      const serving = clients.find((client) => client.serves);
      if (serving !== undefined) {
        this.cluster.holder = serving;
        // Longer than any time after which somebody is given up.
        await world.pause(SETTLING_US);
        if (serving.serves) return;
      } else await this.cluster.holder.serve(true);
      if (world.nowUs > untilUs) throw new SimViolation('nobody serves the volume when all is well again');
      await world.pause(RETRY_US);
    }
  }

  private async checkCopies(): Promise<void> {
    const { world, nodes, maps } = this.cluster;
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

  private async live(): Promise<void> {
    const { cluster } = this;
    const { world, nodes, clients } = cluster;
    const { plan } = world;
    await cluster.manager.begin();
    for (const node of nodes) await node.begin();
    cluster.keepLooking();
    await cluster.create();
    for (const client of clients) await client.boot();
    await cluster.holder.serve(false);
    const faults = new ClusterFaults(cluster);
    for (const action of plan.actions) {
      if (action.atMs >= plan.endMs) break;
      const leftUs = action.atMs * 1000 - world.nowUs;
      if (leftUs > 0) await world.pause(leftUs);
      await faults.perform(action);
      world.acted += 1;
      world.time.trace.add('fault', world.nowUs, 0, world.acted, 0);
    }
    const leftUs = plan.endMs * 1000 - world.nowUs;
    if (leftUs > 0) await world.pause(leftUs);
    await this.end(faults);
  }
}

function textOf(error: Error): string {
  const expected = error instanceof SimViolation || error.name === 'HistoryViolation';
  return expected ? error.message : (error.stack ?? error.message);
}
