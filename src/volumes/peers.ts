/**
 * The nodes that serve segments to this one: each is reached again and again, as long as it is named, and its devices count as
 * devices of this node while a session with it lasts.
 *
 * Fault model: a node is not there, goes at any moment, comes back with other lives of its devices, or with other devices.
 */

import { SESSION_RETRY_MS } from '../client/limits.js';
import { NodeSession } from '../client/members/node-session.js';
import type { SessionService } from '../client/members/session-service.js';
import { allEnded } from '../core/all-ended.js';
import { check } from '../core/check.js';
import { toStrakeError } from '../core/errors.js';
import { Notify } from '../core/notify.js';
import { addressText } from '../core/stream-address.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { FoundDevice } from '../node/device-host.js';
import type { StreamAddress } from '../ports/transport.js';
import type { DeviceState } from '../wire/control.js';
import { RemoteDevice } from './remote-device.js';

export interface PeerHooks {
  /** The maps of volumes that are known. */
  readonly maps: () => Iterable<VolumeMap>;
  /** Makes a device that `open` opens a part of this node; resolves when volumes use it, rejects if it cannot be one. */
  readonly take: (found: FoundDevice, path: string, open: PeerOpening) => Promise<void>;
  /** It knows of volumes that it was not asked for when it was taken; resolves when these use it. */
  readonly onLearned: (device: RemoteDevice) => Promise<void>;
  /** Its session has failed; resolves when no volume uses it. */
  readonly onGone: (deviceId: string, reason: string) => Promise<void>;
  readonly onTrouble: (deviceId: string, text: string) => void;
  /** A node tells of maps that others have brought to its devices. */
  readonly onMaps: (maps: readonly ReplicaMap[]) => void;
}

/** Opens a device of another node, with a place in the order of devices. */
export type PeerOpening = (order: number) => Promise<RemoteDevice>;

class Peer {
  readonly address: StreamAddress;
  private readonly service: SessionService;
  private readonly hooks: PeerHooks;
  private readonly token: number;
  private session: NodeSession | null = null;
  private devices: RemoteDevice[] = [];
  /** Ids of what has been looked at in this session. */
  private readonly seen = new Set<string>();
  /** What was told last of a device that could not be taken. */
  private told = '';
  /** Devices that volumes are parting with. */
  private readonly parting = new Set<Promise<void>>();
  private waiting = false;
  private ended = false;
  /** Who waits until an attempt to reach it has come to something. */
  private readonly tried = new Notify();
  private taken = false;

  constructor(service: SessionService, address: StreamAddress, hooks: PeerHooks) {
    this.service = service;
    this.address = address;
    this.hooks = hooks;
    this.token = service.parts.ports.completions.register({ complete: () => this.retry() });
  }

  /** Begins to reach it; resolves when that has come to something for the first time. */
  begin(): Promise<void> {
    const tried = this.tried.next();
    this.connect();
    return tried;
  }

  /**
   * Resolves when its devices are there, or the attempt that is being made, or the next one, has failed. An attempt that begins
   * when volumes have parted with its devices is not waited for: whoever asks may keep a volume from that.
   */
  reached(): Promise<void> {
    const parts = this.session === null && !this.waiting;
    return this.taken || parts ? Promise.resolve() : this.tried.next();
  }

  private connect(): void {
    check(this.session === null && !this.ended, 'a node is reached twice at once');
    const session = new NodeSession(this.service, this.address, {
      onDevices: (states) => void this.take(session, states),
      onFailed: (reason) => this.failed(session, reason),
      onMaps: this.hooks.onMaps,
    });
    this.session = session;
  }

  /** Takes the devices of its node that have not been taken in this session, when volumes have parted with what is no more. */
  private async take(session: NodeSession, states: readonly DeviceState[]): Promise<void> {
    const known = new Map(states.map((state) => [state.deviceId, state]));
    await allEnded(
      [...this.devices].map((device) => {
        const reason = device.endedBy(known.get(device.deviceId));
        return reason === '' ? Promise.resolve() : this.part(device, reason);
      }),
    );
    if (session.failed) return;
    for (const device of [...this.devices]) await this.learnMore(device);
    const fresh = [...known.values()].filter(
      ({ deviceId, health }) => health === 'healthy' && !this.seen.has(deviceId),
    );
    for (const { deviceId } of fresh) this.seen.add(deviceId);
    await allEnded(fresh.map((state) => this.takeDevice(session, state)));
    this.taken = this.session === session;
    this.tried.tell();
  }

  private async takeDevice(session: NodeSession, state: DeviceState): Promise<void> {
    const { hooks, service } = this;
    const { deviceId } = state;
    const { clusterId, clientId } = service.parts;
    const where = addressText(this.address);
    try {
      await hooks.take({ deviceId, clusterId }, where, async (order) => {
        const device = new RemoteDevice({ session, clusterId, clientId, where, state, order });
        await device.learnAll([...hooks.maps()]);
        check(!device.failed || session.failed, 'a device fails by itself', order);
        check(!this.devices.some((one) => one.deviceId === deviceId), 'a device of a node is taken twice', order);
        this.devices.push(device);
        return device;
      });
    } catch (error) {
      if (session.failed || this.ended) return this.lateGone(session, deviceId);
      // It is tried again when the node tells of it the next time.
      this.seen.delete(deviceId);
      const told = `${where}: ${toStrakeError(error).message}`;
      if (told !== this.told) hooks.onTrouble(deviceId, told);
      this.told = told;
      return;
    }
    await this.lateGone(session, deviceId);
  }

  /** Volumes may have become known since a device was taken, as other devices came later: it may have a part in them. */
  private async learnMore(device: RemoteDevice): Promise<void> {
    try {
      if (await device.learnAll([...this.hooks.maps()])) await this.hooks.onLearned(device);
    } catch (error) {
      if (!device.failed) this.hooks.onTrouble(device.deviceId, `${device.path}: ${toStrakeError(error).message}`);
    }
  }

  /** What a device was has come to its end within the session; what it is now can be taken when volumes have parted with that. */
  private async part(device: RemoteDevice, reason: string): Promise<void> {
    const { deviceId, path } = device;
    this.devices.splice(this.devices.indexOf(device), 1);
    device.end(reason);
    this.hooks.onTrouble(deviceId, `${path}: ${reason}`);
    const parted = this.hooks.onGone(deviceId, reason).catch(() => {});
    this.parting.add(parted);
    await parted;
    this.parting.delete(parted);
    this.seen.delete(deviceId);
  }

  /** The session may have failed while its device was being taken. */
  private async lateGone(session: NodeSession, deviceId: string): Promise<void> {
    if (session.failed && !this.ended) await this.hooks.onGone(deviceId, session.reason).catch(() => {});
  }

  private failed(session: NodeSession, reason: string): void {
    if (this.session !== session) return;
    this.session = null;
    this.seen.clear();
    this.taken = false;
    const lost = this.devices.splice(0).map(({ deviceId, path }) => {
      if (!this.ended) this.hooks.onTrouble(deviceId, `${path}: ${reason}`);
      return this.hooks.onGone(deviceId, reason).catch(() => {});
    });
    this.tried.tell();
    // Volumes have parted with what it was before it can be something new.
    void Promise.all([...this.parting, ...lost]).then(() => this.waitForRetry());
  }

  private waitForRetry(): void {
    if (this.ended) return;
    check(this.session === null, 'a node is waited for that has a session');
    check(this.devices.length === 0, 'a node is waited for whose devices are in use', this.devices.length);
    this.waiting = true;
    this.service.parts.ports.clock.after(SESSION_RETRY_MS, this.token);
  }

  private retry(): void {
    check(this.waiting, 'a node is tried again without waiting');
    this.waiting = false;
    if (this.ended) this.service.parts.ports.completions.unregister(this.token);
    else this.connect();
  }

  /** Reaches it no more. */
  end(): void {
    this.ended = true;
    this.session?.fail('the session was ended');
    if (!this.waiting) this.service.parts.ports.completions.unregister(this.token);
  }
}

export class Peers {
  private readonly service: SessionService;
  private readonly hooks: PeerHooks;
  private readonly peers: Peer[] = [];

  constructor(service: SessionService, hooks: PeerHooks) {
    this.service = service;
    this.hooks = hooks;
  }

  /** Begins to reach a node, if that is not so; resolves when its devices are there, or an attempt has failed. */
  add(address: StreamAddress): Promise<void> {
    const known = this.peers.find((peer) => addressText(peer.address) === addressText(address));
    if (known !== undefined) return known.reached();
    const peer = new Peer(this.service, address, this.hooks);
    this.peers.push(peer);
    return peer.begin();
  }

  /** Reaches nobody any more. */
  end(): void {
    for (const peer of this.peers.splice(0)) peer.end();
  }
}
