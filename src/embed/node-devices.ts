/**
 * The devices that a node was told to drive: which of them are open, and why the others are not.
 *
 * Each device is identified, opened and examined by itself, in a thread of its own, so that one that fails or hangs never keeps
 * another from service. The steps of a start; at each arrow those that have not answered by then are left behind:
 *
 * ```text
 *   names ─ identify ─► devices, each once ─ open, read superblock ─► choose ─ open as a store, side by side ─► assemble
 * ```
 *
 * What is chosen depends on what devices say and on the order in which they were named, and not on which answers first:
 * the cluster of most of them counts, or of the one named first; of several devices with one id none is taken, as nothing
 * tells the copy from the original. A device that answers later joins, if it belongs here and no other has its id.
 */

import { type ErrorName, StrakeError, toStrakeError } from '../core/errors.js';
import { IDENTIFY_MS, TAKEOVER_MS } from '../core/limits.js';
import { Notify } from '../core/notify.js';
import { identifyDevice, keyOf, openDeviceFile, within } from '../uring/native-devices.js';
import type { ShardLink } from '../worker/shard-pool.js';
import { checkSignal } from './block-io.js';
import { abandonNative, plainGeometry, reopenNative } from './device.js';
import type { DeviceFacts } from './facts.js';
import { readSuperblock } from './format.js';
import { chooseDevices, type Examined } from './node-choice.js';
import type { DoubledName, NodeEvent, UnavailableDevice } from './node-types.js';
import { explainUnavailable, unavailableError } from './unavailable.js';

/** A device on its way into the node. */
class Opening {
  readonly path: string;
  /** By which its names are recognised; null if nothing is there. */
  readonly key: string | null;
  /** What it was when it was open, if it was: it is opened again by the next worker. */
  expected: DeviceFacts | null;
  /** Null as long as it is on its way. */
  error: StrakeError | null = null;
  deviceId: string | null = null;

  constructor(path: string, key: string | null, expected: DeviceFacts | null = null) {
    this.path = path;
    this.key = key;
    this.expected = expected;
  }
}

/** How devices are opened at a start. */
export interface StartOptions {
  /** How long those are waited for that do not answer: once until they have said who they are, once until they are open. */
  readonly waitMs: number;
  /** Whether one that holds no superblock is left alone, as no part of the node. */
  readonly skipUnformatted: boolean;
  readonly signal: AbortSignal | undefined;
}

export class NodeDevices {
  /** Facts of open devices, by device id. */
  readonly facts = new Map<string, DeviceFacts>();
  /** The shards that they are, or were last, on. */
  private readonly shards = new Map<string, number>();
  /** Names by which a device was named once more. */
  readonly doubled: DoubledName[] = [];
  /** Of all devices; empty until it is known. */
  cluster: string;
  private readonly openings = new Set<Opening>();
  private readonly leaseMs: number;
  private readonly storesMax: number;
  private readonly note: (event: NodeEvent) => void;
  private link: ShardLink | null = null;
  private readonly linkChanged = new Notify();
  private bringing: Promise<void> = Promise.resolve();
  private closed = false;

  /** `leaseMs`: the longest lease that the devices grant, in milliseconds. `storesMax`: the most devices. */
  constructor(
    { cluster, leaseMs, storesMax }: { readonly cluster: string; readonly leaseMs: number; readonly storesMax: number },
    note: (event: NodeEvent) => void,
  ) {
    this.cluster = cluster;
    this.leaseMs = leaseMs;
    this.storesMax = storesMax;
    this.note = note;
  }

  /** Devices that were named, or were open, and are not open now. */
  unavailable(): UnavailableDevice[] {
    return [...this.openings].map(({ path, deviceId, error }) => explainUnavailable(path, deviceId, error));
  }

  /** The id of the device of the node that a path leads to, whatever it is called there; undefined if it leads to none. */
  async idAt(path: string): Promise<string | undefined> {
    try {
      const { key } = await within(identifyDevice(path), path);
      const away = [...this.openings].find((opening) => opening.key === key);
      const awayId = away?.deviceId ?? undefined;
      // A copy of a device that is open is not that device.
      return this.openWithKey(key) ?? (awayId === undefined || this.facts.has(awayId) ? undefined : awayId);
    } catch {
      // Nothing is there.
      return undefined;
    }
  }

  private openWithKey(key: string | null): string | undefined {
    return [...this.facts].find(([, facts]) => keyOf(facts) === key)?.[0];
  }

  // ---------------------------------------------------------------- the start

  /** Opens all that can be opened, and rejects if that is nothing. Those that answer later join after `use` has been called. */
  async start(link: ShardLink, paths: readonly string[], options: StartOptions): Promise<void> {
    for (const opening of await this.identify(paths)) this.openings.add(opening);
    checkSignal(options.signal);
    await this.bring(link, [...this.openings], options);
    if (this.facts.size === 0) throw this.nothingOpened();
  }

  /** Opens everything again on a new shard, as `start`. */
  async restore(link: ShardLink): Promise<void> {
    this.link = null;
    // Of a shard that has died as well; what it had is opened again too.
    await this.bringing;
    const again = [...this.facts.values()].map((facts) => new Opening(facts.path, keyOf(facts), facts));
    again.push(...this.takeInterrupted());
    this.facts.clear();
    for (const opening of again) this.openings.add(opening);
    await this.bring(link, again, { waitMs: TAKEOVER_MS, skipUnformatted: false, signal: undefined });
  }

  /** Devices that were being opened by a shard that has died, to be opened once more. */
  private takeInterrupted(): Opening[] {
    const interrupted = [...this.openings].flatMap(({ error, expected }) => (error === null ? [] : (expected ?? [])));
    for (const opening of this.openings) {
      if (opening.error !== null && opening.expected !== null) this.openings.delete(opening);
    }
    return interrupted.map((facts) => new Opening(facts.path, keyOf(facts), facts));
  }

  /** Opens the devices again that were on a shard that has been replaced; volumes that know them take them back. */
  async restoreShard(link: ShardLink, shard: number): Promise<void> {
    await this.bringing;
    const lost = [...this.facts].filter(([deviceId]) => this.shards.get(deviceId) === shard);
    const again = lost.map(([, facts]) => new Opening(facts.path, keyOf(facts), facts));
    for (const [deviceId] of lost) this.facts.delete(deviceId);
    again.push(...this.takeInterrupted());
    if (again.length === 0) return;
    for (const opening of again) this.openings.add(opening);
    await this.bring(link, again, { waitMs: TAKEOVER_MS, skipUnformatted: false, signal: undefined });
    for (const opening of again) {
      if (opening.deviceId !== null && this.facts.has(opening.deviceId)) await this.takeBack(opening, opening.deviceId);
    }
  }

  /** From now on devices that answer late join on this shard. */
  use(link: ShardLink): void {
    this.link = link;
    this.linkChanged.tell();
  }

  /** Devices that are named, each once: by the first of its names that can be opened. */
  private async identify(paths: readonly string[]): Promise<Opening[]> {
    const found = await Promise.all(
      paths.map(async (path) => {
        try {
          return { path, ...(await within(identifyDevice(path), path, undefined, IDENTIFY_MS)) };
        } catch {
          // Opening it says what is wrong, or waits for as long as it takes.
          return { path, key: `path:${path}`, refusedLink: false };
        }
      }),
    );
    const byKey = new Map<string, typeof found>();
    for (const one of found) byKey.set(one.key, [...(byKey.get(one.key) ?? []), one]);
    return [...byKey].map(([key, names]) => {
      const first = names.find(({ refusedLink }) => !refusedLink) ?? names[0];
      for (const name of names) {
        if (name !== first) this.doubled.push({ path: name.path, same: first.path });
      }
      return new Opening(first.path, key);
    });
  }

  private bring(link: ShardLink, openings: readonly Opening[], options: StartOptions): Promise<void> {
    this.bringing = this.bringAll(link, openings, options);
    return this.bringing;
  }

  private async bringAll(link: ShardLink, openings: readonly Opening[], options: StartOptions): Promise<void> {
    const patience = after(options.waitMs);
    const examined = new Map<Opening, Examined>();
    const examine = async (opening: Opening) => {
      const found = await this.examine(opening, options.skipUnformatted);
      if (found !== null) examined.set(opening, found);
    };
    const examining = new Map(openings.map((opening) => [opening, examine(opening)]));
    await Promise.race([patience.over, Promise.all(examining.values())]);
    // One of them may have had a lock for a moment that another needed: that must not depend on chance.
    for (const opening of openings.filter(({ error }) => error?.code === 'ERR_STRAKE_IN_USE')) {
      opening.error = null;
      const retried = examine(opening);
      examining.set(opening, retried);
      await Promise.race([patience.over, retried]);
    }
    patience.cancel();
    const chosen = this.choose(examined);
    const late = openings.filter((opening) => opening.error === null && !examined.has(opening));
    const opened = chosen.map(([opening, found]) => this.openStore(link, opening, found));
    const recovery = after(options.waitMs);
    await Promise.race([recovery.over, Promise.all(opened)]);
    recovery.cancel();
    this.sortFacts(chosen.map(([, { superblock }]) => superblock.deviceId));
    // Recovery may take its time; every operation of it has a limit. Without any device there is nothing to go on with.
    if (this.facts.size === 0) await Promise.race([firstOf(opened), Promise.all(opened)]);
    chosen.forEach(([opening], at) => {
      if (!this.openings.has(opening) || opening.error !== null) return;
      void opened[at].then((deviceId) => (deviceId === null ? undefined : this.takeBack(opening, deviceId)));
    });
    for (const opening of late) {
      void examining.get(opening)?.then(() => this.join(opening, examined.get(opening)));
    }
  }

  /** Puts what is known of devices in the order of `ids`, in which a new shard is to open them again. */
  private sortFacts(ids: readonly string[]): void {
    for (const deviceId of ids) {
      const facts = this.facts.get(deviceId);
      if (facts === undefined || !this.facts.delete(deviceId)) continue;
      this.facts.set(deviceId, facts);
    }
  }

  /** Opens a device and reads who it is. Returns null, with the reason noted, if it cannot be used. */
  private async examine(opening: Opening, skipUnformatted: boolean): Promise<Examined | null> {
    const { path, expected } = opening;
    let handle: number | null = null;
    try {
      const opened = expected === null ? await openDeviceFile(path, false) : await reopenNative(expected, false);
      handle = opened.handle;
      if (handle === null) throw new StrakeError('NOT_A_DEVICE', `${path} keeps nothing, so no node can use it`);
      const superblock = await readSuperblock(path, handle, opened.facts.sizeBytes);
      opening.deviceId = superblock.deviceId;
      if (this.closed) throw closedError();
      return { path, handle, facts: opened.facts, superblock };
    } catch (error) {
      abandonNative(handle);
      const unformatted = error instanceof StrakeError && error.code === 'ERR_STRAKE_NOT_FORMATTED';
      if (unformatted && skipUnformatted) {
        this.openings.delete(opening);
        this.note({ kind: 'device-skipped', text: `${path} is left alone: it holds no Strake superblock` });
      }
      opening.error = toStrakeError(error);
      await this.learnId(opening);
      this.noteUnavailable(opening);
      return null;
    }
  }

  /** Of a device that must not be written to it can still be told which it is. */
  private async learnId(opening: Opening): Promise<void> {
    const code = opening.error?.code;
    if (opening.deviceId !== null || (code !== 'ERR_STRAKE_READ_ONLY' && code !== 'ERR_STRAKE_NO_PERMISSION')) return;
    try {
      const { handle, facts } = await openDeviceFile(opening.path, true);
      try {
        opening.deviceId = (await readSuperblock(opening.path, handle, facts.sizeBytes)).deviceId;
      } finally {
        abandonNative(handle);
      }
    } catch {
      // It stays unknown.
    }
  }

  private choose(examined: ReadonlyMap<Opening, Examined>): [Opening, Examined][] {
    // In the order in which they were named, not in that in which they have answered.
    const candidates = [...this.openings].flatMap((opening): [Opening, Examined][] => {
      const found = examined.get(opening);
      return found === undefined ? [] : [[opening, found]];
    });
    const found = candidates.map(([, one]) => one);
    const { storesMax } = this;
    const { clusterId, refused } = chooseDevices(found, this.cluster, storesMax - this.facts.size, storesMax);
    this.cluster = clusterId;
    return candidates.filter(([opening, one]) => {
      const error = refused.get(one);
      if (error === undefined) return true;
      this.fail(opening, one.handle, error);
      return false;
    });
  }

  /** Makes a device that is open a part of the shard's node. Resolves to its id, or null if that failed. */
  private async openStore(link: ShardLink, opening: Opening, found: Examined): Promise<string | null> {
    const { handle, facts, superblock } = found;
    const clusterId = this.cluster || superblock.clusterId;
    const about = { deviceId: superblock.deviceId, clusterId, path: facts.path, leaseMs: this.leaseMs };
    try {
      const message = { handle, geometry: plainGeometry(facts), ...about };
      const { deviceId, shard } = await link.call('openStore', message);
      this.facts.set(deviceId, facts);
      this.shards.set(deviceId, shard);
      this.openings.delete(opening);
      return deviceId;
    } catch (error) {
      const failure = toStrakeError(error);
      if (failure.code === 'ERR_STRAKE_WORKER_DIED') opening.expected = facts;
      this.fail(opening, handle, failure);
      return null;
    }
  }

  private fail(opening: Opening, handle: number, error: StrakeError): void {
    abandonNative(handle);
    opening.error = error;
    this.noteUnavailable(opening);
  }

  private noteUnavailable(opening: Opening): void {
    const { path, deviceId, error, expected } = opening;
    if (this.closed || error === null || !this.openings.has(opening)) return;
    const kind = expected === null ? 'device-unavailable' : 'device-failed';
    this.note({ kind, text: `${path}: ${error.message}`, ...(deviceId === null ? {} : { deviceId }) });
  }

  private nothingOpened(): StrakeError {
    const reasons = this.unavailable();
    if (reasons.length === 0) return new StrakeError('NO_DEVICE', 'none of what was found is a formatted device');
    if (reasons.length === 1) return unavailableError(reasons[0]);
    const there = reasons.filter((one) => one.code !== 'ERR_STRAKE_NOT_FOUND');
    // What is not there says less than what is there and cannot be used.
    const [{ code, remedy }] = there.length > 0 ? there : reasons;
    const alike = (there.length > 0 ? there : reasons).every((one) => one.code === code);
    // All for one reason, that is the error; else it is that each has its own.
    const name = alike ? (code.slice('ERR_STRAKE_'.length) as ErrorName) : 'NO_DEVICE';
    const text = reasons.map((one) => unavailableError(one).message).join('; ');
    return new StrakeError(name, `no device can be opened: ${text}`, { remedy });
  }

  // ---------------------------------------------------------------- later

  /** A device has answered after the node had gone on without it. */
  private async join(opening: Opening, found: Examined | undefined): Promise<void> {
    if (found === undefined) return;
    if (this.closed || !this.openings.has(opening)) {
      abandonNative(found.handle);
      return;
    }
    await this.linked();
    const twin = [...this.openings].find(
      ({ deviceId, error }) => error?.code === 'ERR_STRAKE_WRONG_DEVICE' && deviceId === found.superblock.deviceId,
    );
    if (twin !== undefined || this.link === null) {
      const what = `${opening.path} is the same device as ${twin?.path} (${opening.deviceId}): one of them is a copy`;
      this.fail(opening, found.handle, twin === undefined ? closedError() : new StrakeError('WRONG_DEVICE', what));
      return;
    }
    const deviceId = await this.openStore(this.link, opening, found);
    if (deviceId !== null) await this.takeBack(opening, deviceId);
  }

  private async takeBack({ path }: Opening, deviceId: string): Promise<void> {
    await this.linked();
    try {
      await this.link?.call('takeBack', { deviceId });
      this.note({ kind: 'device-joined', text: `${path} has answered, and is a part of the node now`, deviceId });
    } catch (error) {
      if (!this.closed)
        this.note({ kind: 'device-failed', text: `${path}: ${toStrakeError(error).message}`, deviceId });
    }
  }

  private linked(): Promise<void> {
    return this.link !== null || this.closed ? Promise.resolve() : this.linkChanged.next();
  }

  /**
   * Opens one more device. Rejects with `ERR_STRAKE_IN_USE` if it is open already, and with `ERR_STRAKE_TIMED_OUT` if it has not
   * answered in time; with `joins` it becomes a part of the node when it does. `letGo` takes a device out of the node that
   * has failed, and so may come back, and tells whether it has.
   */
  async open(
    link: ShardLink,
    path: string,
    { joins, letGo }: { readonly joins: boolean; readonly letGo: (deviceId: string) => Promise<boolean> },
  ): Promise<string> {
    const { key } = await within(identifyDevice(path), path);
    const holder = this.openWithKey(key);
    if (holder !== undefined && !(await letGo(holder))) throw this.openAlready(path, holder);
    const before = [...this.openings].filter((opening) => opening.key === key);
    if (before.some(({ error }) => error === null)) {
      throw new StrakeError('IN_USE', `${path} is being opened by this node already, and has not answered yet`, {
        remedy: 'Wait: it becomes a part of the node when it answers.',
      });
    }
    const opening = new Opening(path, key);
    const late = (found: Examined | null) => {
      if (joins) void this.join(opening, found ?? undefined);
      else abandonNative(found?.handle ?? null);
    };
    try {
      const found = await within(this.examine(opening, false), path, late);
      if (found === null) throw opening.error;
      const { deviceId: id } = found.superblock;
      if (this.facts.has(id)) await letGo(id);
      const deviceId = await this.openStore(link, opening, found);
      if (deviceId === null) throw opening.error;
      for (const old of before) this.openings.delete(old);
      return deviceId;
    } catch (error) {
      for (const old of before) {
        if (opening.error === null) this.openings.delete(old);
        else old.error = opening.error;
      }
      if (opening.error === null && joins) this.openings.add(opening);
      throw error;
    }
  }

  private openAlready(path: string, deviceId: string): StrakeError {
    const known = this.facts.get(deviceId)?.path;
    const what = known === path ? '' : `, as ${known}`;
    return new StrakeError('IN_USE', `${path} is in use by this node: it has it already${what} (device ${deviceId})`, {
      remedy: 'Nothing has to be done: it is a part of the node.',
    });
  }

  /** Nothing joins any more; what answers late is closed. */
  close(): void {
    this.closed = true;
    this.linkChanged.tell();
  }
}

function closedError(): StrakeError {
  return new StrakeError('CLOSED', 'the node is closed');
}

/** Resolves after a time, unless it is cancelled. */
function after(milliseconds: number): { readonly over: Promise<void>; cancel(): void } {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds);
  });
  return { over, cancel: () => clearTimeout(timer) };
}

/** Resolves when one of them has resolved with an id. */
function firstOf(opened: readonly Promise<string | null>[]): Promise<void> {
  return new Promise((resolve) => {
    for (const one of opened) void one.then((deviceId) => deviceId !== null && resolve());
  });
}
