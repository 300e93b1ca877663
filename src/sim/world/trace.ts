/**
 * What happened in a simulation, as one number and, if asked for, as a list.
 *
 * Two runs with the same hash took the same course. The hash covers what crosses the ports, each with its time: device
 * operations, timers, messages between threads, arrivals of bytes, and completions with their results. A trace with contents
 * covers also the bytes that are written to devices and sent over connections.
 *
 * It covers nothing that only the code's own structure decides, so that moving code keeps it: no names, no places in memory, and
 * no tokens. A completion is told by the number of the event that began what it completes. For the same reason `finish`, with
 * which parts of the product answer one another, is listed and not hashed: what comes of it at the ports is.
 *
 * The hash is MurmurHash3_x86_32 (Austin Appleby, https://github.com/aappleby/smhasher) over 32-bit words.
 */

export type TraceKind =
  | 'complete'
  | 'finish'
  | 'read'
  | 'write'
  | 'sync'
  | 'discard'
  | 'zero'
  | 'extents'
  | 'defer'
  | 'after'
  | 'timer'
  | 'message'
  | 'boot'
  | 'fault'
  | 'ask'
  | 'answer'
  | 'member-ask'
  | 'member-answer'
  | NetworkTraceKind;

/** What happens to connections; `deliver`: bytes arrive at a peer. */
export type NetworkTraceKind = 'connect' | 'accept' | 'receive' | 'send' | 'deliver';

/** One thing that happened. */
export interface TraceEvent {
  readonly kind: TraceKind;
  readonly timeUs: number;
  readonly token: number;
  /** Result of what ended; offset in bytes, or delay in microseconds, of what was started. */
  readonly value: number;
  /** Completion flags of what ended; length in bytes of what was started. */
  readonly extra: number;
}

const CODES: Readonly<Record<TraceKind, number>> = {
  complete: 1,
  finish: 2,
  read: 3,
  write: 4,
  sync: 5,
  discard: 6,
  zero: 7,
  extents: 8,
  accept: 9,
  receive: 10,
  send: 11,
  deliver: 12,
  defer: 13,
  after: 14,
  timer: 15,
  message: 16,
  boot: 17,
  fault: 18,
  ask: 19,
  answer: 20,
  connect: 21,
  'member-ask': 22,
  'member-answer': 23,
};

export class SimTrace {
  /** Set it to an array to have events listed from then on. */
  events: TraceEvent[] | undefined;
  /** Things that happened. */
  length = 0;
  /** Whether contents are covered: whoever moves bytes notes their checksum then. */
  readonly contents: boolean;
  private hashed = 0;
  private state = 0;
  private words = 0;

  constructor({ contents = false }: { readonly contents?: boolean } = {}) {
    this.contents = contents;
  }

  /** Returns the number of the event among those that are hashed; completions name it as their origin. */
  add(kind: TraceKind, timeUs: number, token: number, value: number, extra: number): number {
    this.length += 1;
    this.events?.push({ kind, timeUs, token, value, extra });
    if (kind === 'finish') return 0;
    this.hashed += 1;
    this.mix(CODES[kind]);
    this.mix(timeUs | 0);
    this.mix(Math.floor(timeUs / 0x1_0000_0000));
    this.mix(value | 0);
    this.mix(Math.floor(value / 0x1_0000_0000) | 0);
    this.mix(extra | 0);
    return this.hashed;
  }

  /** Lets the hash cover one more 32-bit word of the event that was added last. */
  note(word: number): void {
    this.mix(word | 0);
  }

  /** The hash of all that happened until now, as an unsigned 32-bit number. */
  get hash(): number {
    let hash = this.state ^ (this.words * 4);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
    return (hash ^ (hash >>> 16)) >>> 0;
  }

  private mix(word: number): void {
    let mixed = Math.imul(word, 0xcc9e_2d51);
    mixed = Math.imul((mixed << 15) | (mixed >>> 17), 0x1b87_3593);
    const state = this.state ^ mixed;
    this.state = (Math.imul((state << 13) | (state >>> 19), 5) + 0xe654_6b64) | 0;
    this.words += 1;
  }
}
