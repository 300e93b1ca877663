/**
 * What runs in the process of a node or a client of a cluster, in a simulation: the product's storage node, put together as a
 * shard does it. A node drives devices, and serves their segments; a client drives none. Both can attach volumes.
 *
 * ```text
 *   memory   │ NBD │ sessions with nodes │ session with the manager │ what is served to others │ volumes, devices │
 * ```
 */

import { CALLING_BYTES } from '../../client/manager/call-session.js';
import { ManagerSession } from '../../client/manager/manager-session.js';
import { SessionService } from '../../client/members/session-service.js';
import { DEFAULT_TIMES } from '../../core/cluster-times.js';
import { BLOCK_BYTES, BUFFER_CLASSES, DRAIN_MS } from '../../core/limits.js';
import { alignUp } from '../../core/units.js';
import { Watch, type Watched } from '../../core/watch.js';
import type { ReplicaMap } from '../../layout/replica-map.js';
import { NbdServer } from '../../nbd/server.js';
import { NbdService } from '../../nbd/service.js';
import { ConnectionResources, type NetPorts, type NetSizes, SERVER_SIZES } from '../../net/connection-resources.js';
import type { NodeStore } from '../../node/node-store.js';
import { SegmentService } from '../../node/segment-service.js';
import { NodeService } from '../../serve/node-service.js';
import type { Attaching } from '../../volumes/managed-volumes.js';
import { Registration } from '../../volumes/registration.js';
import { nodeMemoryBytes, type StorageNode } from '../../volumes/storage-node.js';
import { SessionServer } from '../../wire/session-server.js';
import { SimDevice, type SimDeviceSettings } from '../disk/device.js';
import type { SimDisk } from '../disk/disk.js';
import type { SimNetwork } from '../net/network.js';
import { SimTransport } from '../net/transport.js';
import { SIM_SEGMENTS, SIM_SESSIONS } from '../trial/peer-sizes.js';
import type { SimProcess } from '../world/process.js';
import { SimKey } from '../world/sim-key.js';
import { SimTimers } from '../world/timers.js';
import { CLUSTER_ID, CLUSTER_KEY_SEED, MANAGER_ADDRESS } from './cluster-world.js';

/** Of NBD: far less than in production, with the same kinds of buffers. */
const NBD_SIZES: NetSizes = {
  ...SERVER_SIZES,
  connections: 8,
  bulkBuffers: 2,
  classes: BUFFER_CLASSES.map(({ bytes, count }) => ({ bytes, count: Math.min(count, 8) })),
};

/** Connections of others to a node, and buffers for each beyond those. */
const PEERS = SIM_SEGMENTS.connections;
const PEER_BUFFERS = 3;

/** For so many connections of others to a node, each of which keeps buffers for what it is told. */
function segmentSizes(peers: number): NetSizes {
  const { connections, classes } = SIM_SEGMENTS;
  const [small, ...others] = classes;
  const more = PEER_BUFFERS * Math.max(0, peers - connections);
  return { ...SIM_SEGMENTS, connections: peers, classes: [{ ...small, count: small.count + more }, ...others] };
}

/** Where the parts of its memory begin. */
function placesOf(peers: number) {
  const sessions = alignUp(ConnectionResources.regionBytes(NBD_SIZES), BLOCK_BYTES);
  const manager = sessions + alignUp(SessionService.regionBytes(SIM_SESSIONS), BLOCK_BYTES);
  const segments = manager + alignUp(CALLING_BYTES, BLOCK_BYTES);
  const node = segments + alignUp(ConnectionResources.regionBytes(segmentSizes(peers)), BLOCK_BYTES);
  return { nbd: 0, sessions, manager, segments, node };
}

/** Memory of a process that drives at most so many devices, and takes so many connections. */
export function clusterProgramBytes(devices: number, peers = PEERS): number {
  return placesOf(peers).node + nodeMemoryBytes(Math.max(1, devices));
}

export interface ClusterProgramSettings {
  /** To NBD clients, and between the processes of the cluster. */
  readonly network: SimNetwork;
  readonly inner: SimNetwork;
  /** Where volumes are served. */
  readonly address: string;
  /** How the manager calls the node, and where its segments are served; null of a client. */
  readonly node: { readonly nodeId: string; readonly name: string; readonly segments: string } | null;
  /** Of this life of the process. */
  readonly clientId: string;
  readonly devices: number;
  /** Connections that a node takes of others; default: what the largest plan needs. */
  readonly peers?: number;
  readonly device?: SimDeviceSettings;
  readonly onEvent: (text: string) => void;
}

export class ClusterProgram implements Watched {
  readonly process: SimProcess;
  readonly manager: ManagerSession;
  private readonly settings: ClusterProgramSettings;
  private readonly watch: Watch;
  private readonly serving: NodeService;
  private readonly server: NbdServer;
  private readonly line: NetPorts;
  private readonly key: SimKey;
  private readonly devices = new Set<SimDevice>();
  private registration: Registration | null = null;
  private segments: SessionServer | null = null;
  private closing = false;

  constructor(process: SimProcess, settings: ClusterProgramSettings) {
    this.process = process;
    this.settings = settings;
    const { network, inner, address, clientId, devices, node, onEvent } = settings;
    const places = placesOf(settings.peers ?? PEERS);
    const common = { completions: process, memory: process, clock: process };
    this.watch = new Watch(process, process);
    const { watch } = this;
    const transport = new SimTransport(process, {}, network);
    const outer = { ...common, transport };
    this.line = { ...common, transport: new SimTransport(process, {}, inner) };
    this.key = new SimKey(CLUSTER_KEY_SEED, process.random.fork('key'));
    const service = new NbdService(outer, watch, places.nbd, NBD_SIZES);
    const ports = { ...common, watch, clientId, memoryStart: places.node, storesMax: Math.max(1, devices) };
    this.serving = new NodeService(ports, ({ kind, text }) => onEvent(`event: ${kind} ${text}`));
    this.server = new NbdServer(service, outer, transport.listen(address), []);
    this.serving.attach(this.server);
    const about = { ports: this.line, key: this.key, clusterId: CLUSTER_ID, clientId, principal: 'trial' };
    this.manager = new ManagerSession({
      ...{ ...about, memoryStart: places.manager, addresses: [{ path: MANAGER_ADDRESS }], times: this.node.times },
      hooks: {
        onMaps: (maps) => this.node.decided(maps),
        onState: ({ connected, reason }) => onEvent(connected ? 'reaches the manager' : `no manager: ${reason}`),
      },
    });
    const sessions = new SessionService({
      ...about,
      memoryStart: places.sessions,
      sizes: SIM_SESSIONS,
      times: this.node.times,
    });
    this.node.join({ manager: this.manager, nodeId: node?.nodeId ?? clientId }, sessions);
    watch.add(this);
  }

  get node(): StorageNode {
    return this.serving.node;
  }

  async open(disk: SimDisk, path: string): Promise<NodeStore> {
    const device = new SimDevice(this.process, disk, this.settings.device);
    this.devices.add(device);
    this.watch.start();
    try {
      return await this.node.open(device, { path, leaseMs: DEFAULT_TIMES.leaseMs });
    } catch (error) {
      this.devices.delete(device);
      device.close();
      throw error;
    }
  }

  /** Serves the segments of the devices that are open, and registers; resolves when that has come to something. */
  serve(): Promise<void> {
    const { settings, process, line, key, watch, node } = this;
    const self = settings.node;
    if (self === null) throw new Error('a client serves no segments');
    const { segments: address, nodeId, name } = self;
    const { peers = PEERS } = settings;
    const service = new SegmentService({
      ...{ ports: line, watch, key, sizes: segmentSizes(peers), memoryStart: placesOf(peers).segments },
      identity: { nodeId: settings.clientId, clusterId: CLUSTER_ID },
      ...{ addresses: [address], devices: node.driven },
      onDeleted: (device, { volume }) => void device.release(process, volume.id, () => this.closing),
    });
    const transport = line.transport as SimTransport;
    this.segments = new SessionServer(service.desk, line, transport.listen(address));
    this.registration = new Registration({
      ...{ completions: process, clock: process, manager: this.manager, devices: node.driven },
      self: { clusterId: CLUSTER_ID, nodeId, name, addresses: [address], labels: [] },
      hooks: {
        bring: (device, map) => device.bring(map),
        release: (device, volumeId) => device.release(process, volumeId, () => this.closing),
        onTimes: (times) => node.hearTimes(times),
        onTrouble: (text) => settings.onEvent(text),
        onKnown: () => {},
        onNeglected: (volumeIds) => node.tend(volumeIds),
      },
    });
    return this.registration.begin();
  }

  /** Attaches a volume, and serves it. */
  async attach(name: string, attaching: Attaching): Promise<void> {
    try {
      await this.node.attachVolume(name, attaching);
    } finally {
      this.serving.offer();
    }
  }

  detach(name: string): Promise<void> {
    return this.node.detachVolume(name);
  }

  /** The maps of a volume's groups on its devices, and whether they have been answered. */
  *replicas(volumeId: string): Iterable<readonly [deviceId: string, map: ReplicaMap, isAnswered: boolean]> {
    for (const device of this.node.driven.values()) {
      for (const map of device.replicasOf(volumeId)) {
        const { answered } = device.ownOf(device.pageOf(volumeId, map.group));
        yield [device.deviceId, map, answered];
      }
    }
  }

  /** Of a node: the most batches that it has heard the manager to have. */
  get sequenceHeard(): number {
    return this.registration?.sequenceHeard ?? 0;
  }

  /** Whether it serves the volume now. One that is suspended may be somebody else's. */
  serves(name: string): boolean {
    const volume = this.node.volumes.named(name).at(0);
    return (volume?.served ?? null) !== null && volume?.ownEngine?.suspended !== true;
  }

  /** How a volume is here, for people. */
  describe(name: string): string {
    const engine = this.node.volumes.named(name).at(0)?.ownEngine ?? null;
    if (engine === null) return 'has no engine';
    const { state, reason, groups, jobs } = engine.status();
    const members = groups.map((group, number) => {
      const texts = group.map((one, place) => {
        const missed = engine.members.isMissed(number, place) ? ', does not answer' : '';
        return `${one.deviceId.slice(0, 4)} ${one.state}${missed}`;
      });
      return `[${texts.join(', ')}]`;
    });
    const changing = engine.members.isChanging ? '; its map is being changed' : '';
    const working = jobs.map(({ kind, state: of }) => `; ${kind} ${of}`).join('');
    return `has an engine, ${state}${reason === '' ? '' : ` (${reason})`}: ${members.join(' ')}${changing}${working}`;
  }

  /** Ends in order: NBD and sessions, for which there is a time limit, then volumes and devices. */
  async close(): Promise<void> {
    const { process, segments } = this;
    this.closing = true;
    this.node.endWork();
    this.registration?.end();
    const timers = new SimTimers(process.time, process);
    const drained = [this.server, ...(segments === null ? [] : [segments])].map(
      (server) =>
        new Promise<void>((resolve) => {
          timers.after(1000 * DRAIN_MS, () => server.abort());
          server.drain(resolve);
        }),
    );
    await Promise.all(drained);
    await this.node.close();
    this.manager.close();
  }

  get busy(): boolean {
    return this.devices.size > 0;
  }

  tick(): void {
    for (const device of this.devices) device.giveUpOverdue(this.node.times.now.deviceFenceMs);
  }
}
