/**
 * Faults of a simulated disk, by rule, as `crates/device/src/faults.rs` has them for real ones.
 *
 * Rules are tried in order; the first that matches an operation and acts on it decides. They belong to the disk, so they
 * outlast crashes of whoever uses it.
 */

import type { SimRandom } from '../world/random.js';

export type FaultOp = 'read' | 'write' | 'sync' | 'discard' | 'zero' | 'extents';

/** What happens to an operation that a rule acts on. */
export type FaultAction =
  /** It fails with this errno (positive). Of what it would have changed, any sectors may have been. */
  | { readonly kind: 'error'; readonly errno: number }
  /** One bit of what it read is flipped in memory, or of what it wrote on the disk. */
  | { readonly kind: 'corrupt' }
  /** A write, zeroing or discard succeeds and changes nothing. */
  | { readonly kind: 'lose' }
  /** A write or zeroing lands at this offset, in bytes; what it should have changed is not changed. */
  | { readonly kind: 'misdirect'; readonly toOffsetBytes: number }
  /** A sync or FUA write succeeds without making anything durable. */
  | { readonly kind: 'lie' }
  /** It takes so many microseconds longer. */
  | { readonly kind: 'slow'; readonly byUs: number }
  /** It never ends. */
  | { readonly kind: 'stick' }
  /** The disk is gone: this and everything in flight or later fails with EIO. */
  | { readonly kind: 'vanish' };

/** Which operations a rule acts on, and what it does. */
export interface FaultRule {
  /** The operations; all if not given. */
  readonly ops?: readonly FaultOp[];
  /** The range that an operation must touch, in bytes, `end` exclusive; a sync touches every range. */
  readonly start?: number;
  readonly end?: number;
  /** Matches to let pass first; default 0. */
  readonly skip?: number;
  /** Matches to act on after that; default all (sticky), 1 for once. */
  readonly count?: number;
  /** Probability of acting on a match; default 1. */
  readonly probability?: number;
  readonly action: FaultAction;
}

interface ActiveRule {
  readonly rule: FaultRule;
  skip: number;
  count: number;
}

export class SimFaults {
  /** Times that a rule acted. */
  acted = 0;
  private rules: ActiveRule[] = [];

  /** Adds a rule after those that are there. Returns what removes it. */
  add(rule: FaultRule): () => void {
    const active = { rule, skip: rule.skip ?? 0, count: rule.count ?? Number.POSITIVE_INFINITY };
    this.rules.push(active);
    return () => {
      this.rules = this.rules.filter((other) => other !== active);
    };
  }

  clear(): void {
    this.rules = [];
  }

  /** What happens to this operation; undefined for what it asks for. */
  decide(op: FaultOp, offset: number, length: number, random: SimRandom): FaultAction | undefined {
    for (const active of this.rules) {
      if (matches(active.rule, op, offset, length) && acts(active, random)) {
        this.acted += 1;
        return active.rule.action;
      }
    }
    return undefined;
  }
}

function matches(rule: FaultRule, op: FaultOp, offset: number, length: number): boolean {
  if (rule.ops !== undefined && !rule.ops.includes(op)) return false;
  if (op === 'sync') return true;
  return offset < (rule.end ?? Number.POSITIVE_INFINITY) && offset + length > (rule.start ?? 0);
}

function acts(active: ActiveRule, random: SimRandom): boolean {
  if (active.skip > 0) {
    active.skip -= 1;
    return false;
  }
  if (active.count === 0) return false;
  const { probability } = active.rule;
  if (probability !== undefined && !random.chance(probability)) return false;
  active.count -= 1;
  return true;
}
