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

import type { TrialResult } from '../trial/trial.js';
import { SimEndless, SimViolation, type TrialOptions } from '../trial/trial-world.js';
import { Cluster } from './cluster.js';
import { endCluster } from './cluster-end.js';
import { ClusterFaults } from './cluster-faults.js';
import type { ClusterPlan } from './cluster-plan.js';

export class ClusterTrial {
  private readonly cluster: Cluster;

  constructor(plan: ClusterPlan, options: TrialOptions) {
    this.cluster = new Cluster(plan, options);
  }

  async run(): Promise<TrialResult> {
    const { world, clients, readers } = this.cluster;
    let failure: string | undefined;
    try {
      await world.run(Promise.race([this.live(), this.nothingLeft(), this.cluster.failed]));
    } catch (error) {
      failure = error instanceof Error ? this.textOf(error) : String(error);
      world.log(`failed: ${failure}`);
    }
    const requests = [...clients, ...readers]
      .flatMap((one) => one.connections)
      .reduce((sum, { answered }) => sum + answered, 0);
    const { trace, nowUs } = world.time;
    const { hash, length } = trace;
    return { seed: world.plan.seed, hash, simulatedUs: nowUs, requests, events: length, faults: world.acted, failure };
  }

  /** Ends when nothing is promised any more that could be looked at. */
  private async nothingLeft(): Promise<void> {
    await this.cluster.lost;
    this.cluster.world.log('a group has no current copy left whose device is what it was');
  }

  private async end(faults: ClusterFaults): Promise<void> {
    const { cluster } = this;
    cluster.world.log('faults stop');
    await faults.heal();
    await endCluster(cluster);
  }

  private async live(): Promise<void> {
    const { cluster } = this;
    const { world, nodes, clients, readers } = cluster;
    const { plan } = world;
    await cluster.manager.begin();
    for (const node of nodes) await node.begin();
    await cluster.create();
    for (const client of clients) await client.boot();
    await cluster.holder.serve(false);
    for (const one of readers) await one.boot();
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

  private textOf(error: Error): string {
    if (error instanceof SimEndless) return [error.message, ...this.cluster.goesOn].join('\n  ');
    const expected = error instanceof SimViolation || error.name === 'HistoryViolation';
    return expected ? error.message : (error.stack ?? error.message);
  }
}
