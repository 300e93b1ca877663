/** Devices of a node come back, take the place of others, and go, with the volumes that use them. */

import { allEnded } from '../core/all-ended.js';
import { check } from '../core/check.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import type { NodeDevice } from '../node/node-device.js';
import type { HostedEngine } from './engine-elsewhere.js';
import type { NodeParts } from './node-parts.js';
import { checkReplacement, hasMember } from './replacement.js';
import { deviceIsHere } from './volume-errors.js';
import type { VolumeStarts } from './volume-starts.js';
import { isUsed } from './volume-status.js';

export class DeviceChanges {
  private readonly devices: NodeParts['devices'];
  private readonly stores: NodeParts['stores'];
  private readonly volumes: NodeParts['volumes'];
  private readonly catalog: NodeParts['catalog'];
  private readonly host: NodeParts['host'];
  private readonly turns: NodeParts['turns'];
  private readonly hooks: NodeParts['hooks'];
  private readonly starts: VolumeStarts;

  constructor(parts: NodeParts, starts: VolumeStarts) {
    this.devices = parts.devices;
    this.stores = parts.stores;
    this.volumes = parts.volumes;
    this.catalog = parts.catalog;
    this.host = parts.host;
    this.turns = parts.turns;
    this.hooks = parts.hooks;
    this.starts = starts;
  }

  /** A device that was away is open again: volumes that know it take it back, and those that waited for it start. */
  takeBack(entry: NodeDevice): Promise<void> {
    const { deviceId } = entry;
    return this.turns.devices.take([deviceId], async () => {
      if (this.stores.get(deviceId) !== entry) throw new StrakeError('NOT_FOUND', `device ${deviceId} is not open`);
      if (entry.failed) throw new StrakeError('FENCED', `${entry.path} takes no more writes`);
      const ids = this.volumes.idsOn(this.stores, deviceId);
      this.volumes.list(this.stores, ids);
      await allEnded(ids.map((id) => this.takeBackIn(id, entry)));
      await this.starts.startResolved();
    });
  }

  private async takeBackIn(id: string, entry: NodeDevice): Promise<void> {
    const started = await this.turns.volumes.take([id], async () => {
      const volume = this.volumes.get(id);
      if (!volume?.engine) return false;
      check(this.stores.get(entry.deviceId) === entry, 'a device is taken back that was let go of', volume.place);
      await this.host.resumeOn(volume, volume.engine, entry);
      return true;
    });
    // What the device brings may be newer than what the others knew.
    if (!started) await this.starts.settleVolume(id, []);
  }

  /**
   * Puts a new device in the place of one that is lost, in all volumes. Rebuilding begins at once; resolves to the ids of
   * its jobs.
   */
  replace(deviceId: string, entry: NodeDevice): Promise<number[]> {
    const by = entry.deviceId;
    return this.turns.devices.take([deviceId, by], () =>
      this.turns.inVolumesOf(deviceId, async () => {
        if (this.stores.get(by) !== entry) throw new StrakeError('NOT_FOUND', `device ${by} is not open`);
        const users = [...this.volumes.values()].filter(({ stored }) => hasMember(stored, deviceId));
        checkReplacement(this.stores, deviceId, entry, users);
        const jobs: number[] = [];
        for (const volume of users) {
          const begun = await this.host.replaceIn(volume, deviceId, entry);
          jobs.push(...begun.map(({ id }) => id));
        }
        check(jobs.length >= users.length, 'a volume keeps a device that was replaced', jobs.length);
        return jobs;
      }),
    );
  }

  /**
   * Lets go of a device that no volume has as a current member, so that it can be replaced by its own path. Rejects with
   * `ERR_STRAKE_VOLUME_BUSY` if a volume writes to it. That it cannot be closed in order is told as an event: it may be
   * as dead as whoever takes it out says.
   */
  forget(deviceId: string): Promise<void> {
    return this.turns.devices.take([deviceId], async () => {
      const entry = await this.turns.inVolumesOf(deviceId, async () => {
        for (const { engine, stored } of this.volumes.values()) {
          if (engine === null || !isUsed(engine, deviceId)) continue;
          throw new StrakeError('VOLUME_BUSY', `device ${deviceId} is in use by volume ${stored.name}`);
        }
        const found = this.stores.get(deviceId);
        // What begins from now on does not see it.
        this.devices.letGo(deviceId);
        if (found !== undefined) this.volumes.dropUnknown(this.stores, found);
        return found;
      });
      await this.starts.startResolved();
      if (entry === undefined) return;
      await this.close(entry).catch((error: unknown) => {
        this.hooks.onEvent({ kind: 'device-failed', deviceId, text: toStrakeError(error).message });
      });
    });
  }

  /**
   * A device is gone with whoever drove it: volumes that can do without it go on, the others are stopped until it is back, which
   * `reason` tells. Those that are stopped had no copy left that answers.
   */
  lose(deviceId: string, reason: string): Promise<void> {
    return this.turns.devices.take([deviceId], async () => {
      this.partFrom(deviceId, reason);
      const users = [...this.volumes.values()].filter(({ stored }) => hasMember(stored, deviceId));
      if (users.length > 0 && users.every(({ managed }) => managed)) {
        this.devices.letGo(deviceId);
        return;
      }
      await this.turns.inVolumesOf(deviceId, async () => {
        for (const volume of this.volumes.values()) {
          const { engine } = volume;
          if (engine === null || volume.managed || !hasMember(volume.stored, deviceId)) continue;
          if (await engine.loseDevice(deviceId, reason)) continue;
          await this.host.stop(volume);
          volume.reason = reason;
        }
        // What begins from now on does not see it.
        this.devices.letGo(deviceId);
      });
    });
  }

  /**
   * Tells the engines of managed volumes that a device is gone. Their turns are not waited for: an attach, or a start that makes
   * copies equal, may wait for just this device, which is reached again only when it has been let go of. One that is being closed
   * has no device given back to it: what it waits for that device alone has it stop.
   */
  private partFrom(deviceId: string, reason: string): void {
    const managed = [...this.volumes.values()].filter((volume) => volume.managed && hasMember(volume.stored, deviceId));
    for (const { ownEngine } of managed) {
      // What a suspended engine goes on with is opened when it is attached anew.
      if (ownEngine !== null && !ownEngine.suspended) ownEngine.partFrom(deviceId, reason);
    }
    for (const engine of this.host.closing) engine.partFrom(deviceId, reason);
  }

  /**
   * A shard that ran engines has died, and its devices have been lost: volumes that it served and that have no device there are
   * served anew, those that are waiting for one serve when it is back.
   */
  async dropEngines(reason: string): Promise<void> {
    const gone = [...this.volumes.values()].filter(({ engine }) => isLost(engine));
    await allEnded(
      gone.map(async ({ id }) => {
        await this.turns.volumes.take([id], async () => {
          const volume = this.volumes.get(id);
          if (volume === undefined || !isLost(volume.engine)) return;
          await this.host.stop(volume);
          check(volume.engine === null, 'a volume is served whose shard has died', volume.place);
          volume.reason = reason;
        });
        await this.starts.settleVolume(id, []);
      }),
    );
    if (gone.length > 0) this.hooks.onResolved();
  }

  /**
   * Deleted volumes no longer wait for a device that is lost for good; returns how many did. Rejects with
   * `ERR_STRAKE_VOLUME_BUSY` if the device is here.
   */
  giveUp(deviceId: string): Promise<number> {
    return this.turns.devices.take([deviceId], async () => {
      const entry = this.stores.get(deviceId);
      if (entry !== undefined) throw deviceIsHere(deviceId, entry.path);
      return this.catalog.giveUp(deviceId, (id, work) => this.turns.volumes.take([id], work));
    });
  }

  /** Closes a device in order, if it still takes writes. No volume may use it. */
  async close(entry: NodeDevice): Promise<void> {
    this.devices.letGo(entry.deviceId);
    // A map that takes the device out may be on its way, perhaps to itself. Later ones pass it by.
    const users = [...this.volumes.values()].filter(({ stored }) => hasMember(stored, entry.deviceId));
    await Promise.all(users.map(({ engine }) => engine?.changesEnded()));
    const user = users.find(({ engine }) => engine !== null && isUsed(engine, entry.deviceId));
    check(user === undefined, 'a device is closed that a volume writes to', user?.place);
    await this.devices.close(entry);
  }
}

/** Whether an engine has gone with the shard that it was on. */
function isLost(engine: HostedEngine | null): boolean {
  return engine !== null && 'lost' in engine && engine.lost;
}
