/**
 * The janitor of volumes that nobody attends to: a manager asks a node to attach one for a while. It is an ordinary engine, which
 * makes the copies equal when it attaches, brings members up to date that are there, and then gives the volume back.
 *
 * A holder that managers do not hear may serve all the same: its volume is left alone as long as a device here hears it.
 *
 * Whoever else attaches the volume takes it over at once, and it does not attach it anew: nobody uses it here.
 */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import type { NodeDevice } from '../node/node-device.js';
import type { HostedVolume } from './hosted-volume.js';
import { JANITOR_PAUSES_MAX, JANITOR_RETRY_PAUSES, JANITOR_VOLUMES_MAX } from './limits.js';
import type { NodeParts } from './node-parts.js';

export interface JanitorParts {
  /** Whether devices of this process hear from the holder of a volume, which managers may not. */
  readonly hearsHolder: (volumeId: string) => boolean;
  readonly node: NodeParts;
  /** Attaches a volume as a janitor. Rejects as `ManagedVolumes.attach`. */
  readonly attach: (volumeId: string) => Promise<HostedVolume>;
  /** Gives it back, unless it is a janitor's no more. Rejects as `ManagedVolumes.detach`. */
  readonly giveBack: (volumeId: string) => Promise<void>;
  /** Begins to bring volumes up to date that have a member on a device. */
  readonly takeBack: (device: NodeDevice) => Promise<void>;
  /** Resolves after a while. Rejects when the node is being closed. */
  readonly pause: () => Promise<void>;
}

export class Janitor {
  private readonly parts: JanitorParts;
  /** Ids of volumes that it attends to. */
  private readonly tended = new Set<string>();

  constructor(parts: JanitorParts) {
    this.parts = parts;
  }

  /** Attends to volumes, so many at a time: the manager asks again for those that were too many, and for what has failed. */
  tend(volumeIds: readonly string[]): void {
    for (const volumeId of volumeIds) {
      if (this.tended.has(volumeId) || this.parts.hearsHolder(volumeId)) continue;
      if (this.tended.size === JANITOR_VOLUMES_MAX || !this.parts.node.host.hasRoom) return;
      this.tended.add(volumeId);
      void this.tendOne(volumeId);
    }
  }

  private async tendOne(volumeId: string): Promise<void> {
    try {
      const volume = await this.parts.attach(volumeId);
      check(volume.id === volumeId, 'a janitor has attached another volume', this.tended.size);
      check(volume.janitor, 'a volume is attached as if somebody used it', this.tended.size);
      try {
        await this.bringUp(volume);
      } finally {
        await this.parts.giveBack(volumeId);
      }
    } catch (error) {
      // Somebody else was faster, or nothing can be done now: the manager knows what is left.
      if (!(error instanceof StrakeError)) throw error;
    } finally {
      check(this.tended.delete(volumeId), 'a janitor ends twice', this.tended.size);
    }
  }

  /** Whether a volume is still here because nobody else attends to it. */
  private isOurs(volume: HostedVolume): boolean {
    return this.parts.node.volumes.get(volume.id) === volume && volume.janitor;
  }

  /** Resolves when all members that are there are up to date, or nothing comes of it any more. */
  private async bringUp(volume: HostedVolume): Promise<void> {
    const { stores } = this.parts.node;
    let idle = 0;
    for (let pauses = 0; idle < JANITOR_PAUSES_MAX; pauses += 1) {
      if (!this.isOurs(volume) || volume.engine?.serving !== true) return;
      const slots = volume.engine.status().groups.flat();
      const behind = slots.filter(
        ({ state, deviceId }) => state !== 'in-sync' && stores.get(deviceId)?.failed === false,
      );
      if (behind.length === 0) return;
      if (pauses % JANITOR_RETRY_PAUSES === 0) this.takeBackAll(behind.map(({ deviceId }) => deviceId));
      idle = volume.engine.status().jobs.some(({ state }) => state === 'running') ? 0 : idle + 1;
      await this.parts.pause();
    }
  }

  private takeBackAll(deviceIds: readonly string[]): void {
    for (const deviceId of new Set(deviceIds)) {
      const device = this.parts.node.stores.get(deviceId);
      if (device !== undefined) void this.parts.takeBack(device).catch(() => {});
    }
  }
}
