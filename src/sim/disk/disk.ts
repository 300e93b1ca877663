/**
 * A simulated disk: what is durable, what can be read, and what a crash may leave.
 *
 * ```text
 *   durable ──► image that survives every crash
 *   ended   ──► modifications that have completed and are not durable, in the order of their completion
 *   flying  ──► modifications in flight, in the order of submission
 *   current ──► image that reads see: durable + ended + whatever of `flying` has already landed
 * ```
 *
 * Invariants:
 * - What is readable follows the order of completion; a modification in flight may show in part, sector by sector.
 * - When nothing is in flight, what is readable is `durable` overwritten by `ended`, so a sync makes all of it durable.
 * - A sync makes durable what had completed when it was started, a modification with FUA only itself. Neither brings back
 *   what a later completion has overwritten.
 *
 * A power cut leaves of each sector either the durable content or that of any modification not yet durable, except one
 * older than a durable one by completion. Sectors choose independently of each other. A kill (the death of the process)
 * leaves what can be read, and each modification in flight wholly or not at all.
 *
 * Not modelled: a device that, after a failed sync, drops writes which a later sync then claims to cover.
 */

import { BLOCK_BYTES, SECTOR_BYTES } from '../../core/limits.js';
import type { DeviceGeometry } from '../../ports/device.js';
import { SimRandom } from '../world/random.js';
import { BytePool } from './byte-pool.js';
import { choice, choices, type Decide, keyOf } from './crash-choices.js';
import { SimFaults } from './faults.js';
import { SimImage } from './image.js';
import { apply, eachRun, type Keep, overlap, type SimWrite } from './write.js';

/** Of all disks: trials come one after another, with new ones each. */
const PAYLOADS = new BytePool();

/** One of the images that a power cut may leave. */
export interface SimCrash {
  /** Which one: a name among those of this instant. */
  readonly origin: string;
  /**
   * What it keeps. Of a disk and its clones, equal for equal images as long as what is durable stays the same; undefined where
   * chance chooses.
   */
  readonly key: string | undefined;
  /** The image, as a disk. */
  disk(): SimDisk;
}

export interface SimDiskSettings {
  readonly sizeBytes: number;
  /** Default 512. */
  readonly logicalBlockBytes?: number;
  /** Default: a block. */
  readonly physicalBlockBytes?: number;
  /** Default true. */
  readonly discard?: boolean;
  /** Default 0: zeroes are written. */
  readonly writeZeroesMaxBytes?: number;
}

/** How a power cut went, in sectors that were not durable, counted once for each modification. */
export interface SimCut {
  readonly kept: number;
  readonly lost: number;
}

export class SimDisk {
  readonly geometry: DeviceGeometry;
  readonly faults = new SimFaults();
  /** Memory for what is written. */
  readonly payloads = PAYLOADS;
  /** Whether the disk has gone: everything fails with EIO. */
  vanished = false;
  /** The probability that what is in flight lands when its process is killed. */
  landing = 0.5;
  /** Which of the possible images of a crash this is; empty for others. */
  origin = '';
  /** Counts crashes: operations of an earlier generation never end. */
  generation = 0;
  /** Whether a device is open on it. */
  attached = false;
  /** Called when the power is cut, or whoever used the disk is gone: operations of before use no memory any more. */
  onCrash: () => void = () => {};
  /** Called before something becomes durable: whoever looks at what a crash may leave finds the most choices then. */
  onDurable: () => void = () => {};
  /** Whether a clone has the same modifications, so that their payloads are not given back. */
  private shared = false;
  private numbered = 0;
  private durable: SimImage;
  private current: SimImage;
  private ended: SimWrite[] = [];
  private flying: SimWrite[] = [];
  /** Modifications that have left `ended` at its front. */
  private settled = 0;

  constructor(settings: SimDiskSettings) {
    this.geometry = {
      sizeBytes: settings.sizeBytes,
      logicalBlockBytes: settings.logicalBlockBytes ?? SECTOR_BYTES,
      physicalBlockBytes: settings.physicalBlockBytes ?? BLOCK_BYTES,
      discard: settings.discard ?? true,
      writeZeroesMaxBytes: settings.writeZeroesMaxBytes ?? 0,
    };
    this.durable = new SimImage(settings.sizeBytes);
    this.current = this.durable.clone();
  }

  /** A disk in the same state, with nothing attached, and without the rules for faults. */
  clone(): SimDisk {
    const copy = this.withContent(this.durable.clone());
    copy.current = this.current.clone();
    this.shared = true;
    copy.shared = true;
    copy.ended = this.ended.map((write) => ({ ...write }));
    copy.flying = this.flying.map((write) => ({ ...write }));
    copy.settled = this.settled;
    copy.numbered = this.numbered;
    return copy;
  }

  private withContent(image: SimImage): SimDisk {
    const disk = new SimDisk({ ...this.geometry, sizeBytes: 0 });
    (disk as { geometry: DeviceGeometry }).geometry = this.geometry;
    disk.durable = image;
    disk.current = image.clone();
    disk.landing = this.landing;
    return disk;
  }

  /** What a read of this range would return now, if nothing in flight landed first; in `bytes`, if they are given. */
  peek(offsetBytes: number, lengthBytes: number, bytes = new Uint8Array(lengthBytes)): Uint8Array {
    this.current.read(offsetBytes, lengthBytes, bytes, 0);
    return bytes;
  }

  /** What of this range is durable. */
  peekDurable(offsetBytes: number, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    this.durable.read(offsetBytes, lengthBytes, bytes, 0);
    return bytes;
  }

  /** Puts bytes on the disk, durably, behind everybody's back. */
  poke(offsetBytes: number, bytes: Uint8Array): void {
    this.current.write(offsetBytes, bytes.length, bytes, 0);
    this.durable.write(offsetBytes, bytes.length, bytes, 0);
  }

  /** Flips a bit (0 to 7) of the byte at `offsetBytes`, at rest: in what is readable, and in what is durable. */
  flipBit(offsetBytes: number, bit: number): void {
    for (const image of [this.current, this.durable]) {
      const byte = new Uint8Array(1);
      image.read(offsetBytes, 1, byte, 0);
      byte[0] ^= 1 << bit;
      image.write(offsetBytes, 1, byte, 0);
    }
  }

  /** Modifications in flight. */
  get inFlight(): number {
    return this.flying.length;
  }

  /** Modifications that a power cut decides about. */
  get undurable(): number {
    return this.undecided().filter((write) => !write.durable).length;
  }

  /** What a power cut decides about: the key of the crash that keeps all of it. */
  get undurableKey(): string {
    return keyOf(this.undecided(), () => true);
  }

  /** A number that differs for other durable contents, up to chance. */
  digest(): number {
    return this.durable.digest();
  }

  /** For devices: a modification has been handed over. */
  begin(write: SimWrite): void {
    this.numbered += 1;
    write.number = this.numbered;
    this.flying.push(write);
  }

  /** For devices: a modification has ended; `durable` if it had FUA. */
  finish(write: SimWrite, durable: boolean): void {
    if (durable) this.onDurable();
    remove(this.flying, this.flying.indexOf(write), 1);
    apply(this.current, write, null);
    if (durable) {
      apply(this.durable, write, null);
      if (!this.ended.some((other) => overlap(other, write.offset, write.length))) {
        this.forget(write);
        return;
      }
      write.durable = true;
    }
    this.ended.push(write);
  }

  /** It is durable, and nothing that it has overwritten can come back. */
  private forget(write: SimWrite): void {
    if (write.data !== null && !this.shared) this.payloads.give(write.data);
  }

  /** For devices: a mark of all that has ended until now, for `promote`. */
  mark(): number {
    return this.settled + this.ended.length;
  }

  /** For devices: a sync that was started at `mark` has ended. */
  promote(mark: number): void {
    const count = mark - this.settled;
    if (count <= 0) return;
    this.onDurable();
    for (let index = 0; index < count; index += 1) {
      apply(this.durable, this.ended[index], null);
      this.forget(this.ended[index]);
    }
    remove(this.ended, 0, count);
    this.settled += count;
    for (const write of this.ended) if (write.durable) apply(this.durable, write, null);
  }

  /** For devices: a read as of now. Lets overlapping modifications in flight land wholly, in part or not before it. */
  read(offset: number, length: number, target: Uint8Array, at: number, random: SimRandom): void {
    for (const write of this.flying) {
      if (!overlap(write, offset, length)) continue;
      const part = random.below(4);
      if (part > 1) continue;
      write.seen = true;
      apply(this.current, write, part === 0 ? null : () => random.chance(0.5));
    }
    this.current.read(offset, length, target, at);
  }

  /** For devices: whether the page at `offset` is allocated. */
  allocated(offset: number): boolean {
    return this.current.allocated(offset);
  }

  /** Sectors (offset / 512) whose content depends on a power cut, with the number of modifications that may survive. */
  volatileSectors(): Map<number, number> {
    const sectors = new Map<number, number>();
    for (const write of this.undecided()) {
      eachRun(write, null, (at, bytes) => {
        const first = (write.offset + at) / SECTOR_BYTES;
        for (let sector = first; sector < first + bytes / SECTOR_BYTES; sector += 1) {
          if (write.durable) sectors.delete(sector);
          else sectors.set(sector, (sectors.get(sector) ?? 0) + 1);
        }
      });
    }
    return sectors;
  }

  /** All that a crash decides about, in the order in which it is applied, with what is durable in between. */
  private undecided(): SimWrite[] {
    return this.ended.concat(this.flying);
  }

  private crashed(writes: readonly SimWrite[], keep: Keep): SimImage {
    const image = this.durable.clone();
    for (const write of writes) apply(image, write, write.durable ? null : keep);
    return image;
  }

  /**
   * Cuts the power: what is not durable survives by chance, sector by sector. Everything in flight is gone; its completions
   * never arrive. Afterwards a new device can be opened on the disk.
   */
  powerCut(random: SimRandom): SimCut {
    const choose = choice(random);
    let kept = 0;
    let lost = 0;
    const image = this.crashed(this.undecided(), (write, sector) => {
      const keep = choose(write, sector);
      if (keep) kept += 1;
      else lost += 1;
      return keep;
    });
    this.crash();
    this.durable = image;
    this.current = image.clone();
    this.settled += this.ended.length;
    this.ended = [];
    return { kept, lost };
  }

  /** Another disk, as a power cut might leave this one, which is left as it is. */
  sample(random: SimRandom): SimDisk {
    return this.withContent(this.crashed(this.undecided(), choice(random)));
  }

  /** Ends whoever uses the disk: what is in flight lands wholly or not at all, and what has completed can be read. */
  kill(random: SimRandom): void {
    for (const write of this.flying) {
      if (!write.seen && random.chance(1 - this.landing)) continue;
      apply(this.current, write, null);
      this.ended.push(write);
    }
    this.crash();
  }

  private crash(): void {
    this.flying = [];
    this.generation += 1;
    this.attached = false;
    this.onCrash();
  }

  /** The images of `crashes` as disks, at most `limit` (default 10 000). */
  *crashImages(options: { limit?: number; random?: SimRandom } = {}): Generator<SimDisk, void, undefined> {
    let left = options.limit ?? 10_000;
    for (const crash of this.crashes(options.random)) {
      if (left === 0) return;
      left -= 1;
      yield crash.disk();
    }
  }

  /**
   * What a power cut now might leave. First each prefix of the modifications that are not durable, each alone and all but each;
   * then each torn, with those before it and with all others; then all other subsets, if there are at most 12 modifications;
   * then each block of the long ones torn in every way. If there are more than 12, such as `random` chooses follow, without end.
   *
   * The images are those of now, whenever they are asked for, as long as the disk is not used.
   */
  *crashes(random = new SimRandom(0)): Generator<SimCrash, void, undefined> {
    const writes = this.undecided();
    const open = writes.filter((write) => !write.durable);
    for (const choice of choices(open, random)) {
      const { origin, decide, tear } = choice;
      const key = decide === null ? undefined : keyOf(writes, decide) + tear;
      const disk = () => {
        const image = decide === null ? this.crashed(writes, choice.keep) : this.decided(writes, decide);
        const crashed = this.withContent(image);
        crashed.origin = origin;
        return crashed;
      };
      yield { origin, key, disk };
    }
  }

  private decided(writes: readonly SimWrite[], decide: Decide): SimImage {
    const image = this.durable.clone();
    let place = 0;
    for (const write of writes) {
      const kept = write.durable || decide(place);
      if (!write.durable) place += 1;
      if (kept === true) apply(image, write, null);
      else if (kept !== false) apply(image, write, (_write, sector) => kept(sector));
    }
    return image;
  }
}

/** Removes so many modifications; `splice` would make a list of them, and let go of room that is used again at once. */
function remove(writes: SimWrite[], at: number, count: number): void {
  for (let next = at + count; next < writes.length; next += 1) writes[next - count] = writes[next];
  for (let left = count; left > 0; left -= 1) writes.pop();
}
