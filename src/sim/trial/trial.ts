/**
 * One trial: storage nodes on simulated disks, used over simulated connections and rings, through the lives of their
 * processes and the faults of a plan, with everything that clients see held against what volumes promise.
 *
 * ```text
 *   plan ──► faults ──► disks, network, processes (NodeProgram)          one SimWorld for all of them
 *                                  ▲     │
 *                        clients ──┘     └──► history ──► violations
 * ```
 *
 * At the end the faults stop. What was damaged has to be repaired within bounded time, everything is read once more, each copy
 * by itself too, and each disk is checked. A trial is a function of its plan: the same one takes the same course.
 */

import { EngineCourse } from './engine-course.js';
import type { SimAction, SimPlan } from './plan.js';
import { checkDisk, checkSpace, currentDisks, readAlone } from './trial-checks.js';
import { TrialFaults } from './trial-faults.js';
import { TrialNode } from './trial-node.js';
import { SimViolation, type TrialOptions, TrialWorld } from './trial-world.js';

export interface TrialResult {
  readonly seed: number;
  /** Hash of everything that happened. */
  readonly hash: number;
  readonly simulatedUs: number;
  readonly requests: number;
  readonly events: number;
  /** Faults and crashes that happened. */
  readonly faults: number;
  /** What went wrong; undefined if nothing did. */
  readonly failure: string | undefined;
}

export class Trial {
  private readonly trial: TrialWorld;
  private readonly nodes: TrialNode[] = [];
  /** Of a volume whose engine is in a process of its own. */
  private readonly engine: EngineCourse | null = null;

  constructor(plan: SimPlan, options: TrialOptions) {
    this.trial = new TrialWorld(plan, options);
    if (plan.detached) this.engine = new EngineCourse(this.trial);
    else this.nodes = Array.from({ length: plan.nodes }, (_, number) => new TrialNode(this.trial, number));
  }

  /** Runs to the end, or to the first thing that goes wrong. */
  async run(): Promise<TrialResult> {
    const { trial, nodes, engine } = this;
    let failure: string | undefined;
    try {
      const courses = engine === null ? nodes.map((node) => this.live(node)) : [engine.live()];
      await trial.run(Promise.all(courses).then(() => {}));
    } catch (error) {
      failure = error instanceof Error ? textOf(error) : String(error);
      trial.log(`failed: ${failure}`);
    }
    const clients = [...nodes, ...(engine === null ? [] : [engine])].flatMap((one) => one.clients);
    const requests = clients.reduce((sum, { answered }) => sum + answered, 0);
    const { trace, nowUs } = trial.time;
    const { hash, length } = trace;
    return { seed: trial.plan.seed, hash, simulatedUs: nowUs, requests, events: length, faults: trial.acted, failure };
  }

  /** The course of a node. */
  private async live(node: TrialNode): Promise<void> {
    const { trial } = this;
    const { plan } = trial;
    const faults = new TrialFaults(node);
    await node.boot();
    for (let number = 0; number < plan.devices; number += 1) await node.addDisk();
    await node.openAll();
    await node.createVolumes();
    for (const action of plan.actions) {
      if (action.node !== node.number) continue;
      if (action.atMs >= plan.endMs) break;
      await this.reach(action.atMs);
      await this.perform(faults, action);
    }
    await this.reach(plan.endMs);
    await this.end(node, faults);
  }

  /** Lets everything go on until this moment. */
  private async reach(atMs: number): Promise<void> {
    const leftUs = atMs * 1000 - this.trial.nowUs;
    if (leftUs > 0) await this.trial.pause(leftUs);
  }

  private async perform(faults: TrialFaults, action: SimAction): Promise<void> {
    const { trial } = this;
    await faults.perform(action);
    trial.acted += 1;
    trial.time.trace.add('fault', trial.nowUs, 0, trial.acted, 0);
  }

  private async end(node: TrialNode, faults: TrialFaults): Promise<void> {
    this.trial.log('faults stop');
    await faults.heal();
    await node.rest();
    await node.sweep();
    for (const { history } of node.volumes) history.checkpoint();
    await faults.jobsEnded();
    if (!node.mayFail) await checkSpace(node);
    const current = currentDisks(node);
    await node.close(false);
    for (const disk of node.disks) if (!disk.retired) await checkDisk(this.trial, disk, node.mayFail);
    if (this.trial.plan.copies > 1) for (const disk of current) await readAlone(node, disk);
    for (const { history } of node.volumes) history.checkpoint();
  }
}

function textOf(error: Error): string {
  const expected = error instanceof SimViolation || error.name === 'HistoryViolation';
  return expected ? error.message : (error.stack ?? error.message);
}
