/** A node of a cluster in a trial: its host with disks, and the lives of the process that serves their segments. */

import { StrakeError } from '../../core/errors.js';
import { formatDevice } from '../../store/opening/format-device.js';
import { STORE_MEMORY_BYTES } from '../../store/store-start.js';
import { SimDevice } from '../disk/device.js';
import { SimDisk } from '../disk/disk.js';
import { type MemoryPart, touchJournals } from '../trial/trial-memory.js';
import type { SimHost } from '../world/host.js';
import type { SimProcess } from '../world/process.js';
import type { SimRandom } from '../world/random.js';
import type { ReturnKind } from './cluster-plan.js';
import { ClusterProgram, clusterProgramBytes } from './cluster-program.js';
import { CLUSTER_ID, type ClusterWorld } from './cluster-world.js';
import type { Party } from './party.js';

/** Room on a disk for what is not data. */
const SPARE_BYTES = 4 << 20;

export interface ClusterDisk {
  readonly name: string;
  readonly deviceId: string;
  disk: SimDisk;
  /** It is not what it was, and may be refused. */
  exchanged: boolean;
}

/** Memory of the process, and some in which a disk is formatted. */
export function clusterNodeBytes(devices: number, peers?: number): number {
  return clusterProgramBytes(devices + 1, peers) + STORE_MEMORY_BYTES;
}

export class ClusterNode implements Party {
  readonly name: string;
  readonly nodeId: string;
  readonly address: string;
  readonly host: SimHost;
  readonly disks: ClusterDisk[] = [];
  process!: SimProcess;
  program!: ClusterProgram;
  private readonly cluster: ClusterWorld;
  private readonly party: number;
  private readonly memory: MemoryPart;
  /** Opened before the device that it is a clone of; null if there is none. */
  private clone: ClusterDisk | null = null;
  private readonly onBatch: (node: ClusterNode) => void;
  private lives = 0;

  /** `onBatch`: called at the end of each batch of its process; what is thrown there fails the process. */
  constructor(cluster: ClusterWorld, number: number, onBatch: (node: ClusterNode) => void = () => {}) {
    const { plan, world } = cluster;
    this.cluster = cluster;
    this.onBatch = onBatch;
    this.party = cluster.nextParty();
    this.name = `node ${number}`;
    this.nodeId = (number + 1).toString(16).padStart(32, 'd');
    this.address = `/segments/${number}`;
    this.host = world.addHost(this.name, { clockRate: cluster.clockRate(this.party) });
    const bytes = clusterNodeBytes(plan.devices, plan.peers);
    this.memory = cluster.memory(bytes);
    touchJournals(this.memory, bytes - (plan.devices + 2) * STORE_MEMORY_BYTES, plan.devices + 1);
  }

  get up(): boolean {
    return this.process?.alive ?? false;
  }

  private start(): void {
    const { cluster, host, memory, name } = this;
    const { plan, time } = cluster;
    if (!host.up) host.powerOn();
    this.lives += 1;
    time.trace.add('boot', time.nowUs, this.party, this.lives, 0);
    const seed = cluster.seedOf(this.party, this.lives);
    this.process = host.start({ seed, arena: memory.bytes, touched: memory.touched });
    this.program = new ClusterProgram(this.process, {
      ...{ network: cluster.network, inner: cluster.inner, address: `export of ${name}`, devices: plan.devices + 1 },
      ...(plan.peers === undefined ? {} : { peers: plan.peers }),
      node: { nodeId: this.nodeId, name, segments: this.address },
      clientId: cluster.nextClientId(),
      device: { latencyUs: plan.deviceLatencyUs },
      onEvent: (text) => cluster.log(`${name}: ${text}`),
    });
    this.process.onBatchEnd(() => this.onBatch(this));
  }

  /** Its first start: formats its disks. */
  async begin(): Promise<void> {
    const { cluster } = this;
    this.start();
    for (let number = 0; number < cluster.plan.devices; number += 1) await this.addDisk();
    await this.openAll();
  }

  private async addDisk(): Promise<void> {
    const { cluster, process, name, party } = this;
    const { plan } = cluster;
    const number = this.disks.length + 1;
    const deviceId = (16 * party + number).toString(16).padStart(4, '0').repeat(8);
    const disk = new SimDisk({ sizeBytes: SPARE_BYTES + 2 * plan.segments * plan.segmentBytes });
    const device = new SimDevice(process, disk);
    const memoryStart = process.bytes.length - STORE_MEMORY_BYTES;
    const ports = { completions: process, memory: process, device, memoryStart };
    const options = { deviceId, clusterId: CLUSTER_ID, slotBytes: plan.segmentBytes, nowMs: 1 };
    await cluster.settle(formatDevice(ports, options));
    device.close();
    this.disks.push({ name: `${name} disk ${number}`, deviceId, disk, exchanged: false });
    this.host.disks.add(disk);
  }

  /** Opens its disks and serves them. */
  private async openAll(): Promise<void> {
    const { cluster, program, process, name, disks, clone } = this;
    for (const entry of clone === null ? disks : [clone, ...disks]) {
      const opening = cluster.settle(program.open(entry.disk, entry.name), process, `${entry.name} is opened`);
      await (entry.exchanged ? opening.catch((error: unknown) => this.refused(entry, error)) : opening);
    }
    await cluster.settle(program.serve(), process, `${name} registers`);
  }

  private refused({ name }: ClusterDisk, error: unknown): void {
    if (!(error instanceof StrakeError)) throw error;
    this.cluster.log(`${name} is not opened: ${error.message}`);
  }

  async boot(): Promise<void> {
    if (this.up) return;
    this.start();
    await this.openAll();
  }

  die(random: SimRandom): void {
    if (!this.up) return;
    this.process.kill();
    for (const { disk } of this.disks) disk.kill(random);
    this.clone?.disk.kill(random);
  }

  losePower(random: SimRandom): void {
    if (!this.host.up) return;
    this.host.powerOff(random);
  }

  /**
   * A device is another one when the process starts the next time: what it was before (`older`), or an empty disk, or what it was
   * before is there beside it, as its clone. Returns its id.
   */
  exchange(number: number, how: ReturnKind, older: SimDisk, random: SimRandom): string {
    const entry = this.disks[number % this.disks.length];
    entry.exchanged = true;
    older.kill(random);
    if (how === 'clone') {
      if (this.clone !== null) this.host.disks.delete(this.clone.disk);
      this.clone = { ...entry, name: `${entry.name} clone`, disk: older };
      this.host.disks.add(older);
      return entry.deviceId;
    }
    this.host.disks.delete(entry.disk);
    entry.disk = how === 'older' ? older : new SimDisk(entry.disk.geometry);
    this.host.disks.add(entry.disk);
    return entry.deviceId;
  }

  /** Ends in order. */
  async close(): Promise<void> {
    await this.cluster.settle(this.program.close(), this.process, `${this.name} ends`);
    this.process.kill();
  }
}
