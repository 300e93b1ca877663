/**
 * Which clients have been heard when. It decides nothing but whether a holder is replaced without being asked: a client that is
 * silent may hold a volume as well as one that is not, and members refuse whoever is not the holder.
 */

import { NO_CLIENT } from '../layout/volume-map.js';
import { CLIENTS_MAX } from './limits.js';

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
