/**
 * What devices of a cluster have lost in a trial, and what is promised of the volume then.
 *
 * A member that was current when its device lost power lacks what was not durable, until it has become a member anew. One whose
 * device was exchanged for an earlier image, or for an empty one, may lack anything. As long as a group has a current member that
 * lacks nothing, nothing is lost. With none, what no flush covers may be; and if all have been exchanged, nothing is promised.
 */

import type { ReplicaMap, ReplicaMember } from '../../layout/replica-map.js';
import { inSyncOf } from './maps-oracle.js';

/** What the volume may have lost. */
export type Lost = 'nothing' | 'unflushed' | 'anything';

interface Loss {
  /** Of the group's map then: who has joined later lacks nothing. */
  readonly version: number;
  /** Counts all losses. */
  readonly number: number;
}

export class Losses {
  private readonly darkened = new Map<string, Loss>();
  private readonly exchanged = new Map<string, Loss>();
  private count = 0;
  /** By group: the losses that have been told. */
  private readonly told = new Map<number, string>();

  private note(losses: Map<string, Loss>, deviceId: string, newest: readonly ReplicaMap[]): void {
    const versions = newest.filter(({ members }) => members.some((one) => one.deviceId === deviceId));
    this.count += 1;
    losses.set(deviceId, { version: Math.max(0, ...versions.map((map) => map.mapVersion)), number: this.count });
  }

  /** A device has lost power, while these maps were the newest. */
  darken(deviceId: string, newest: readonly ReplicaMap[]): void {
    this.note(this.darkened, deviceId, newest);
  }

  /** A device is another one now. */
  exchange(deviceId: string, newest: readonly ReplicaMap[]): void {
    this.note(this.exchanged, deviceId, newest);
  }

  private lossOf(losses: Map<string, Loss>, { deviceId, joined }: ReplicaMember): Loss | undefined {
    const loss = losses.get(deviceId);
    return loss !== undefined && joined <= loss.version ? loss : undefined;
  }

  /** What has been lost that was not told before, with these maps being the newest. */
  judge(newest: readonly ReplicaMap[]): Lost {
    let lost: Lost = 'nothing';
    for (const map of newest) {
      const current = inSyncOf(map);
      const members = map.members.filter(({ deviceId }) => current.includes(deviceId));
      const exchanged = members.map((member) => this.lossOf(this.exchanged, member));
      if (exchanged.every((loss) => loss !== undefined)) return 'anything';
      const losses = members.map((member, at) => this.lossOf(this.darkened, member) ?? exchanged[at]);
      const text = losses.map((loss) => loss?.number).join(' ');
      if (losses.some((loss) => loss === undefined) || this.told.get(map.group) === text) continue;
      this.told.set(map.group, text);
      lost = 'unflushed';
    }
    return lost;
  }
}
