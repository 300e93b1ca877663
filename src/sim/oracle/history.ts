/**
 * What clients asked of a volume and what they were answered, held against what a volume promises (`docs/durability.md`):
 *
 * - each sector is linearizable, and so is each block that was only ever written whole;
 * - the death of the process takes nothing that was acknowledged;
 * - when all copies lose power, each sector keeps a version that nothing durable has overwritten: a flush makes durable what
 *   was acknowledged before it began, FUA makes its own write durable;
 * - a trim is a zeroing of the whole blocks in its range;
 * - an operation that was answered with an error, or not at all, may be done or not, sector by sector;
 * - once a writer has taken the place of others, nothing that these were asked for takes effect any more, whatever they
 *   answer.
 *
 * Values are unique for each write; zeroes are the value 0. What was read is looked up among the versions of its block at
 * once: a value that was never written, or overwritten long ago, is found then. A `checkpoint` finds wrong orders, and forgets
 * what nothing can bring back, so that memory is bounded by what is written between two flushes. All that is wrong is thrown
 * as a `HistoryViolation`.
 *
 * Calls are made in the order of what they tell, which counts where times are equal. Times are in microseconds, virtual
 * or real, and do not go back.
 */

import { BlockCheck } from './block-check.js';
import { HistoryReport, type HistoryViolation } from './history-report.js';
import {
  KIND_FLUSH,
  KIND_READ,
  KIND_TRIM,
  KIND_WRITE,
  KIND_ZERO,
  Operations,
  STATE_ACKNOWLEDGED,
  STATE_FAILED,
  STATE_PENDING,
  STATE_UNANSWERED,
} from './operations.js';
import { GARBAGE, Payload, SECTOR_BYTES } from './payload.js';
import { BLOCK_SECTORS, VERSION_OPEN_READ, VERSION_READ, Versions, WHOLE } from './versions.js';

/** Apart are two events with the same time. */
const TICK = 2 ** -10;
const NEVER = Number.NEGATIVE_INFINITY;
/** Versions before a checkpoint is due by itself. */
const VERSIONS_BEFORE_CHECKPOINT = 1 << 12;

export interface HistoryOptions {
  readonly sectors: number;
  /** Default: unsealed, with the tag 0. */
  readonly payload?: Payload;
  /** Whether there will be power cuts; default true. If not, what is acknowledged needs no flush to be forgotten about. */
  readonly losesPower?: boolean;
}

export class VolumeHistory {
  readonly sectors: number;
  readonly payload: Payload;
  private readonly losesPower: boolean;
  private readonly operations = new Operations();
  private readonly versions: Versions;
  private readonly checks: BlockCheck;
  private readonly report: HistoryReport;
  /** What was read of a block's sectors. */
  private readonly found = new Int32Array(BLOCK_SECTORS);
  /** Who carries out what is begun from now on. */
  writer = 0;
  private time = 0;
  private lastValue = 0;
  private flushedAtCheckpoint = NEVER;
  private checkpointDue = VERSIONS_BEFORE_CHECKPOINT;

  constructor({ sectors, payload = new Payload(), losesPower = true }: HistoryOptions) {
    this.sectors = sectors;
    this.payload = payload;
    this.losesPower = losesPower;
    this.versions = new Versions(this.operations, sectors);
    this.checks = new BlockCheck(this.operations, this.versions, losesPower);
    this.report = new HistoryReport(this.operations, this.versions, this.checks);
  }

  /** Checks whose answer was taken to be good, as they took too long. */
  get undecided(): number {
    return this.checks.register.undecided;
  }

  /** Versions that are kept. */
  get kept(): number {
    return this.versions.length;
  }

  // What clients ask for. Each returns what its end is told with.

  /** `value`: 1 to 2^31 - 1, used once; by default the next that has not been used. `valueOf` tells it. */
  beginWrite(sector: number, count: number, fua: boolean, now: number, value = this.lastValue + 1): number {
    this.lastValue = Math.max(this.lastValue, value);
    return this.beginChange(KIND_WRITE, value, sector, count, fua, now);
  }

  beginZero(sector: number, count: number, fua: boolean, now: number): number {
    return this.beginChange(KIND_ZERO, 0, sector, count, fua, now);
  }

  beginTrim(sector: number, count: number, fua: boolean, now: number): number {
    const first = Math.ceil(sector / BLOCK_SECTORS) * BLOCK_SECTORS;
    const end = Math.floor((sector + count) / BLOCK_SECTORS) * BLOCK_SECTORS;
    return this.beginChange(KIND_TRIM, 0, first, Math.max(0, end - first), fua, now);
  }

  beginRead(sector: number, count: number, now: number): number {
    return this.operations.begin(KIND_READ, 0, sector, count, this.tick(now), this.writer);
  }

  beginFlush(now: number): number {
    return this.operations.begin(KIND_FLUSH, 0, 0, 0, this.tick(now), this.writer);
  }

  valueOf(operation: number): number {
    return this.operations.value[operation];
  }

  /** Puts what the write is of into `bytes`. */
  fill(operation: number, bytes: Uint8Array, at: number): void {
    const { count, sector, value } = this.operations;
    this.payload.fill(bytes, at, sector[operation], count[operation], value[operation]);
  }

  /** A write, zeroing, trim or flush is answered; `good` if without an error. */
  end(operation: number, good: boolean, now: number): void {
    this.operations.end(operation, good, this.tick(now));
    const isDoubtful = !good || this.operations.crossed[operation] === 1;
    if (this.operations.kind[operation] === KIND_FLUSH) {
      if (!isDoubtful)
        this.checks.flushedBefore = Math.max(this.checks.flushedBefore, this.operations.began[operation]);
    } else if (isDoubtful) this.splitBlocks(operation);
  }

  /** A read is answered with these bytes. */
  endRead(operation: number, bytes: Uint8Array, at: number, now: number): void {
    const { count, sector } = this.operations;
    this.operations.end(operation, true, this.tick(now));
    if (this.operations.crossed[operation] === 1) return;
    const end = sector[operation] + count[operation];
    for (let from = sector[operation]; from < end; ) {
      const block = Math.floor(from / BLOCK_SECTORS);
      const to = Math.min(end, (block + 1) * BLOCK_SECTORS);
      this.readBytes(operation, block, from, to - from, bytes, at + (from - sector[operation]) * SECTOR_BYTES);
      from = to;
    }
  }

  /** A read is answered with these values, one for each sector. */
  endReadValues(operation: number, values: ArrayLike<number>, now: number): void {
    const { count, sector } = this.operations;
    this.operations.end(operation, true, this.tick(now));
    if (this.operations.crossed[operation] === 1) return;
    const first = sector[operation];
    const end = first + count[operation];
    for (let from = first; from < end; ) {
      const block = Math.floor(from / BLOCK_SECTORS);
      const to = Math.min(end, (block + 1) * BLOCK_SECTORS);
      for (let each = from; each < to; each += 1) this.found[each % BLOCK_SECTORS] = values[each - first];
      this.readValues(operation, block, maskOf(from, to - from));
      from = to;
    }
  }

  /** A read is answered with an error: it tells nothing. */
  failRead(operation: number, now: number): void {
    this.operations.end(operation, false, this.tick(now));
  }

  // What happens to all.

  /**
   * A writer serves from now on. What others were asked for takes effect before this, or never; an answer may still come, as it
   * may have been on its way.
   */
  fence(writer: number, now: number): void {
    const time = this.tick(now);
    const { capacity, ended, kind, state, writer: writers } = this.operations;
    for (let slot = 0; slot < capacity; slot += 1) {
      if (writers[slot] === writer || kind[slot] >= KIND_READ || ended[slot] <= time) continue;
      if (state[slot] !== STATE_ACKNOWLEDGED) ended[slot] = time;
    }
  }

  /**
   * The process has died, or of several only that of `writer`. What is under way gets no answer any more, and does nothing any
   * more; what one of several has sent may still arrive, and be seen by those who only read, until another one serves.
   */
  killed(now: number, writer?: number): void {
    const time = this.tick(now);
    const { capacity, ended, kind, state } = this.operations;
    for (let slot = 0; slot < capacity; slot += 1) {
      if (writer !== undefined && this.operations.writer[slot] !== writer) continue;
      const isOver = writer === undefined || kind[slot] >= KIND_READ;
      if (state[slot] === STATE_FAILED && ended[slot] > time && isOver) ended[slot] = time;
      if (state[slot] !== STATE_PENDING) continue;
      state[slot] = STATE_UNANSWERED;
      if (isOver) ended[slot] = time;
      if (kind[slot] < KIND_READ) this.splitBlocks(slot);
    }
  }

  /**
   * All copies have lost power, and the process has died. If `processLives`, what is under way goes on and will be answered:
   * it may have been done before, after, or not at all, whatever the answer, and reads among it tell nothing.
   */
  powerCut(now: number, processLives = false): void {
    if (!this.losesPower) throw new Error('this history was not made for power cuts');
    if (processLives) this.crossAll(this.tick(now));
    else this.killed(now);
    this.checkpoint();
    const time = this.tick(now);
    this.versions.forEachListed((block) => this.checks.losePower(block, time));
    if (processLives) this.listAgain(time);
  }

  private crossAll(time: number): void {
    const { capacity, crossed, ended, state } = this.operations;
    for (let slot = 0; slot < capacity; slot += 1) {
      if (state[slot] === STATE_FAILED && ended[slot] > time) ended[slot] = time;
      if (state[slot] === STATE_PENDING) crossed[slot] = 1;
    }
  }

  /** What goes on may be done from now on, besides what it has done. */
  private listAgain(time: number): void {
    const { capacity, kind, state } = this.operations;
    for (let slot = 0; slot < capacity; slot += 1) {
      if (state[slot] !== STATE_PENDING || kind[slot] >= KIND_READ) continue;
      this.list(slot, time);
      this.splitBlocks(slot);
    }
  }

  /** Finds what fits into no order of effects, and forgets what cannot come back. */
  checkpoint(): void {
    const { checks, versions } = this;
    const horizon = this.operations.firstPendingRead();
    const flushed = checks.flushedBefore > this.flushedAtCheckpoint;
    this.flushedAtCheckpoint = checks.flushedBefore;
    versions.forEachListed((block) => {
      if (versions.touched[block] === 0 && !flushed) return;
      const wrong = checks.check(block, horizon);
      if (wrong !== 0) throw this.report.contradiction(block * BLOCK_SECTORS + lowestBit(wrong));
    });
    this.checkpointDue = Math.max(VERSIONS_BEFORE_CHECKPOINT, 2 * versions.length);
  }

  /** What is known of a sector, for people. */
  describe(sector: number): string {
    return this.report.known(sector).join('\n');
  }

  private tick(now: number): number {
    this.time = now > this.time ? now : this.time + TICK;
    return this.time;
  }

  private beginChange(kind: number, value: number, sector: number, count: number, fua: boolean, now: number): number {
    if (sector < 0 || count < 0 || sector + count > this.sectors) throw new Error(`no sectors ${sector} + ${count}`);
    const { operations, versions } = this;
    if (versions.length > this.checkpointDue) this.checkpoint();
    const time = this.tick(now);
    const operation = operations.begin(kind, value, sector, count, time, this.writer);
    operations.fua[operation] = fua ? 1 : 0;
    this.list(operation, time);
    return operation;
  }

  /** Adds versions for all that a modifying operation may do from now on. */
  private list(operation: number, time: number): void {
    const { operations, versions } = this;
    const value = operations.value[operation];
    const sector = operations.sector[operation];
    const end = sector + operations.count[operation];
    for (let from = sector; from < end; ) {
      const block = Math.floor(from / BLOCK_SECTORS);
      const to = Math.min(end, (block + 1) * BLOCK_SECTORS);
      const mask = maskOf(from, to - from);
      const version = versions.add(block, operation, value, mask, 0);
      versions.setTimes(version, time, Number.POSITIVE_INFINITY);
      if (mask !== WHOLE) versions.split[block] = 1;
      from = to;
    }
  }

  /** Sectors of the operation's blocks may differ from now on. */
  private splitBlocks(operation: number): void {
    const { count, sector } = this.operations;
    const end = sector[operation] + count[operation];
    for (let from = sector[operation] & -BLOCK_SECTORS; from < end; from += BLOCK_SECTORS) {
      this.versions.split[from / BLOCK_SECTORS] = 1;
    }
  }

  private readBytes(
    operation: number,
    block: number,
    sector: number,
    count: number,
    bytes: Uint8Array,
    at: number,
  ): void {
    const { found, payload, versions } = this;
    const head = versions.head[block];
    const guess = head < 0 ? versions.settled[sector] : versions.value[head];
    const mask = maskOf(sector, count);
    if (payload.matches(bytes, at, sector, count, guess)) {
      if (head >= 0 || versions.split[block] === 1) this.see(operation, block, mask, guess);
      return;
    }
    for (let index = 0; index < count; index += 1) {
      const from = at + index * SECTOR_BYTES;
      const value = payload.identify(bytes, from, sector + index);
      if (value === GARBAGE) {
        const what = `${this.reader(operation)} returned ${payload.describe(bytes, from, sector + index)}`;
        throw this.report.violation(what, sector + index, GARBAGE);
      }
      found[(sector + index) % BLOCK_SECTORS] = value;
    }
    this.readValues(operation, block, mask);
  }

  /** What was read of the sectors of a block is in `found`. */
  private readValues(operation: number, block: number, mask: number): void {
    const { found } = this;
    const lowest = lowestBit(mask);
    let rest = mask;
    while (rest !== 0) {
      const value = found[lowestBit(rest)];
      let same = 0;
      for (let bit = 0; bit < BLOCK_SECTORS; bit += 1) if ((rest >> bit) & 1 && found[bit] === value) same |= 1 << bit;
      this.see(operation, block, same, value);
      rest &= ~same;
      if (rest !== 0 && this.versions.split[block] === 0) {
        const torn = lowestBit(rest);
        const [one, other] = [found[lowest], found[torn]];
        const what = `${this.reader(operation)} returned a torn block, of values ${one} and ${other}, which was only written whole`;
        throw this.report.violation(what, block * BLOCK_SECTORS + torn, other);
      }
    }
  }

  /** A read has returned `value` in these sectors. */
  private see(operation: number, block: number, mask: number, value: number): void {
    const { versions } = this;
    if (versions.head[block] < 0) {
      for (let rest = mask; rest !== 0; rest &= rest - 1) {
        const sector = block * BLOCK_SECTORS + lowestBit(rest);
        if (versions.settled[sector] !== value) throw this.impossible(operation, sector, value);
      }
      return;
    }
    // A block that is one register has been read as a whole, whatever part of it.
    const wanted = versions.split[block] === 0 ? WHOLE : mask;
    const { next } = versions;
    let [once, twice] = [0, 0];
    for (let version = versions.head[block]; version >= 0; version = next[version]) {
      if (!this.mayBeSeen(version, value)) continue;
      const shared = versions.mask[version] & wanted;
      twice |= once & shared;
      once |= shared;
    }
    if ((wanted & ~once) !== 0) {
      throw this.impossible(operation, block * BLOCK_SECTORS + lowestBit(mask & ~once || mask), value);
    }
    const single = once & ~twice;
    for (let version = versions.head[block]; version >= 0 && single !== 0; version = next[version]) {
      if (!this.mayBeSeen(version, value) || (versions.mask[version] & single) === 0) continue;
      this.attach(operation, block, versions.divide(block, version, single));
    }
    if (twice !== 0) this.seeShared(operation, block, twice, value);
  }

  private mayBeSeen(version: number, value: number): boolean {
    const { flags, value: values } = this.versions;
    return values[version] === value && (flags[version] & VERSION_OPEN_READ) === 0;
  }

  /** A read has returned a value that several versions have. It belongs to the only one that it can have seen, or stays open. */
  private seeShared(operation: number, block: number, mask: number, value: number): void {
    const { versions } = this;
    const one = versions.split[block] === 0;
    for (let rest = mask; rest !== 0; ) {
      const part = one ? rest : this.likeLowest(block, rest);
      rest &= ~part;
      const overwritten = this.latestOverwriter(block, part, this.operations.began[operation]);
      let [candidate, candidates] = [-1, 0];
      for (let version = versions.head[block]; version >= 0; version = versions.next[version]) {
        if (!this.mayBeSeen(version, value) || (versions.mask[version] & part) === 0) continue;
        if (overwritten !== NEVER && versions.endOf(version) <= overwritten) continue;
        candidate = version;
        candidates += 1;
      }
      if (candidates === 0) {
        throw this.impossible(operation, block * BLOCK_SECTORS + lowestBit(part), value);
      }
      if (candidates === 1) this.attach(operation, block, versions.divide(block, candidate, part));
      else {
        const { answered, began } = this.operations;
        const version = versions.add(block, -1, value, part, VERSION_OPEN_READ);
        versions.setTimes(version, began[operation], answered[operation]);
      }
    }
  }

  /** Of these sectors, those that are in the same versions as the lowest one. */
  private likeLowest(block: number, sectors: number): number {
    const { head, mask, next } = this.versions;
    let alike = sectors;
    for (let version = head[block]; version >= 0; version = next[version]) {
      alike &= mask[version] & sectors & -sectors ? mask[version] : ~mask[version];
    }
    return alike;
  }

  /**
   * When the latest operation began that was acknowledged before `instant`. A read that begins at `instant` sees no version that
   * ended before that one began. `NEVER` if there is none: what was there at the beginning has that as its end.
   */
  private latestOverwriter(block: number, mask: number, instant: number): number {
    const { operations, versions } = this;
    const { answered, began, state } = operations;
    let latest = NEVER;
    for (let version = versions.head[block]; version >= 0; version = versions.next[version]) {
      const writer = versions.operation[version];
      if (writer < 0 || (versions.mask[version] & mask) === 0 || state[writer] !== STATE_ACKNOWLEDGED) continue;
      if (answered[writer] < instant && began[writer] > latest) latest = began[writer];
    }
    return latest;
  }

  private attach(operation: number, block: number, version: number): void {
    const { end, flags, start } = this.versions;
    const { answered, began } = this.operations;
    flags[version] |= VERSION_READ;
    if (began[operation] > start[version]) start[version] = began[operation];
    if (answered[operation] < end[version]) end[version] = answered[operation];
    this.versions.touched[block] = 1;
  }

  private reader(operation: number): string {
    const { answered, began } = this.operations;
    return `the read from ${Math.floor(began[operation])} to ${Math.floor(answered[operation])} µs`;
  }

  private impossible(operation: number, sector: number, value: number): HistoryViolation {
    const found = value === 0 ? 'zeroes' : `write ${value}`;
    return this.report.violation(`${this.reader(operation)} returned ${found}`, sector, value);
  }
}

function maskOf(sector: number, count: number): number {
  return ((1 << count) - 1) << (sector % BLOCK_SECTORS);
}

function lowestBit(mask: number): number {
  return 31 - Math.clz32(mask & -mask);
}
