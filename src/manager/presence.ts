/**
 * Which clients have been heard when. It decides nothing but whether a holder is replaced without being asked: a client that is
 * silent may hold a volume as well as one that is not, and members refuse whoever is not the holder.
 */

import { NO_CLIENT } from '../layout/volume-map.js';
import type { ReaderListed } from '../ports/manager.js';
import { CLIENTS_MAX, READERS_MAX } from './limits.js';

export class Presence {
  /** In the order in which they were heard last. */
  private readonly heardMs = new Map<string, number>();
  private readonly startMs: number;

  /** @param startMs when the manager started: who has not been heard since then may have been heard just before */
  constructor(startMs: number) {
    this.startMs = startMs;
  }

  heard(clientId: string, nowMs: number): void {
    this.heardMs.delete(clientId);
    this.heardMs.set(clientId, nowMs);
    if (this.heardMs.size <= CLIENTS_MAX) return;
    const [longestAgo] = this.heardMs.keys();
    this.heardMs.delete(longestAgo);
  }

  /** For how many whole milliseconds a client has been silent; null if it has not been heard since the start. */
  silentMs(clientId: string, nowMs: number): number | null {
    const heardMs = this.heardMs.get(clientId);
    return heardMs === undefined ? null : Math.floor(nowMs - heardMs);
  }

  /** Whether a client may still be there. */
  isHeard(clientId: string, nowMs: number, withinMs: number): boolean {
    if (clientId === NO_CLIENT) return false;
    return nowMs - (this.heardMs.get(clientId) ?? this.startMs) < withinMs;
  }
}

/** Which clients only read which volumes, for people: nothing is decided by it. */
export class Readership {
  /** By volume, and client: when it was heard last. */
  private readonly heardMs = new Map<string, Map<string, number>>();

  heard(clientId: string, volumeIds: readonly string[], nowMs: number): void {
    for (const volumeId of volumeIds) {
      const clients = this.heardMs.get(volumeId) ?? new Map<string, number>();
      this.heardMs.set(volumeId, clients);
      clients.delete(clientId);
      clients.set(clientId, nowMs);
      if (clients.size > READERS_MAX) clients.delete(clients.keys().next().value as string);
    }
  }

  /** Those of a volume that have been heard within a time, whoever was heard last behind the others. The rest is forgotten. */
  of(volumeId: string, nowMs: number, withinMs: number): ReaderListed[] {
    const clients = this.heardMs.get(volumeId);
    if (clients === undefined) return [];
    for (const [clientId, heardMs] of clients) if (nowMs - heardMs >= withinMs) clients.delete(clientId);
    if (clients.size === 0) this.heardMs.delete(volumeId);
    return [...clients].map(([clientId, heardMs]) => ({ clientId, silentMs: Math.floor(nowMs - heardMs) }));
  }
}
