/**
 * Volumes that nobody attends to: whoever held one has died, so that its copies may differ; or a member is out that is there
 * again, and nobody brings it up to date. A node is asked to attach such a volume for a while, as its janitor.
 *
 * ```text
 *   attended ──► neglected, since ── janitorMs ──► a node is asked ──► attached by it ──► released: attended
 *      ▲              ▲                                  │                    │
 *      │              └── next node, after twice as long ┴── it does not ─────┴── a member is still out
 *      └── whoever attaches the volume takes it over, from a janitor too
 * ```
 *
 * All of it is in memory: a manager that starts finds out anew. Nothing is decided here but whom to ask: a janitor attaches by
 * the same rules as any client, so two of them, or one that comes late, harm nothing.
 */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { NO_DEVICE } from '../layout/volume-map.js';
import type { ClusterState } from './cluster-state.js';
import { inSyncOf } from './group-record.js';
import { JANITOR_DOUBLINGS_MAX, JANITOR_LOOK_TICKS, JANITOR_VOLUMES_MAX } from './limits.js';
import type { ManagedVolume } from './volume-book.js';

interface Neglected {
  sinceMs: number;
  /** How often a node was asked, and it has come to nothing. */
  attempts: number;
  asked: { readonly nodeId: string; readonly atMs: number } | null;
  /** The node that was asked has attached it. */
  attached: boolean;
}

export class Janitors {
  private readonly state: ClusterState;
  /** By volume. */
  private readonly neglected = new Map<string, Neglected>();
  private ticks = 0;

  constructor(state: ClusterState) {
    this.state = state;
  }

  /** Time has passed. */
  look(): void {
    this.ticks += 1;
    if (this.ticks % JANITOR_LOOK_TICKS !== 0) return;
    const { volumes } = this.state;
    for (const volumeId of this.neglected.keys())
      if (volumes.get(volumeId) === undefined) this.neglected.delete(volumeId);
    for (const volume of volumes) this.lookAt(volume);
  }

  private lookAt(volume: ManagedVolume): void {
    const { nowMs, times } = this.state;
    const known = this.neglected.get(volume.id);
    if (!this.isNeglected(volume)) {
      if (volume.janitor === null) this.neglected.delete(volume.id);
      return;
    }
    // That its holder is silent counts when it has been for twice a lease.
    const sinceMs = volume.lease === 'released' ? nowMs : nowMs - 2 * times.leaseMs;
    const about = known ?? { sinceMs, attempts: 0, asked: null, attached: false };
    this.neglected.set(volume.id, about);
    if (about.asked !== null && (about.attached || nowMs - about.asked.atMs >= times.janitorMs)) {
      Object.assign(about, { sinceMs: nowMs, attempts: about.attempts + 1, asked: null, attached: false });
    }
    const afterMs = times.janitorMs * 2 ** Math.min(about.attempts, JANITOR_DOUBLINGS_MAX);
    if (about.asked !== null || nowMs - about.sinceMs < afterMs) return;
    const nodeId = this.choose(volume, about.attempts);
    if (nodeId !== null) about.asked = { nodeId, atMs: nowMs };
  }

  private isNeglected(volume: ManagedVolume): boolean {
    const { deleted, givenUp, ahead, lease, maps } = volume;
    if (deleted || givenUp || ahead !== null) return false;
    return lease === 'released' ? maps.some((map) => this.lags(map)) : !this.state.isHeld(volume);
  }

  /** Whether a member is not in-sync whose device is there. */
  private lags({ members }: ReplicaMap): boolean {
    return members.some(({ deviceId, state }) => {
      return state !== 'in-sync' && deviceId !== NO_DEVICE && this.state.nodes.isPresent(deviceId);
    });
  }

  /** A node that has members in-sync, of most groups if there is one; null where a group has none that is there. */
  private choose({ maps }: ManagedVolume, attempts: number): string | null {
    const { nodes } = this.state;
    const groups = new Map<string, number>();
    for (const map of maps) {
      const there = inSyncOf(map).filter((deviceId) => nodes.isPresent(deviceId));
      if (there.length === 0) return null;
      for (const deviceId of there) {
        const nodeId = nodes.nodeOf(deviceId);
        check(nodeId !== undefined, 'a device is there, and on no node', map.group);
        groups.set(nodeId, (groups.get(nodeId) ?? 0) + 1);
      }
    }
    const sorted = [...groups].sort(([one, many], [other, more]) => more - many || (one < other ? -1 : 1));
    return sorted[attempts % sorted.length][0];
  }

  /** Ids of the volumes that a node is asked to attach. */
  askedOf(nodeId: string): readonly string[] {
    const found: string[] = [];
    for (const [volumeId, { asked, attached }] of this.neglected) {
      if (asked?.nodeId === nodeId && !attached) found.push(volumeId);
      if (found.length === JANITOR_VOLUMES_MAX) break;
    }
    return found;
  }

  /** A janitor has attached a volume: nobody else is asked to. */
  noteAttached({ id }: ManagedVolume): void {
    const known = this.neglected.get(id);
    if (known !== undefined) known.attached = true;
  }

  /** Throws `ERR_STRAKE_VOLUME_BUSY` unless a janitor is wanted for a volume, which somebody may have attached meanwhile. */
  demandWanted(volume: ManagedVolume): void {
    if (this.isNeglected(volume) && this.neglected.get(volume.id)?.asked) return;
    throw new StrakeError('VOLUME_BUSY', `volume ${volume.name} needs no janitor: somebody attends to it`);
  }
}
