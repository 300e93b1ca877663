/**
 * A storage node of a trial: its host with disks, the lives of its process, its volumes and their clients.
 *
 * Its memory is filled from the seed once. What a life leaves in it the next one finds, so nothing hangs on what a trial before
 * has left there.
 */

import type { NodeStore } from '../../node/node-store.js';
import { formatDevice } from '../../store/opening/format-device.js';
import { STORE_MEMORY_BYTES, STORE_OWN_BYTES, TABLES_BYTES } from '../../store/store-start.js';
import { SimDevice } from '../disk/device.js';
import { SimDisk } from '../disk/disk.js';
import type { SimHost } from '../world/host.js';
import type { SimProcess } from '../world/process.js';
import { SimRandom } from '../world/random.js';
import { SimClient } from './client.js';
import { NodeProgram, programMemoryBytes } from './node-program.js';
import { NODES_MAX, type SimPlan } from './plan.js';
import { type MemoryPart, PART_SLACK_BYTES, touchJournals } from './trial-memory.js';
import { type Server, TrialVolume } from './trial-volume.js';
import type { TrialWorld } from './trial-world.js';

const CLUSTER_ID = 'c'.repeat(32);
const VOLUME_NAME = 'volume';
/** Room on a disk for what is not data, and for segments more than the volumes have when they are made. */
const SPARE_BYTES = 4 << 20;
/** Between the seeds of lives, and of nodes. */
const LIFE_STEP = 7919;
const NODE_STEP = 104_729;
/** Of so many disks one has an index of its directory, as devices of many terabytes have. */
const INDEX_ONE_IN = 3;

/** Disks that a node has room for. */
const NODE_DISKS = 16;

/** Memory of a node with so many disks at most: beside its program's, some in which a disk is formatted. */
function nodeBytes(disks: number): number {
  return programMemoryBytes(disks) + STORE_MEMORY_BYTES;
}

/** Memory that trials need; one after another can use the same. */
export const TRIAL_MEMORY_BYTES = NODES_MAX * (nodeBytes(NODE_DISKS) + PART_SLACK_BYTES);

/** A disk of a trial. */
export interface TrialDisk {
  readonly name: string;
  readonly deviceId: string;
  readonly disk: SimDisk;
  /** Where what it knows of its data ends, and data begins; in bytes. */
  readonly dataStart: number;
  /** Not connected: the node does not find it when it starts. */
  away: boolean;
  /** Taken out for good. */
  retired: boolean;
}

/** Disks that a node may come to have: each of these actions may cost one. */
function disksMost({ devices, actions }: SimPlan, number: number): number {
  const lost = actions.filter(({ kind, node }) => ['replace', 'lie', 'decay'].includes(kind) && node === number);
  return Math.min(NODE_DISKS, devices + lost.length + 1);
}

export class TrialNode implements Server {
  readonly number: number;
  readonly address: string;
  readonly trial: TrialWorld;
  readonly host: SimHost;
  readonly disks: TrialDisk[] = [];
  readonly volumes: TrialVolume[];
  readonly clients: SimClient[];
  readonly random: SimRandom;
  process!: SimProcess;
  program!: NodeProgram;
  mayFail = false;
  readonly writer = 0;
  /** Something may be wrong with the copies of these disks. */
  readonly damaged = new Set<TrialDisk>();
  /** Ends faults that would end by themselves, when the process dies. */
  passing: (() => void)[] = [];
  private readonly memory: MemoryPart;
  private readonly storesMax: number;
  /** So many bytes of memory have been filled, beside those in which disks are formatted. */
  private filledBytes = 0;
  private filledTablesBytes = 0;
  private lives = 0;
  /** Disks opened in this life: no more places of memory have been given to them. */
  private opened = 0;

  constructor(trial: TrialWorld, number: number) {
    const { plan, world, options } = trial;
    this.trial = trial;
    this.number = number;
    this.address = `node ${number}`;
    this.host = world.addHost(this.address, { clockRate: plan.clockRate });
    this.random = new SimRandom(plan.seed, number).fork('node');
    this.storesMax = disksMost(plan, number);
    const start = (number * TRIAL_MEMORY_BYTES) / NODES_MAX;
    this.memory = options.memory.part(this.random.fork('memory').next(), start, nodeBytes(this.storesMax));
    options.memory.fill(this.memory, programMemoryBytes(this.storesMax), nodeBytes(this.storesMax));
    this.fillTo(programMemoryBytes(0));
    const own = world.addHost('trial');
    this.volumes = Array.from({ length: plan.volumes }, (_, index) => {
      const id = (10 + number * plan.volumes + index).toString(16).repeat(32);
      return new TrialVolume(trial, this, own, { name: index === 0 ? VOLUME_NAME : `${VOLUME_NAME}${index + 1}`, id });
    });
    this.clients = Array.from({ length: plan.connections }, (_, index) => {
      const random = new SimRandom(plan.seed + NODE_STEP * number, index + 1).fork('client');
      const host = world.addHost(`client ${number}.${index}`, { delayUs: plan.clientDelaysUs[index] ?? 0 });
      const volume = index % plan.volumes;
      const about = { number: index, volume, inside: index < plan.programs, host };
      return new SimClient(trial, this, this.volumes[volume], about, random);
    });
  }

  /** Clients of the process that programs in it are. */
  get programs(): SimClient[] {
    return this.clients.filter(({ inside }) => inside);
  }

  // ---------------------------------------------------------------- lives of the process

  /** Starts a process, `afterUs` microseconds from now. */
  async boot(afterUs = 0): Promise<void> {
    const { trial, host } = this;
    const { plan, time } = trial;
    if (afterUs > 0) await trial.pause(afterUs);
    if (!host.up) host.powerOn();
    this.lives += 1;
    this.opened = 0;
    time.trace.add('boot', time.nowUs, this.number, this.lives, 0);
    const seed = plan.seed + LIFE_STEP * this.lives + NODE_STEP * this.number;
    this.process = host.start({ seed, arena: this.memory.bytes, touched: this.memory.touched });
    this.program = new NodeProgram(this.process, {
      storesMax: this.storesMax,
      network: trial.network,
      address: this.address,
      device: { latencyUs: plan.deviceLatencyUs },
      programVolumes: plan.programs > 0 ? this.volumes.map(({ name }) => name) : [],
      onEvent: ({ kind, volume, deviceId, text }) =>
        trial.log(`event: ${kind} ${volume ?? ''} ${deviceId?.slice(0, 4) ?? ''} ${text}`),
    });
  }

  /**
   * Ends the process in order: what its programs have begun ends first, as it does where a node is embedded. `damaged`: what is
   * lost cannot be closed in order.
   */
  async close(damaged: boolean): Promise<void> {
    const { programs } = this;
    for (const client of programs) client.stop();
    await this.until(() => programs.every(({ idle }) => idle));
    const closing = this.program.close();
    await this.settle(damaged ? closing.catch(() => {}) : closing);
  }

  /** The process dies: nothing that it has begun goes on, but what its disks do with it. With `power`, all of its host does. */
  die(power: boolean): void {
    const { nowUs, plan } = this.trial;
    const { host } = this;
    for (const remove of this.passing.splice(0)) remove();
    if (power) host.powerOff(this.random);
    else this.process.kill();
    for (const client of this.clients) client.detach();
    for (const { disk } of this.disks) if (!power || !host.disks.has(disk)) disk.kill(this.random);
    for (const { history } of this.volumes) {
      // What a failed device of a single copy had not made durable counts as lost: its process knew better than its disk.
      if (power || (plan.copies === 1 && this.mayFail)) history.powerCut(nowUs);
      else history.killed(nowUs);
    }
  }

  /** Opens a disk, in memory that holds what the seed says. */
  open({ disk, name }: Pick<TrialDisk, 'disk' | 'name'>): Promise<NodeStore> {
    this.opened += 1;
    const { storesMax } = this;
    const stores = Math.min(this.opened, storesMax);
    const start = programMemoryBytes(storesMax) - storesMax * STORE_MEMORY_BYTES;
    this.fillTo(start + stores * STORE_OWN_BYTES);
    this.fillTables(start + storesMax * STORE_OWN_BYTES, stores * TABLES_BYTES);
    touchJournals(this.memory, start + (stores - 1) * STORE_OWN_BYTES, 1);
    return this.program.open(disk, name);
  }

  /** Stores share the memory of their block tables, and use no more of it than so many need. */
  private fillTables(start: number, bytes: number): void {
    if (bytes <= this.filledTablesBytes) return;
    this.trial.options.memory.fill(this.memory, start + this.filledTablesBytes, start + bytes);
    this.filledTablesBytes = bytes;
  }

  private fillTo(end: number): void {
    if (end <= this.filledBytes) return;
    this.trial.options.memory.fill(this.memory, this.filledBytes, end);
    this.filledBytes = end;
  }

  /** Opens what is there. Never ends if the process dies meanwhile. */
  async openAll(): Promise<void> {
    const { process, trial } = this;
    for (const entry of this.disks) {
      if (entry.away || entry.retired) continue;
      await unlessDead(process);
      const opened = await this.settle(this.open(entry).catch((error: unknown) => error));
      // A device that is damaged by the plan may be found to be that; any other one has to be opened.
      if (opened instanceof Error && !this.damaged.has(entry)) throw opened;
      if (opened instanceof Error) trial.log(`${entry.name} cannot be opened: ${opened.message}`);
    }
  }

  /** Starts the volumes, without these devices, and lets clients in; likewise. */
  async serve(without: readonly string[] = []): Promise<void> {
    const { process, program } = this;
    const absent = new Map(this.volumes.map(({ name }) => [name, without]));
    await unlessDead(process);
    await this.settle(program.call('assemble', { without: absent }));
    await unlessDead(process);
    // It may die in the very instant in which its volumes have started, and nobody would tell clients that come after that.
    if (!process.alive) return new Promise(() => {});
    for (const client of this.clients) client.attach(program);
  }

  /** Formats a new disk; returns it. */
  async addDisk(): Promise<TrialDisk> {
    const { process, trial, host } = this;
    const { plan } = trial;
    const number = this.disks.length + 1;
    const deviceId = (number + 64 * this.number).toString(16).padStart(2, '0').repeat(16);
    const bytes = plan.segments * plan.segmentBytes * plan.volumes;
    const disk = new SimDisk({ sizeBytes: SPARE_BYTES + 2 * bytes });
    if (plan.sealed) disk.landing = 1;
    const device = new SimDevice(process, disk);
    const memoryStart = programMemoryBytes(this.storesMax);
    const ports = { completions: process, memory: process, device, memoryStart };
    const directoryLevels = (plan.seed + number) % INDEX_ONE_IN === 0 ? 1 : 0;
    const options = { deviceId, clusterId: CLUSTER_ID, slotBytes: plan.segmentBytes, directoryLevels, nowMs: 1 };
    const { layout } = await this.settle(formatDevice(ports, options));
    device.close();
    const dataStart = layout.dataOffset;
    const name = `disk${number}`;
    const entry = { name, deviceId, disk, dataStart, away: false, retired: false };
    this.disks.push(entry);
    host.disks.add(disk);
    return entry;
  }

  /** Disconnects a disk, for good or until it comes back. */
  disconnect(entry: TrialDisk): void {
    entry.away = true;
    this.host.disks.delete(entry.disk);
  }

  reconnect(entry: TrialDisk): void {
    entry.away = false;
    this.host.disks.add(entry.disk);
  }

  async createVolumes(): Promise<void> {
    const { plan } = this.trial;
    const layout = plan.copies === 1 ? 'single' : 'mirror';
    const sizeBytes = plan.segments * plan.segmentBytes;
    for (const { id, name } of this.volumes) {
      const spec = { id, name, layout, copies: plan.copies, createdMs: 1, sizeBytes } as const;
      await this.settle(this.program.call('createVolume', spec));
    }
    for (const client of this.clients) client.attach(this.program);
  }

  // ---------------------------------------------------------------- what all wait for

  /** Waits for what the process of now has to do in bounded time; never ends if it dies. */
  settle<Result>(promise: Promise<Result>): Promise<Result> {
    return this.trial.settle(promise, this.process);
  }

  until(holds: () => boolean): Promise<void> {
    return this.trial.until(holds, this.process);
  }

  /** Waits until clients have been answered, and ask for nothing more. */
  async rest(): Promise<void> {
    for (const client of this.clients) client.stop();
    await this.until(() => this.clients.every(({ idle }) => idle));
  }

  /** Makes durable what has been acknowledged, of all volumes. Returns whether it is. */
  async flush(): Promise<boolean> {
    let done = true;
    for (const volume of this.volumes) if (!(await volume.flush())) done = false;
    return done;
  }

  /** Reads everything. */
  async sweep(): Promise<void> {
    for (const volume of this.volumes) await volume.sweep();
  }
}

/** Never resolves if the process is dead: what was to be done in it is not done. */
async function unlessDead(process: SimProcess): Promise<void> {
  if (!process.alive) await new Promise(() => {});
}
