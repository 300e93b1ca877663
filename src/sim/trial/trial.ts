/**
 * One trial: a storage node on simulated disks, used over simulated connections and rings, through the lives of its
 * process and the faults of a plan, with everything that clients see held against what volumes promise.
 *
 * ```text
 *   plan ──► faults ──► disks, connections, process (SimHost)          one SimLoop for each life of the process
 *                                  ▲     │
 *                        clients ──┘     └──► history ──► violations
 * ```
 *
 * At the end the faults stop. What was damaged has to be repaired within bounded time, everything is read once more, each copy
 * by itself too, and each disk is checked. A trial is a function of its plan: the same one takes the same course.
 */

import { NODE_STORES_MAX, SECTOR_BYTES } from '../../core/limits.js';
import { CMD_FLUSH, CMD_READ } from '../../nbd/protocol.js';
import { checkDevice } from '../../store/checking/fsck.js';
import { formatDevice } from '../../store/opening/format-device.js';
import { STORE_MEMORY_BYTES } from '../../store/store-start.js';
import { SimDevice } from '../disk/device.js';
import { SimDisk } from '../disk/disk.js';
import { NbdSession, type SessionRequest } from '../net/nbd-session.js';
import { VolumeHistory } from '../oracle/history.js';
import { Payload } from '../oracle/payload.js';
import { discardedWithSlots } from '../oracle/space-check.js';
import { crc32c } from '../world/crc32c.js';
import { hostMemoryBytes, SimHost } from '../world/host.js';
import { type SimChecksum, type SimLimits, SimLoop } from '../world/loop.js';
import { SimRandom } from '../world/random.js';
import { SimTimers } from '../world/timers.js';
import { SimTrace } from '../world/trace.js';
import { SimClient, SimViolation, VOLUME_NAME } from './client.js';
import type { SimAction, SimPlan } from './plan.js';
import { TrialFaults } from './trial-faults.js';

const CLUSTER_ID = 'c'.repeat(32);
const VOLUME_ID = 'a'.repeat(32);
/** Disks at most: one more for each replacement. */
export const DISKS_MAX = NODE_STORES_MAX;
/** Room on a disk for what is not data, and for segments more than the volume has when it is made. */
const SPARE_BYTES = 4 << 20;
/** Time in which a volume has to be whole again once faults have stopped, in milliseconds. */
export const HEALING_MS = 600_000;
/** Batches in which whatever is waited for has to happen. */
export const LIMITS: SimLimits = { batches: 2_000_000, virtualMs: HEALING_MS };
/** Read at once when everything is read. */
const SWEEP_SECTORS = 128;

/** Memory that trials need; one after another can use the same. */
const HOST_BYTES = hostMemoryBytes(DISKS_MAX);
export const TRIAL_MEMORY_BYTES = HOST_BYTES + STORE_MEMORY_BYTES;

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

export interface TrialOptions {
  /** Memory for the process, `TRIAL_MEMORY_BYTES` of it. */
  readonly memory: Uint8Array;
  /** CRC32C of a part of memory, by whoever is fast at it; default: the simulator's own. */
  readonly checksum?: SimChecksum;
  /** Told of what happens, with the virtual time in microseconds. */
  readonly log?: (timeUs: number, text: string) => void;
  /** Whether each request and answer of clients is logged too. */
  readonly details?: boolean;
}

export class Trial {
  readonly plan: SimPlan;
  readonly history: VolumeHistory;
  readonly trace = new SimTrace({ contents: true });
  readonly disks: TrialDisk[] = [];
  readonly clients: SimClient[];
  readonly random: SimRandom;
  host!: SimHost;
  timers!: SimTimers;
  /** Sectors that clients use. */
  readonly volumeSectors: number;
  private readonly options: TrialOptions;
  private readonly faults: TrialFaults;
  private lives = 0;
  private acted = 0;

  constructor(plan: SimPlan, options: TrialOptions) {
    this.plan = plan;
    this.options = options;
    this.random = new SimRandom(plan.seed).fork('trial');
    this.volumeSectors = (plan.segments * plan.segmentBytes) / SECTOR_BYTES;
    this.history = new VolumeHistory({
      sectors: this.volumeSectors,
      payload: new Payload({ sealed: plan.sealed }),
    });
    this.faults = new TrialFaults(this);
    this.clients = Array.from({ length: plan.connections }, (_, number) => {
      const random = new SimRandom(plan.seed, number + 1).fork('client');
      return new SimClient(this, number, number < plan.programs, random);
    });
  }

  get loop(): SimLoop {
    return this.host.loop;
  }

  /** Runs to the end, or to the first thing that goes wrong. */
  async run(): Promise<TrialResult> {
    const { plan } = this;
    let failure: string | undefined;
    try {
      await this.live();
    } catch (error) {
      failure = error instanceof Error ? textOf(error) : String(error);
      this.log(`failed: ${failure}`);
    }
    const requests = this.clients.reduce((sum, { answered }) => sum + answered, 0);
    const [hash, simulatedUs, events] = [this.trace.hash, this.loop.nowUs, this.trace.length];
    return { seed: plan.seed, hash, simulatedUs, requests, events, faults: this.acted, failure };
  }

  /** Logs what happens. Details, which are many, come as functions. */
  log(text: string | (() => string)): void {
    const { details, log } = this.options;
    if (log === undefined || (typeof text === 'function' && details !== true)) return;
    log(this.host === undefined ? 0 : this.loop.nowUs, typeof text === 'function' ? text() : text);
  }

  mayFail(): boolean {
    return this.faults.mayFail;
  }

  // ---------------------------------------------------------------- the course of a trial

  private async live(): Promise<void> {
    const { plan } = this;
    this.boot(0);
    for (let number = 0; number < plan.devices; number += 1) await this.addDisk();
    await this.openAll();
    const layout = plan.copies === 1 ? 'single' : 'mirror';
    const sizeBytes = plan.segments * plan.segmentBytes;
    const { copies } = plan;
    const spec = { id: VOLUME_ID, name: VOLUME_NAME, layout, copies, createdMs: 1, sizeBytes } as const;
    await this.settle(this.host.call('createVolume', spec));
    for (const client of this.clients) client.attach(this.host);
    for (const action of plan.actions) {
      if (action.atMs >= plan.endMs) break;
      await this.until(action.atMs);
      await this.perform(action);
    }
    await this.until(plan.endMs);
    await this.end();
  }

  private async perform(action: SimAction): Promise<void> {
    await this.faults.perform(action);
    this.acted += 1;
    this.trace.add('fault', this.loop.nowUs, 0, this.acted, 0);
  }

  private async end(): Promise<void> {
    this.log('faults stop');
    await this.faults.heal();
    await this.rest();
    await this.sweep();
    this.history.checkpoint();
    await this.checkSpace();
    const current = this.currentDisks();
    await this.close(false);
    for (const disk of this.disks) if (!disk.retired) await this.fsck(disk);
    if (this.plan.copies > 1) for (const disk of current) await this.readAlone(disk);
    this.history.checkpoint();
  }

  /** Waits until clients have been answered, and ask for nothing more. */
  async rest(): Promise<void> {
    for (const client of this.clients) client.stop();
    await this.loop.run(() => this.clients.every(({ idle }) => idle), LIMITS);
  }

  // ---------------------------------------------------------------- lives of the process

  /** Starts a process `afterUs` microseconds after the end of the last. */
  boot(afterUs: number): void {
    const { plan } = this;
    const nowUs = this.host === undefined ? 0 : this.loop.nowUs + afterUs;
    this.lives += 1;
    this.trace.add('boot', nowUs, 0, this.lives, 0);
    const { memory: arena, checksum } = this.options;
    const { trace } = this;
    const loop = new SimLoop({
      seed: plan.seed + 7919 * this.lives,
      arena,
      trace,
      nowUs,
      ...(checksum === undefined ? {} : { checksum }),
    });
    this.host = new SimHost(loop, {
      storesMax: DISKS_MAX,
      clockRate: plan.clockRate,
      transport: { latencyUs: plan.networkLatencyUs, loss: plan.networkLoss },
      device: { latencyUs: plan.deviceLatencyUs },
      programVolume: plan.programs > 0 ? VOLUME_NAME : undefined,
      onEvent: ({ kind, volume, deviceId, text }) =>
        this.log(`event: ${kind} ${volume ?? ''} ${deviceId?.slice(0, 4) ?? ''} ${text}`),
    });
    this.timers = new SimTimers(loop);
  }

  /**
   * Ends the process in order: what its programs have begun ends first, as it does where a node is embedded. `damaged`: what is
   * lost cannot be closed in order.
   */
  async close(damaged: boolean): Promise<void> {
    const programs = this.clients.filter(({ program }) => program);
    for (const client of programs) client.stop();
    await this.loop.run(() => programs.every(({ idle }) => idle), LIMITS);
    const closing = this.host.close();
    await this.settle(damaged ? closing.catch(() => {}) : closing);
  }

  /** The process dies: nothing that it has begun goes on, but what its disks do with it. */
  die(power: boolean): void {
    const { nowUs } = this.loop;
    this.loop.halt();
    this.faults.endPassing();
    for (const client of this.clients) client.detach();
    for (const { disk, away } of this.disks) {
      if (power && !away) disk.powerCut(this.random);
      else disk.kill(this.random);
    }
    // What a failed device of a single copy had not made durable counts as lost: its process knew better than its disk.
    if (power || (this.plan.copies === 1 && this.mayFail())) this.history.powerCut(nowUs);
    else this.history.killed(nowUs);
  }

  /** Opens what is there, and lets clients in. */
  async openAll(): Promise<void> {
    const { host } = this;
    for (const entry of this.disks) {
      // The process has died meanwhile, so it opens nothing more.
      if (this.host !== host) await new Promise(() => {});
      if (entry.away || entry.retired) continue;
      const opened = await this.settle(this.host.open(entry.disk, entry.name).catch((error: unknown) => error));
      // A device that is damaged by the plan may be found to be that; any other one has to be opened.
      if (opened instanceof Error && !this.faults.mayBeRefused(entry)) throw opened;
      if (opened instanceof Error) this.log(`${entry.name} cannot be opened: ${opened.message}`);
    }
  }

  async serve(without: readonly string[] = []): Promise<void> {
    const { host } = this;
    await this.settle(this.host.call('assemble', { without: new Map([[VOLUME_NAME, without]]) }));
    if (this.host !== host) await new Promise(() => {});
    for (const client of this.clients) client.attach(host);
  }

  /** Formats a new disk; returns it. */
  async addDisk(): Promise<TrialDisk> {
    const { plan, loop } = this;
    const number = this.disks.length + 1;
    const deviceId = number.toString(16).padStart(2, '0').repeat(16);
    const bytes = plan.segments * plan.segmentBytes;
    const disk = new SimDisk({ sizeBytes: SPARE_BYTES + 2 * bytes });
    const device = new SimDevice(loop, disk);
    const ports = { completions: loop, memory: loop, device, memoryStart: HOST_BYTES };
    const options = { deviceId, clusterId: CLUSTER_ID, slotBytes: plan.segmentBytes, nowMs: 1 };
    const { layout } = await this.settle(formatDevice(ports, options));
    device.close();
    const dataStart = layout.dataOffset;
    const entry = { name: `disk${number}`, deviceId, disk, dataStart, away: false, retired: false };
    this.disks.push(entry);
    return entry;
  }

  settle<Result>(promise: Promise<Result>): Promise<Result> {
    return this.loop.settle(promise, LIMITS);
  }

  /** Lets everything go on until this moment. */
  private async until(atMs: number): Promise<void> {
    if (this.loop.nowUs < atMs * 1000) await this.settle(this.timers.pause(atMs * 1000 - this.loop.nowUs));
  }

  // ---------------------------------------------------------------- checks

  /** Disks that the volume calls in-sync. */
  private currentDisks(): TrialDisk[] {
    const { groups } = this.host.node.engine(VOLUME_NAME).record;
    return groups.flat().flatMap(({ deviceId, state }) => {
      const found = this.disks.find((entry) => entry.deviceId === deviceId);
      return state === 'in-sync' && found !== undefined ? [found] : [];
    });
  }

  /** A connection of its own; undefined if the volume is not offered. */
  private async connect(): Promise<NbdSession | undefined> {
    const { host } = this;
    let serving: boolean | undefined;
    const session = new NbdSession(host.transport.connect(host.listener), VOLUME_NAME, true, (state) => {
      serving = state;
    });
    await this.loop.run(() => serving !== undefined, LIMITS);
    return serving === true ? session : undefined;
  }

  /** Makes durable what has been acknowledged. Returns whether it is. */
  async flush(): Promise<boolean> {
    const session = await this.connect();
    if (session === undefined) return false;
    const slot = this.history.beginFlush(this.loop.nowUs);
    let result: number | undefined;
    const ended = ({ error }: SessionRequest) => {
      result = error;
      this.history.end(slot, error === 0, this.loop.nowUs);
    };
    session.send({ type: CMD_FLUSH, offset: 0, length: 0, bytes: null, at: 0, error: 0, ended }, 0);
    await this.loop.run(() => result !== undefined, LIMITS);
    session.finish();
    if (result !== 0 && !this.mayFail()) throw new SimViolation(`a flush was answered with error ${result}`);
    return result === 0;
  }

  /** Reads all of the volume over a connection of its own. */
  async sweep(): Promise<void> {
    const { history } = this;
    const session = await this.connect();
    if (session === undefined) throw new SimViolation('the volume is not offered');
    for (let sector = 0; sector < this.volumeSectors; sector += SWEEP_SECTORS) {
      const slot = history.beginRead(sector, SWEEP_SECTORS, this.loop.nowUs);
      await this.readSectors(session, slot, sector);
    }
    session.finish();
  }

  private readSectors(session: NbdSession, slot: number, sector: number): Promise<void> {
    const { history, loop } = this;
    const [offset, length] = [sector * SECTOR_BYTES, SWEEP_SECTORS * SECTOR_BYTES];
    let done = false;
    const ended = ({ bytes, at, error }: SessionRequest) => {
      done = true;
      if (error === 0) history.endRead(slot, bytes ?? new Uint8Array(0), at, loop.nowUs);
      else if (this.mayFail()) history.failRead(slot, loop.nowUs);
      else throw new SimViolation(`a read of ${length} bytes at ${offset} was answered with error ${error}`);
    };
    session.send({ type: CMD_READ, offset, length, bytes: null, at: 0, error: 0, ended }, 0);
    return loop.run(() => done, LIMITS);
  }

  /** What was discarded has no slot, unless its space was asked to be kept. */
  private async checkSpace(): Promise<void> {
    await this.faults.jobsEnded();
    if (this.mayFail()) return;
    const taken = await this.settle(discardedWithSlots(this.host.node, VOLUME_NAME));
    if (taken.length > 0) throw new SimViolation(`slots are taken by what was discarded: ${taken.join(', ')}`);
  }

  /** After an orderly end a disk is as it should be. */
  private async fsck({ disk, name }: TrialDisk): Promise<void> {
    const report = await checkDevice(
      {
        sizeBytes: disk.geometry.sizeBytes,
        checksum: (bytes) => (this.options.checksum ?? crc32c)(bytes, 0, bytes.length),
        read: async (offset, length) => disk.peek(offset, length),
      },
      { data: true },
    );
    // Of what a volume of one copy has lost, the damage stays.
    if (report.verdict === 'clean' || this.mayFail()) return;
    const problems = report.problems.map(({ text }) => text).join('; ');
    throw new SimViolation(`${name} is ${report.verdict} after an orderly end: ${problems}`);
  }

  /** Starts a node with a copy of one disk only, and reads everything from it. */
  private async readAlone({ disk, deviceId, name }: TrialDisk): Promise<void> {
    if (this.plan.devices > this.plan.copies) return;
    this.log(`reading from ${name} alone`);
    this.boot(1);
    await this.settle(this.host.open(disk.clone(), name));
    const without = this.disks.map((entry) => entry.deviceId).filter((id) => id !== deviceId);
    await this.settle(this.host.call('assemble', { without: new Map([[VOLUME_NAME, without]]) }));
    await this.sweep();
    await this.settle(this.host.close());
  }
}

function textOf(error: Error): string {
  const expected = error instanceof SimViolation || error.name === 'HistoryViolation';
  return expected ? error.message : (error.stack ?? error.message);
}
