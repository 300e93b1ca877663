/**
 * A storage node as it is served: its control calls by name, and its volumes as exports of NBD servers.
 *
 * Servers of the node offer all volumes that are started, and no others; which these are changes with the calls.
 */

import { StrakeError } from '../core/errors.js';
import { NbdExport } from '../nbd/export.js';
import type { NbdServer } from '../nbd/server.js';
import type { NodeDevice, StoreStatus } from '../node/node-device.js';
import type { AwaitedDevice } from '../volumes/deleted-volumes.js';
import type { HostedVolume, ServedVolume } from '../volumes/hosted-volume.js';
import type { JobReport } from '../volumes/job-book.js';
import type { VolumeSpec } from '../volumes/placement.js';
import type { RemoteDeviceStatus } from '../volumes/remote-device.js';
import type { StorageEvent } from '../volumes/storage-events.js';
import { type NodePorts, StorageNode } from '../volumes/storage-node.js';
import type { VolumeReport } from '../volumes/volume-status.js';

/** Calls by name: what is asked, and what comes back. */
export interface NodeCalls {
  /** `jobsAbove`: ids that jobs of an earlier worker may have had. */
  assemble: { request: { without: ReadonlyMap<string, readonly string[]>; jobsAbove?: number }; response: null };
  takeBack: { request: { deviceId: string }; response: null };
  replace: { request: { deviceId: string; by: string }; response: JobReport[] };
  forget: { request: { deviceId: string }; response: null };
  giveUp: { request: { deviceId: string }; response: { volumes: number } };
  createVolume: { request: VolumeSpec; response: null };
  /** In this and the calls below, `name` is the name of a volume or its id. */
  renameVolume: { request: { name: string; newName: string }; response: { id: string } };
  growVolume: { request: { name: string; sizeBytes: number }; response: { id: string } };
  deleteVolume: { request: { name: string }; response: { id: string } };
  startVolume: { request: { name: string; without: readonly string[] }; response: null };
  scrub: { request: { name: string; bytesPerSecond: number }; response: JobReport };
  jobs: { request: null; response: JobReport[] };
  cancelJob: { request: { id: number }; response: JobReport };
  /** Ends what may take long: the node is about to be closed. */
  endWork: { request: null; response: null };
  nodeStatus: {
    request: null;
    response: {
      devices: StoreStatus[];
      remote: RemoteDeviceStatus[];
      volumes: VolumeReport[];
      awaited: AwaitedDevice[];
    };
  };
}

export type NodeCallName = keyof NodeCalls;

/** Calls that change no volume. */
const LOOKS: ReadonlySet<NodeCallName> = new Set(['nodeStatus', 'jobs']);

const idOf = ({ id }: HostedVolume): { id: string } => ({ id });

export class NodeService {
  readonly node: StorageNode;
  private readonly servers = new Set<NbdServer>();
  /** Volumes that are or were offered, each of which tells when it is at its end. */
  private readonly offered = new WeakSet<ServedVolume>();

  /** `onEvent`: hears of what happens in the node. */
  constructor(ports: NodePorts, onEvent: (event: StorageEvent) => void) {
    this.node = new StorageNode(ports, { onEvent, onResolved: () => this.offer() });
  }

  /** From now on this server offers the node's volumes. */
  attach(server: NbdServer): void {
    this.servers.add(server);
    this.offerTo(server);
  }

  detach(server: NbdServer): void {
    this.servers.delete(server);
  }

  /** Carries out a call. Throws or rejects as the operation of the node does. */
  async call<Name extends NodeCallName>(
    name: Name,
    request: NodeCalls[Name]['request'],
  ): Promise<NodeCalls[Name]['response']> {
    try {
      const response = await this.carryOut(name, request);
      return (response ?? null) as NodeCalls[Name]['response'];
    } finally {
      // One that fails may have changed some volumes before.
      if (!LOOKS.has(name)) this.offer();
    }
  }

  private carryOut(name: NodeCallName, request: unknown): unknown {
    const { node } = this;
    switch (name) {
      case 'assemble': {
        const { without, jobsAbove } = request as NodeCalls['assemble']['request'];
        node.jobs.beginAbove(jobsAbove ?? 0);
        return node.assemble(without);
      }
      case 'takeBack':
        return node.takeBack(this.store((request as NodeCalls['takeBack']['request']).deviceId));
      case 'replace': {
        const { deviceId, by } = request as NodeCalls['replace']['request'];
        return node.replace(deviceId, this.store(by)).then((ids) => this.jobsOf(ids));
      }
      case 'forget':
        return node.forget((request as NodeCalls['forget']['request']).deviceId);
      case 'giveUp':
        return node.giveUp((request as NodeCalls['giveUp']['request']).deviceId).then((volumes) => ({ volumes }));
      case 'createVolume':
        return node.create(request as NodeCalls['createVolume']['request']).then(() => null);
      case 'renameVolume': {
        const { name: volume, newName } = request as NodeCalls['renameVolume']['request'];
        return node.rename(volume, newName).then(idOf);
      }
      case 'growVolume': {
        const { name: volume, sizeBytes } = request as NodeCalls['growVolume']['request'];
        return node.grow(volume, sizeBytes).then(idOf);
      }
      case 'deleteVolume':
        return this.deleteVolume((request as NodeCalls['deleteVolume']['request']).name).then(idOf);
      case 'startVolume': {
        const { name: volume, without } = request as NodeCalls['startVolume']['request'];
        return node.startWithout(volume, without);
      }
      case 'scrub': {
        const { name: volume, bytesPerSecond } = request as NodeCalls['scrub']['request'];
        return node.scrub(volume, bytesPerSecond).then(({ id }) => this.jobsOf([id])[0]);
      }
      case 'jobs':
        return node.jobs.list();
      case 'cancelJob':
        return node.jobs.cancel((request as NodeCalls['cancelJob']['request']).id);
      case 'endWork':
        node.endWork();
        return null;
      case 'nodeStatus':
        return {
          devices: node.deviceStatus(),
          remote: node.remoteDevices(),
          volumes: node.volumeReports(),
          awaited: node.awaitedDevices(),
        };
      default:
        throw new Error(`unknown call ${String(name)}`);
    }
  }

  private jobsOf(ids: readonly number[]): JobReport[] {
    return this.node.jobs.list().filter(({ id }) => ids.includes(id));
  }

  private store(deviceId: string): NodeDevice {
    const entry = this.node.devices.get(deviceId);
    if (entry === undefined) throw new StrakeError('NOT_FOUND', `device ${deviceId} is not open`);
    return entry;
  }

  /** Servers offer what is served now. */
  offer(): void {
    for (const server of this.servers) this.offerTo(server);
  }

  private offerTo(server: NbdServer): void {
    // One that is being started would answer with errors, which clients take for lost data.
    const serving = [...this.node.volumes.values()].filter(({ served }) => served !== null);
    const offered = new Map(serving.map((volume) => [volume.name, volume]));
    for (const name of [...server.exports.keys()]) if (!offered.has(name)) server.withdraw(name);
    for (const [name, { served, stored }] of offered) {
      if (served === null || server.exports.get(name)?.volume === served) continue;
      this.noteOffered(served);
      const { layout, copies } = stored;
      server.offer(new NbdExport(name, layout === 'single' ? 'single' : `mirror:${copies}`, served, served.readOnly));
    }
  }

  /** Servers part with a volume when it is at its end. */
  private noteOffered(served: ServedVolume): void {
    if (this.offered.has(served)) return;
    this.offered.add(served);
    served.onFence(() => {
      const lost = 'lost' in served && served.lost;
      for (const server of this.servers) server.fence(served, lost);
    });
  }

  private deleteVolume(text: string): Promise<HostedVolume> {
    return this.node.delete(text, (engine) => {
      let users = 0;
      for (const server of this.servers) users += server.usersOf(engine);
      const { name } = engine.record;
      if (users > 0) throw new StrakeError('VOLUME_BUSY', `volume ${name} is used by ${users} NBD connections`);
    });
  }
}
