/**
 * Hunts mutants: each is put before its judges, one judge after the other, until one names what is wrong. What a judge says
 * counts only if it finds nothing in the same seed, or the same file, of the code as it is.
 */

import { ask, askAgain, type Verdict } from './judges.js';
import type { Judge, Mutant } from './mutant.js';
import { closeWorkshop, makeCheckout, mutatedFiles, removeCheckout } from './workshop.js';

/** Time for code as it is, which is to pass. */
const SOUND_LIMIT_MS = 360_000;

export interface Hunted {
  readonly mutant: Mutant;
  /** By whom it was caught; undefined if it survived. */
  readonly caught?: Verdict;
  /** All that was asked. */
  readonly verdicts: readonly Verdict[];
}

export class Hunt {
  private readonly limitMs: number;
  private readonly sound = makeCheckout('unmutated', new Map());
  private readonly passed = new Set<string>();

  /** `limitMs`: time for the judges of one mutant together. */
  constructor(limitMs: number) {
    this.limitMs = limitMs;
  }

  async hunt(mutant: Mutant): Promise<Hunted> {
    const checkout = makeCheckout(mutant.name, mutatedFiles(mutant));
    const endMs = performance.now() + this.limitMs;
    const verdicts: Verdict[] = [];
    try {
      for (const [index, judge] of mutant.judges.entries()) {
        // Those who come later are left half.
        const leftMs = endMs - performance.now();
        const shareMs = index === mutant.judges.length - 1 ? leftMs : leftMs / 2;
        const verdict = await this.judge(checkout, judge, performance.now() + shareMs);
        verdicts.push(verdict);
        if (verdict.reason !== undefined) return { mutant, caught: verdict, verdicts };
      }
    } finally {
      removeCheckout(checkout);
    }
    return { mutant, verdicts };
  }

  /** What a judge says that counts. Seeds that fail without the mutant too are left out. */
  private async judge(checkout: string, judge: Judge, endMs: number): Promise<Verdict> {
    let verdict: Verdict | undefined;
    let seconds = 0;
    for (;;) {
      verdict = await ask(checkout, judge, Math.max(1, endMs - performance.now()), verdict);
      seconds += verdict.seconds;
      if (verdict.reason === undefined || (await this.isSound(judge, verdict))) return { ...verdict, seconds };
      const more = judge.kind !== 'test' && verdict.seeds < judge.seeds && performance.now() < endMs;
      if (!more) return { by: verdict.by, seeds: verdict.seeds, seconds, late: verdict.late };
    }
  }

  /** Whether the judge finds no fault with the code as it is. */
  private async isSound(judge: Judge, verdict: Verdict): Promise<boolean> {
    if (this.passed.has(verdict.by)) return true;
    const { reason, late } = await askAgain(this.sound, judge, verdict, SOUND_LIMIT_MS);
    if (reason === undefined && !late) {
      this.passed.add(verdict.by);
      return true;
    }
    console.error(`unsound   ${verdict.by} fails without a mutant: ${reason ?? 'it does not come to an end'}`);
    return false;
  }

  end(): void {
    closeWorkshop();
  }
}
