/** What is fuzzed: a parser of bytes that nobody vouches for, with what is known of its inputs. */

import { crc32c } from '#strake/sim/world/crc32c.js';
import { SimRandom } from '#strake/sim/world/random.js';

export interface FuzzTarget {
  readonly name: string;
  /** Folders of `dist` whose blocks count when inputs are kept for reaching new ones. */
  readonly covers: readonly string[];
  readonly bytesMax: number;
  /** Inputs to begin with. */
  corpus(): Promise<readonly Uint8Array[]> | readonly Uint8Array[];
  /** An input made from nothing, where changing others would seldom give one that means something. */
  generate?(random: SimRandom): Uint8Array;
  /** Puts checksums right, in place, so that changes are found by what lies behind them. */
  reseal?(bytes: Uint8Array): void;
  /** Throws on a finding. Whatever it chooses, it chooses by `random`. */
  run(bytes: Uint8Array, random: SimRandom): Promise<void> | void;
}

/** Runs an input. What happens is a function of the input alone, so a file with it repeats a finding. */
export async function runInput(target: FuzzTarget, bytes: Uint8Array): Promise<void> {
  await target.run(bytes, new SimRandom(crc32c(bytes)));
}

/** Throws the finding `what` unless `holds`. */
export function demand(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}
