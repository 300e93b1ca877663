/**
 * The course of a volume whose engine is in a process of its own, apart from the process with its devices: engines die and others
 * come. Most often the devices live on; or they are closed in order, or die as well, and are opened again, before the next
 * engine comes.
 *
 * What is held against what clients see is the same as of a node. At the end everything is read from each copy alone: copies that
 * differ, as a write of an engine that died had reached only some, tell clients different things.
 */

import type { VolumeMap } from '../../layout/volume-map.js';
import { formatDevice } from '../../store/opening/format-device.js';
import { STORE_MEMORY_BYTES } from '../../store/store-start.js';
import { SimDevice } from '../disk/device.js';
import { SimDisk } from '../disk/disk.js';
import { SimNetwork } from '../net/network.js';
import type { SimHost } from '../world/host.js';
import type { SimProcess } from '../world/process.js';
import { SimRandom } from '../world/random.js';
import { type Program, SimClient } from './client.js';
import { DeviceProgram } from './device-program.js';
import { ENGINE_PROGRAM_BYTES, EngineProgram } from './engine-program.js';
import { NodeProgram, programMemoryBytes } from './node-program.js';
import type { DevicesKind, SimAction } from './plan.js';
import { checkDisk } from './trial-checks.js';
import { type MemoryPart, touchJournals } from './trial-memory.js';
import { type Server, TrialVolume } from './trial-volume.js';
import { SimViolation, type TrialWorld } from './trial-world.js';

type ActionOf<Kind extends SimAction['kind']> = Extract<SimAction, { readonly kind: Kind }>;

const ADDRESS = 'engine';
const SEGMENTS = 'segments';
const CLUSTER_ID = 'c'.repeat(32);
const VOLUME_ID = 'a'.repeat(32);
const VOLUME_NAME = 'volume';
/** Room on a disk for what is not data. */
const SPARE_BYTES = 4 << 20;
/** How long an engine's death waits until writes are on their way. */
const PATIENCE_US = 500_000;
/** Between the seeds of lives. */
const LIFE_STEP = 7919;

interface CourseDisk {
  readonly name: string;
  readonly deviceId: string;
  readonly disk: SimDisk;
}

export class EngineCourse implements Server, Program {
  readonly address = ADDRESS;
  /** No device fails. */
  readonly mayFail = false;
  readonly writer = 0;
  readonly clients: SimClient[];
  process!: SimProcess;
  private readonly trial: TrialWorld;
  private readonly host: SimHost;
  private readonly volume: TrialVolume;
  private readonly disks: CourseDisk[] = [];
  private readonly deviceHost: SimHost;
  private readonly deviceMemory: MemoryPart;
  private devices: DeviceProgram;
  private openings = 0;
  private readonly memory: MemoryPart;
  private program!: EngineProgram;
  private passing: (() => void)[] = [];
  private lives = 0;
  /** How long engines took to serve, in which nothing else was to happen. */
  private startingUs = 0;
  /** The first map of the volume. */
  private known: VolumeMap | null = null;
  /** Between engine and devices: nothing is lost there, as a session takes a second of silence for an end. */
  private readonly inner: SimNetwork;

  constructor(trial: TrialWorld) {
    const { plan, world } = trial;
    this.trial = trial;
    this.inner = new SimNetwork(trial.time, { latencyUs: plan.networkLatencyUs });
    this.host = world.addHost('engine', { clockRate: plan.clockRate });
    this.volume = new TrialVolume(trial, this, world.addHost('trial'), { name: VOLUME_NAME, id: VOLUME_ID });
    this.clients = Array.from({ length: plan.connections }, (_, number) => {
      const host = world.addHost(`client ${number}`, { delayUs: plan.clientDelaysUs[number] ?? 0 });
      const random = new SimRandom(plan.seed, number + 1).fork('client');
      return new SimClient(trial, this, this.volume, { number, volume: 0, inside: false, host }, random);
    });
    const [first, second] = [ENGINE_PROGRAM_BYTES, DeviceProgram.memoryBytes(plan.devices) + STORE_MEMORY_BYTES];
    this.memory = this.filled(0, first);
    this.deviceMemory = this.filled(first, second);
    touchJournals(this.deviceMemory, second - (plan.devices + 1) * STORE_MEMORY_BYTES, plan.devices);
    this.deviceHost = world.addHost('devices');
    this.devices = this.newDevices();
  }

  /** A process for the devices, which has opened none. */
  private newDevices(): DeviceProgram {
    const { trial, deviceHost } = this;
    const { plan } = trial;
    const { bytes, touched } = this.deviceMemory;
    if (!deviceHost.up) deviceHost.powerOn();
    const process = deviceHost.start({ seed: plan.seed + LIFE_STEP * this.openings, arena: bytes, touched });
    this.openings += 1;
    return new DeviceProgram(process, {
      ...{ storesMax: plan.devices, network: this.inner, address: SEGMENTS, clusterId: CLUSTER_ID },
      device: { latencyUs: plan.deviceLatencyUs },
      onEvent: (text) => trial.log(text),
    });
  }

  /** Memory that holds what the seed says. */
  private filled(start: number, lengthBytes: number): MemoryPart {
    const { plan, options } = this.trial;
    const part = options.memory.part(plan.seed, start, lengthBytes);
    options.memory.fill(part, 0, lengthBytes);
    return part;
  }

  async live(): Promise<void> {
    const { trial } = this;
    const { plan } = trial;
    for (let number = 0; number < plan.devices; number += 1) await this.addDisk();
    const sizeBytes = plan.segments * plan.segmentBytes;
    const spec = { id: VOLUME_ID, name: VOLUME_NAME, layout: 'mirror', copies: plan.copies, createdMs: 1 } as const;
    this.known = await trial.settle(this.devices.create({ ...spec, sizeBytes }));
    this.devices.serve();
    await this.serve();
    for (const action of plan.actions) {
      if (action.atMs >= plan.endMs) break;
      await this.reach(action.atMs);
      trial.log(`action ${action.number}: ${JSON.stringify(action)}`);
      await this.perform(action);
      trial.acted += 1;
      trial.time.trace.add('fault', trial.nowUs, 0, trial.acted, 0);
    }
    await this.reach(plan.endMs);
    await this.end();
  }

  private async reach(atMs: number): Promise<void> {
    const leftUs = atMs * 1000 + this.startingUs - this.trial.nowUs;
    if (leftUs > 0) await this.trial.pause(leftUs);
  }

  private async addDisk(): Promise<void> {
    const { trial, devices } = this;
    const { plan } = trial;
    const number = this.disks.length + 1;
    const deviceId = number.toString(16).padStart(2, '0').repeat(16);
    const disk = new SimDisk({ sizeBytes: SPARE_BYTES + 2 * plan.segments * plan.segmentBytes });
    if (plan.sealed) disk.landing = 1;
    const { process } = devices;
    const device = new SimDevice(process, disk);
    const memoryStart = process.bytes.length - STORE_MEMORY_BYTES;
    const ports = { completions: process, memory: process, device, memoryStart };
    const options = { deviceId, clusterId: CLUSTER_ID, slotBytes: plan.segmentBytes, nowMs: 1 };
    await trial.settle(formatDevice(ports, options));
    device.close();
    const name = `disk${number}`;
    this.disks.push({ name, deviceId, disk });
    this.deviceHost.disks.add(disk);
    await trial.settle(devices.open(disk, name));
  }

  // ---------------------------------------------------------------- lives of the engine

  /** Another engine, which attaches the volume on these devices. Never ends if it dies meanwhile. */
  private async start(): Promise<void> {
    const beganUs = this.trial.nowUs;
    await this.startEngine();
    // What is to happen happens to an engine that serves.
    this.startingUs += this.trial.nowUs - beganUs;
  }

  private async startEngine(): Promise<void> {
    const { trial, host, known } = this;
    const { plan, time } = trial;
    if (known === null) throw new Error('the volume has not been made');
    this.lives += 1;
    time.trace.add('boot', time.nowUs, 0, this.lives, 0);
    this.process = host.start({
      seed: plan.seed + LIFE_STEP * this.lives,
      arena: this.memory.bytes,
      touched: this.memory.touched,
    });
    this.program = new EngineProgram(this.process, {
      ...{ network: trial.network, inner: this.inner, address: ADDRESS, segments: [SEGMENTS], clusterId: CLUSTER_ID },
      ...{ clientId: this.lives.toString(16).padStart(32, 'e'), known },
      onEvent: (text) => trial.log(text),
    });
    const deviceIds = this.disks.map(({ deviceId }) => deviceId);
    await trial.settle(this.program.start(deviceIds), this.process);
  }

  private async serve(): Promise<void> {
    await this.start();
    for (const client of this.clients) client.attach(this);
  }

  /** The engine's process dies. What it has sent is carried out all the same, even while the next one begins. */
  private die(): void {
    const { trial } = this;
    const { asked } = this.program;
    this.process.kill();
    trial.log(`the engine dies: ${asked} of its requests have not been answered`);
    for (const client of this.clients) client.detach();
    this.volume.history.killed(trial.nowUs);
  }

  /** What becomes of the devices, of which nobody asks anything. */
  private async reopen(how: DevicesKind, random: SimRandom): Promise<void> {
    const { trial, deviceHost, devices, disks } = this;
    if (how === 'live') return;
    trial.log(`the devices: ${how}`);
    if (how === 'close') {
      await trial.settle(devices.close());
      devices.process.kill();
    } else if (how === 'kill') {
      devices.process.kill();
      for (const { disk } of disks) disk.kill(random);
    } else {
      deviceHost.powerOff(random);
      this.volume.history.powerCut(trial.nowUs);
    }
    this.devices = this.newDevices();
    for (const { disk, name } of disks) await trial.settle(this.devices.open(disk, name));
    this.devices.serve();
  }

  private async perform(action: SimAction): Promise<void> {
    if (action.kind === 'engine') await this.exchange(action);
    else if (action.kind === 'slow') this.slow(action);
    else if (action.kind === 'pause') this.process.stall(action.forMs * 1000);
    else if (action.kind === 'network') this.network(action);
    else throw new Error(`nothing like ${action.kind} happens to an engine that is alone`);
  }

  /** Another engine takes the place of one that dies; `again`: and so do those that are about to. */
  private async exchange({ downMs, again, number, devices }: ActionOf<'engine'>): Promise<void> {
    const { trial } = this;
    const random = new SimRandom(trial.plan.seed, number).fork('engine');
    // In the middle of something, rather than between bursts.
    const lastUs = trial.nowUs + PATIENCE_US;
    await trial.until(() => this.program.asked > 1 || trial.nowUs >= lastUs);
    this.die();
    await trial.pause(downMs * 1000);
    await this.reopen(devices, random.fork('devices'));
    for (let turn = 0; turn < again; turn += 1) {
      let open = false;
      this.start().finally(() => {
        open = true;
      });
      const { process } = this;
      const last = random.between(0, 200);
      await trial.until(() => open || process.batches >= last);
      trial.log('the engine dies again while it makes copies agree');
      this.die();
      await this.reopen(devices, random.fork(`devices ${turn}`));
    }
    await this.serve();
    if (random.chance(0.5)) await this.volume.sweep();
  }

  private slow({ device, byMs, forMs }: ActionOf<'slow'>): void {
    const { faults } = this.disks[device % this.disks.length].disk;
    const remove = faults.add({ probability: 0.5, action: { kind: 'slow', byUs: byMs * 1000 } });
    this.passing.push(remove);
    this.trial.timers.after(forMs * 1000, remove);
  }

  private network({ connection, how, forMs }: ActionOf<'network'>): void {
    const { trial, host } = this;
    const client = this.clients[connection % this.clients.length];
    if (how === 'reset') {
      client.peer?.reset();
      // And of what it has to do with the devices: it goes on by another connection.
      this.inner.reset(host, this.deviceHost);
    } else {
      const [from, to] = how === 'block-in' ? [client.host, host] : [host, client.host];
      trial.network.cut(from, to);
      trial.timers.after(forMs * 1000, () => trial.network.mend(from, to));
    }
  }

  // ---------------------------------------------------------------- its end

  private async end(): Promise<void> {
    const { trial, volume, disks } = this;
    trial.log('faults stop');
    for (const remove of this.passing.splice(0)) remove();
    await this.rest();
    await volume.sweep();
    volume.history.checkpoint();
    this.checkInSync();
    await this.close();
    await trial.settle(this.devices.close());
    for (const disk of disks) await checkDisk(trial, disk, false);
    if (trial.plan.devices === trial.plan.copies) for (const disk of disks) await this.readAlone(disk);
    volume.history.checkpoint();
  }

  /** Waits until clients have been answered, and ask for nothing more. */
  private async rest(): Promise<void> {
    for (const client of this.clients) client.stop();
    await this.trial.until(() => this.clients.every(({ idle }) => idle), this.process);
  }

  /** No copy has failed, so none may have been given up. */
  private checkInSync(): void {
    const lost = this.program.engine.record.groups.flat().filter(({ state }) => state !== 'in-sync');
    if (lost.length > 0) throw new SimViolation(`copies were given up: ${JSON.stringify(lost)}`);
  }

  private async close(): Promise<void> {
    const { trial, program } = this;
    await trial.settle(program.close(), this.process);
    this.process.kill();
  }

  /** Starts a node with a copy of one disk only, and reads everything from it. */
  private async readAlone({ disk, deviceId, name }: CourseDisk): Promise<void> {
    const { trial, volume, host } = this;
    trial.log(`reading from ${name} alone`);
    const memory = this.filled(0, programMemoryBytes(1));
    touchJournals(memory, programMemoryBytes(1) - STORE_MEMORY_BYTES, 1);
    this.process = host.start({ seed: trial.plan.seed, arena: memory.bytes, touched: memory.touched });
    const program = new NodeProgram(this.process, { storesMax: 1, network: trial.network, address: ADDRESS });
    await trial.settle(program.open(disk.clone(), name));
    const without = this.disks.map((entry) => entry.deviceId).filter((id) => id !== deviceId);
    await trial.settle(program.call('assemble', { without: new Map([[VOLUME_NAME, without]]) }));
    await volume.sweep();
    await trial.settle(program.close());
    this.process.kill();
  }

  /** No program is inside of its process. */
  ringsOf(): null {
    return null;
  }
}
