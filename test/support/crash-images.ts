/**
 * Enumeration of crashes: of each instant of a workload every image that a power cut may leave, each of them recovered and
 * judged.
 *
 * An instant with at most 12 undecided writes is *exhaustive* if all subsets of them, and every tear of each write of up to
 * one block and of each block of longer ones, with those before and with all others, have been judged. Others are *sampled*.
 * Images that are equal are recovered once; what was found is held against what is allowed at each instant that may leave them.
 *
 * Of each image: `fsck` finds nothing that a crash must not leave; it opens; each sector of each block, each segment and each
 * volume is what it may be; what a flush has covered is not even suspect; slots and segments agree. Of some, as their digest
 * tells: the power fails again at each instant of recovery, and what is found then is the same; and the store can be written
 * to, closed, and opened again.
 */

import type { SimCrash, SimDisk } from '#strake/sim/disk/disk.js';
import { SimRandom } from '#strake/sim/world/random.js';
import type { FsckVerdict } from '#strake/store/checking/fsck.js';
import { contentOf, type Found, type Instant, judge, Life, openOn } from './crash-life.js';
import { WORKLOADS, type Workload } from './crash-workloads.js';
import { fsck } from './damaged-store.js';
import { CLOSED, CRASHED } from './fsck.js';

/** More undecided writes than this are not enumerated; see `SimDisk.crashes`. */
const EXHAUSTIVE_MAX = 12;
/** Crashes that are chosen of an instant with more. */
const CHOSEN = 400;
/** One image in so many is recovered with further cuts unless it is told otherwise, one in so many of these with all that are possible. */
const AGAIN_ONE_IN = 64;
const AGAIN_FULLY_ONE_IN = 256;
/** One image in so many is used afterwards. */
const USED_ONE_IN = 32;
/** A workload that fails so often has told enough. */
const FAILURES_MAX = 5;

export interface CrashCounts {
  /** Images that were judged, counted at each instant that may leave them. */
  images: number;
  /** Images that were recovered: no two of one workload are equal. */
  recovered: number;
  /** Those among them that were left by a cut during recovery. */
  ofRecovery: number;
  instants: number;
  exhaustive: number;
  sampled: number;
  readonly failures: string[];
}

export interface CrashOptions {
  readonly seed: number;
  readonly workload: Workload;
  /** Images of one instant that are recovered; more are sampled. Default: all. */
  readonly perInstant?: number;
  /** One image in so many is recovered with further cuts; default: 64. */
  readonly againOneIn?: number;
  /** Only this one: 'INSTANT/ORIGIN', as a failure names it. */
  readonly only?: string;
  /** Told the digest of each image to recover, some of which may be equal to those of other workloads; may be waited for. */
  readonly onImage?: (digest: number) => unknown;
}

export class CrashEnumeration {
  readonly counts: CrashCounts = {
    images: 0,
    recovered: 0,
    ofRecovery: 0,
    instants: 0,
    exhaustive: 0,
    sampled: 0,
    failures: [],
  };
  private readonly options: CrashOptions;
  private readonly random: SimRandom;
  /** Digests by what images keep of what was durable. */
  private readonly keys = new Map<string, number>();
  /** Images since the last whose recovery was cut off. */
  private uncut = 0;
  /** What was found on images, by digest; each content once. */
  private readonly found = new Map<number, Found | null>();
  private readonly contents = new Map<string, Found>();

  constructor(options: CrashOptions) {
    this.options = options;
    this.random = new SimRandom(options.seed, WORKLOADS.indexOf(options.workload));
  }

  async run(): Promise<CrashCounts> {
    const { seed, workload } = this.options;
    const life = new Life(seed, this.random.fork('work'), workload);
    try {
      await life.begin();
      await workload.prepare?.(life);
      life.recording = true;
      await workload.work(life);
    } catch (error) {
      this.counts.failures.push(`seed ${seed}, ${workload.name}: without a crash: ${(error as Error).stack}`);
      return this.counts;
    }
    for (const [number, instant] of life.instants.entries()) {
      if (this.done) break;
      await this.enumerate(instant, number);
    }
    return this.counts;
  }

  private get againOneIn(): number {
    return this.options.againOneIn ?? AGAIN_ONE_IN;
  }

  private get done(): boolean {
    return this.counts.failures.length >= FAILURES_MAX;
  }

  /** All images of one instant. */
  private async enumerate(instant: Instant, number: number): Promise<void> {
    const { counts, options } = this;
    const random = new SimRandom(options.seed, number);
    const durable = instant.disk.digest();
    const all = instant.disk.undurable <= EXHAUSTIVE_MAX;
    const fresh: SimCrash[] = [];
    const known = new Map<Found, string>();
    for (const crash of instant.disk.crashes(random)) {
      const digest = this.keys.get(`${durable} ${crash.key}`);
      if (digest === undefined) fresh.push(crash);
      else {
        counts.images += 1;
        const content = this.found.get(digest);
        if (content && !known.has(content)) known.set(content, crash.origin);
      }
      if (!all && crash.origin === `random ${CHOSEN}`) break;
    }
    const limit = Math.min(options.perInstant ?? Number.POSITIVE_INFINITY, all ? Number.POSITIVE_INFINITY : CHOSEN);
    const chosen = options.only === undefined && fresh.length > limit ? chooseCrashes(fresh, limit, random) : fresh;
    for (const [content, origin] of known) this.hold(content, instant, `${number}/${origin}`);
    for (const crash of chosen) {
      if (this.done) return;
      const name = `${number}/${crash.origin}`;
      const { only } = options;
      if (only !== undefined && only !== name && !only.startsWith(`${name}/`)) continue;
      counts.images += 1;
      const content = await this.contentOf(crash, durable, number, name);
      if (content !== null && !known.has(content)) this.hold(content, instant, name);
    }
    if (options.only !== undefined) return;
    counts.instants += 1;
    if (all && chosen.length === fresh.length) counts.exhaustive += 1;
    else counts.sampled += 1;
  }

  /** What is found on an image; null if that was a failure. */
  private async contentOf(crash: SimCrash, durable: number, number: number, name: string): Promise<Found | null> {
    const disk = crash.disk();
    const digest = disk.digest();
    if (crash.key !== undefined) this.keys.set(`${durable} ${crash.key}`, digest);
    const before = this.found.get(digest);
    if (before !== undefined) return before;
    let content: Found | null = null;
    try {
      content = await this.recover(disk, this.seedOf(number));
      if (this.isCutAgain(digest, name)) await this.cutAgain(crash, content, number, name, digest);
      if (digest % USED_ONE_IN === 1) await this.use(crash, content, number);
    } catch (error) {
      this.fail(name, error as Error);
    }
    this.found.set(digest, content);
    return content;
  }

  /** One image in so many, and never none of many more; and the one of which an image of the second cut is asked for by name. */
  private isCutAgain(digest: number, name: string): boolean {
    if (this.options.only?.startsWith(`${name}/`)) return true;
    this.uncut += 1;
    if (digest % this.againOneIn !== 0 && this.uncut < 2 * this.againOneIn) return false;
    this.uncut = 0;
    return true;
  }

  private seedOf(number: number): number {
    return Math.imul(this.options.seed, 0x9e37_79b1) + number;
  }

  /** Checks, opens and reads an image. */
  private async recover(disk: SimDisk, seed: number): Promise<Found> {
    this.counts.recovered += 1;
    await this.options.onImage?.(disk.digest());
    await demandVerdict(disk, CRASHED);
    const content = await contentOf(await openOn(disk, seed, this.options.workload.bounds));
    const whole = `${content.text}; ${content.suspects}`;
    const before = this.contents.get(whole);
    if (before !== undefined) return before;
    this.contents.set(whole, content);
    return content;
  }

  private hold(content: Found, instant: Instant, name: string): void {
    const wrong = judge(content, instant.expected);
    if (wrong !== '') this.fail(name, new Error(wrong));
  }

  /** Cuts the power during recovery, and holds what is found then against what was found without. */
  private async cutAgain(crash: SimCrash, content: Found, number: number, name: string, digest: number) {
    const { bounds } = this.options.workload;
    const disk = crash.disk();
    const instants: SimDisk[] = [];
    let last = '';
    const record = () => {
      const state = `${disk.digest()} ${disk.undurableKey}`;
      if (state !== last) instants.push(disk.clone());
      last = state;
    };
    disk.onDurable = record;
    await openOn(disk, this.seedOf(number) + 1, bounds, record);
    record();
    const fully = digest % (this.againOneIn * AGAIN_FULLY_ONE_IN) === 0;
    for (const [place, instant] of instants.entries()) {
      const images = fully && instant.undurable <= EXHAUSTIVE_MAX ? instant.crashes() : [sampleOf(instant, place)];
      for (const image of images) {
        if (this.done) return;
        await this.recoverAgain(image, content, number, `${name}/${place}/${image.origin}`);
      }
    }
  }

  private async recoverAgain(crash: SimCrash, content: Found, number: number, name: string): Promise<void> {
    const { only } = this.options;
    if (only?.startsWith(`${name.split('/').slice(0, 2).join('/')}/`) && only !== name) return;
    const disk = crash.disk();
    const digest = disk.digest();
    const before = this.found.get(digest);
    if (before === null) return;
    this.counts.images += 1;
    try {
      const again = before ?? (await this.recover(disk, this.seedOf(number) + 2));
      if (before === undefined) this.counts.ofRecovery += 1;
      this.found.set(digest, again);
      if (again.text === content.text) return;
      this.fail(name, new Error(`a second recovery finds\n${again.text}\nand the first one\n${content.text}`));
    } catch (error) {
      this.found.set(digest, null);
      this.fail(name, error as Error);
    }
  }

  /** Writes to a store that was recovered, flushes it, cuts the power or closes it, and reads all of it. */
  private async use(crash: SimCrash, content: Found, number: number): Promise<void> {
    const { workload } = this.options;
    const seed = this.seedOf(number);
    const random = new SimRandom(seed, 3);
    const life = await Life.after(crash.disk(), seed, random, content, workload);
    for (let step = 0; step < 4; step += 1) await life.all(life.worker.one(), life.worker.one());
    await life.all(life.worker.flush());
    if (random.chance(0.5)) {
      await life.cutPower();
    } else {
      await life.close();
      await demandVerdict(life.disk, CLOSED);
      await life.open();
      await life.check();
    }
  }

  private fail(name: string, error: Error): void {
    const { seed, workload } = this.options;
    const what = `seed ${seed}, image '${workload.name}/${name}': ${error.message}`;
    this.counts.failures.push(
      error.message.includes('\n') || error.name === 'Error' ? what : `${what}\n${error.stack}`,
    );
  }
}

/** Some of them: as many with whole writes as others, of which there are more. */
function chooseCrashes(crashes: readonly SimCrash[], count: number, random: SimRandom): SimCrash[] {
  const whole = crashes.filter(({ origin }) => origin.startsWith('kept'));
  const others = crashes.filter(({ origin }) => !origin.startsWith('kept'));
  const wholeCount = Math.min(whole.length, Math.max(Math.ceil(count / 2), count - others.length));
  return [...choose(whole, wholeCount, random), ...choose(others, count - wholeCount, random)];
}

/** Some of them, in their order. */
function choose<Item>(items: readonly Item[], count: number, random: SimRandom): Item[] {
  let left = count;
  return items.filter((_item, index) => {
    const taken = random.below(items.length - index) < left;
    if (taken) left -= 1;
    return taken;
  });
}

/** One of the images of an instant. */
function sampleOf(instant: SimDisk, seed: number): SimCrash {
  return { origin: 'sample', key: undefined, disk: () => instant.sample(new SimRandom(seed)) };
}

/** Throws unless `fsck` comes to one of these. */
async function demandVerdict(disk: SimDisk, allowed: readonly FsckVerdict[]): Promise<void> {
  const { verdict, problems } = await fsck(disk, true);
  if (!allowed.includes(verdict)) throw new Error(`fsck: ${verdict}: ${problems.map(({ text }) => text).join('; ')}`);
}
