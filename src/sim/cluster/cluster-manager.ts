/** The manager of a cluster in a trial: its host, what is durable of its store, and the lives of its process. */

import { foundCluster } from '../../manager/found.js';
import type { MetaBatch } from '../../ports/meta-store.js';
import type { MemoryPart } from '../trial/trial-memory.js';
import type { SimHost } from '../world/host.js';
import type { SimProcess } from '../world/process.js';
import type { SimRandom } from '../world/random.js';
import type { StoreFate } from './cluster-plan.js';
import { CLUSTER_ID, type ClusterWorld, MANAGER_ADDRESS } from './cluster-world.js';
import { ManagerProgram, managerProgramBytes } from './manager-program.js';
import { type MetaDiskHooks, SimMetaDisk, SimMetaStore } from './meta-store.js';
import type { Party } from './party.js';

/** How long after it has ended by itself it is started again. */
const RESTART_US = 300_000;

export interface ClusterManagerHooks {
  /** A batch has become durable. */
  onCommitted(batch: MetaBatch): void;
  /** The same, of an older copy of the store. */
  onStaleCommit(what: string): void;
  /** Its process has ended by itself, and is to be started again. */
  onRestart(): void;
}

export class ClusterManager implements Party {
  readonly name = 'manager';
  readonly host: SimHost;
  readonly disks: readonly [] = [];
  process!: SimProcess;
  program!: ManagerProgram;
  private readonly cluster: ClusterWorld;
  private readonly party: number;
  private readonly memory: MemoryPart;
  private readonly hooks: ClusterManagerHooks;
  /** Of whatever store it has. */
  private readonly troubles: MetaDiskHooks = {
    fate: null,
    onCommitted: (batch) => this.committed(batch),
    onDeath: () => this.endedByItself('it dies amid a commit'),
  };
  private disk: SimMetaDisk;
  /** Its own store, while it has an older copy; null otherwise. */
  private right: SimMetaDisk | null = null;
  private lives = 0;

  constructor(cluster: ClusterWorld, hooks: ClusterManagerHooks) {
    this.cluster = cluster;
    this.hooks = hooks;
    this.party = cluster.nextParty();
    this.host = cluster.world.addHost(this.name, { clockRate: cluster.clockRate(this.party) });
    this.memory = cluster.memory(managerProgramBytes(cluster.plan.peers));
    this.disk = new SimMetaDisk(this.troubles);
  }

  get up(): boolean {
    return this.process?.alive ?? false;
  }

  /** Its first start, with a new store. */
  async begin(): Promise<void> {
    this.start();
    await this.cluster.settle(foundCluster(new SimMetaStore(this.process, this.disk), { clusterId: CLUSTER_ID }));
    await this.open();
  }

  private start(): void {
    const { cluster, host, memory } = this;
    const { time } = cluster;
    if (!host.up) host.powerOn();
    this.lives += 1;
    time.trace.add('boot', time.nowUs, this.party, this.lives, 0);
    const seed = cluster.seedOf(this.party, this.lives);
    this.process = host.start({ seed, arena: memory.bytes, touched: memory.touched });
  }

  private async open(): Promise<void> {
    const { cluster, process } = this;
    this.program = new ManagerProgram(process, {
      ...{ network: cluster.inner, address: MANAGER_ADDRESS, clusterId: CLUSTER_ID },
      ...(cluster.plan.peers === undefined ? {} : { peers: cluster.plan.peers }),
      store: new SimMetaStore(process, this.disk),
      onStepDown: (text) => {
        if (this.process === process) this.endedByItself(text);
      },
    });
    await cluster.settle(this.program.open(), process, 'the manager reads its store');
  }

  async boot(): Promise<void> {
    if (this.up) return;
    this.start();
    await this.open();
  }

  die(): void {
    if (this.up) this.process.kill();
  }

  losePower(random: SimRandom): void {
    if (this.host.up) this.host.powerOff(random);
  }

  /** What its next commits come to. */
  setFate(fate: StoreFate | null): void {
    this.troubles.fate = fate;
  }

  private committed(batch: MetaBatch): void {
    const { disk, right, hooks } = this;
    if (right === null) hooks.onCommitted(batch);
    else hooks.onStaleCommit(`the manager decides with an older copy of its store: batch ${disk.sequence}`);
  }

  /** A copy of its store as it is now. */
  copyStore(): SimMetaDisk {
    return this.disk.clone(this.troubles);
  }

  /** Batches that are durable in its store. */
  get sequence(): number {
    return this.disk.sequence;
  }

  /** When it starts the next time it has an older copy of its store, until it gets the right one back. */
  takeOlderStore(copy: SimMetaDisk): void {
    this.right = this.disk;
    this.disk = copy;
  }

  takeRightStore(): void {
    this.disk = this.right ?? this.disk;
    this.right = null;
  }

  /** Its process ends when it has come to the end of what it is just doing, and is started again, as a service manager would. */
  private endedByItself(why: string): void {
    const { cluster, process } = this;
    cluster.log(`the manager ends: ${why}`);
    cluster.timers.after(0, () => process.kill());
    cluster.timers.after(RESTART_US, () => {
      if (this.process === process && this.host.up) this.hooks.onRestart();
    });
  }
}
