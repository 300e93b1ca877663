/**
 * What clients ask for that hold volumes, or want to: attach, changes of maps, and that members have answered.
 *
 * Each decision compares what is asked for with the newest map that there is *now*, whether it is effective or not, and changes
 * memory in the same turn: between the comparison and the decision nothing else happens. It is answered when it is durable.
 */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { NO_CLIENT, NO_DEVICE } from '../layout/volume-map.js';
import type { Generation } from '../ports/ids.js';
import type {
  AttachCall,
  ChangeAnswer,
  ChangeRequest,
  Decided,
  DetachAnswer,
  DetachRequest,
  Held,
  Lost,
  RenewAnswer,
  RenewRequest,
  StoredAnswer,
  StoredRequest,
  Superseded,
} from '../ports/manager.js';
import type { ClusterState } from './cluster-state.js';
import { attachGroup, changeGroup, releaseGroup } from './decisions.js';
import type { Janitors } from './janitors.js';
import { GENERATION_MAX } from './limits.js';
import { type Step, stepBetween } from './map-steps.js';
import type { ManagedGroup, ManagedVolume } from './volume-book.js';

/** A report that waits until the manager misses as many nodes, since when. */
interface HeldReport {
  readonly sinceMs: number;
}

export class HolderCalls {
  private readonly state: ClusterState;
  private readonly janitors: Janitors;
  /** Reports that wait, by who tells of which map: one for each. */
  private readonly held = new Map<string, HeldReport>();

  constructor(state: ClusterState, janitors: Janitors) {
    this.state = state;
    this.janitors = janitors;
  }

  attach({ volume: text, clientId, takeOver, above, instead, janitor = false }: AttachCall): Decided<ReplicaMap> {
    const { state } = this;
    const volume = state.servable(text);
    if (clientId === NO_CLIENT) throw new StrakeError('INVALID_ARGUMENT', 'a client has an id that is not all zeroes');
    const { generation, holder, lease } = volume;
    const has = holder === clientId && lease !== 'released';
    if (has && above !== undefined && generation > above) return state.decidedOf(volume);
    if (janitor) this.janitors.demandWanted(volume);
    else if (instead !== undefined) this.checkInstead(volume, clientId, instead);
    else if (!takeOver && holder !== clientId && volume.janitor === null && state.isHeld(volume))
      throw state.busy(volume);
    if (generation >= GENERATION_MAX) {
      throw new StrakeError(
        'TOO_LARGE',
        `volume ${volume.name} has been attached ${generation} times, as often as it can`,
      );
    }
    state.volumes.noteJanitor(volume, janitor ? clientId : null);
    if (janitor) this.janitors.noteAttached(volume);
    const right = { holder: clientId, generation: generation + 1 };
    for (const group of volume.groups) {
      const record = attachGroup(group.record, right, (deviceId) => state.nodes.incarnationOf(deviceId), state.seal);
      state.volumes.decide(volume, group, record, state.nowMs);
    }
    check(volume.holder === clientId, 'a volume is attached, and is held by another', right.generation);
    volume.attachedAtMs = state.nowMs;
    volume.heldMs = state.nowMs;
    const before = lease === 'released' || holder === NO_CLIENT ? '' : `, in place of ${holder}`;
    const who = janitor ? `client ${clientId}, a janitor,` : `client ${clientId}`;
    const what = `volume ${volume.name} is attached by ${who} under generation ${right.generation}${before}`;
    state.events.add('attached', what, { volumeId: volume.id });
    return state.decidedOf(volume);
  }

  /**
   * Whether a client that has held a volume may attach it anew in the place of a generation. Throws `ERR_STRAKE_VOLUME_BUSY`: two
   * clients would take it from each other for ever.
   */
  private checkInstead(volume: ManagedVolume, clientId: string, instead: Generation): void {
    if (volume.generation === instead && this.candidateOf(volume, clientId) === 'free') return;
    throw this.state.busy(volume);
  }

  /** What has come of the newest attach of a volume, for a client that has held it before. */
  private candidateOf(volume: ManagedVolume, clientId: string): Lost['state'] {
    const { state } = this;
    const { generation, servedGeneration, attachedAtMs, holder, lease } = volume;
    check(servedGeneration <= generation, 'a volume was served under a generation to come', servedGeneration);
    // What it has attached itself it has not come to serve, or would hold.
    if (holder === clientId) return 'free';
    if (servedGeneration === generation) return 'serves';
    if (lease === 'released') return 'free';
    // Whoever attached it before this manager started may be just as far.
    const sinceMs = Math.max(attachedAtMs, state.startedAtMs);
    return state.nowMs - sinceMs < state.times.attachMs ? 'coming' : 'free';
  }

  /**
   * Resolves when it has been decided or refused; a report that tells more of who reports than of members waits: as long as it is
   * `wanted`, and until the same client asks for the same again, for which its time goes on.
   */
  async change(request: ChangeRequest<ReplicaMap>, wanted = () => true): Promise<ChangeAnswer<ReplicaMap>> {
    const { state } = this;
    const { volume: asked } = this.find(request.volumeId, request.group);
    if (asked.holder === request.clientId) asked.heldMs = state.nowMs;
    const key = [request.clientId, request.volumeId, request.group, request.before].join(' ');
    const report = { sinceMs: this.held.get(key)?.sinceMs ?? state.nowMs };
    this.held.set(key, report);
    try {
      return await this.decideWhenHeard(request, report.sinceMs, () => wanted() && this.held.get(key) === report);
    } finally {
      if (this.held.get(key) === report) this.held.delete(key);
    }
  }

  private async decideWhenHeard(
    request: ChangeRequest<ReplicaMap>,
    sinceMs: number,
    wanted: () => boolean,
  ): Promise<ChangeAnswer<ReplicaMap>> {
    const { state } = this;
    let crowd = false;
    for (;;) {
      const { volume, group } = this.find(request.volumeId, request.group);
      const { newest } = group.record;
      if (newest.mapVersion !== request.before) return this.superseded(volume);
      const step = stepBetween(newest, request.map);
      if (!this.mayChange(newest, step, request.clientId)) return this.superseded(volume);
      if (step.kind === 'removal') crowd ||= this.isCrowd(request.clientId, step.deviceIds);
      if (!crowd || !this.areHeard(step)) {
        this.checkStep(volume, group, step, request.map);
        const record = changeGroup(group.record, step, request.map, state.seal);
        state.volumes.decide(volume, group, record, state.nowMs);
        this.note(volume, group, step);
        return { kind: 'decided', map: record.newest };
      }
      if (state.nowMs - sinceMs >= state.times.holdMs) throw crowded(volume, step);
      await state.ticks.next();
      if (state.ended !== null) throw state.ended;
      if (!wanted()) throw new StrakeError('UNAVAILABLE', 'whoever reported this waits for it no more');
      state.crowds.keep(request.clientId, state.nowMs);
    }
  }

  /** The holder of the newest map; or anybody who tells of members that the manager misses too, where nobody holds the volume. */
  private mayChange({ holder, lease }: ReplicaMap, step: Step, clientId: string): boolean {
    if (holder === clientId && lease !== 'released') return true;
    return (
      lease === 'released' && step.kind === 'removal' && step.deviceIds.every((id) => !this.state.nodes.isPresent(id))
    );
  }

  /**
   * Whether a client reports more nodes than it is believed. A report of which that has been said waits, however long ago the
   * others were.
   */
  private isCrowd(clientId: string, deviceIds: readonly string[]): boolean {
    const { nodes, crowds, nowMs, times } = this.state;
    const nodeIds = new Set(
      deviceIds.map((deviceId) => nodes.nodeOf(deviceId)).filter((nodeId) => nodeId !== undefined),
    );
    const heard = nodes.heardWithin(nowMs, times.nodeDownMs);
    return crowds.isCrowd({ clientId, nodeIds, nowMs, withinMs: times.nodeDownMs, heard });
  }

  /** Whether the manager hears a node that has one of these devices, and says that it has it. */
  private areHeard(step: Step): boolean {
    const { nodes, nowMs, times } = this.state;
    const deviceIds = step.kind === 'refused' ? [] : step.deviceIds;
    return deviceIds.some((deviceId) => {
      const nodeId = nodes.nodeOf(deviceId);
      return nodeId !== undefined && nodes.isPresent(deviceId) && !nodes.isSilent(nodeId, nowMs, times.nodeDownMs);
    });
  }

  /** What the rules of one group alone do not say. Throws a `StrakeError`. */
  private checkStep(volume: ManagedVolume, group: ManagedGroup, step: Step, map: ReplicaMap): void {
    if (step.kind === 'removal' && !group.taken && group.record.newest.lease !== 'released') {
      const what = `no member of group ${map.group} of volume ${volume.name} is known to have answered a map of generation ${map.generation}`;
      throw new StrakeError('UNAVAILABLE', `${what}: whoever reaches nobody removes nobody`);
    }
    if (step.kind !== 'take-in' && step.kind !== 'replacement') return;
    for (const deviceId of step.deviceIds) this.checkComes(volume, map, deviceId);
  }

  /** Whether a device may become a member: it is there, it is believed, and no other member is on its node. */
  private checkComes(volume: ManagedVolume, map: ReplicaMap, deviceId: string): void {
    const { nodes } = this.state;
    const wrong = (why: string) =>
      new StrakeError('WRONG_DEVICE', `device ${deviceId} cannot become a member of volume ${volume.name}: ${why}`);
    const device = nodes.devices.get(deviceId);
    if (device === undefined) throw wrong('no node of this cluster has it');
    if (device.refused !== null) throw wrong(device.refused);
    if (!nodes.isPresent(deviceId)) throw wrong('it is not there');
    if (device.record.segmentBytes !== map.volume.segmentBytes) throw wrong('its slots have another size');
    const others = map.members.filter((member) => member.deviceId !== NO_DEVICE && member.deviceId !== deviceId);
    const beside = others.find((member) => nodes.nodeOf(member.deviceId) === device.record.nodeId);
    if (beside !== undefined && beside.state !== 'offline') {
      throw wrong(`device ${beside.deviceId} of the same node is one already, and both would be lost together`);
    }
  }

  private note(volume: ManagedVolume, { record }: ManagedGroup, step: Step): void {
    if (step.kind === 'refused' || step.kind === 'progress') return;
    const { group } = record.newest;
    const words = {
      removal: 'is out',
      'take-in': 'is taken in',
      promotion: 'is in-sync',
      replacement: 'takes a place',
    };
    for (const deviceId of step.deviceIds) {
      const what = `device ${deviceId} ${words[step.kind]} in group ${group} of volume ${volume.name}`;
      this.state.events.add(`member-${step.kind}`, what, { volumeId: volume.id, group, deviceId });
    }
  }

  stored({ volumeId, group: number, mapVersion, answers }: StoredRequest): StoredAnswer {
    const { state } = this;
    const { volume, group } = this.find(volumeId, number);
    if (mapVersion > group.record.newest.mapVersion) {
      throw new StrakeError(
        'INVALID_ARGUMENT',
        `map ${mapVersion} of group ${number} of ${volume.name} was not decided`,
      );
    }
    for (const { deviceId } of answers) state.volumes.answer(volume, group, deviceId, mapVersion);
    return { base: group.record.base };
  }

  detach({ clientId, volumeId, maps }: DetachRequest<ReplicaMap>): DetachAnswer<ReplicaMap> {
    const { state } = this;
    const volume = state.servableId(volumeId);
    const { holder, lease } = volume;
    const released = () => ({ kind: 'released', ...state.decidedOf(volume) }) as const;
    if (maps.length !== volume.groups.length) {
      throw new StrakeError(
        'INVALID_ARGUMENT',
        `volume ${volume.name} has ${volume.groups.length} groups, not ${maps.length}`,
      );
    }
    if (holder !== clientId) return this.superseded(volume);
    if (lease === 'released') return released();
    const current = volume.groups.every(({ record }, at) => record.newest.mapVersion === maps[at].mapVersion);
    if (!current) return this.superseded(volume);
    for (const [at, { record }] of volume.groups.entries()) {
      const step = stepBetween(record.newest, maps[at]);
      if (step.kind === 'progress') continue;
      const why = step.kind === 'refused' ? step.why : `a ${step.kind} is asked for by a call of its own`;
      throw new StrakeError('INVALID_ARGUMENT', `volume ${volume.name} is not given back: ${why}`);
    }
    for (const [at, group] of volume.groups.entries()) {
      const record = releaseGroup(group.record, maps[at].members, state.seal);
      state.volumes.decide(volume, group, record, state.nowMs);
    }
    state.volumes.noteJanitor(volume, null);
    const what = `volume ${volume.name} is released by client ${clientId}`;
    state.events.add('released', what, { volumeId });
    return released();
  }

  renew({ clientId, holds, reads = [], jobs = [] }: RenewRequest): RenewAnswer {
    const { state } = this;
    const known = reads.filter((volumeId) => state.volumes.get(volumeId) !== undefined);
    state.readership.heard(clientId, known, state.nowMs);
    const lost = holds.flatMap((held) => this.lostOf(held, clientId));
    for (const job of jobs) {
      const volume = state.volumes.get(job.volumeId);
      const map = volume?.groups[job.group]?.record.newest;
      if (map?.holder === clientId && volume?.lease !== 'released') state.jobs.told(map, job);
    }
    const { sequence } = state.journal;
    return { sequence, times: state.times, lost };
  }

  /** A volume that a client does not hold any more; nothing if it does. */
  private lostOf({ volumeId, generation, serves }: Held, clientId: string): Lost[] {
    const volume = this.state.volumes.get(volumeId);
    if (volume === undefined || volume.deleted) return [{ volumeId, generation: 0, state: 'serves' }];
    // Of a volume that it is attaching anew it names the generation before.
    if (volume.holder === clientId) volume.heldMs = this.state.nowMs;
    if (volume.generation > generation || volume.holder !== clientId) {
      return [{ volumeId, generation: volume.generation, state: this.candidateOf(volume, clientId) }];
    }
    if (serves) volume.servedGeneration = Math.max(volume.servedGeneration, Math.min(generation, volume.generation));
    return [];
  }

  private superseded(volume: ManagedVolume): Superseded<ReplicaMap> {
    return { kind: 'superseded', newest: this.state.decidedOf(volume) };
  }

  private find(volumeId: string, number: number): { volume: ManagedVolume; group: ManagedGroup } {
    const volume = this.state.servableId(volumeId);
    const group = volume.groups[number];
    if (group === undefined) {
      throw new StrakeError(
        'INVALID_ARGUMENT',
        `volume ${volume.name} has ${volume.groups.length} groups, and no group ${number}`,
      );
    }
    return { volume, group };
  }
}

function crowded(volume: ManagedVolume, step: Step): StrakeError {
  const devices = step.kind === 'refused' ? '?' : step.deviceIds.join(', ');
  const what = `device ${devices} stays in volume ${volume.name}: the manager hears its node, and more than a third of all are reported`;
  return new StrakeError('UNAVAILABLE', what, { remedy: 'Look at the network of the client that reports them.' });
}
