/** What all of a cluster in a trial have in common: the world, the network between its processes, and memory for them. */

import { SimNetwork } from '../net/network.js';
import type { MemoryPart } from '../trial/trial-memory.js';
import { type TrialOptions, TrialWorld } from '../trial/trial-world.js';
import type { SimProcess } from '../world/process.js';
import type { ClusterPlan } from './cluster-plan.js';

/** Where the manager listens. Addresses with a slash are paths. */
export const MANAGER_ADDRESS = '/manager';
export const CLUSTER_ID = 'c'.repeat(32);
/** What stands for the secret of the cluster. */
export const CLUSTER_KEY_SEED = 7;
/** Between the seeds of the lives of a process, and of processes. */
const LIFE_STEP = 7919;
const PARTY_STEP = 104_729;

/** How long a trial may go on once its plan has come to its end: far longer than anything that is waited for there. */
const ENDING_MS = 300_000;
/** Steps in which anything that is waited for ends: under the heaviest load there are 80 000 in a second. */
const WAIT_STEPS = 1_000_000;
/** Steps of a whole trial. */
const STEPS_MAX = 3_000_000;

/** A process has died that was to do something. */
export class ProcessDied extends Error {}

/** What is begun for a process may end with it. Anything else that is wrong is thrown. */
export function unlessDied(error: unknown): void {
  if (!(error instanceof ProcessDied)) throw error;
}

export class ClusterWorld extends TrialWorld<ClusterPlan> {
  /** Between the processes of the cluster: nothing is lost there, as a session takes a second of silence for an end. */
  readonly inner: SimNetwork;
  /** Nothing in a cluster waits for longer than a device that does not answer, but who lets others try first. */
  protected override readonly patience = { ms: 180_000, steps: WAIT_STEPS };
  protected override readonly limit: { readonly ms: number; readonly steps: number };
  private usedBytes = 0;
  private parties = 0;
  private writers = 0;
  private names = 0;

  constructor(plan: ClusterPlan, options: TrialOptions) {
    super(plan, options);
    this.limit = { ms: plan.endMs + ENDING_MS, steps: STEPS_MAX };
    this.inner = new SimNetwork(this.time, { latencyUs: plan.networkLatencyUs });
  }

  /** Waits for what has to happen in bounded time. Rejects with `ProcessDied` if the process dies that is to do it. */
  override settle<Result>(promise: Promise<Result>, process: SimProcess | null = null, what = ''): Promise<Result> {
    if (process === null) return super.settle(promise, process, what);
    const died = new Promise<never>((_, reject) => {
      const tell = () => reject(new ProcessDied(`a process has died that was to do this: ${what}`));
      if (process.alive) process.atDeath(tell);
      else tell();
    });
    return super.settle(Promise.race([promise, died]), process, what);
  }

  /** The number of the next process. */
  nextParty(): number {
    this.parties += 1;
    return this.parties - 1;
  }

  /** The number of the next life of a client, from 1 on. */
  nextWriter(): number {
    this.writers += 1;
    return this.writers;
  }

  /** A name for the next life of a process, as a client. */
  nextClientId(): string {
    this.names += 1;
    return this.names.toString(16).padStart(32, 'e');
  }

  /** Memory of a process, in which lies what the seed says. */
  memory(lengthBytes: number): MemoryPart {
    const { memory } = this.options;
    const part = memory.part(this.plan.seed, this.usedBytes, lengthBytes);
    this.usedBytes += lengthBytes;
    memory.fill(part, 0, lengthBytes);
    return part;
  }

  /** Where chance in a process comes from, in one of its lives. */
  seedOf(party: number, life: number): number {
    return this.plan.seed + PARTY_STEP * party + LIFE_STEP * life;
  }

  clockRate(party: number): number {
    return this.plan.clockRates[party] ?? 1;
  }
}
