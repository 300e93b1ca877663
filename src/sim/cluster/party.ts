/** A process of a cluster in a trial, and the host that it runs on, which it has for itself. */

import type { SimHost } from '../world/host.js';
import type { SimProcess } from '../world/process.js';
import type { SimRandom } from '../world/random.js';

export interface Party {
  /** For people. */
  readonly name: string;
  readonly host: SimHost;
  /** Its process, or the last one that it had. */
  readonly process: SimProcess;
  /** How many disks its host has. */
  readonly disks: readonly unknown[];
  /** Whether its process lives. */
  readonly up: boolean;
  /** Its process dies. Does nothing if it has none. */
  die(random: SimRandom): void;
  /** The power of its host fails. Does nothing if it has none. */
  losePower(random: SimRandom): void;
  /** Starts a process, with power, if there is none. Resolves when it does its work, as far as it can do that by itself. */
  boot(): Promise<void>;
}
