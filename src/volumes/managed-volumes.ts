/**
 * The volumes of a cluster that a node has attached: found through a manager, served over devices of any node, and given back, or
 * lost to another client.
 *
 * A node without devices of its own is a client and nothing else.
 */

import { allEnded } from '../core/all-ended.js';
import { Calls } from '../core/calls.js';
import { check } from '../core/check.js';
import type { TimesHeard } from '../core/cluster-times.js';
import { StrakeError } from '../core/errors.js';
import { parseAddress } from '../core/stream-address.js';
import type { Watch } from '../core/watch.js';
import { type ReplicaMap, volumeOf } from '../layout/replica-map.js';
import type { NodeDevice } from '../node/node-device.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type { DevicePlace, Held, JobTold, ManagerCalls } from '../ports/manager.js';
import type { Memory } from '../ports/memory.js';
import type { StreamAddress } from '../ports/transport.js';
import { AttachAnew } from './attach-anew.js';
import { HostedVolume } from './hosted-volume.js';
import { Janitor } from './janitor.js';
import { JOBS_TOLD_MAX, MANAGED_PAUSE_MS, RESUME_ROUNDS } from './limits.js';
import { ManagedAuthority } from './managed-authority.js';
import { ManagedReaders } from './managed-readers.js';
import type { NodeParts } from './node-parts.js';
import { hasMember } from './replacement.js';
import { servingEngine } from './volume-host.js';

/** How a node is a part of a cluster. */
export interface Cluster {
  readonly manager: ManagerCalls<ReplicaMap>;
  /** By which nodes are named; that of a client that has no devices is in no list of the manager. */
  readonly nodeId: string;
}

export interface ManagedVolumesParts {
  readonly node: NodeParts;
  readonly cluster: Cluster;
  readonly clientId: string;
  /** Of the cluster. */
  readonly times: TimesHeard;
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  readonly watch: Watch;
  /** Reaches a node at an address; resolves when its devices are there, or an attempt has failed. */
  readonly reachNode: (address: StreamAddress) => Promise<void>;
}

/** How a volume is attached. */
export interface Attaching {
  /** A client that serves it is replaced. */
  readonly takeOver?: boolean;
  /** It is only read, and whoever serves it goes on. */
  readonly readOnly?: boolean;
  /** It is attached because nobody attends to it. */
  readonly janitor?: boolean;
}

export class ManagedVolumes {
  readonly authority: ManagedAuthority;
  readonly readers: ManagedReaders;
  private readonly anew: AttachAnew;
  readonly janitor: Janitor;
  private readonly parts: ManagedVolumesParts;
  private readonly calls: Calls;
  private ending = false;
  private renewing = false;

  constructor(parts: ManagedVolumesParts) {
    const { node, cluster, completions } = parts;
    this.parts = parts;
    this.calls = new Calls(completions);
    this.authority = new ManagedAuthority({
      manager: cluster.manager,
      devices: node.stores,
      reach: (places) => this.reach(places),
      pause: () => this.pause(MANAGED_PAUSE_MS),
      onNewer: (id) => node.volumes.get(id)?.ownEngine?.adopt(),
      onSuperseded: (id, reason) => this.superseded(id, reason),
    });
    this.anew = new AttachAnew({
      node,
      authority: this.authority,
      depose: (id, reason) => void this.depose(id, reason),
    });
    const { memory, clock, watch } = parts;
    this.readers = new ManagedReaders({
      ...{ node, manager: cluster.manager, completions, memory, clock, watch },
      reach: (places) => this.reach(places),
      pause: () => this.pause(MANAGED_PAUSE_MS),
      holdMs: () => this.parts.times.now.holdMs,
    });
    this.janitor = new Janitor({
      node,
      hearsHolder: (volumeId) => this.hearsHolder(volumeId),
      attach: (volumeId) => this.attach(volumeId, { janitor: true }),
      giveBack: (volumeId) => this.giveBackTended(volumeId),
      takeBack: (device) => this.takeBack(device),
      pause: () => this.pause(MANAGED_PAUSE_MS),
    });
    this.authority.onMap((map) => {
      const volume = node.volumes.get(map.id);
      if (volume !== undefined) volume.stored = map;
    });
  }

  private hearsHolder(volumeId: string): boolean {
    return [...this.parts.node.devices.driven.values()].some((device) =>
      device.replicas.some((map) => map?.volume.id === volumeId && device.gate(volumeId, map.group).hearsHolder),
    );
  }

  private async pause(ms: number): Promise<void> {
    if (this.ending) throw new StrakeError('CLOSED', 'the node is being closed');
    await this.calls.call((token) => this.parts.clock.after(ms, token));
    if (this.ending) throw new StrakeError('CLOSED', 'the node is being closed');
  }

  // ---------------------------------------------------------------- devices

  /** Reaches the nodes of devices that are not here. */
  private async reach(places: readonly DevicePlace[]): Promise<void> {
    const { nodeId } = this.parts.cluster;
    await Promise.all(places.map((place) => (place.nodeId === nodeId ? null : this.reachDevice(place))));
  }

  /** Its node may listen at several addresses; the device is behind one of them. */
  private async reachDevice({ deviceId, addresses }: DevicePlace): Promise<void> {
    const { node, reachNode } = this.parts;
    for (const address of addresses) {
      if (node.stores.has(deviceId)) return;
      await reachNode(parseAddress(address));
    }
  }

  // ---------------------------------------------------------------- volumes

  /**
   * Attaches a volume by name or id, and serves it. Rejects with `ERR_STRAKE_NO_VOLUME`, with `ERR_STRAKE_VOLUME_BUSY` while
   * another client serves it and it is not to be taken over, with `ERR_STRAKE_NO_MANAGER`, and with `ERR_STRAKE_UNAVAILABLE` if
   * its members do not answer.
   */
  async attach(
    text: string,
    { takeOver = false, readOnly = false, janitor = false }: Attaching = {},
  ): Promise<HostedVolume> {
    const { node, cluster } = this.parts;
    if (readOnly) {
      this.parts.times.hear((await cluster.manager.status()).times);
      const volume = await this.readers.attach(text);
      void this.renew();
      return volume;
    }
    const stored = volumeOf((await cluster.manager.fetch(text)).maps);
    return node.turns.volumes.take([stored.id], async () => {
      const known = node.volumes.get(stored.id);
      check(known?.managed !== false, 'a volume is attached that this node decides about', stored.groups.length);
      // A janitor is in nobody's way.
      const isServed = known?.engine && known.engine.status().state !== 'failed' && !known.janitor;
      if (known?.reader || isServed) {
        throw new StrakeError('VOLUME_BUSY', `volume ${stored.name} is attached here already`);
      }
      if (known?.engine) await this.stop(known, 'it is attached anew');
      this.anew.forget(stored.id);
      const volume = known ?? new HostedVolume(stored);
      volume.managed = true;
      volume.janitor = janitor;
      volume.stored = stored;
      node.volumes.add(volume);
      try {
        await node.host.start(volume, takeOver);
      } catch (error) {
        this.authority.giveUp(volume.id, 'it could not be attached');
        node.volumes.remove(volume);
        throw error;
      }
      servingEngine(volume);
      void this.renew();
      return volume;
    });
  }

  /** Ends the service of an attached volume in order, and gives the right to write back. */
  async detach(text: string): Promise<void> {
    const { node } = this.parts;
    const { id } = node.volumes.find(text);
    await node.turns.volumes.take([id], async () => {
      const volume = node.volumes.get(id);
      if (volume?.managed !== true) throw new StrakeError('NO_VOLUME', `volume ${text} is not attached here`);
      if (this.readers.has(id)) return this.readers.end(volume);
      await this.giveBack(volume);
    });
  }

  /** Gives back what a janitor has attached, unless somebody who uses it has attached it here since. */
  private async giveBackTended(id: string): Promise<void> {
    const { node } = this.parts;
    await node.turns.volumes.take([id], async () => {
      const volume = node.volumes.get(id);
      if (volume?.janitor) await this.giveBack(volume);
    });
  }

  private async giveBack(volume: HostedVolume): Promise<void> {
    const { node } = this.parts;
    const { id, managed, place } = volume;
    check(managed, 'a volume is given back that this node decides about', place);
    try {
      await node.host.end(volume);
    } finally {
      this.authority.giveUp(id, 'it was given back');
      this.anew.forget(id);
      node.volumes.remove(volume);
    }
  }

  /** Another client has attached a volume: requests are held until it is known whether it serves. */
  private superseded(id: string, reason: string): void {
    // Nobody uses what a janitor serves.
    const isUsed = this.parts.node.volumes.get(id)?.janitor === false;
    if (this.ending || !isUsed || !this.anew.suspend(id, reason)) void this.depose(id, reason);
    else void this.renew();
  }

  /** Another client serves a volume: its requests fail from now on, and who uses it is told that it is lost. */
  private async depose(id: string, reason: string): Promise<void> {
    const { node } = this.parts;
    this.anew.forget(id);
    node.host.depose(id, reason);
    this.authority.giveUp(id, reason);
    await node.turns.volumes.take([id], async () => {
      const volume = node.volumes.get(id);
      if (volume === undefined || this.authority.isHeld(id)) return;
      await node.host.stop(volume);
      check(volume.engine === null, 'a volume is served by whom another client has deposed', volume.place);
      volume.reason = reason;
      node.hooks.onResolved();
    });
  }

  /** A device is there again, or for the first time: volumes that are attached bring their members on it up to date. */
  async takeBack(device: NodeDevice): Promise<void> {
    const { node } = this.parts;
    const { deviceId } = device;
    this.readers.poke();
    const users = [...node.volumes.values()].filter(({ managed, stored }) => managed && hasMember(stored, deviceId));
    await allEnded(
      users.map(({ id }) =>
        node.turns.volumes.take([id], async () => {
          const volume = node.volumes.get(id);
          const engine = volume?.ownEngine;
          if (volume === undefined || !engine?.serving || engine.suspended) return;
          if (node.stores.get(deviceId) !== device || device.failed) return;
          check(volume.managed, 'a device is taken back in a volume that this node decides about', volume.place);
          if (!(await node.host.rejoinOn(volume, engine, device)) && engine.members.isAwaiting(deviceId)) {
            const reason = 'all current copies of a group were opened anew';
            await (volume.janitor ? this.stop(volume, reason) : this.anew.begin(volume, reason));
            // What waits for a manager may wait for long, and this is tried again.
          } else if (!engine.members.isChanging) await node.host.resumeOn(volume, engine, device);
        }),
      ),
    );
  }

  /** Ends the service of a volume at once. */
  private async stop(volume: HostedVolume, reason: string): Promise<void> {
    const { host, hooks } = this.parts.node;
    host.depose(volume.id, reason);
    this.authority.giveUp(volume.id, reason);
    await host.stop(volume);
    check(volume.engine === null, 'a volume is served that was stopped', volume.place);
    volume.reason = reason;
    hooks.onResolved();
  }

  /** Maps that others have decided, wherever they were heard of. */
  heard(maps: readonly ReplicaMap[]): void {
    this.authority.heard(maps);
  }

  /** Maps that others have brought to members. */
  told(maps: readonly ReplicaMap[]): void {
    this.heard(maps);
    this.readers.heard(maps);
  }

  /** Maps that managers have decided. Until a member has it, another client's attach harms nobody who serves. */
  decided(maps: readonly ReplicaMap[]): void {
    this.heard(maps.filter((map) => this.authority.isOwn(map)));
  }

  // ---------------------------------------------------------------- being there

  /** What the manager is told of: volumes that are held, and those that were and are suspended. */
  private get holds(): readonly Held[] {
    const { volumes } = this.parts.node;
    const held = this.authority.holds.filter(({ volumeId }) => !this.anew.isSuspended(volumeId));
    const serves = (id: string) => volumes.get(id)?.engine?.serving === true;
    return [...held.map((one) => ({ ...one, serves: serves(one.volumeId) })), ...this.anew.holds];
  }

  /** Jobs of volumes that are held. Of one that is about to end, or has just begun, it may be told too late. */
  private get jobs(): readonly JobTold[] {
    const { host } = this.parts.node;
    return host.jobs.list().flatMap(({ kind, state, volumeId, group, deviceId, bytesDone, bytesTotal }) => {
      if (state !== 'running' || deviceId === null || !this.authority.isHeld(volumeId)) return [];
      const member = this.authority.mapOf(volumeId, group).members.find((one) => one.deviceId === deviceId);
      if (member?.state !== 'syncing') return [];
      return { volumeId, group, deviceId, kind, joined: member.joined, bytesDone, bytesTotal };
    });
  }

  /** Tells the manager that this client is there, as long as it holds or reads anything, and hears what it holds no more. */
  private async renew(): Promise<void> {
    if (this.renewing) return;
    this.renewing = true;
    const { manager } = this.parts.cluster;
    const { clientId } = this.parts;
    for (let round = 1; !this.ending && this.holds.length + this.readers.reads.length > 0; round += 1) {
      if (round % RESUME_ROUNDS === 0) this.resumeAll();
      let pauseMs = MANAGED_PAUSE_MS;
      try {
        const { reads } = this.readers;
        const { lost, times } = await manager.renew({
          ...{ clientId, holds: this.holds, jobs: this.jobs.slice(0, JOBS_TOLD_MAX) },
          ...(reads.length > 0 ? { reads } : {}),
        });
        pauseMs = times.pingMs;
        this.parts.times.hear(times);
        this.anew.told(lost);
      } catch (error) {
        // Volumes that are open go on without a manager.
        if (!(error instanceof StrakeError)) throw error;
      }
      await this.pause(pauseMs).catch(() => {});
    }
    this.renewing = false;
  }

  /** Brings members up to date that are there and are not: what was refused or has failed is tried again. */
  private resumeAll(): void {
    for (const device of this.parts.node.stores.values()) void this.takeBack(device).catch(() => {});
  }

  /** What waits for a manager fails from now on. */
  endWork(): void {
    this.ending = true;
  }

  /** Gives everything back; no volume is attached any more. */
  async close(): Promise<void> {
    this.ending = true;
    await this.calls.idle();
    this.calls.close();
  }
}
