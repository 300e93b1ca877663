/**
 * What a trial does to its node, and how it puts things right again.
 *
 * A volume survives the loss of all copies but one. So what damages a copy waits until earlier damage of other copies has
 * been repaired; what hits the whole process waits for nothing. A volume of one copy may answer with errors once its device has
 * failed, never with wrong data.
 */

import type { VolumeStatus } from '../../client/volume-events.js';
import { EIO } from '../../core/errno.js';
import { StrakeError } from '../../core/errors.js';
import { BLOCK_BYTES, IO_TIMEOUT_MS, WATCH_MS } from '../../core/limits.js';
import { alignDown } from '../../core/units.js';
import { isUsed } from '../../volumes/volume-status.js';
import type { FaultOp } from '../disk/faults.js';
import { SimRandom } from '../world/random.js';
import type { SimAction } from './plan.js';
import type { TrialDisk, TrialNode } from './trial-node.js';
import { SimViolation, type TrialWorld } from './trial-world.js';

type ActionOf<Kind extends SimAction['kind']> = Extract<SimAction, { readonly kind: Kind }>;

/** Between looks at a volume that is being repaired. */
const LOOK_US = 20_000;
/** A device that has not answered for so long is given up, whatever the clock of the process. */
const GIVEN_UP_US = 1000 * (IO_TIMEOUT_MS + 2 * WATCH_MS);
/** Before a device that was given up is connected again. */
const STUCK_US = 1.2 * GIVEN_UP_US;
/** How long writes of data may be lost or changed. */
const SILENT_US = 300_000;
/** Writes until a device vanishes. */
const VANISH_WRITES = 16;
/** No operation takes longer, but those that never end. */
const SLOWEST_US = 300_000;
const REPAIRS_MAX = 5;
const LOOKS_MAX = 6_000;

export class TrialFaults {
  private readonly node: TrialNode;
  private readonly trial: TrialWorld;
  /** Operations of a device may never end, or not before they are given up. */
  private stuck = false;
  /** Damage that only reading everything finds. */
  private hidden = false;

  constructor(node: TrialNode) {
    this.node = node;
    this.trial = node.trial;
  }

  async perform(action: SimAction): Promise<void> {
    const { node, trial } = this;
    const damages = ['death', 'error', 'rot', 'silent', 'replace', 'lie', 'decay'].includes(action.kind);
    if (damages && trial.plan.copies > 1) await this.heal();
    trial.log(`action ${action.number}: ${JSON.stringify(action)}`);
    if (damages && 'device' in action) node.damaged.add(this.diskOf(action.device));
    if (damages && trial.plan.copies === 1) node.mayFail = true;
    switch (action.kind) {
      case 'kill':
      case 'power':
        return this.crash(action);
      case 'restart':
        return this.restart(action);
      case 'death':
        return this.death(action);
      case 'pause':
        return this.pause(action);
      case 'network':
        return this.network(action);
      case 'replace':
        return this.replace(action);
      case 'lie':
        return this.lie(action);
      case 'decay':
        return this.decay(action);
      case 'engine':
        throw new Error('the engines of a node die with its devices');
      case 'scrub':
        return this.scrub();
      case 'grow':
        return this.grow(action);
      default:
        return this.spoil(action);
    }
  }

  // ---------------------------------------------------------------- the process

  private async crash({ kind, downMs, again, number }: ActionOf<'kill' | 'power'>): Promise<void> {
    const { node, trial } = this;
    const random = new SimRandom(trial.plan.seed, number).fork('crash');
    const power = kind === 'power';
    if (this.hidden && this.isOffered()) {
      // A block that is bad on one copy, and was being overwritten on the other: nothing would tell which of them is right.
      await node.rest();
      await node.flush();
    }
    node.die(power);
    await node.boot(downMs * 1000);
    for (let turn = 0; turn < again; turn += 1) {
      const { process } = node;
      const last = process.batches + random.between(0, 200);
      let open = false;
      const opening = node.openAll().then(() => node.serve());
      opening.then(
        () => {
          open = true;
        },
        () => {
          open = true;
        },
      );
      await trial.until(() => open || process.batches >= last);
      trial.log('the process dies again while it recovers');
      node.die(power);
      await node.boot(1000);
    }
    await node.openAll();
    await node.serve();
    // What has been seen after a power cut stays: later reads are held against it.
    if (power && random.chance(0.5) && this.isOffered()) await node.sweep();
  }

  private async restart({ downMs }: ActionOf<'restart'>): Promise<void> {
    const { node } = this;
    await node.close(node.damaged.size > 0);
    node.die(false);
    await node.boot(downMs * 1000);
    await node.openAll();
    await node.serve();
  }

  private async pause({ forMs }: ActionOf<'pause'>): Promise<void> {
    this.node.process.stall(forMs * 1000);
  }

  // ---------------------------------------------------------------- devices

  private diskOf(number: number): TrialDisk {
    const here = this.node.disks.filter(({ retired }) => !retired);
    return here[number % here.length];
  }

  private async death({ device, how, forMs, number }: ActionOf<'death'>): Promise<void> {
    const { trial } = this;
    const entry = this.diskOf(device);
    const { faults } = entry.disk;
    if (how === 'vanish') {
      // In the middle of something, rather than between bursts.
      const skip = new SimRandom(trial.plan.seed, number).fork('death').below(VANISH_WRITES);
      faults.add({ ops: ['write'], skip, count: 1, action: { kind: 'vanish' } });
    } else if (how === 'stuck') {
      faults.add({ action: { kind: 'stick' } });
      this.stuck = true;
    } else if (how === 'late') {
      // All are given up, and end all the same: some sooner than others.
      const random = new SimRandom(trial.plan.seed, number).fork('death');
      for (const probability of [0.5, 1]) {
        faults.add({ probability, action: { kind: 'slow', byUs: random.between(GIVEN_UP_US, STUCK_US) } });
      }
      this.stuck = true;
    } else {
      const ops: FaultOp[] = how === 'fail-sync' ? ['sync'] : ['write', 'discard', 'zero', 'sync'];
      faults.add({ ops, action: { kind: 'error', errno: EIO } });
    }
    await trial.pause(forMs * 1000);
  }

  /** The faults that are rules. */
  private async spoil(action: ActionOf<'error' | 'rot' | 'silent' | 'slow'>): Promise<void> {
    const { trial } = this;
    const entry = this.diskOf(action.device);
    const { disk } = entry;
    const random = new SimRandom(trial.plan.seed, action.number).fork('spoil');
    switch (action.kind) {
      case 'error':
        disk.faults.add({ ops: [action.op], count: action.count, action: { kind: 'error', errno: EIO } });
        break;
      case 'slow': {
        // What is near what the disk did last is fast, and other places are not: steps that belong together end far apart.
        const where = random.pick([
          {},
          { end: entry.dataStart },
          { start: entry.dataStart },
          { ops: ['sync'] },
          { probability: 0.5 },
        ] as const);
        const remove = disk.faults.add({ ...where, action: { kind: 'slow', byUs: action.byMs * 1000 } });
        this.node.passing.push(remove);
        trial.timers.after(action.forMs * 1000, remove);
        break;
      }
      case 'rot':
        this.hidden = true;
        await this.rot(entry, action.bits, random);
        break;
      default: {
        this.hidden = true;
        const { count, how } = action;
        const start = entry.dataStart;
        const toOffsetBytes = start + BLOCK_BYTES * random.below(64);
        const rule = how === 'misdirect' ? ({ kind: how, toOffsetBytes } as const) : ({ kind: how } as const);
        const remove = disk.faults.add({ ops: ['write'], start, count, action: rule });
        await trial.pause(SILENT_US);
        remove();
        await this.cover();
      }
    }
  }

  /**
   * Lets a flush cover what has been written. What is not flushed has no durable checksum: after a crash its content may be
   * taken as it is, as after a write that was cut off, and damage to it is not told from that. Returns whether it does.
   */
  private async cover(): Promise<boolean> {
    const { trial } = this;
    // What is under way now has ended then.
    await trial.pause(SLOWEST_US);
    return this.node.flush();
  }

  /** Flips bits of blocks that a flush has covered. */
  private async rot(entry: TrialDisk, bits: number, random: SimRandom): Promise<void> {
    const { disk } = entry;
    const places: { readonly offset: number; readonly block: number; readonly content: Uint8Array }[] = [];
    for (let bit = 0; bit < bits; bit += 1) {
      const offset = this.dataOffset(entry, random);
      const block = alignDown(offset, BLOCK_BYTES);
      if (disk.allocated(offset)) places.push({ offset, block, content: disk.peek(block, BLOCK_BYTES) });
    }
    if (!(await this.cover())) return;
    for (const { offset, block, content } of places) {
      const unchanged = disk.peek(block, BLOCK_BYTES).every((byte, at) => byte === content[at]);
      if (unchanged) disk.flipBit(offset, random.below(8));
    }
    // A block that was being written is in doubt until that has ended.
    await this.trial.pause(SLOWEST_US);
  }

  private dataOffset({ disk, dataStart }: TrialDisk, random: SimRandom): number {
    return dataStart + random.below(disk.geometry.sizeBytes - dataStart);
  }

  /**
   * Flushes do nothing, and then the power fails, when nothing is in flight: a block that was being written may be torn on the
   * copy that counts, and whole and old on the one that has lied. A device on which something is missing that was durable is
   * refused, and is as good as lost; one that is as it was some time ago must not be believed.
   */
  private async lie({ device, forMs }: ActionOf<'lie'>): Promise<void> {
    const { trial } = this;
    const entry = this.diskOf(device);
    const remove = entry.disk.faults.add({ action: { kind: 'lie' } });
    await trial.pause(forMs * 1000);
    await this.node.rest();
    await this.node.flush();
    remove();
    this.hidden = true;
    this.node.die(true);
    await this.returnWith(entry);
  }

  /**
   * What a device knows of its data is damaged while nobody uses it: superblocks, roots, journal, tables. It may be refused for
   * that, or have lost what it had flushed, and must not be believed then.
   */
  private async decay({ device, bits, how, number }: ActionOf<'decay'>): Promise<void> {
    const { trial } = this;
    const random = new SimRandom(trial.plan.seed, number).fork('decay');
    const entry = this.diskOf(device);
    const { disk, dataStart } = entry;
    await this.node.rest();
    await this.node.flush();
    this.hidden = true;
    if (how === 'restart') await this.node.close(false);
    this.node.die(how === 'power');
    for (let bit = 0; bit < bits; bit += 1) {
      const offset = random.below(dataStart);
      if (disk.allocated(offset)) disk.flipBit(offset, random.below(8));
    }
    await this.returnWith(entry);
  }

  /** The process starts again; a device that it refuses is replaced. */
  private async returnWith(entry: TrialDisk): Promise<void> {
    const { node } = this;
    await node.boot(1000);
    await node.openAll();
    if (node.program.node.stores.has(entry.deviceId)) {
      await node.serve();
      return;
    }
    await node.serve([entry.deviceId]);
    await this.substitute(entry);
  }

  /** Takes a device out for good, and puts a new one in its place. */
  private async replace({ device }: ActionOf<'replace'>): Promise<void> {
    const old = this.diskOf(device);
    old.disk.vanished = true;
    await this.substitute(old);
  }

  private async substitute(old: TrialDisk): Promise<void> {
    const { node } = this;
    node.disconnect(old);
    old.retired = true;
    const fresh = await node.addDisk();
    await node.settle(node.open(fresh));
    await this.takeOut(old);
    const { deviceId } = old;
    await this.insist(() => node.program.call('replace', { deviceId, by: fresh.deviceId }));
    await this.heal();
  }

  /** A connection breaks, or what its client sends or is sent is held back: also what it sends over its next connection. */
  private async network({ connection, how, forMs }: ActionOf<'network'>): Promise<void> {
    const { node, trial } = this;
    const client = node.clients[connection % node.clients.length];
    const { peer, host } = client;
    if (peer === null) return;
    if (how === 'reset') {
      peer.reset();
    } else if (how === 'slow-reader') {
      peer.paused = true;
      trial.timers.after(forMs * 1000, () => {
        peer.paused = false;
      });
    } else {
      const [from, to] = how === 'block-in' ? [host, node.host] : [node.host, host];
      trial.network.cut(from, to);
      trial.timers.after(forMs * 1000, () => trial.network.mend(from, to));
    }
  }

  // ---------------------------------------------------------------- repair

  private isOffered(): boolean {
    return this.node.volumes.every(({ name }) => this.engineOf(name) != null);
  }

  private engineOf(name: string) {
    return this.node.program.node.volumes.named(name).at(0)?.engine;
  }

  private async scrub(): Promise<void> {
    const { node } = this;
    if (!this.isOffered()) return;
    for (const { name } of node.volumes) {
      await node.settle(node.program.call('scrub', { name, bytesPerSecond: 0 }).catch(() => {}));
    }
  }

  /** Makes a volume larger than its clients know, so that their part of it stays as it is. */
  private async grow({ number }: ActionOf<'grow'>): Promise<void> {
    const { node } = this;
    const { name } = node.volumes[number % node.volumes.length];
    const engine = this.engineOf(name);
    if (engine == null) return;
    const sizeBytes = engine.sizeBytes + BLOCK_BYTES;
    await node.settle(node.program.call('growVolume', { name, sizeBytes }).catch(() => {}));
  }

  /** Ends all faults, brings back what was lost, and waits until the volume is whole. */
  async heal(): Promise<void> {
    const { node, trial } = this;
    for (const { disk } of node.disks) disk.faults.clear();
    if (trial.plan.copies === 1) {
      if (node.damaged.size > 0)
        await this.restart({ kind: 'restart', number: 0, node: node.number, atMs: 0, downMs: 1 });
      node.damaged.clear();
      return;
    }
    if (this.stuck) await trial.pause(STUCK_US);
    this.stuck = false;
    if (node.damaged.size > 0) await this.repair();
    await this.whole();
    if (this.hidden) {
      await this.scrub();
      await this.whole();
    }
    node.damaged.clear();
    this.hidden = false;
  }

  /** What was under way when faults ended may still fail, so one look at what is lost is not enough. */
  private async repair(): Promise<void> {
    const { node, trial } = this;
    for (let turn = 0; turn < REPAIRS_MAX; turn += 1) {
      await this.jobsEnded();
      await this.bringBack();
      await trial.pause(SLOWEST_US);
      if (!node.disks.some((entry) => !entry.retired && this.isOut(entry))) return;
    }
  }

  private async bringBack(): Promise<void> {
    const { node, trial } = this;
    for (const entry of node.disks) {
      if (entry.retired || !this.isOut(entry)) continue;
      trial.log(`${entry.name} comes back`);
      if (this.isUsed(entry)) {
        // Only some of the volumes have given it up.
        await node.settle(node.program.call('takeBack', { deviceId: entry.deviceId }));
        continue;
      }
      await this.takeOut(entry);
      // It had no power meanwhile, if it was lost.
      if (entry.disk.vanished) entry.disk.powerCut(node.random);
      else if (entry.disk.attached) entry.disk.kill(node.random);
      entry.disk.vanished = false;
      node.reconnect(entry);
      await node.settle(node.open(entry));
      await node.settle(node.program.call('takeBack', { deviceId: entry.deviceId }));
    }
  }

  /** Whether a disk has to be connected again. */
  private isOut({ disk, away, deviceId }: TrialDisk): boolean {
    const { stores, volumes } = this.node.program.node;
    const entry = stores.get(deviceId);
    if (away || disk.vanished || entry === undefined || entry.store.failed) return true;
    const members = this.node.volumes.flatMap(({ name }) => volumes.named(name).at(0)?.stored.groups.flat() ?? []);
    return members.some((member) => member.deviceId === deviceId && member.state === 'offline');
  }

  /** Whether a volume goes on using a disk that is there and takes writes. */
  private isUsed({ disk, away, deviceId }: TrialDisk): boolean {
    const { stores, volumes } = this.node.program.node;
    if (away || disk.vanished || stores.get(deviceId)?.store.failed !== false) return false;
    return [...volumes.values()].some(({ engine }) => engine !== null && isUsed(engine, deviceId));
  }

  /** The node lets go of a device, once it has noticed that it is lost. */
  private async takeOut({ deviceId }: TrialDisk): Promise<void> {
    const { program } = this.node;
    if (program.node.stores.has(deviceId)) await this.insist(() => program.call('forget', { deviceId }));
  }

  /** Repeats a call while it is refused because something is in use. */
  private async insist(call: () => Promise<unknown>): Promise<void> {
    for (let look = 0; ; look += 1) {
      const result = await this.node.settle(
        call().then(
          () => null,
          (error: unknown) => error,
        ),
      );
      if (result === null) return;
      const busy = result instanceof StrakeError && result.code === 'ERR_STRAKE_VOLUME_BUSY';
      if (!busy || look === LOOKS_MAX) throw result;
      await this.trial.pause(LOOK_US);
    }
  }

  jobsEnded(): Promise<void> {
    return this.reach('have ended their jobs', (status) => !status?.jobs.some(({ state }) => state === 'running'));
  }

  /** Waits until all copies are in sync and no job runs. */
  private async whole(): Promise<void> {
    await this.jobsEnded();
    await this.reach('are whole again', (status) => status?.state === 'ok');
  }

  private async reach(what: string, reached: (status: VolumeStatus | undefined) => boolean): Promise<void> {
    const { node, trial } = this;
    for (let look = 0; look < LOOKS_MAX; look += 1) {
      if (node.volumes.every(({ name }) => reached(this.engineOf(name)?.status()))) return;
      await trial.pause(LOOK_US);
    }
    const { volumes } = await node.settle(node.program.call('nodeStatus', null));
    throw new SimViolation(`no time has come at which all volumes ${what}: ${JSON.stringify(volumes)}`);
  }
}
