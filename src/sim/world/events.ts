/**
 * What is still to happen in a simulation: a binary heap by virtual time, then by a random number, then by age.
 *
 * Events are used again once released, so that a long run allocates only as many as are pending at once.
 */

import type { SimRandom } from './random.js';

/** What is done with operations that are handed over, and when their time has come. */
export interface SimSource {
  /** The operation in this slot is handed over. */
  start(slot: number): void;
  /** An event that the source has scheduled for this slot is due. */
  fire(slot: number): void;
}

/** The process in which something happens. */
export interface SimOwner {
  readonly alive: boolean;
  /** Until then it stands still: nothing happens in it. */
  readonly stalledUntilUs: number;
  /** Something has happened in it: its turn comes at the end of the step. */
  awake: boolean;
  complete(token: number, result: number, flags: number, origin?: number): void;
}

export class SimEvent {
  timeUs = 0;
  tie = 0;
  age = 0;
  /** In which process it happens; null for what happens outside, such as in a disk or on a line. */
  owner: SimOwner | null = null;
  /** Who is told; null for a completion of the owner. */
  source: SimSource | null = null;
  /** The slot of the source, or the token. */
  target = 0;
  result = 0;
  flags = 0;
  /** Number in the trace of what began it; 0 if nothing did. */
  origin = 0;
}

function isBefore(one: SimEvent, other: SimEvent): boolean {
  if (one.timeUs !== other.timeUs) return one.timeUs < other.timeUs;
  return one.tie !== other.tie ? one.tie < other.tie : one.age < other.age;
}

export class SimEvents {
  private readonly random: SimRandom;
  private readonly heap: SimEvent[] = [];
  private readonly spare: SimEvent[] = [];
  private pushed = 0;

  constructor(random: SimRandom) {
    this.random = random;
  }

  get length(): number {
    return this.heap.length;
  }

  /** Time of the next event, in microseconds; there must be one. */
  nextUs(): number {
    return this.heap[0].timeUs;
  }

  /** Adds an event. Returns it, so that it can be told more; nothing of the last use is left in it. */
  push(timeUs: number, owner: SimOwner | null, source: SimSource | null, target: number): SimEvent {
    const event = this.spare.pop() ?? new SimEvent();
    event.owner = owner;
    event.source = source;
    event.target = target;
    event.result = 0;
    event.flags = 0;
    event.origin = 0;
    this.put(event, timeUs);
    return event;
  }

  /** Adds an event that has been taken out, for another time. */
  put(event: SimEvent, timeUs: number): void {
    event.timeUs = timeUs;
    event.tie = this.random.next();
    event.age = this.pushed;
    this.pushed += 1;
    const { heap } = this;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = event;
  }

  /** Removes the next event; there must be one. `release` it when it has been read. */
  pop(): SimEvent {
    const { heap } = this;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined) throw new Error('no event is left');
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child += 1;
      if (!isBefore(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return first;
  }

  release(event: SimEvent): void {
    event.owner = null;
    event.source = null;
    this.spare.push(event);
  }
}
