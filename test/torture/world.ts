/**
 * What is tortured: disks, a node process on them with one volume, and the history of what was asked of that volume.
 *
 * Invariant, checked by `settle` after every fault: whatever was acknowledged is there if only processes died, whatever was
 * flushed is there if power went; nothing is there that was not written to its place; `fsck` finds nothing that a crash
 * does not explain; a volume with its redundancy intact answers no errors.
 */

import * as assert from 'uvu/assert';
import type { NodeEvent } from '#strake/index.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { computeLayout, type Layout } from '#strake/store/format/format.js';
import type { FaultRule } from '#strake/uring/native.js';
import { CLOSED, CRASHED, fsckAll } from '../support/fsck.js';
import { CMD, EIO } from '../support/nbd-client.js';
import { NodeLoad } from '../support/node-load.js';
import { formatAll, NodeProcess } from '../support/node-process.js';
import { until } from '../support/scratch.js';
import { SECTOR, SectorHistory } from '../support/sector-history.js';
import { type Disk, type Medium, newDisk } from './disks.js';

const MIB = 1 << 20;
const DEVICE = 16 * MIB;
const SLOT = 64 << 10;
const SIZE = 2 * MIB;
const BLOCK = 4096;
const VOLUME = 'main';

/** What happened to what was not flushed. */
export type Loss = 'death' | 'power cut';

export interface WorldSettings {
  readonly seed: number;
  readonly medium: Medium;
  readonly copies: number;
  /** Each sector ends in its own CRC32C, so that no checksum tells one version from another. */
  readonly sealed: boolean;
}

/** What a world has seen. */
export interface Counts {
  acknowledged: number;
  readsChecked: number;
  flushes: number;
}

export class World {
  readonly settings: WorldSettings;
  readonly random: SimRandom;
  readonly layout: Layout = computeLayout(DEVICE, SLOT);
  readonly counts: Counts = { acknowledged: 0, readsChecked: 0, flushes: 0 };
  /** What is told if something goes wrong. */
  readonly log: string[] = [];
  disks: Disk[] = [];
  /** By the place of their disks. */
  ids: string[] = [];
  node!: NodeProcess;
  /** Disks whose content may be ruined for good: a node may refuse them, and then they are formatted and rebuilt. */
  readonly ruined = new Set<Disk>();
  /** Disks whose metadata may be bad in places that nobody reads: they are formatted and rebuilt in any case. */
  readonly rotten = new Set<Disk>();
  /** Disks on which data may be wrong where another copy is right: a scrub has to mend them. */
  readonly damaged = new Set<Disk>();
  /** Whether blocks of a volume without redundancy may be unreadable now. */
  mayFail = false;
  private readonly history: SectorHistory;
  loss: Loss = 'death';
  private cluster = '';

  private constructor(settings: WorldSettings) {
    this.settings = settings;
    this.random = new SimRandom(settings.seed, 1);
    this.history = new SectorHistory(settings.seed | 1, SIZE, settings.sealed);
  }

  static async make(settings: WorldSettings): Promise<World> {
    const world = new World(settings);
    const { copies, medium } = settings;
    for (let index = 0; index < copies; index += 1) world.disks.push(await world.disk(medium));
    world.ids = await formatAll(world.paths(), SLOT);
    await world.start();
    world.cluster = (await world.node.status()).clusterId;
    const layout = copies === 1 ? 'single' : 'mirror';
    await world.node.call('createVolume', { name: VOLUME, sizeBytes: SIZE, layout, ...(copies > 1 && { copies }) });
    return world;
  }

  disk(medium: Medium): Promise<Disk> {
    return newDisk(medium, DEVICE, this.random.next());
  }

  /** Writes down what is done, for whoever looks at a failure. */
  note(what: string): void {
    this.log.push(`${new Date().toISOString()} ${what}`);
  }

  paths(without: readonly Disk[] = []): string[] {
    return this.disks.filter((disk) => !without.includes(disk)).map(({ path }) => path);
  }

  idOf(disk: Disk): string {
    return this.ids[this.disks.indexOf(disk)];
  }

  /** Formats a disk for this world's cluster. */
  async format(disk: Disk): Promise<string> {
    const [id] = await formatAll([disk.path], SLOT, this.cluster, true);
    return id;
  }

  /** Opens a node on all disks but some, which count as lost, as do devices that the world has no more. */
  async start(
    options: { without?: readonly Disk[]; gone?: readonly string[]; faults?: readonly FaultRule[] } = {},
  ): Promise<void> {
    const { without = [], gone = [], faults = [] } = options;
    const ids = [...without.map((disk) => this.idOf(disk)), ...gone];
    const lost: Record<string, readonly string[]> = ids.length === 0 ? {} : { [VOLUME]: ids };
    this.note(`start without [${without.map((disk) => disk.path).join(' ')}] faults ${JSON.stringify(faults)}`);
    this.node = await NodeProcess.start({ devices: this.paths(without), without: lost, faults });
  }

  get alive(): boolean {
    return this.node.child.exitCode === null && this.node.child.signalCode === null;
  }

  // ---------------------------------------------------------------- load

  /** Clients that write, flush and read. Errors are allowed only where there is nothing to fall back on. */
  load(errors: readonly number[] = this.settings.copies === 1 ? [EIO] : []): Promise<NodeLoad> {
    const seed = this.random.next();
    return NodeLoad.start(this.node, VOLUME, this.history, { seed, connections: 2, depth: 5, errors });
  }

  /** Ends a load, and counts what it did. Throws what it found. */
  async stop(load: NodeLoad): Promise<void> {
    try {
      await load.stop();
    } finally {
      this.counts.acknowledged += load.acknowledged;
      this.counts.readsChecked += load.readsChecked;
      this.counts.flushes += load.flushes;
      this.note(`load: ${load.acknowledged} acknowledged, ${load.failed} failed, ${load.readsChecked} reads checked`);
    }
  }

  /** A load of so many requests at most, at a node that may die. */
  async loadUntilEnd(requests: number): Promise<void> {
    const load = await this.load().catch(() => null);
    if (load === null) return;
    await load.reachOrEnd(requests);
    await this.killNode();
    await this.stop(load);
  }

  async killNode(): Promise<void> {
    this.note('kill');
    await this.node.kill();
  }

  /** Makes durable what has been acknowledged. */
  async flush(): Promise<void> {
    const client = await this.node.connect(VOLUME);
    const pending = this.history.beginFlush();
    await client.flush();
    this.history.end(pending, true);
    await client.destroy();
  }

  /** Cuts the power of all disks, perhaps under a load, and gives it back. */
  async powerFails(load?: NodeLoad): Promise<void> {
    this.note('power cut');
    for (const disk of this.disks) await disk.cut();
    await this.node.kill();
    if (load !== undefined) await this.stop(load);
    for (const disk of this.disks) await disk.restore();
    this.loss = 'power cut';
  }

  /** Takes a lost device out of the node, gives it back, and waits until it is up to date. */
  async giveBack(disk: Disk, restore = () => disk.restore()): Promise<void> {
    const id = this.idOf(disk);
    await this.node.reach(VOLUME, 'degraded');
    await this.node.call('removeDevice', id);
    await restore();
    this.note(`give back ${disk.path}`);
    await this.node.call('addDevice', disk.path);
    await this.node.reach(VOLUME, 'ok');
  }

  /** After the death of a node that was replacing a disk: the map names the old one or the new one; it ends with the new. */
  async completeReplacement(lost: Disk, by: Disk, byId: string): Promise<void> {
    const index = this.disks.indexOf(lost);
    const lostId = this.ids[index];
    this.disks[index] = by;
    this.ids[index] = byId;
    await this.start({ gone: [lostId] });
    const { groups } = await this.node.volume(VOLUME);
    if (groups.flat().some(({ deviceId }) => deviceId === lostId)) {
      this.note('replace again');
      await this.node.call('replaceDevice', lostId, by.path);
    }
    await this.node.reach(VOLUME, 'ok');
    await lost.remove();
  }

  // ---------------------------------------------------------------- judging

  /** After a fault: checks everything, and leaves a node that serves an intact volume. */
  async settle(): Promise<void> {
    let verdicts = CRASHED;
    if (this.alive) {
      await this.verify('still serving');
      if (this.random.chance(0.3) && (await this.intact())) {
        await this.node.close();
        verdicts = CLOSED;
      } else await this.killNode();
    }
    const sound = this.disks.filter((disk) => !this.ruined.has(disk) && !this.damaged.has(disk));
    if (!this.mayFail) {
      await fsckAll(
        sound.map(({ path }) => path),
        verdicts,
        'fsck',
      );
    }
    await this.reopen();
    await this.verify('opened again');
    if (this.damaged.size > 0) await this.scrub();
    await this.checkState();
    if (this.rotten.size > 0) {
      await this.killNode();
      await this.rebuild([...this.rotten]);
      this.rotten.clear();
    }
    this.loss = 'death';
  }

  /** Whether every device takes part, so that each will have been closed in order. */
  private async intact(): Promise<boolean> {
    const { devices, volumes } = await this.node.status();
    return devices.every(({ state }) => state === 'ok') && volumes.every(({ state }) => state === 'ok');
  }

  /** Opens all disks; those that are ruined and are refused for it are rebuilt. */
  private async reopen(): Promise<void> {
    try {
      await this.start();
      const { state } = await this.node.volume(VOLUME);
      if (this.settings.copies > 1 && this.ruined.size > 0 && state === 'degraded') throw new Error('a disk has left');
      if (state !== 'ok' && this.settings.copies > 1) await this.node.reach(VOLUME, 'ok');
    } catch (error) {
      if (this.ruined.size === 0) throw error;
      this.note(`reopening with ruined disks: ${(error as Error).message}`);
      if (this.alive) await this.killNode();
      await this.rebuild([...this.ruined]);
    }
    this.ruined.clear();
  }

  /** Formats disks anew, and lets them take the places that they had. */
  private async rebuild(lost: readonly Disk[]): Promise<void> {
    await this.start({ without: lost });
    await this.verify('without what is ruined');
    for (const disk of lost) {
      const old = this.idOf(disk);
      this.ids[this.disks.indexOf(disk)] = await this.format(disk);
      this.note(`replace ${disk.path}`);
      await this.replaceOnceFree(old, disk.path);
    }
    await this.node.reach(VOLUME, 'ok');
  }

  /** The kernel may still be letting go of what has just been formatted. */
  private async replaceOnceFree(old: string, path: string): Promise<void> {
    await until(`${path} to be free`, async () => {
      try {
        await this.node.call('replaceDevice', old, path);
        return true;
      } catch (error) {
        if (!(error as Error).message.startsWith('ERR_STRAKE_IN_USE')) throw error;
        return undefined;
      }
    });
  }

  /** Reads everything as often as there are copies, so that each is met, and holds it against the history. */
  async verify(what: string): Promise<void> {
    const client = await this.node.connect(VOLUME, true);
    for (let round = 0; round < this.settings.copies; round += 1) {
      const { error, data } = await client.ask({ type: CMD.read, offset: 0, length: SIZE });
      const unreadable = new Set<number>();
      if (error !== 0) await this.readPieces(client, data, unreadable);
      this.history.check(data, this.loss, what, unreadable);
      this.counts.readsChecked += 1;
      // Members take turns: one more, so that the next round is another's.
      if (this.settings.copies > 1) await client.read(0, BLOCK);
      for (const sector of unreadable) if (sector % 8 === 0) await this.rewrite(client, sector);
    }
    await client.destroy();
  }

  /** Reads block by block what could not be read at once. */
  private async readPieces(
    client: Awaited<ReturnType<NodeProcess['connect']>>,
    data: Buffer,
    unreadable: Set<number>,
  ): Promise<void> {
    for (let offset = 0; offset < SIZE; offset += BLOCK) {
      const answer = await client.ask({ type: CMD.read, offset, length: BLOCK });
      if (answer.error === 0) answer.data.copy(data, offset);
      else for (let at = offset; at < offset + BLOCK; at += SECTOR) unreadable.add(at / SECTOR);
    }
    this.note(`${unreadable.size / 8} blocks are unreadable`);
    assert.ok(this.mayFail || unreadable.size === 0, `${unreadable.size / 8} blocks are unreadable, and need not be`);
  }

  /** A block that was lost is whole again when it has been written. */
  private async rewrite(client: Awaited<ReturnType<NodeProcess['connect']>>, sector: number): Promise<void> {
    const change = this.history.begin(sector, BLOCK / SECTOR, 'write');
    const payload = this.history.payload(change);
    const { error } = await client.ask({ type: CMD.write, offset: sector * SECTOR, payload });
    this.history.end(change, error === 0);
  }

  private async scrub(): Promise<void> {
    await until('an earlier scrub', async () => {
      const { jobs } = await this.node.volume(VOLUME);
      return jobs.every(({ kind, state }) => kind !== 'scrub' || state !== 'running');
    });
    await this.node.call('scrub', VOLUME);
    const job = await until('the scrub', async () => {
      const { jobs } = await this.node.volume(VOLUME);
      return jobs.find(({ kind, state }) => kind === 'scrub' && state !== 'running');
    });
    assert.is(job.state, 'done', job.reason);
    this.damaged.clear();
  }

  private async checkState(): Promise<void> {
    const { state, reason, counters } = await this.node.volume(VOLUME);
    assert.is(state, 'ok', `the volume is ${state}: ${reason}`);
    if (this.mayFail) {
      // What is unreadable has been written anew; from now on nothing may be.
      this.mayFail = false;
      return;
    }
    const { unrecoverableBlocks, poisonedBlocks } = counters;
    assert.equal([unrecoverableBlocks, poisonedBlocks], [0, 0], 'no block is lost');
  }

  /** Closes in order; one copy alone, chosen by chance, has to be the whole volume. */
  async finish(): Promise<void> {
    await this.node.close();
    await fsckAll(this.paths(), CLOSED, 'closed in order');
    if (this.settings.copies === 1) return;
    const alone = this.random.pick(this.disks);
    await this.start({ without: this.disks.filter((disk) => disk !== alone) });
    await this.verify('one copy alone');
    await this.node.close();
  }

  events(): readonly NodeEvent[] {
    return this.node.events;
  }

  /** Saves what is on the disks. */
  async keep(folder: string): Promise<void> {
    for (const [index, disk] of this.disks.entries()) await disk.keep(`${folder}/disk-${index}.img`);
  }

  /** Takes everything apart, also after a failure. */
  async remove(): Promise<void> {
    if (this.node !== undefined && this.alive) await this.node.kill();
    for (const disk of this.disks) await disk.remove();
  }
}
