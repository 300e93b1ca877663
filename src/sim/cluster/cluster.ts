/** The parts of a cluster in a trial: who is in it, the volume that all fight for, and who has it. */

import type { ReplicaMap, ReplicaMember } from '../../layout/replica-map.js';
import { TrialVolume } from '../trial/trial-volume.js';
import type { TrialOptions } from '../trial/trial-world.js';
import type { SimRandom } from '../world/random.js';
import { ClusterClient } from './cluster-client.js';
import { ClusterManager } from './cluster-manager.js';
import { ClusterNode } from './cluster-node.js';
import type { ClusterPlan } from './cluster-plan.js';
import { ClusterWorld, unlessDied } from './cluster-world.js';
import { inSyncOf, MapsOracle } from './maps-oracle.js';
import type { Party } from './party.js';

const VOLUME_ID = 'a'.repeat(32);
const VOLUME_NAME = 'volume';
/** Between two looks at what devices have. */
const LOOK_US = 20_000;

export class Cluster {
  readonly world: ClusterWorld;
  readonly manager: ClusterManager;
  readonly nodes: ClusterNode[];
  readonly clients: ClusterClient[];
  readonly volume: TrialVolume;
  readonly maps = new MapsOracle();
  /** Devices that have lost power, and the version of their group's map then. */
  private readonly darkened = new Map<string, number>();
  /** Who has attached the volume last. */
  holder: ClusterClient;
  /** Rejects when something has failed that goes on by itself. */
  readonly failed: Promise<never>;
  /** Rejects it. */
  readonly fail: (error: unknown) => void;

  constructor(plan: ClusterPlan, options: TrialOptions) {
    this.world = new ClusterWorld(plan, options);
    let fail: (error: unknown) => void = () => {};
    this.failed = new Promise((_, reject) => {
      fail = reject;
    });
    // It may fail when nobody looks any more.
    this.failed.catch(() => {});
    this.fail = fail;
    this.manager = new ClusterManager(this.world, {
      onCommitted: (batch) => this.watch(() => this.maps.committed(batch)),
      onRestart: () => void this.manager.boot().catch(unlessDied).catch(fail),
    });
    this.nodes = Array.from({ length: plan.nodes }, (_, number) => new ClusterNode(this.world, number));
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
  }

  get parties(): readonly Party[] {
    return [this.manager, ...this.nodes, ...this.clients];
  }

  /** What has not come to its end, and who could be waited for, for people. */
  get goesOn(): string[] {
    const { world, parties, clients } = this;
    const away = parties.filter(({ up, process }) => !up || process.stalled).map(({ name }) => `${name} does nothing`);
    return [...world.waitedFor(), ...away, ...clients.flatMap((client) => [...client.goesOn()])];
  }

  /** Looks at what devices have from now on, again and again. */
  keepLooking(): void {
    this.look();
    this.world.timers.after(LOOK_US, () => this.keepLooking());
  }

  /** Looks at what devices have, for the oracle of maps. */
  look(): void {
    this.watch(() => {});
  }

  /** The same, and at something else behind it. What is wrong fails the trial, and not whoever is just being called. */
  private watch(more: () => void): void {
    try {
      this.lookAtDevices();
      more();
    } catch (error) {
      this.fail(error);
    }
  }

  private lookAtDevices(): void {
    const found = this.nodes.flatMap(({ up, program }) => (up ? [...program.replicas(VOLUME_ID)] : []));
    this.maps.look(found);
  }

  /**
   * The power of a node fails. What was not durable is gone if no current copy of a group is left that has not lost its power
   * since it became one.
   */
  losePower(node: ClusterNode, random: SimRandom): void {
    const { world, volume, darkened } = this;
    this.look();
    world.log(`the power of ${node.name} fails`);
    const newest = this.maps.newest();
    for (const { deviceId } of node.disks) {
      const version = Math.max(0, ...newest.filter((map) => isNamed(map, deviceId)).map((map) => map.mapVersion));
      darkened.set(deviceId, version);
    }
    node.losePower(random);
    const isDark =
      (map: ReplicaMap) =>
      ({ deviceId, joined }: ReplicaMember) => {
        const version = darkened.get(deviceId);
        return version !== undefined && joined <= version && inSyncOf(map).includes(deviceId);
      };
    const lost = newest.some((map) => map.members.filter(isDark(map)).length === inSyncOf(map).length);
    if (lost) volume.history.powerCut(world.nowUs, true);
  }

  /** Whether every group has another current copy than on this device. */
  spares(deviceId: string): boolean {
    return this.maps.newest().every((map) => inSyncOf(map).some((other) => other !== deviceId));
  }

  /** Whether a group has no current copy on a device that is what it was: nothing is promised then. */
  get isLost(): boolean {
    const disks = this.nodes.flatMap((node) => node.disks);
    const exchanged = new Set(disks.filter((disk) => disk.exchanged).map(({ deviceId }) => deviceId));
    return this.maps.newest().some((map) => inSyncOf(map).every((deviceId) => exchanged.has(deviceId)));
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

function isNamed({ members }: ReplicaMap, deviceId: string): boolean {
  return members.some((member) => member.deviceId === deviceId);
}
