/** Volumes of a node are made, renamed, made larger and deleted. */

import { newVolumeName } from '../core/arguments.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import type { HostedEngine } from './engine-elsewhere.js';
import { HostedVolume } from './hosted-volume.js';
import type { NodeParts } from './node-parts.js';
import type { VolumeSpec } from './placement.js';
import { engineOf } from './volume-host.js';
import type { VolumeStarts } from './volume-starts.js';

export class VolumeChanges {
  private readonly volumes: NodeParts['volumes'];
  private readonly catalog: NodeParts['catalog'];
  private readonly host: NodeParts['host'];
  private readonly turns: NodeParts['turns'];
  private readonly starts: VolumeStarts;

  constructor(parts: NodeParts, starts: VolumeStarts) {
    this.volumes = parts.volumes;
    this.catalog = parts.catalog;
    this.host = parts.host;
    this.turns = parts.turns;
    this.starts = starts;
  }

  /** Makes a volume and starts it. */
  async create(spec: VolumeSpec): Promise<HostedVolume> {
    await this.holderSettled(spec.name);
    const stored = this.catalog.plan(spec);
    this.checkFree(spec.name);
    const volume = new HostedVolume(stored);
    volume.coming = true;
    // From now on it has the name, and its devices are not let go of.
    this.volumes.add(volume);
    try {
      await this.turns.volumes.take([spec.id], () => this.makeVolume(volume));
    } catch (error) {
      this.volumes.remove(volume);
      await this.starts.startResolved();
      throw error;
    }
    check(this.volumes.get(spec.id) === volume, 'a volume that was made is not listed', volume.place);
    volume.coming = false;
    return volume;
  }

  /** Whoever has a name may be about to be deleted, or to be renamed. */
  private async holderSettled(name: string): Promise<void> {
    const ids = this.volumes.named(name).map(({ id }) => id);
    if (ids.length > 0) await this.turns.volumes.take(ids, () => Promise.resolve());
  }

  private checkFree(name: string): void {
    const [holder] = this.volumes.named(name);
    if (holder !== undefined) throw new StrakeError('EXISTS', `there is a volume ${name} already: ${holder.id}`);
  }

  /**
   * Gives a volume another name, whether it is started or not; who uses it goes on. Volumes that only a name has kept from
   * service are started. Rejects with `ERR_STRAKE_EXISTS` if another volume has the name, and with `ERR_STRAKE_UNAVAILABLE` if
   * it could not be stored; then the volume has the one name or the other when its devices are opened the next time.
   */
  async rename(text: string, name: string): Promise<HostedVolume> {
    await this.holderSettled(name);
    const renamed = this.turns.inVolume(text, async (volume) => {
      if (volume.name === name) return volume;
      newVolumeName.take(name, 'the name of a volume');
      this.checkFree(name);
      await this.renameTo(volume, name);
      return volume;
    });
    return renamed.finally(() => this.starts.startResolved());
  }

  /** Gives a volume a name that is free. It has both names until that is done. */
  private async renameTo(volume: HostedVolume, name: string): Promise<void> {
    const { engine } = volume;
    volume.nextName = name;
    try {
      if (engine !== null && engine.status().state !== 'failed') await engine.rename(name);
      else volume.stored = await this.catalog.rename(volume.stored, name);
      check(volume.name === name, 'a volume has another name than it was given', volume.stored.headerVersion);
    } finally {
      volume.nextName = null;
    }
  }

  private async makeVolume(volume: HostedVolume): Promise<void> {
    check(volume.coming && volume.engine === null, 'a volume is made twice', volume.place);
    if (!this.host.hasRoom) throw this.host.tooMany();
    try {
      await this.catalog.create(volume.stored);
      await this.host.start(volume);
    } catch (error) {
      // Nobody has heard of it: a second one of this name must not meet it.
      await this.catalog.undo(volume.stored);
      throw error;
    }
  }

  /** Makes a volume larger. */
  grow(text: string, sizeBytes: number): Promise<HostedVolume> {
    return this.turns.inVolume(text, async (volume) => {
      await engineOf(this.volumes, volume.id).grow(sizeBytes);
      check(volume.stored.sizeBytes === sizeBytes, 'a volume has another size than it was given', sizeBytes);
      return volume;
    });
  }

  /**
   * Deletes a volume, and gives its space back. That it is deleted stays on its devices. `prepare` is called with its engine
   * before anything is done, if it has one; it may throw. If the devices do not take the deletion, the volume is stopped.
   */
  async delete(text: string, prepare: (engine: HostedEngine) => void = () => {}): Promise<HostedVolume> {
    let resolved = Promise.resolve();
    const deleted = await this.turns.inVolume(text, async (volume) => {
      if (volume.engine !== null) prepare(volume.engine);
      await this.host.stop(volume);
      check(volume.engine === null, 'a volume is deleted that is served', volume.place);
      volume.reason = 'it was to be deleted, which could not be stored';
      const note = await this.catalog.delete(volume.stored);
      check(note.id === volume.id, 'the note of a deleted volume is that of another', note.groups.length);
      this.volumes.remove(volume);
      // Not waited for in this turn: it takes those of other volumes.
      resolved = this.starts.startResolved();
      await this.catalog.cleanUp(note);
      return volume;
    });
    await resolved;
    return deleted;
  }
}
