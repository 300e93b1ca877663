/**
 * The turns of a node's control operations: those of devices, which come, go or stand in for each other, are taken before those
 * of volumes.
 */

import { StrakeError } from '../core/errors.js';
import type { NodeDevice } from '../node/node-device.js';
import type { HostedVolume } from './hosted-volume.js';
import { Turns } from './turns.js';
import type { VolumeDirectory } from './volume-directory.js';

export class NodeTurns {
  /** By device id. */
  readonly devices = new Turns();
  /** By volume id. */
  readonly volumes = new Turns();
  private readonly directory: VolumeDirectory;
  private readonly stores: ReadonlyMap<string, NodeDevice>;

  constructor(directory: VolumeDirectory, stores: ReadonlyMap<string, NodeDevice>) {
    this.directory = directory;
    this.stores = stores;
  }

  /**
   * Works on the volume of this name or id, in its turn. Rejects with `ERR_STRAKE_NO_VOLUME` if it has been deleted by then:
   * another one of the same name is not the one that was meant.
   */
  async inVolume<T>(text: string, work: (volume: HostedVolume) => Promise<T>): Promise<T> {
    const { id, name } = this.directory.find(text);
    return this.volumes.take([id], () => {
      const volume = this.directory.get(id);
      if (volume === undefined) throw new StrakeError('NO_VOLUME', `volume ${name} has been deleted`);
      return work(volume);
    });
  }

  /** Works on all volumes that have to do with a device, in their turns. `work` must not wait for another turn. */
  async inVolumesOf<T>(deviceId: string, work: () => Promise<T>): Promise<T> {
    for (;;) {
      const ids = this.directory.idsOn(this.stores, deviceId);
      const done = await this.volumes.take(ids, async () => {
        // While it waited, the device may have become a part of others.
        const same = this.directory.idsOn(this.stores, deviceId).every((id) => ids.includes(id));
        return same ? { result: await work() } : null;
      });
      if (done !== null) return done.result;
    }
  }

  /** Refuses what waits and what will be asked for. What is being carried out goes on. */
  close(error: Error): void {
    this.devices.close(error);
    this.volumes.close(error);
  }

  /** Resolves when nothing is being carried out, and nothing waits. */
  async ended(): Promise<void> {
    await Promise.all([this.devices.ended(), this.volumes.ended()]);
  }
}
