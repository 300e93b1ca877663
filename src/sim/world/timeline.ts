/**
 * What all parties of a simulated world share: its time, what is still to happen in it, its trace, and where chance comes from.
 *
 * Time is virtual and in microseconds. Events of the same microsecond come in an order that the seed decides.
 */

import { crc32c } from './crc32c.js';
import { SimEvents, type SimOwner, type SimSource } from './events.js';
import { SimRandom } from './random.js';
import { SimTrace } from './trace.js';

/** CRC32C of bytes, an unsigned number. */
export type SimChecksum = (bytes: Uint8Array, at: number, lengthBytes: number) => number;

export interface TimelineSettings {
  readonly seed: number;
  /** What the trace is to be added to; a new one by default. */
  readonly trace?: SimTrace;
  /** When it begins; default 0. */
  readonly nowUs?: number;
  /** Default: one in JavaScript. */
  readonly checksum?: SimChecksum;
}

export class SimTimeline {
  readonly seed: number;
  /** For whoever simulates something in this world; fork it. */
  readonly random: SimRandom;
  readonly trace: SimTrace;
  readonly crc32c: SimChecksum;
  readonly events: SimEvents;
  nowUs: number;
  /** Devices, connections and lanes that have been made; each has its number in the trace. */
  private parties = 0;

  constructor(settings: TimelineSettings) {
    this.seed = settings.seed;
    this.random = new SimRandom(settings.seed);
    this.trace = settings.trace ?? new SimTrace();
    this.crc32c = settings.checksum ?? crc32c;
    this.events = new SimEvents(this.random.fork('events'));
    this.nowUs = settings.nowUs ?? 0;
  }

  /** Lets `source` know when `delayUs` microseconds have gone by: in a process, which must be there still, or outside of all. */
  schedule(owner: SimOwner | null, source: SimSource, slot: number, delayUs: number): void {
    this.events.push(this.nowUs + delayUs, owner, source, slot);
  }

  /** The number in the trace of a device, connection or lane that is being made. */
  nextParty(): number {
    this.parties += 1;
    return this.parties;
  }

  /** Lets the trace cover these bytes, if it covers contents. */
  traceBytes(bytes: Uint8Array, at: number, lengthBytes: number): void {
    if (this.trace.contents && lengthBytes > 0) this.trace.note(this.crc32c(bytes, at, lengthBytes));
  }
}
