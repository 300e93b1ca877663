/**
 * The checks of a block: whether there is an order of effects, what has been overwritten for good, and what a loss of
 * power leaves.
 *
 * Sectors of a block to which the same has happened are one register. A block that was only ever written whole is one, so
 * that it must also be read whole.
 *
 * What comes before another version in every order of effects is *overwritten* by it. A version that outlives the failures
 * to be expected, and that no read under way can have missed, makes what it has overwritten forgotten: it may never be
 * read again. Power cuts take any version but durable ones, so that afterwards a sector holds one that no durable one has
 * overwritten. Versions that are not known to have happened, and that nobody has seen, might have been on some copy at any time
 * while their operation was under way.
 */

import { Register } from './linearizability.js';
import { type Operations, STATE_ACKNOWLEDGED, STATE_FAILED, STATE_PENDING } from './operations.js';
import { BLOCK_SECTORS, VERSION_INITIAL, VERSION_OPEN_READ, VERSION_READ, type Versions, WHOLE } from './versions.js';

/** Less than any two events are apart. */
const BEFORE = 2 ** -12;
const NEVER = Number.NEGATIVE_INFINITY;

export class BlockCheck {
  readonly register = new Register();
  /** What was acknowledged before this is durable. */
  flushedBefore = NEVER;
  private readonly operations: Operations;
  private readonly versions: Versions;
  private readonly losesPower: boolean;
  /** When what was acknowledged began, while limiting what failed. */
  private readonly later: number[] = [];
  private readonly groups = new Uint8Array(BLOCK_SECTORS);
  private readonly isFinal = (version: number) => this.outlives(version) && !this.isPending(version);
  private readonly isAny = () => true;

  /** `losesPower`: whether power cuts are to be expected. Else what is acknowledged is as good as durable. */
  constructor(operations: Operations, versions: Versions, losesPower: boolean) {
    this.operations = operations;
    this.versions = versions;
    this.losesPower = losesPower;
  }

  /** Whether it is there whatever fails, unless overwritten. */
  outlives(version: number): boolean {
    const { operations, versions } = this;
    if (!this.losesPower) return versions.happened(version);
    if ((versions.flags[version] & VERSION_INITIAL) !== 0) return (versions.flags[version] & VERSION_READ) !== 0;
    const operation = versions.operation[version];
    if (operations.state[operation] !== STATE_ACKNOWLEDGED) return false;
    return operations.fua[operation] === 1 || operations.answered[operation] < this.flushedBefore;
  }

  isPending(version: number): boolean {
    const operation = this.versions.operation[version];
    return operation >= 0 && this.operations.state[operation] === STATE_PENDING;
  }

  /**
   * Checks a block and forgets what can be forgotten; reads that began before `horizon` have all ended. Returns the sectors,
   * a bit for each, of a register that contradicts itself, or 0.
   */
  check(block: number, horizon: number): number {
    const { versions, groups } = this;
    const count = this.divide(block);
    for (let index = 0; index < count; index += 1) {
      const mask = groups[index];
      this.gather(block, mask);
      if (!this.register.check()) return mask;
      this.forget(block, mask, horizon);
    }
    versions.touched[block] = 0;
    versions.sweep(block, this.isFinal);
    return 0;
  }

  /** Leaves what a block may hold after all copies have lost power at `now`; it has been checked. */
  losePower(block: number, now: number): void {
    const { versions, groups } = this;
    const { flags, mask } = versions;
    for (let version = versions.head[block]; version >= 0; version = versions.next[version]) {
      if ((flags[version] & VERSION_OPEN_READ) !== 0) mask[version] = 0;
    }
    const count = this.divide(block);
    for (let index = 0; index < count; index += 1) {
      this.gather(block, groups[index]);
      this.register.check();
      this.forget(block, groups[index], Number.POSITIVE_INFINITY);
    }
    this.mergeInitial(block, now);
    versions.split[block] = 1;
    versions.sweep(block, this.isAny);
  }

  /** The latest instant from which on something that outlives failures was there in a register that has been checked. */
  barrier(horizon: number): { readonly at: number; readonly instant: number } {
    const { register } = this;
    let [at, instant] = [-1, NEVER];
    for (let other = 0; other < register.count; other += 1) {
      const version = register.ids[other];
      if (register.happened[other] === 0 || register.ends[other] >= horizon || !this.outlives(version)) continue;
      const from = register.earliestEffect(other);
      // What can take effect at the end of a forward zone at the earliest comes after that zone.
      const isLater = from > instant || (from === instant && at >= 0 && register.ends[other] > register.ends[at]);
      if (isLater || at < 0) [at, instant] = [other, from];
    }
    return { at, instant };
  }

  /** Loads a register with what is known of these sectors, which have to be a group. */
  gather(block: number, mask: number): void {
    const { operations, register, versions } = this;
    const { next, operation, value, start } = versions;
    let failed = 0;
    register.clear();
    for (let version = versions.head[block]; version >= 0; version = next[version]) {
      if ((versions.mask[version] & mask) === 0) continue;
      const flags = versions.flags[version];
      const end = versions.endOf(version);
      if ((flags & VERSION_OPEN_READ) !== 0) {
        register.addRead(value[version], start[version], end);
        continue;
      }
      const owner = operation[version];
      const begin = (flags & VERSION_INITIAL) !== 0 || owner < 0 ? end : operations.began[owner];
      register.add(version, value[version], begin, start[version], end, versions.happened(version));
      if (owner >= 0 && operations.state[owner] === STATE_FAILED) failed += 1;
    }
    if (failed > 0) this.limitFailed();
  }

  /** What has failed may still happen until the process dies, but not on top of what was begun later and acknowledged. */
  private limitFailed(): void {
    const { later, register } = this;
    const { answered, began, state } = this.operations;
    later.length = 0;
    for (let at = 0; at < register.count; at += 1) {
      const writer = this.writerOf(register.ids[at]);
      if (writer >= 0 && state[writer] === STATE_ACKNOWLEDGED) later.push(began[writer]);
    }
    for (let at = 0; at < register.count; at += 1) {
      const failed = this.writerOf(register.ids[at]);
      if (failed < 0 || state[failed] !== STATE_FAILED) continue;
      for (const begin of later) {
        if (begin >= answered[failed]) register.ends[at] = Math.min(register.ends[at], begin - BEFORE);
      }
    }
  }

  private writerOf(version: number): number {
    return (this.versions.flags[version] & VERSION_INITIAL) === 0 ? this.versions.operation[version] : -1;
  }

  /** Groups the sectors of a block by what has happened to them. Returns the number of groups. */
  divide(block: number): number {
    const { groups, versions } = this;
    groups[0] = WHOLE;
    if (versions.split[block] === 0) return 1;
    let count = 1;
    for (let version = versions.head[block]; version >= 0; version = versions.next[version]) {
      const mask = versions.mask[version];
      for (let index = count - 1; index >= 0; index -= 1) {
        const inside = groups[index] & mask;
        if (inside === 0 || inside === groups[index]) continue;
        groups[index] ^= inside;
        groups[count] = inside;
        count += 1;
      }
    }
    return count;
  }

  /** The group that has this sector of the block in it, after `divide`. */
  groupOf(bit: number, count: number): number {
    for (let index = 0; index < count; index += 1) if ((this.groups[index] >> bit) & 1) return this.groups[index];
    return WHOLE;
  }

  private forget(block: number, mask: number, horizon: number): void {
    const { register, versions } = this;
    const { at, instant } = this.barrier(horizon);
    if (at < 0) return;
    if (register.readCount > 0 && !this.forgetReads(block, mask, instant)) return;
    for (let other = 0; other < register.count; other += 1) {
      if (other !== at && register.ends[other] < instant) versions.mask[register.ids[other]] &= ~mask;
    }
  }

  /** Returns whether all reads of values that several versions have are forgotten. */
  private forgetReads(block: number, mask: number, instant: number): boolean {
    const { versions } = this;
    let all = true;
    for (let version = versions.head[block]; version >= 0; version = versions.next[version]) {
      if ((versions.flags[version] & VERSION_OPEN_READ) === 0 || (versions.mask[version] & mask) === 0) continue;
      if (versions.end[version] < instant) versions.mask[version] &= ~mask;
      else all = false;
    }
    return all;
  }

  /** Each version becomes one that was there at `now`, once for each value. */
  private mergeInitial(block: number, now: number): void {
    const { versions } = this;
    const { end, flags, mask, next, start, value } = versions;
    for (let version = versions.head[block]; version >= 0; version = next[version]) {
      flags[version] = VERSION_INITIAL;
      start[version] = now;
      end[version] = now;
      for (let other = next[version]; other >= 0; other = next[other]) {
        if (value[other] === value[version]) mask[other] &= ~mask[version];
      }
    }
  }
}
