/** What has happened in the cluster: numbered, durable, and bounded. */

import type { ClusterEvent } from '../ports/manager.js';
import type { Journal } from './journal.js';
import { EVENTS_KEPT_MAX, EVENTS_LISTED_MAX } from './limits.js';
import { eventKey } from './records.js';

/** Whom an event concerns. */
export type EventAbout = Pick<ClusterEvent, 'volumeId' | 'group' | 'nodeId' | 'deviceId'>;

export class EventLog {
  private readonly journal: Journal;
  private readonly wallNowMs: () => number;
  /** Oldest first, without gaps. */
  private kept: ClusterEvent[];

  constructor(journal: Journal, wallNowMs: () => number, events: readonly ClusterEvent[]) {
    this.journal = journal;
    this.wallNowMs = wallNowMs;
    this.kept = [...events].sort((one, other) => one.number - other.number);
  }

  /** Is durable with the next batch. */
  add(kind: string, text: string, about: EventAbout = {}): void {
    const number = (this.kept.at(-1)?.number ?? 0) + 1;
    const event = { number, timeMs: this.wallNowMs(), kind, text, ...about };
    this.kept.push(event);
    this.journal.put(eventKey(number), event);
    if (this.kept.length <= EVENTS_KEPT_MAX) return;
    const forgotten = this.kept.splice(0, this.kept.length - EVENTS_KEPT_MAX);
    for (const { number: old } of forgotten) this.journal.remove(eventKey(old));
  }

  /** Events after one, oldest first. */
  after(number: number): readonly ClusterEvent[] {
    const from = this.kept.findIndex((event) => event.number > number);
    return from < 0 ? [] : this.kept.slice(from, from + EVENTS_LISTED_MAX);
  }
}
