/** Which clients only read which volumes. */

import type { ReaderListed } from '../ports/manager.js';
import { READERS_MAX } from './limits.js';

/** For people: nothing is decided by it. */
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
