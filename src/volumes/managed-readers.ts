/** The volumes of a cluster that a node only reads: found through a manager, whoever holds them, and whether anybody does. */

import { VolumeReader } from '../client/reader/volume-reader.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import type { Watch } from '../core/watch.js';
import { type ReplicaMap, volumeOf } from '../layout/replica-map.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type { DevicePlace, ManagerCalls } from '../ports/manager.js';
import type { Memory } from '../ports/memory.js';
import { FollowedVolume } from './followed-volume.js';
import { HostedVolume } from './hosted-volume.js';
import type { NodeParts } from './node-parts.js';
import { storageEvent } from './storage-events.js';

export interface ManagedReadersParts {
  readonly node: NodeParts;
  readonly manager: ManagerCalls<ReplicaMap>;
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  readonly watch: Watch;
  /** See `FollowedVolumeParts`. */
  readonly reach: (places: readonly DevicePlace[]) => Promise<void>;
  readonly pause: () => Promise<void>;
  readonly holdMs: () => number;
}

export class ManagedReaders {
  private readonly parts: ManagedReadersParts;
  private readonly followed = new Map<string, FollowedVolume>();

  constructor(parts: ManagedReadersParts) {
    this.parts = parts;
  }

  /**
   * Reads a volume by name or id. Rejects with `ERR_STRAKE_NO_VOLUME`, with `ERR_STRAKE_VOLUME_BUSY` if it is attached here, with
   * `ERR_STRAKE_NO_MANAGER`, and with `ERR_STRAKE_UNAVAILABLE` if it cannot be read now.
   */
  async attach(text: string): Promise<HostedVolume> {
    const { node, manager } = this.parts;
    const { maps, devices } = await manager.fetch(text);
    const stored = volumeOf(maps);
    return node.turns.volumes.take([stored.id], async () => {
      const known = node.volumes.get(stored.id);
      check(known?.managed !== false, 'a volume is only read that this node decides about', stored.groups.length);
      if (known !== undefined) throw new StrakeError('VOLUME_BUSY', `volume ${stored.name} is attached here already`);
      const volume = new HostedVolume(stored);
      volume.managed = true;
      node.volumes.add(volume);
      const followed = this.follow(volume, maps);
      this.followed.set(volume.id, followed);
      try {
        volume.reader = await followed.begin(devices);
      } catch (error) {
        await this.end(volume);
        throw error;
      }
      return volume;
    });
  }

  private follow(volume: HostedVolume, maps: readonly ReplicaMap[]): FollowedVolume {
    const { node, manager, completions, memory, clock, watch, reach, pause, holdMs } = this.parts;
    return new FollowedVolume(
      {
        ...{ completions, reach, pause, devices: node.stores },
        newReader: (options) =>
          new VolumeReader({
            ...{ completions, memory, clock, watch, holdMs, buffers: node.host.buffers },
            ...options,
          }),
        fetch: () => manager.fetch(volume.id),
        onEvent: (event) => {
          const told = storageEvent(volume.name, event);
          if (told !== null) node.hooks.onEvent(told);
        },
      },
      maps,
    );
  }

  /** Ids of the volumes that are only read here. */
  get reads(): readonly string[] {
    return [...this.followed.keys()];
  }

  /** Whether a volume is only read here. */
  has(volumeId: string): boolean {
    return this.followed.has(volumeId);
  }

  /** Maps that members have. */
  heard(maps: readonly ReplicaMap[]): void {
    for (const followed of this.followed.values()) followed.heard(maps);
  }

  /** A device has come, or has gone. */
  poke(): void {
    for (const followed of this.followed.values()) followed.poke();
  }

  /** Ends it. The caller has the turn of the volume. */
  async end(volume: HostedVolume): Promise<void> {
    const { node } = this.parts;
    const followed = this.followed.get(volume.id);
    check(followed !== undefined, 'a volume is read no more that was not read', volume.place);
    check(volume.engine === null, 'a volume is only read and has a writer', volume.place);
    this.followed.delete(volume.id);
    await followed.close();
    check(volume.reader?.serving !== true, 'a volume is read that is given up', volume.stored.groups.length);
    volume.reader = null;
    node.volumes.remove(volume);
  }

  /** Ends all. */
  async close(): Promise<void> {
    const volumes = [...this.parts.node.volumes.values()].filter(({ id }) => this.followed.has(id));
    for (const volume of volumes) await this.end(volume);
  }
}
