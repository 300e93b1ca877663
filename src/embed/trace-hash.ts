/**
 * One hash over the traces of many trials, whatever the order in which they end.
 *
 * It is that of code that behaves in one way: changes that only move code keep it, anything that changes what a simulated node
 * does, or when, does not. Trials are taken in the order of their seeds; those that end early are held until it is their turn.
 */

import { createHash } from 'node:crypto';
import { check } from '../core/check.js';
import type { TrialResult } from '../sim/trial/trial.js';

/** Hexadecimal digits of the hash: enough that no two courses are told apart by chance. */
const DIGITS = 32;

export class TraceHash {
  private readonly hash = createHash('sha256');
  private readonly early = new Map<number, TrialResult>();
  private next: number;

  /** `from`: the first seed. */
  constructor(from: number) {
    this.next = from;
  }

  /** Adds the trial of a seed; each seed once. */
  add(result: TrialResult): void {
    this.early.set(result.seed, result);
    for (let due = this.early.get(this.next); due !== undefined; due = this.early.get(this.next)) {
      this.early.delete(this.next);
      this.next += 1;
      this.take(due);
    }
  }

  /** The hash of all trials, as text. All from the first seed on must have been added, and nothing is added later. */
  digest(): string {
    check(this.early.size === 0, 'the trial of a seed is missing', this.next);
    return this.hash.digest('hex').slice(0, DIGITS);
  }

  /** What failed is covered, its words are not: they may be improved. */
  private take({ seed, hash, simulatedUs, requests, faults, failure }: TrialResult): void {
    this.hash.update(`${seed} ${hash} ${simulatedUs} ${requests} ${faults} ${failure === undefined}\n`);
  }
}
