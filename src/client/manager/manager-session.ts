/**
 * Managers as whoever asks sees them: the calls of `ManagerCalls`, over a session. A call that is sent again, because its answer
 * was lost, is told from one that asks for something new.
 */

import { StrakeError } from '../../core/errors.js';
import type { ReplicaMap } from '../../layout/replica-map.js';
import type {
  AttachCall,
  ChangeAnswer,
  ChangeRequest,
  ClusterEvent,
  ClusterStatus,
  ClusterTimes,
  CreateRequest,
  Decided,
  DetachAnswer,
  DetachRequest,
  DeviceListed,
  HeartbeatAnswer,
  HeartbeatRequest,
  ManagerCalls,
  NodeListed,
  RegisterAnswer,
  RegisterRequest,
  RenewAnswer,
  RenewRequest,
  StoredAnswer,
  StoredRequest,
  VolumeListed,
  WithoutAnswer,
} from '../../ports/manager.js';
import { allPages } from '../../wire/list-pages.js';
import type { CallAnswer, CallName, CallRequest } from '../../wire/manager-calls.js';
import { CallSession, type CallSessionParts } from './call-session.js';
import { changedMap } from './outcomes.js';

export class ManagerSession implements ManagerCalls<ReplicaMap> {
  private readonly session: CallSession;

  constructor(parts: CallSessionParts) {
    this.session = new CallSession(parts);
  }

  private ask<Name extends CallName>(
    name: Name,
    request: CallRequest<Name>,
    wanted?: () => boolean,
  ): Promise<CallAnswer<Name>> {
    return this.session.ask(name, request, wanted);
  }

  /** Ends the session: calls that wait are rejected with `ERR_STRAKE_CLOSED`. */
  close(): void {
    this.session.close();
  }

  // ---- the cluster

  status(): Promise<ClusterStatus> {
    return this.ask('status', {});
  }

  setTimes(times: Partial<ClusterTimes>): Promise<ClusterTimes> {
    return this.ask('setTimes', times);
  }

  register(request: RegisterRequest): Promise<RegisterAnswer> {
    return this.ask('register', request);
  }

  heartbeat(request: HeartbeatRequest): Promise<HeartbeatAnswer<ReplicaMap>> {
    return this.ask('heartbeat', request);
  }

  renew(request: RenewRequest): Promise<RenewAnswer> {
    return this.ask('renew', request);
  }

  async nodes(): Promise<readonly NodeListed[]> {
    return (await this.ask('nodes', {})).list;
  }

  async devices(): Promise<readonly DeviceListed[]> {
    return allPages(
      (after) => this.ask('devices', after === undefined ? {} : { after }),
      ({ deviceId }) => deviceId,
    );
  }

  async volumes(): Promise<readonly VolumeListed[]> {
    return allPages(
      (after) => this.ask('volumes', after === undefined ? {} : { after }),
      ({ volumeId }) => volumeId,
    );
  }

  async events(after: number): Promise<readonly ClusterEvent[]> {
    return (await this.ask('events', { after })).list;
  }

  // ---- maps

  async attach(call: AttachCall): Promise<Decided<ReplicaMap>> {
    if (call.above !== undefined) return this.ask('attach', call);
    const { maps } = await this.fetch(call.volume);
    return this.ask('attach', { ...call, above: Math.max(...maps.map(({ generation }) => generation)) });
  }

  async change(request: ChangeRequest<ReplicaMap>, wanted?: () => boolean): Promise<ChangeAnswer<ReplicaMap>> {
    const answer = await this.ask('change', request, wanted);
    if (answer.kind === 'decided') return answer;
    const map = changedMap(request, answer.newest);
    return map === null ? answer : { kind: 'decided', map };
  }

  stored(request: StoredRequest): Promise<StoredAnswer> {
    return this.ask('stored', request);
  }

  detach(request: DetachRequest<ReplicaMap>): Promise<DetachAnswer<ReplicaMap>> {
    return this.ask('detach', request);
  }

  fetch(volume: string): Promise<Decided<ReplicaMap>> {
    return this.ask('fetch', { volume });
  }

  // ---- volumes

  create(request: CreateRequest): Promise<Decided<ReplicaMap>> {
    return this.ask('create', request);
  }

  async delete(volume: string): Promise<void> {
    const volumeId = await this.idOf(volume);
    try {
      await this.ask('delete', { volume: volumeId });
    } catch (error) {
      const isGone = error instanceof StrakeError && error.code === 'ERR_STRAKE_NO_VOLUME';
      // It was there a moment ago: this call has deleted it, or another one has.
      if (!isGone) throw error;
    }
  }

  async rename(volume: string, name: string): Promise<Decided<ReplicaMap>> {
    return this.ask('rename', { volume: await this.idOf(volume), name });
  }

  grow(volume: string, sizeBytes: number): Promise<Decided<ReplicaMap>> {
    return this.ask('grow', { volume, sizeBytes });
  }

  startWithout(volume: string, deviceIds: readonly string[]): Promise<WithoutAnswer<ReplicaMap>> {
    return this.ask('startWithout', { volume, deviceIds });
  }

  async adopt(maps: readonly ReplicaMap[]): Promise<readonly ReplicaMap[]> {
    return (await this.ask('adopt', { maps })).maps;
  }

  async giveBack(volume: string): Promise<readonly ReplicaMap[]> {
    return (await this.ask('giveBack', { volume })).maps;
  }

  /** The id of a volume: its name may be that of another one when a call is sent again. */
  private async idOf(volume: string): Promise<string> {
    const { maps } = await this.fetch(volume);
    const [first] = maps;
    if (first === undefined) throw new StrakeError('NO_VOLUME', `volume ${volume} has no groups`);
    return first.volume.id;
  }
}
