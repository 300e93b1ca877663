/**
 * The fuzzing engine: makes inputs, runs them, keeps those that reach what none has reached, and makes those that find
 * something small.
 *
 * Without guidance the input with a number is a function of target, seed and number. With guidance it depends on what was kept
 * before, so a finding is repeated by its file.
 */

import { SimRandom } from '#strake/sim/world/random.js';
import type { Coverage } from './coverage.js';
import { mutate } from './mutate.js';
import { type FuzzTarget, runInput } from './target.js';

/** A share of inputs that are resealed, of those that are made from nothing, and of changes to inputs that were kept. */
const RESEALED = 0.5;
const GENERATED = 0.5;
const FROM_KEPT = 0.7;
/** Inputs that are run before it is looked whether they have reached anything new. */
const BATCH = 64;
const KEPT_MAX = 4000;
/** Attempts at making an input smaller. */
const ATTEMPTS_MAX = 1500;

/** An input that found something. */
export interface Finding {
  readonly index: number;
  readonly input: Uint8Array;
  readonly error: Error;
}

export class Fuzzer {
  readonly target: FuzzTarget;
  /** Inputs that were run. */
  count = 0;
  /** Told of each input before it is run. */
  onInput: (index: number, input: Uint8Array) => void = () => {};
  private readonly seed: number;
  private readonly coverage: Coverage | null;
  private readonly corpus: readonly Uint8Array[];
  private readonly kept: Uint8Array[] = [];
  private batch: Uint8Array[] = [];

  private constructor(target: FuzzTarget, seed: number, corpus: readonly Uint8Array[], coverage: Coverage | null) {
    this.target = target;
    this.seed = seed;
    this.corpus = corpus;
    this.coverage = coverage;
  }

  static async make(target: FuzzTarget, seed: number, coverage: Coverage | null = null): Promise<Fuzzer> {
    // Copies, as slices of a `Buffer` are none.
    const corpus = (await target.corpus()).map((bytes) => new Uint8Array(bytes));
    return new Fuzzer(target, seed, corpus, coverage);
  }

  get keptInputs(): number {
    return this.kept.length;
  }

  /** The input with this number: first the corpus as it is, then changes of it. */
  input(index: number): Uint8Array {
    const { target, corpus, kept } = this;
    if (index < corpus.length) return corpus[index].slice();
    const random = new SimRandom(this.seed, index);
    if (target.generate !== undefined && random.chance(GENERATED))
      return new Uint8Array(target.generate(random)).slice(0, target.bytesMax);
    const from = kept.length > 0 && random.chance(FROM_KEPT) ? kept : corpus;
    const bytes = mutate(random.pick(from), corpus, random, target.bytesMax);
    if (target.reseal !== undefined && random.chance(RESEALED)) target.reseal(bytes);
    return bytes;
  }

  /** Runs the input with this number. */
  async step(index: number): Promise<Finding | undefined> {
    const input = this.input(index);
    this.onInput(index, input);
    this.count += 1;
    const error = await this.attempt(input);
    if (error !== undefined) return { index, input, error };
    if (this.coverage !== null) {
      this.batch.push(input);
      if (this.batch.length === BATCH) await this.keep(this.coverage);
    }
    return undefined;
  }

  /** Looks whether a batch has reached something new, and if so, which of its inputs does. */
  private async keep(coverage: Coverage): Promise<void> {
    const { batch } = this;
    this.batch = [];
    if (!coverage.grown(false)) return;
    for (const input of batch) {
      await this.attempt(input);
      if (!coverage.grown(true)) continue;
      // The oldest give way: what is reached through them, later ones reach too.
      if (this.kept.length === KEPT_MAX) this.kept.shift();
      this.kept.push(input);
    }
  }

  private async attempt(input: Uint8Array): Promise<Error | undefined> {
    try {
      await runInput(this.target, input);
      return undefined;
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  /** Makes an input smaller that still finds something: leaves out halves, quarters and so on, then clears what is left. */
  async minimise(finding: Finding): Promise<Finding> {
    let best = finding;
    let attempts = 0;
    const better = async (input: Uint8Array): Promise<boolean> => {
      attempts += 1;
      const error = await this.attempt(input);
      if (error === undefined) return false;
      best = { index: finding.index, input, error };
      return true;
    };
    for (let size = 2 ** Math.ceil(Math.log2(best.input.length + 1)) / 2; size >= 1; size /= 2) {
      for (let at = 0; at < best.input.length && attempts < ATTEMPTS_MAX; ) {
        const { input } = best;
        const without = new Uint8Array(Buffer.concat([input.subarray(0, at), input.subarray(at + size)]));
        if (await better(without)) continue;
        const cleared = input.slice().fill(0, at, at + size);
        if (input.subarray(at, at + size).some((byte) => byte !== 0)) await better(cleared);
        at += size;
      }
    }
    return best;
  }
}
