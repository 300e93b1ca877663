/**
 * Reports that may tell more of who reports than of the members: a client that misses many nodes at once may be the one that is
 * cut off. Such a report waits until the manager has missed those nodes as well. It is not refused, as they may all be dead.
 */

/** What a report is judged by. */
export interface Report {
  readonly clientId: string;
  /** Nodes whose devices it takes out. */
  readonly nodeIds: Iterable<string>;
  readonly nowMs: number;
  /** For how long reports count: as long as a node is silent that counts as down. */
  readonly withinMs: number;
  /** Nodes that the manager has heard within that. */
  readonly heard: number;
}

/** The share of nodes that one client may report before the manager looks for itself. */
const SHARE = 1 / 3;

export class Crowds {
  /** By client: which nodes it has reported when. */
  private readonly reported = new Map<string, Map<string, number>>();

  /** Notes a report. Returns whether its client has reported two nodes or more, which are more than a third. */
  isCrowd({ clientId, nodeIds, nowMs, withinMs, heard }: Report): boolean {
    const known = this.reported.get(clientId) ?? new Map<string, number>();
    this.reported.set(clientId, known);
    for (const nodeId of nodeIds) known.set(nodeId, nowMs);
    for (const [nodeId, atMs] of known) if (nowMs - atMs >= withinMs) known.delete(nodeId);
    return known.size >= 2 && known.size > heard * SHARE;
  }

  /** A report of a client waits still: all that it has reported counts as long as that, and once more when it is asked again. */
  keep(clientId: string, nowMs: number): void {
    const known = this.reported.get(clientId);
    for (const nodeId of known?.keys() ?? []) known?.set(nodeId, nowMs);
  }

  /** Forgets reports that are too old to count. */
  look(nowMs: number, withinMs: number): void {
    for (const [clientId, known] of this.reported) {
      for (const [nodeId, atMs] of known) if (nowMs - atMs >= withinMs) known.delete(nodeId);
      if (known.size === 0) this.reported.delete(clientId);
    }
  }
}
