/** Which volumes of a node are started, and when: as devices are opened, as names become free, and as somebody insists. */

import { allEnded } from '../core/all-ended.js';
import { check } from '../core/check.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import { withoutDoubles } from '../layout/starting-map.js';
import { HostedVolume } from './hosted-volume.js';
import type { NodeParts } from './node-parts.js';
import { refusalOf } from './starting-refusal.js';
import { engineOf } from './volume-host.js';

export class VolumeStarts {
  private readonly stores: NodeParts['stores'];
  private readonly volumes: NodeParts['volumes'];
  private readonly catalog: NodeParts['catalog'];
  private readonly host: NodeParts['host'];
  private readonly turns: NodeParts['turns'];
  private readonly hooks: NodeParts['hooks'];

  constructor(parts: NodeParts) {
    this.stores = parts.stores;
    this.volumes = parts.volumes;
    this.catalog = parts.catalog;
    this.host = parts.host;
    this.turns = parts.turns;
    this.hooks = parts.hooks;
  }

  /**
   * Finds the volumes of all devices that are open, and starts those that can be, side by side. `without`: device ids by name
   * or id of a volume; a name that several volumes have says nothing.
   */
  async assemble(without: ReadonlyMap<string, readonly string[]>): Promise<void> {
    const ids = [...this.catalog.newest().keys()];
    this.volumes.list(this.stores, ids);
    const given = this.volumes.meantBy(without);
    await allEnded(ids.map((id) => this.settleVolume(id, given.get(id) ?? [])));
    await this.startResolved();
  }

  /** Brings a volume to what the newest map says, unless it is started: starts it, or gives back what is left of it. */
  settleVolume(id: string, without: readonly string[]): Promise<void> {
    return this.turns.volumes.take([id], async () => {
      const stored = this.catalog.newestOf(id);
      const known = this.volumes.get(id);
      if (stored === undefined || (known !== undefined && known.engine !== null)) return;
      check(stored.id === id, 'a volume is settled by the map of another', stored.groups.length);
      if (stored.deleted) {
        if (known !== undefined) this.volumes.remove(known);
        await this.catalog.cleanUp(stored);
        return;
      }
      const volume = known ?? new HostedVolume(stored);
      volume.stored = stored;
      this.volumes.add(volume);
      await this.tryStart(volume, without);
    });
  }

  /** Starts the volumes that another one's name has kept from it, where that is no longer so. Why one does not start, it says. */
  async startResolved(): Promise<void> {
    const resolved = [...this.volumes.values()].filter(
      (volume) => volume.conflict && volume.engine === null && !this.volumes.inConflict(volume),
    );
    if (resolved.length === 0) return;
    await Promise.allSettled(resolved.map(({ id }) => this.settleVolume(id, [])));
    this.hooks.onResolved();
  }

  private async tryStart(volume: HostedVolume, without: readonly string[]): Promise<void> {
    check(volume.engine === null, 'a volume is to be started that is served', volume.place);
    const refusal = refusalOf(this.stores, volume.stored, this.volumes.twinsOf(volume), without);
    volume.conflict = refusal?.kind === 'conflict';
    volume.unproven = refusal?.kind === 'unproven';
    if (refusal !== null) {
      volume.reason = refusal.reason;
      return;
    }
    volume.stored = withoutDoubles(volume.stored);
    try {
      await this.host.start(volume);
    } catch (error) {
      volume.reason = toStrakeError(error).message;
    }
  }

  /** Starts an unproven volume without the devices that are named. */
  without(text: string, without: readonly string[]): Promise<void> {
    return this.turns.inVolume(text, async (volume) => {
      const { id, name } = volume;
      if (volume.engine !== null) throw new StrakeError('VOLUME_BUSY', `volume ${name} is started already`);
      volume.stored = this.catalog.newestOf(id) ?? volume.stored;
      await this.tryStart(volume, without);
      engineOf(this.volumes, id);
    });
  }
}
