/** Volumes are made, renamed, made larger, deleted, forced, adopted and given back. */

import { newVolumeName } from '../core/arguments.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES } from '../core/limits.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { NO_CLIENT, NO_DEVICE, type VolumeHeader } from '../layout/volume-map.js';
import type { CreateRequest, Decided, VolumeListed, WithoutAnswer } from '../ports/manager.js';
import type { ClusterState } from './cluster-state.js';
import { type Forced, forceGroup, headerGroup } from './decisions.js';
import { withNewest } from './group-record.js';
import { EPOCH_MAX, GENERATION_MAX, VOLUMES_MAX } from './limits.js';
import { type Candidate, checkCreate, firstMaps, placeGroups } from './placement.js';
import type { ManagedGroup, ManagedVolume } from './volume-book.js';

export class VolumeCalls {
  private readonly state: ClusterState;

  constructor(state: ClusterState) {
    this.state = state;
  }

  create(request: CreateRequest): Decided<ReplicaMap> {
    const { state } = this;
    checkCreate(request);
    const { volumeId, name, on, copies } = request;
    const known = state.volumes.get(volumeId);
    if (known !== undefined) {
      if (isSame(known, request)) return state.decidedOf(known);
      throw new StrakeError('EXISTS', `there is a volume of id ${volumeId} already: ${known.name}`);
    }
    if (state.volumes.gone.has(volumeId)) {
      throw new StrakeError('EXISTS', `a volume of id ${volumeId} has been deleted: ids are used once`);
    }
    state.volumes.checkFree(name, volumeId);
    if (state.volumes.size >= VOLUMES_MAX) {
      throw new StrakeError('NO_SPACE', `there are ${VOLUMES_MAX} volumes, as many as there may be`, {
        remedy: 'Delete volumes that are not needed.',
      });
    }
    const nodeIds = new Set(on.map((text) => state.nodes.find(text).record.nodeId));
    const groups = placeGroups(this.candidates(on.length === 0 ? null : nodeIds), copies, name);
    const about = { epoch: state.cluster.epoch, createdMs: state.wallNowMs() };
    const maps = firstMaps(request, groups, about).map(state.seal);
    for (const { deviceId } of groups.flat()) {
      const device = state.nodes.devices.get(deviceId);
      if (device !== undefined) device.given += 1;
    }
    const volume = state.volumes.add(maps, state.nowMs);
    state.events.add('volume-created', `volume ${name} is made, of ${maps.length} groups`, { volumeId });
    return state.decidedOf(volume);
  }

  /** Devices that are there and have room. @param nodeIds null: on any node */
  private candidates(nodeIds: ReadonlySet<string> | null): readonly Candidate[] {
    return [...this.state.nodes.devices.values()].flatMap(({ record, report, refused, given }) => {
      const usable = refused === null && report?.health === 'healthy' && report.replicasFree > given;
      if (!usable || (nodeIds !== null && !nodeIds.has(record.nodeId))) return [];
      const { deviceId, nodeId, segmentBytes, incarnation } = record;
      return [{ deviceId, nodeId, segmentBytes, incarnation, freeBytes: report.freeBytes }];
    });
  }

  delete(text: string): void {
    const { state } = this;
    const volume = state.servable(text);
    if (state.isHeld(volume)) throw state.busy(volume);
    const { name } = volume;
    this.changeHeader(volume, { deleted: true });
    state.events.add('volume-deleted', `volume ${name} is deleted`, { volumeId: volume.id });
  }

  rename(text: string, name: string): Decided<ReplicaMap> {
    const { state } = this;
    const volume = state.servable(text);
    newVolumeName.take(name, 'the name of a volume');
    const { name: before } = volume;
    if (before === name) return state.decidedOf(volume);
    state.volumes.checkFree(name, volume.id);
    this.changeHeader(volume, { name });
    state.events.add('volume-renamed', `volume ${before} is called ${name} now`, { volumeId: volume.id });
    return state.decidedOf(volume);
  }

  grow(text: string, sizeBytes: number): Decided<ReplicaMap> {
    const { state } = this;
    const volume = state.servable(text);
    const { name, sizeBytes: before } = volume.header;
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes % BLOCK_BYTES !== 0) {
      const what = `the size of a volume is a multiple of ${BLOCK_BYTES} bytes, not ${sizeBytes}`;
      throw new StrakeError('INVALID_ARGUMENT', what);
    }
    if (sizeBytes < before) {
      throw new StrakeError('INVALID_ARGUMENT', `volume ${name} has ${before} bytes and cannot shrink to ${sizeBytes}`);
    }
    if (sizeBytes === before) return state.decidedOf(volume);
    this.changeHeader(volume, { sizeBytes });
    state.events.add('volume-grown', `volume ${name} has ${sizeBytes} bytes now`, { volumeId: volume.id });
    return state.decidedOf(volume);
  }

  /** Another header in every group. Members stay as they are, so it may be added to anything. */
  private changeHeader(volume: ManagedVolume, changes: Partial<VolumeHeader>): void {
    const { state } = this;
    const { header } = volume;
    const next = { ...header, ...changes, headerVersion: header.headerVersion + 1 };
    for (const group of volume.groups) {
      state.volumes.decide(volume, group, headerGroup(group.record, next, state.seal), state.nowMs);
    }
  }

  // ---------------------------------------------------------------- what no rule mends

  startWithout(text: string, deviceIds: readonly string[]): WithoutAnswer<ReplicaMap> {
    const { state } = this;
    const volume = state.servable(text);
    this.checkLost(volume, deviceIds);
    const epoch = state.cluster.epoch + 1;
    if (epoch > EPOCH_MAX) throw new StrakeError('TOO_LARGE', `the cluster has had ${EPOCH_MAX} epochs`);
    const generation = Math.min(volume.generation + 1, GENERATION_MAX);
    const lost = new Set(deviceIds);
    const forced = volume.groups.map((group) => {
      const record = forceGroup(group.record, lost, { epoch, generation }, state.seal);
      if (record !== undefined) return { group, record };
      const { newest } = group.record;
      throw new StrakeError(
        'UNAVAILABLE',
        `nobody of group ${newest.group} of volume ${volume.name} would be current`,
        {
          remedy: 'Bring one of its devices back, or restore the volume from a backup.',
        },
      );
    });
    // Only when every group can be.
    const gaveUp = forced.map(({ group, record }) => ({
      group: record.record.newest.group,
      what: this.force(volume, group, record),
    }));
    state.changeCluster({ epoch });
    const what = `volume ${volume.name} is started without ${deviceIds.join(', ')}, in epoch ${epoch} of the cluster`;
    state.events.add('volume-forced', what, { volumeId: volume.id });
    return { ...state.decidedOf(volume), lost: gaveUp };
  }

  private checkLost(volume: ManagedVolume, deviceIds: readonly string[]): void {
    const members = new Set(volume.maps.flatMap((map) => map.members.map(({ deviceId }) => deviceId)));
    for (const deviceId of deviceIds) {
      if (!members.has(deviceId)) {
        throw new StrakeError('NO_DEVICE', `volume ${volume.name} has no member on device ${deviceId}`);
      }
      if (this.state.nodes.isPresent(deviceId)) {
        throw new StrakeError(
          'INVALID_ARGUMENT',
          `device ${deviceId} is there: volume ${volume.name} need not start without it`,
        );
      }
    }
    if (deviceIds.length === 0) throw new StrakeError('INVALID_ARGUMENT', 'no device is named that is lost');
  }

  /** Returns what may be lost, in words. */
  private force(volume: ManagedVolume, group: ManagedGroup, { record, back }: Forced): string {
    const { newest, base } = group.record;
    this.state.volumes.decide(volume, group, record, this.state.nowMs);
    if (back.length === 0) return `what was acknowledged while map ${newest.mapVersion} was not effective`;
    return `what was acknowledged after map ${base}: ${back.join(', ')} may have missed it`;
  }

  // ---------------------------------------------------------------- one node and the cluster

  adopt(maps: readonly ReplicaMap[]): readonly ReplicaMap[] {
    const byVolume = new Map<string, ReplicaMap[]>();
    for (const map of maps) byVolume.set(map.volume.id, [...(byVolume.get(map.volume.id) ?? []), map]);
    const plans = [...byVolume.values()].map((groups) => this.checkAdoption(groups));
    return plans.flatMap((plan) => this.adoptOne(plan));
  }

  /** Throws a `StrakeError` unless these are all groups of a volume that can be adopted; returns them in their order. */
  private checkAdoption(unordered: readonly ReplicaMap[]): readonly ReplicaMap[] {
    const { state } = this;
    const maps = [...unordered].sort((one, other) => one.group - other.group);
    const [{ volume, groups }] = maps;
    const wrong = (why: string) => new StrakeError('INVALID_ARGUMENT', `volume ${volume.name} is not adopted: ${why}`);
    if (maps.length !== groups || maps.some(({ group }, at) => group !== at))
      throw wrong('a group is missing, or is there twice');
    if (volume.deleted) throw wrong('it is deleted');
    if (state.volumes.gone.has(volume.id)) throw wrong('it has been deleted in this cluster');
    const known = state.volumes.get(volume.id);
    if (known !== undefined && known.groups.length !== groups) throw wrong('the manager knows it with other groups');
    for (const { members, group, authentication } of maps) {
      if (authentication !== undefined) throw wrong('a manager has decided about it already');
      if (!members.some(({ state: one }) => one === 'in-sync')) throw wrong(`nobody of group ${group} is current`);
      for (const { deviceId } of members) {
        if (deviceId !== NO_DEVICE && !state.nodes.devices.has(deviceId)) {
          throw wrong(`no node of this cluster has device ${deviceId}`);
        }
      }
    }
    state.volumes.checkFree(volume.name, volume.id);
    return maps;
  }

  private adoptOne(maps: readonly ReplicaMap[]): readonly ReplicaMap[] {
    const { state } = this;
    const [{ volume }] = maps;
    const known = state.volumes.get(volume.id);
    if (known !== undefined && !known.givenUp && known.adopting === null) return known.maps;
    const first = state.cluster.epoch * 2 ** 32 + 1;
    // What was given back has versions of the cluster's already. Whoever held it was a client of its node, which is asked no
    // more.
    const managed = maps.map((map) => {
      const newest = known?.groups[map.group]?.record.newest.mapVersion ?? 0;
      const mapVersion = Math.max(first, map.mapVersion + 1, newest + 1);
      return state.seal({ ...map, volume, holder: NO_CLIENT, mapVersion });
    });
    if (known === undefined || known.givenUp) state.volumes.add(managed, state.nowMs);
    else this.adoptAnew(known, managed);
    state.events.add('volume-adopted', `volume ${volume.name} is decided about by this manager`, {
      volumeId: volume.id,
    });
    return managed;
  }

  /** No device has what was decided when the adoption was begun, and its node may have gone on by itself since. */
  private adoptAnew(volume: ManagedVolume, maps: readonly ReplicaMap[]): void {
    const { state } = this;
    for (const group of volume.groups) {
      const next = withNewest(group.record, maps[group.record.newest.group]);
      state.volumes.decide(volume, group, { ...next, attached: 0 }, state.nowMs);
    }
  }

  giveBack(text: string): readonly ReplicaMap[] {
    const { state } = this;
    const volume = state.volumes.find(text);
    if (volume.ahead !== null || volume.adopting !== null) state.servable(text);
    if (!volume.givenUp) {
      if (state.isHeld(volume)) throw state.busy(volume);
      this.checkOneNode(volume);
      state.volumes.giveUp(volume);
      const what = `volume ${volume.name} is being given back to its node`;
      state.events.add('volume-given-back', what, { volumeId: volume.id });
    }
    check(volume.givenUp, 'maps are given back of a volume that is decided about here', volume.groups.length);
    return volume.maps.map(({ authentication: _, ...map }) => ({ ...map, mapVersion: map.mapVersion + 1 }));
  }

  private checkOneNode(volume: ManagedVolume): void {
    const { nodes } = this.state;
    const members = volume.maps.flatMap((map) => map.members).filter(({ deviceId }) => deviceId !== NO_DEVICE);
    const on = new Set(members.map(({ deviceId }) => nodes.nodeOf(deviceId)));
    if (on.size === 1) return;
    const names = [...on].map((nodeId) => nodes.nameOf(nodeId)).join(', ');
    throw new StrakeError(
      'UNAVAILABLE',
      `volume ${volume.name} lies on nodes ${names}: no single one can decide about it`,
      {
        remedy: 'Delete it, or replace its members by devices of one node.',
      },
    );
  }

  list(): readonly VolumeListed[] {
    const { state } = this;
    return [...state.volumes]
      .filter(({ deleted }) => !deleted)
      .map((volume) => {
        const { header, generation, holder, lease } = volume;
        const { id: volumeId, name, sizeBytes, createdMs, layout, copies } = header;
        return {
          ...{ volumeId, name, sizeBytes, createdMs, layout, copies, generation, holder, lease },
          janitor: volume.janitor !== null,
          holderSilentMs: state.silentMs(volume),
          jobs: state.jobs.of(volumeId),
          readers: state.readership.of(volumeId, state.nowMs, 2 * state.times.leaseMs),
          groups: volume.groups.map((group) => this.listGroup(group)),
          blocked: volume.givenUp ? 'it is being given back to its node' : (volume.adopting ?? volume.ahead),
        };
      });
  }

  private listGroup(group: ManagedGroup): VolumeListed['groups'][number] {
    const { newest, base } = group.record;
    const { nodes } = this.state;
    const members = newest.members
      .filter(({ deviceId }) => deviceId !== NO_DEVICE)
      .map(({ deviceId, state }) => {
        const nodeName = nodes.nameOf(nodes.nodeOf(deviceId));
        return { deviceId, nodeName, state, answered: group.answeredBy(deviceId) };
      });
    return { group: newest.group, mapVersion: newest.mapVersion, base, members };
  }
}

function isSame({ header }: ManagedVolume, request: CreateRequest): boolean {
  const { name, sizeBytes, layout, copies, deleted } = header;
  const same = name === request.name && sizeBytes === request.sizeBytes;
  return same && layout === request.layout && copies === request.copies && !deleted;
}
