/** What nodes say of themselves and of what lies on their devices, and what they are told. */

import { StrakeError } from '../core/errors.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type {
  HeartbeatAnswer,
  HeartbeatRequest,
  RegisterAnswer,
  RegisterRequest,
  ReplicaReport,
} from '../ports/manager.js';
import type { ClusterState } from './cluster-state.js';
import { devicesOf } from './group-record.js';
import type { Janitors } from './janitors.js';
import { HEARTBEAT_MAPS_MAX } from './limits.js';
import type { ManagedVolume, Outstanding } from './volume-book.js';

export class NodeCalls {
  private readonly state: ClusterState;
  private readonly janitors: Janitors;
  /** By node: volumes that are gone, of which it has something, and which it has not been told of. */
  private readonly goneOn = new Map<string, Set<string>>();
  /** Volumes that nobody has decided about here, and of which an event tells. */
  private readonly unknown = new Set<string>();

  constructor(state: ClusterState, janitors: Janitors) {
    this.state = state;
    this.janitors = janitors;
  }

  register(request: RegisterRequest): RegisterAnswer {
    const { state } = this;
    const { clusterId, epoch, times } = state.cluster;
    if (request.clusterId !== clusterId) {
      throw new StrakeError(
        'WRONG_DEVICE',
        `node ${request.name} belongs to cluster ${request.clusterId}, and this is ${clusterId}`,
        {
          remedy: 'Name the manager of its own cluster.',
        },
      );
    }
    const refused = state.nodes.register(request, state.nowMs);
    this.goneOn.delete(request.nodeId);
    // What its devices had answered in another life counts no more than what they say now.
    for (const { deviceId } of request.devices) {
      if (state.nodes.nodeOf(deviceId) === request.nodeId) state.volumes.forgetAnswers(deviceId);
    }
    this.take(request.nodeId, request.replicas);
    state.ticks.tell();
    return { epoch, sequence: state.journal.sequence, times, refused };
  }

  heartbeat({ nodeId, devices, replicas }: HeartbeatRequest): HeartbeatAnswer<ReplicaMap> {
    const { state } = this;
    const { epoch, times } = state.cluster;
    const node = state.nodes.heartbeat(nodeId, devices, state.nowMs);
    const about = { registered: node !== undefined, epoch, times };
    const nothing = { maps: [], deleted: [], attach: [] };
    if (node === undefined) return { ...about, sequence: state.journal.sequence, ...nothing };
    this.take(nodeId, replicas);
    const maps = this.mapsFor(devices.map(({ deviceId }) => deviceId));
    const attach = this.janitors.askedOf(nodeId);
    return { ...about, sequence: state.journal.sequence, maps, deleted: this.deletedOn(nodeId), attach };
  }

  // ---------------------------------------------------------------- what lies on devices

  private take(nodeId: string, replicas: readonly ReplicaReport[]): void {
    for (const replica of replicas) {
      const device = this.state.nodes.devices.get(replica.deviceId);
      if (device === undefined || device.refused !== null || device.record.nodeId !== nodeId) continue;
      const volume = this.state.volumes.get(replica.volumeId);
      if (volume === undefined) this.takeUnknown(nodeId, replica);
      else if (replica.managed) this.takeManaged(volume, replica);
      else if (volume.givenUp) this.takeGivenBack(volume, replica);
      else this.takeUnadopted(volume, replica);
    }
  }

  /** Until a device has a map of the manager, the node decides: maps that were made of its older ones reach nobody. */
  private takeUnadopted(volume: ManagedVolume, { deviceId }: ReplicaReport): void {
    if (volume.stored || volume.groups.some(({ record }) => record.base > 0)) return;
    volume.adopting = `device ${deviceId} has a map that its node has decided by itself`;
  }

  private takeManaged(volume: ManagedVolume, { group: number, deviceId, mapVersion, answered }: ReplicaReport): void {
    const { volumes, events } = this.state;
    const group = volume.groups[number];
    if (volume.givenUp) return;
    volume.stored = true;
    volume.adopting = null;
    if (group === undefined || mapVersion > group.record.newest.mapVersion) {
      if (volume.ahead !== null) return;
      const known = group?.record.newest.mapVersion ?? 0;
      volume.ahead = `device ${deviceId} has map ${mapVersion} of group ${number}, and the manager knows ${known} alone`;
      events.add('volume-ahead', volume.ahead, { volumeId: volume.id, group: number, deviceId });
      return;
    }
    if (!answered) return;
    volumes.answer(volume, group, deviceId, mapVersion);
    if (volume.deleted && this.allAnswered(volume)) {
      volumes.drop(volume);
      events.add('volume-gone', `volume ${volume.name} is gone from all its devices`, { volumeId: volume.id });
    }
  }

  /** Whether all devices of a volume have answered its newest maps. */
  private allAnswered(volume: ManagedVolume): boolean {
    return volume.groups.every((group) => {
      const { newest } = group.record;
      return devicesOf(newest).every((deviceId) => group.answeredBy(deviceId) === newest.mapVersion);
    });
  }

  /** A volume that is given back is forgotten when all its devices have the maps that no manager has decided. */
  private takeGivenBack(volume: ManagedVolume, { group: number, deviceId, mapVersion }: ReplicaReport): void {
    const { volumes, events } = this.state;
    const group = volume.groups[number];
    if (group === undefined || mapVersion <= group.record.newest.mapVersion) return;
    group.answered.set(deviceId, mapVersion);
    const all = volume.groups.every((one) => {
      const { newest } = one.record;
      const inSync = newest.members.filter(({ state }) => state === 'in-sync');
      return inSync.every((member) => one.answeredBy(member.deviceId) > newest.mapVersion);
    });
    if (!all) return;
    volumes.drop(volume);
    events.add('volume-left', `volume ${volume.name} is decided about by its node`, { volumeId: volume.id });
  }

  private takeUnknown(nodeId: string, { volumeId, deviceId, managed }: ReplicaReport): void {
    if (!managed) return;
    const { volumes, events } = this.state;
    if (volumes.gone.has(volumeId)) {
      this.goneOn.set(nodeId, (this.goneOn.get(nodeId) ?? new Set()).add(volumeId));
      return;
    }
    if (this.unknown.has(volumeId)) return;
    this.unknown.add(volumeId);
    const what = `device ${deviceId} has something of volume ${volumeId}, of which this manager knows nothing; it is left alone`;
    events.add('volume-unknown', what, { volumeId, deviceId, nodeId });
  }

  // ---------------------------------------------------------------- what a node is told

  private mapsFor(deviceIds: readonly string[]): ReplicaMap[] {
    const found = new Set<ReplicaMap>();
    for (const deviceId of deviceIds) {
      if (this.state.nodes.devices.get(deviceId)?.refused !== null) continue;
      for (const outstanding of this.state.volumes.outstandingOn(deviceId)) {
        if (found.size === HEARTBEAT_MAPS_MAX) return [...found];
        if (this.mayHandOut(outstanding)) found.add(outstanding.group.record.newest);
      }
    }
    return [...found];
  }

  /**
   * The holder hands out its maps first. An attach is handed out once a member has answered it: until then whoever held the
   * volume before works on, and the client that attached may be gone.
   */
  private mayHandOut({ volume, group }: Outstanding): boolean {
    const { nowMs, times } = this.state;
    if (volume.ahead !== null || volume.adopting !== null || volume.givenUp) return false;
    if (volume.deleted) return true;
    return nowMs - group.decidedAtMs >= times.handOutMs && (group.taken || group.record.newest.lease === 'released');
  }

  private deletedOn(nodeId: string): readonly string[] {
    const gone = this.goneOn.get(nodeId);
    if (gone === undefined) return [];
    const told = [...gone].slice(0, HEARTBEAT_MAPS_MAX);
    for (const volumeId of told) gone.delete(volumeId);
    if (gone.size === 0) this.goneOn.delete(nodeId);
    return told;
  }
}
