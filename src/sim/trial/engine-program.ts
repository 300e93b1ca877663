/**
 * What runs in the process of a volume's engine that has no devices, in a simulation: the product's engine and NBD server, over
 * members of a `DeviceProgram` that it reaches by a session, and the product's catalog, which decides about maps there.
 */

import { COPY_SCRATCH_BYTES, CopyBuffers } from '../../client/jobs/copy-buffers.js';
import type { RemoteMember } from '../../client/members/remote-member.js';
import { SessionService } from '../../client/members/session-service.js';
import { VOLUME_ENGINE_SCRATCH_BYTES, VolumeEngine } from '../../client/volume-engine.js';
import { BLOCK_BYTES, DRAIN_MS } from '../../core/limits.js';
import { Notify } from '../../core/notify.js';
import { alignUp } from '../../core/units.js';
import { Watch } from '../../core/watch.js';
import type { VolumeMap } from '../../layout/volume-map.js';
import { NbdExport } from '../../nbd/export.js';
import { NbdServer } from '../../nbd/server.js';
import { NbdService } from '../../nbd/service.js';
import { ConnectionResources } from '../../net/connection-resources.js';
import type { NodeDevice } from '../../node/node-device.js';
import { DeviceCatalog } from '../../volumes/device-catalog.js';
import { Peers } from '../../volumes/peers.js';
import type { RemoteDevice } from '../../volumes/remote-device.js';
import type { SimNetwork } from '../net/network.js';
import { SimTransport } from '../net/transport.js';
import type { SimProcess } from '../world/process.js';
import { SimKey } from '../world/sim-key.js';
import { SimTimers } from '../world/timers.js';
import { SIM_KEY_SEED, SIM_SESSIONS } from './peer-sizes.js';

const SCRATCH_START = alignUp(ConnectionResources.regionBytes(), BLOCK_BYTES);
const COPIES_START = SCRATCH_START + alignUp(VOLUME_ENGINE_SCRATCH_BYTES, BLOCK_BYTES);
const SESSIONS_START = COPIES_START + alignUp(COPY_SCRATCH_BYTES, BLOCK_BYTES);

/** Memory of its process. */
export const ENGINE_PROGRAM_BYTES = SESSIONS_START + SessionService.regionBytes(SIM_SESSIONS);

export interface EngineProgramSettings {
  /** To clients, and to devices. */
  readonly network: SimNetwork;
  readonly inner: SimNetwork;
  /** Where the volume is served. */
  readonly address: string;
  /** Where its devices are. */
  readonly segments: readonly string[];
  readonly clusterId: string;
  /** By which maps call this process: each has another one. */
  readonly clientId: string;
  /** A map of the volume, however old: the devices tell the newer ones. */
  readonly known: VolumeMap;
  readonly onEvent: (text: string) => void;
}

export class EngineProgram {
  readonly process: SimProcess;
  private readonly settings: EngineProgramSettings;
  private readonly watch: Watch;
  private readonly server: NbdServer;
  private readonly peers: Peers;
  private readonly catalog: DeviceCatalog;
  private readonly devices = new Map<string, NodeDevice>();
  private readonly members: RemoteMember[] = [];
  private started: VolumeEngine | null = null;
  private readonly came = new Notify();
  private orders = 0;

  constructor(process: SimProcess, settings: EngineProgramSettings) {
    this.process = process;
    this.settings = settings;
    const { network, inner, address, clusterId, clientId, known, onEvent } = settings;
    const transport = new SimTransport(process, {}, network);
    const ports = { completions: process, memory: process, transport, clock: process };
    this.watch = new Watch(process, process);
    const service = new NbdService(ports, this.watch, 0);
    this.server = new NbdServer(service, ports, transport.listen(address), []);
    const key = new SimKey(SIM_KEY_SEED, process.random.fork('key'));
    const about = { key, clusterId, clientId, principal: 'trial' };
    const line = { ...ports, transport: new SimTransport(process, {}, inner) };
    const sessions = new SessionService({ ports: line, memoryStart: SESSIONS_START, sizes: SIM_SESSIONS, ...about });
    this.peers = new Peers(sessions, {
      maps: () => [known],
      take: async (_found, _path, open) => this.take(await open(this.orders++)),
      onLearned: () => Promise.resolve(),
      onGone: (deviceId, reason) => this.lose(deviceId, reason),
      onTrouble: (deviceId, text) => onEvent(`device ${deviceId.slice(0, 4)}: ${text}`),
      onMaps: () => {},
    });
    this.catalog = new DeviceCatalog({
      ...{ completions: process, stores: this.devices },
      onEvent: ({ kind, text }) => onEvent(`event: ${kind} ${text}`),
    });
  }

  private take(device: RemoteDevice): void {
    this.devices.set(device.deviceId, device);
    this.came.tell();
  }

  private async lose(deviceId: string, reason: string): Promise<void> {
    this.settings.onEvent(`device ${deviceId.slice(0, 4)} is gone: ${reason}`);
    this.devices.delete(deviceId);
    await this.started?.loseDevice(deviceId, reason);
  }

  /** Throws while the volume does not serve. */
  get engine(): VolumeEngine {
    if (this.started === null) throw new Error('the engine has not been started');
    return this.started;
  }

  /** Attaches the volume with those of its members that are on these devices, makes them agree, and serves it. */
  async start(deviceIds: readonly string[]): Promise<void> {
    const { process, settings, catalog } = this;
    const { segments, clientId, known } = settings;
    await Promise.all(segments.map((path) => this.peers.add({ path })));
    while (deviceIds.some((deviceId) => !this.devices.has(deviceId))) await this.came.next();
    const devices = new Map(this.devices);
    const request = { volumeId: known.id, holder: clientId, reachable: deviceIds, again: false, takeOver: false };
    const map = await catalog.attach(request);
    const members = map.groups.map((group, at) =>
      group.map(({ deviceId }) => this.member(devices, map, { group: at, deviceId })),
    );
    const engine = new VolumeEngine({
      ...{ completions: process, memory: process, clock: process, watch: this.watch, record: map, members },
      scratch: SCRATCH_START,
      buffers: new CopyBuffers(process, COPIES_START),
      readOnly: false,
      makeRoom: () => Promise.resolve(),
      commit: (next) => catalog.change(next),
      onEvent: (event) => settings.onEvent(`event: ${JSON.stringify(event)}`),
    });
    await engine.start();
    if (!process.alive) await new Promise(() => {});
    this.started = engine;
    this.server.offer(new NbdExport(map.name, 'engine', engine, false));
  }

  private member(
    devices: ReadonlyMap<string, NodeDevice>,
    map: VolumeMap,
    { group, deviceId }: { readonly group: number; readonly deviceId: string },
  ): RemoteMember | null {
    const device = devices.get(deviceId) as RemoteDevice | undefined;
    const page = device?.pageOf(map.id, group) ?? -1;
    if (device === undefined || device.failed || page < 0) return null;
    const member = device.member(this.process, page);
    this.members.push(member);
    return member;
  }

  /** What has been asked of the devices and not been answered. */
  get asked(): number {
    // All members are asked by one session.
    return this.members[0]?.outstanding ?? 0;
  }

  /** Ends in order. */
  async close(): Promise<void> {
    const { process, server } = this;
    this.engine.endWork();
    await new Promise<void>((resolve) => {
      new SimTimers(process.time, process).after(1000 * DRAIN_MS, () => server.abort());
      server.drain(resolve);
    });
    await this.engine.close();
    this.started = null;
    this.peers.end();
  }
}
