/** The parts of a cluster in a trial: who is in it, the volume that all fight for, and who has it. */

import type { SimDisk } from '../disk/disk.js';
import { TrialVolume } from '../trial/trial-volume.js';
import { SimViolation, type TrialOptions } from '../trial/trial-world.js';
import type { SimProcess } from '../world/process.js';
import type { SimRandom } from '../world/random.js';
import { ClusterClient } from './cluster-client.js';
import { ClusterManager } from './cluster-manager.js';
import { ClusterNode } from './cluster-node.js';
import type { ClusterPlan, ReturnKind } from './cluster-plan.js';
import { ClusterReader } from './cluster-reader.js';
import { ClusterWorld, unlessDied } from './cluster-world.js';
import { Losses } from './losses.js';
import { inSyncOf, MapsOracle } from './maps-oracle.js';
import type { Party } from './party.js';

const VOLUME_ID = 'a'.repeat(32);
const VOLUME_NAME = 'volume';
/** Between two looks at what nodes have heard. */
const LOOK_US = 20_000;
/** How long an older copy of the manager's store waits for decisions that it does not have. */
const OVERTAKING_US = 4_000_000;

export class Cluster {
  readonly world: ClusterWorld;
  readonly manager: ClusterManager;
  readonly nodes: ClusterNode[];
  readonly clients: ClusterClient[];
  readonly readers: ClusterReader[];
  readonly volume: TrialVolume;
  readonly maps = new MapsOracle();
  private readonly losses = new Losses();
  /** Processes that have heard of more than the older copy of its store that the manager has, or had last. */
  private witnesses: SimProcess[] = [];
  /** Who has attached the volume last. */
  holder: ClusterClient;
  /** Rejects when something has failed that goes on by itself. */
  readonly failed: Promise<never>;
  /** Rejects it. */
  readonly fail: (error: unknown) => void;
  /** Resolves when nothing is promised of the volume any more. */
  readonly lost: Promise<void>;
  private lose: () => void = () => {};

  constructor(plan: ClusterPlan, options: TrialOptions) {
    this.world = new ClusterWorld(plan, options);
    let fail: (error: unknown) => void = () => {};
    this.failed = new Promise((_, reject) => {
      fail = reject;
    });
    // It may fail when nobody looks any more.
    this.failed.catch(() => {});
    this.fail = fail;
    this.lost = new Promise((resolve) => {
      this.lose = resolve;
    });
    this.manager = new ClusterManager(this.world, {
      onCommitted: (batch) => {
        this.look();
        this.watch(() => this.maps.committed(batch));
        this.lookAtLosses();
      },
      // With no witness of what was decided since, nobody can know, and the volume is the operator's to mend.
      onStaleCommit: (what) => (this.hasWitness ? fail(new SimViolation(what)) : this.lose()),
      onRestart: () => void this.manager.boot().catch(unlessDied).catch(fail),
    });
    this.nodes = Array.from(
      { length: plan.nodes },
      (_, number) => new ClusterNode(this.world, number, (node) => this.watch(() => this.lookAt(node))),
    );
    const about = { name: VOLUME_NAME, id: VOLUME_ID };
    const own = this.world.world.addHost('trial');
    const holder = () => this.holder;
    const server = {
      mayFail: false,
      get address() {
        return holder().address;
      },
      get process() {
        return holder().process;
      },
      get writer() {
        return holder().writer;
      },
    };
    this.volume = new TrialVolume(this.world, server, own, about);
    this.clients = Array.from({ length: plan.clients }, (_, n) => new ClusterClient(this.world, this.volume, n));
    this.holder = this.clients[0];
    const { clients, readers = 0 } = plan;
    this.readers = Array.from(
      { length: readers },
      (_, n) => new ClusterReader(this.world, this.volume, clients + n, (error) => this.fail(error)),
    );
  }

  get parties(): readonly Party[] {
    return [this.manager, ...this.nodes, ...this.clients, ...this.readers];
  }

  /** What has not come to its end, and who could be waited for, for people. */
  get goesOn(): string[] {
    const { world, parties, clients } = this;
    const away = parties.filter(({ up, process }) => !up || process.stalled).map(({ name }) => `${name} does nothing`);
    return [...world.waitedFor(), ...away, ...[...clients, ...this.readers].flatMap((one) => [...one.goesOn()])];
  }

  /** Looks at what all devices have, for the oracle of maps. */
  look(): void {
    this.watch(() => {
      for (const node of this.nodes) this.lookAt(node);
    });
  }

  /** What is wrong fails the trial, and not whoever is just being called. */
  private watch(look: () => void): void {
    try {
      look();
    } catch (error) {
      this.fail(error);
    }
  }

  /**
   * Looks at what the devices of a node have, as it is done at the end of each of its batches: a map that is answered may be
   * followed by the next one at once, and would not be seen later.
   */
  private lookAt({ up, program }: ClusterNode): void {
    if (up) this.maps.look(program.replicas(VOLUME_ID));
  }

  /** The power of a node fails. */
  losePower(node: ClusterNode, random: SimRandom): void {
    this.look();
    this.world.log(`the power of ${node.name} fails`);
    const newest = this.maps.newest();
    for (const { deviceId } of node.disks) this.losses.darken(deviceId, newest);
    node.losePower(random);
    this.lookAtLosses();
  }

  /** A device of a node that is down is another one. */
  exchange(node: ClusterNode, { device, how }: { device: number; how: ReturnKind }, older: SimDisk, random: SimRandom) {
    this.look();
    this.losses.exchange(node.exchange(device, how, older, random), this.maps.newest());
    this.lookAtLosses();
  }

  private lookAtLosses(): void {
    const { losses, maps, volume, world } = this;
    const lost = losses.judge(maps.newest());
    if (lost === 'unflushed') volume.history.powerCut(world.nowUs, true);
    else if (lost === 'anything') this.lose();
  }

  /** Whether a process is left that has heard of more than an older copy of the manager's store has. */
  private get hasWitness(): boolean {
    return this.witnesses.some(({ alive }) => alive);
  }

  /**
   * Waits for a while until every node that is there has heard that the manager has more batches than these: then an older copy
   * with so many must not lead. Resolves to whether that has come about.
   */
  async overtakes(sequence: number): Promise<boolean> {
    const { world, nodes } = this;
    for (const untilUs = world.nowUs + OVERTAKING_US; world.nowUs < untilUs; await world.pause(LOOK_US)) {
      const there = nodes.filter(({ up }) => up);
      if (there.length === 0 || there.some(({ program }) => program.sequenceHeard <= sequence)) continue;
      this.witnesses = there.map(({ process }) => process);
      return true;
    }
    return false;
  }

  /** Whether every group has another current copy than on this device. */
  spares(deviceId: string): boolean {
    return this.maps.newest().every((map) => inSyncOf(map).some((other) => other !== deviceId));
  }

  /** Makes the volume, on as many nodes as it has copies. */
  async create(): Promise<void> {
    const { nodes, world, manager } = this;
    const { copies, segments, segmentBytes } = world.plan;
    const on = nodes.slice(0, copies).map(({ nodeId }) => nodeId);
    const about = { volumeId: VOLUME_ID, name: VOLUME_NAME, layout: 'mirror', copies, on } as const;
    await world.settle(manager.program.manager.create({ ...about, sizeBytes: segments * segmentBytes }));
  }
}
