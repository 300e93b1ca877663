/**
 * What runs in the process of a volume's engine that has no devices, in a simulation: the product's engine and NBD server, over
 * members in the process of a `DeviceProgram`.
 */

import { COPY_SCRATCH_BYTES, CopyBuffers } from '../../client/jobs/copy-buffers.js';
import { VOLUME_ENGINE_SCRATCH_BYTES, VolumeEngine } from '../../client/volume-engine.js';
import { BLOCK_BYTES, DRAIN_MS } from '../../core/limits.js';
import { alignUp } from '../../core/units.js';
import { Watch } from '../../core/watch.js';
import type { VolumeMap } from '../../layout/volume-map.js';
import { NbdExport } from '../../nbd/export.js';
import { NbdServer } from '../../nbd/server.js';
import { NbdService } from '../../nbd/service.js';
import { ConnectionResources } from '../../net/connection-resources.js';
import type { Replica } from '../../node/replica.js';
import type { SimNetwork } from '../net/network.js';
import { RemoteMember } from '../net/remote-member.js';
import { SimTransport } from '../net/transport.js';
import type { SimProcess } from '../world/process.js';
import { SimTimers } from '../world/timers.js';
import type { DeviceProgram } from './device-program.js';

const SCRATCH_START = alignUp(ConnectionResources.regionBytes(), BLOCK_BYTES);
const COPIES_START = SCRATCH_START + alignUp(VOLUME_ENGINE_SCRATCH_BYTES, BLOCK_BYTES);

/** Memory of its process. */
export const ENGINE_PROGRAM_BYTES = COPIES_START + COPY_SCRATCH_BYTES;

export interface EngineProgramSettings {
  readonly network: SimNetwork;
  readonly address: string;
  readonly devices: DeviceProgram;
  readonly volumeId: string;
  /** The least and the most that a message to a member takes, or one back, in microseconds. */
  readonly latencyUs: readonly [number, number];
  readonly onEvent: (text: string) => void;
}

/** One engine at a time has the volume, so all have the same name as its holder. */
const CLIENT_ID = 'e'.repeat(32);

export class EngineProgram {
  readonly process: SimProcess;
  private readonly settings: EngineProgramSettings;
  private readonly watch: Watch;
  private readonly service: NbdService;
  private readonly server: NbdServer;
  private readonly replicas: Replica[] = [];
  private readonly members: RemoteMember[] = [];
  private started: VolumeEngine | null = null;

  constructor(process: SimProcess, settings: EngineProgramSettings) {
    this.process = process;
    this.settings = settings;
    const transport = new SimTransport(process, {}, settings.network);
    const ports = { completions: process, memory: process, transport, clock: process };
    this.watch = new Watch(process, process);
    this.service = new NbdService(ports, this.watch, 0);
    this.server = new NbdServer(this.service, ports, transport.listen(settings.address), []);
  }

  /** Throws while the volume does not serve. */
  get engine(): VolumeEngine {
    if (this.started === null) throw new Error('the engine has not been started');
    return this.started;
  }

  /** Attaches the volume with those of its members that are on these devices, makes them agree, and serves it. */
  async start(deviceIds: readonly string[]): Promise<void> {
    const { process, settings } = this;
    const { devices, volumeId } = settings;
    const request = { volumeId, holder: CLIENT_ID, reachable: deviceIds, again: true };
    const map = await devices.ask(process, { kind: 'attach', request });
    if (map === null) throw new Error('the catalog has decided no map');
    const members = map.groups.map((group, at) =>
      group.map(({ deviceId }) => (deviceIds.includes(deviceId) ? this.open(map, at, deviceId) : null)),
    );
    const engine = new VolumeEngine({
      ...{ completions: process, memory: process, clock: process, watch: this.watch, record: map, members },
      scratch: SCRATCH_START,
      buffers: new CopyBuffers(process, COPIES_START),
      readOnly: false,
      makeRoom: () => Promise.resolve(),
      commit: (next) => devices.ask(process, { kind: 'change', map: next }).then(() => {}),
      onEvent: (event) => settings.onEvent(`event: ${JSON.stringify(event)}`),
    });
    await engine.start();
    if (!process.alive) await new Promise(() => {});
    this.started = engine;
    this.server.offer(new NbdExport(map.name, 'engine', engine, false));
  }

  private open(map: VolumeMap, group: number, deviceId: string): RemoteMember | null {
    const { process, settings } = this;
    const { devices, latencyUs } = settings;
    const replica = devices.replica(map, group, deviceId);
    if (replica === null) return null;
    const random = process.random.fork('member');
    const member = new RemoteMember(process, devices.members, replica.member, { latencyUs, random });
    this.replicas.push(replica);
    this.members.push(member);
    return member;
  }

  /** Whether a write is on its way to a member. */
  get isWriting(): boolean {
    return this.members.some(({ isWriting }) => isWriting);
  }

  /** The process has died: what it has sent arrives all the same, or never. Returns how much of it does, and does not. */
  cut(): { readonly left: number; readonly lost: number } {
    let [left, lost] = [0, 0];
    for (const member of this.members) {
      const cut = member.cut();
      left += cut.left;
      lost += cut.lost;
    }
    return { left, lost };
  }

  /** Whether nothing that it has asked for is on its way or being carried out. */
  get drained(): boolean {
    return this.settings.devices.quiet && this.members.every(({ drained }) => drained);
  }

  /** Gives up what served the members; nothing of them is under way. */
  letGo(): void {
    for (const replica of this.replicas.splice(0)) replica.close();
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
  }
}
