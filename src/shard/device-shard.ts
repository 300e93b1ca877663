/**
 * A shard that has devices of a node, and engines of volumes, while the first shard of the node decides about both: an engine,
 * the stores of the devices, and the ends of the rings and of the control calls to the other shards.
 *
 * ```text
 *   memory   │ stores │ extents │ arena of the first shard, as a guest: payloads, and memory of the engines here │
 * ```
 */

import type { MessagePort } from 'node:worker_threads';
import { threadId } from 'node:worker_threads';
import { AwayMember } from '../across/away-member.js';
import type { DeviceCalls } from '../across/device-calls.js';
import { DeviceService } from '../across/device-service.js';
import type { AuthorityCalls, EngineCalls } from '../across/engine-calls.js';
import { EngineService } from '../across/engine-service.js';
import { EXTENTS_BYTES } from '../across/limits.js';
import { DeviceTraffic } from '../across/member-asker.js';
import { VolumeAnswerer } from '../across/volume-answerer.js';
import { check } from '../core/check.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import { SHARD_FILES_MAX, SHARD_OPERATIONS_MAX, STOP_GRACE_MS } from '../core/limits.js';
import { Watch, type Watched } from '../core/watch.js';
import { deviceHostBytes, tableRange } from '../node/device-host.js';
import type { DeviceMember } from '../node/device-member.js';
import { UringDevice } from '../uring/device.js';
import { Engine } from '../uring/engine.js';
import type { PlacedMember } from '../volumes/engine-elsewhere.js';
import { Load } from '../worker/load.js';
import type {
  AnswerMessage,
  CallMessage,
  ConnectControl,
  ConnectMessage,
  LoadMessage,
  LoseShardMessage,
  ShardCalls,
  ShardStart,
} from '../worker/messages.js';
import { answerCalls, PortAsker } from '../worker/port-calls.js';
import type { ShardStats } from '../worker/shard-stats.js';
import { overVolume } from './loads.js';
import { MemberLink } from './member-link.js';
import type { DeviceAnswer, DeviceQuestion } from './shard-connection.js';

/** What this shard has for the first one. */
interface Serving {
  readonly engines: EngineService;
  readonly volumes: VolumeAnswerer;
  readonly control: ConnectControl;
}

export class DeviceShard implements Watched {
  private readonly start: ShardStart;
  private readonly guest: Uint8Array;
  private readonly engine: Engine;
  private readonly watch: Watch;
  private readonly devices: DeviceService;
  private readonly stopped: () => void;
  /** To other shards, by number. */
  private readonly links = new Map<number, MemberLink>();
  /** What is asked of devices on other shards, by shard and number. */
  private readonly traffics = new Map<string, DeviceTraffic>();
  private serving: Serving | null = null;
  private shard = -1;
  /** Devices that are open, or about to be. */
  private files = 0;

  constructor(start: ShardStart, guest: Uint8Array, stopped: () => void) {
    const { kind, shards, storesMax, storesExpected, tablesBytes } = start;
    const tables = tableRange(deviceHostBytes(storesMax, 'elsewhere') + EXTENTS_BYTES, tablesBytes, storesMax);
    this.start = start;
    this.guest = guest;
    this.stopped = stopped;
    const engine = new Engine({
      kind,
      engines: shards,
      blocking: true,
      arenaBytes: tables.memoryStart + tables.bytes,
      guest,
      registeredBytesMax: deviceHostBytes(storesExpected, 'elsewhere'),
      operationsMax: SHARD_OPERATIONS_MAX,
      filesMax: SHARD_FILES_MAX,
      onWake: () => this.drain(),
    });
    this.engine = engine;
    this.watch = new Watch(engine, engine);
    const ports = { completions: engine, memory: engine, clock: engine, memoryStart: 0, storesMax, tables };
    this.devices = new DeviceService(ports, (event) =>
      this.serving?.control.devices.postMessage({ event } satisfies DeviceAnswer),
    );
    this.watch.add(this);
    start.port.on('message', (message: CallMessage) => void this.handle(message));
    this.post({
      ready: { engine: engine.id, arena: engine.bytes, clientMemory: 0, sharedBytes: 0, engineMemory: 0, threadId },
    });
  }

  /** Watches for device operations that never end, as long as there may be any. */
  get busy(): boolean {
    return this.files > 0 || this.serving?.engines.busy === true;
  }

  tick(): void {
    this.engine.native.giveUpOverdue(this.devices.fenceAfterMs);
  }

  private drain(): void {
    for (const link of this.links.values()) link.drain();
    this.serving?.volumes.drain();
  }

  // ---------------------------------------------------------------- calls of the main thread

  private post(message: AnswerMessage): void {
    this.start.port.postMessage(message);
  }

  private async handle({ id, name, request }: CallMessage): Promise<void> {
    try {
      this.post({ id, response: await this.dispatch(name, request) });
    } catch (error) {
      this.post({ id, error: toStrakeError(error).toWire() });
    }
    if (name === 'stop') this.stopped();
  }

  private dispatch(name: CallMessage['name'], request: unknown): unknown {
    switch (name) {
      case 'connect':
        return this.connect(request as ConnectMessage);
      case 'loseShard':
        return this.lose(request as LoseShardMessage);
      case 'stats':
        return this.stats();
      case 'injectFaults':
        this.engine.native.injectFaults([...(request as ShardCalls['injectFaults']['request']).rules]);
        return null;
      case 'stop':
        return this.stop();
      default:
        throw new StrakeError('INVALID_ARGUMENT', `a shard of devices is not asked for ${name}`);
    }
  }

  private connect(message: ConnectMessage): null {
    const { engine, devices, guest } = this;
    const { shard, self, control } = message;
    const before = this.links.get(shard);
    check(before?.lost !== false, 'a shard of devices is connected twice', shard);
    before?.asker.dispose();
    this.shard = self;
    const member = (device: number, page: number) => devices.member(device, page);
    const parts = { engine, payloads: engine.guestStart, payloadBytes: guest.length, member };
    this.links.set(shard, new MemberLink(parts, message));
    if (control !== null) this.serve(message.engine, control);
    return null;
  }

  /** Another shard has died. Resolves when nothing is in flight that it has asked. */
  private async lose({ shard, mayGoOn }: LoseShardMessage): Promise<ShardCalls['loseShard']['response']> {
    const link = this.links.get(shard);
    if (link === undefined) return { mayGoOn };
    const goesOn = await link.closeAnswers();
    link.asker.lose(mayGoOn || goesOn);
    for (const name of this.traffics.keys()) if (name.startsWith(`${shard} `)) this.traffics.delete(name);
    return { mayGoOn: goesOn };
  }

  private stats(): ShardStats {
    const status = this.engine.native.status();
    return {
      engine: status?.kind ?? 'closed',
      registeredBytes: status?.registeredBytes ?? 0,
      arenaBytes: this.engine.bytes.length,
      operationsInFlight: status?.inFlight ?? 0,
      files: status?.files ?? 0,
      batches: this.engine.batches,
      nbd: {},
      devices: [],
    };
  }

  // ---------------------------------------------------------------- calls of the first shard

  private serve(otherEngine: number, control: ConnectControl): void {
    check(this.serving === null, 'a shard serves a second node', this.engine.id);
    const { engine, watch, guest, start } = this;
    const { guestStart } = engine;
    const engines = new EngineService({
      ...{ completions: engine, memory: engine, clock: engine, watch },
      scratch: start.engineMemory === null ? null : guestStart + start.engineMemory,
      member: (place) => this.memberOf(place),
      authority: new PortAsker<AuthorityCalls>(control.authority),
    });
    const volumes = new VolumeAnswerer({
      ...{ completions: engine, memory: engine, link: control.volumes, guest, guestStart },
      wake: () => engine.wake(otherEngine),
      extents: deviceHostBytes(start.storesMax, 'elsewhere'),
      engine: (number) => engines.engine(number),
    });
    this.serving = { engines, volumes, control };
    control.devices.on('message', (question: DeviceQuestion) => void this.answer(control.devices, question));
    answerCalls<EngineCalls>(control.engines, async (name, request) => {
      // What has been put into the ring before counts before.
      volumes.drain();
      return (await this.carryOut(engines, name, request)) as never;
    });
  }

  private carryOut(engines: EngineService, name: keyof EngineCalls, request: unknown): unknown {
    const asked = <Name extends keyof EngineCalls>() => request as EngineCalls[Name]['request'];
    switch (name) {
      case 'openEngine':
        return engines.open(asked<'openEngine'>());
      case 'work':
        return engines.work(asked<'work'>().engine, asked<'work'>().name, asked<'work'>().request);
      case 'reports':
        return engines.reports();
      case 'loadEngine':
        return this.load(engines, asked<'loadEngine'>());
      default:
        check(name === 'endEngineWork', 'a shard of engines is asked for what none does');
        engines.endWork();
        return null;
    }
  }

  /** A member of a volume whose engine is here. */
  private memberOf(place: PlacedMember): DeviceMember | null {
    const { shard, device, page } = place;
    if (shard === this.shard) return this.devices.member(device, page);
    const link = this.links.get(shard);
    if (link === undefined || link.lost) return null;
    const name = `${shard} ${device}`;
    const traffic = this.traffics.get(name) ?? new DeviceTraffic();
    this.traffics.set(name, traffic);
    return new AwayMember(link.asker, link.asker.open(device, page), traffic, place);
  }

  private load(
    engines: EngineService,
    { engine: number, load, buffers }: EngineCalls['loadEngine']['request'],
  ): unknown {
    const { engine } = this;
    const volume = engines.engine(number);
    if (volume === undefined) throw new StrakeError('CLOSED', 'what the load is for has been closed');
    const free = buffers.map((memory) => ({ memory: engine.guestStart + memory }));
    const pool = { take: () => free.pop() ?? null, release: () => {} };
    return new Promise((resolve) => new Load(engine, engine, pool, overVolume(volume), load as LoadMessage, resolve));
  }

  private async answer(port: MessagePort, { id, name, request }: DeviceQuestion): Promise<void> {
    let answer: DeviceAnswer;
    try {
      // What has been put into the ring before counts before: members that are closed.
      this.links.get(0)?.drainAsked();
      const response = await (name === 'open'
        ? this.open(request as DeviceCalls['open']['request'])
        : this.devices.call(name, request as never));
      if (name === 'end') this.files -= 1;
      answer = { id, response };
    } catch (error) {
      answer = { id, error: toStrakeError(error).toWire() };
    }
    port.postMessage(answer);
  }

  private async open({
    handle,
    geometry,
    path,
    deviceId,
    clusterId,
    leaseMs,
  }: DeviceCalls['open']['request']): Promise<unknown> {
    const { engine } = this;
    const device = new UringDevice(engine, engine.native.adoptDevice(handle), geometry);
    // One that does not answer is to be given up while it is opened, too.
    this.files += 1;
    this.watch.start();
    try {
      const about = { path, leaseMs };
      return await this.devices.open(device, deviceId, clusterId === undefined ? about : { ...about, clusterId });
    } catch (error) {
      this.files -= 1;
      device.close();
      throw error;
    }
  }

  // ---------------------------------------------------------------- the end

  /** Ends everything. Returns the operations that have not ended: they may still use memory of this shard and the first. */
  private async stop(): Promise<number> {
    // Others may have ended before: what was asked of them is not waited for.
    for (const { asker } of this.links.values()) asker.lose(true);
    await this.serving?.engines.abandon();
    this.serving?.volumes.close();
    for (const link of this.links.values()) await link.closeAnswers();
    await this.devices.close().catch(() => {});
    const { devices, engines, authority } = this.serving?.control ?? {};
    for (const port of [devices, engines, authority]) port?.close();
    this.start.port.removeAllListeners('message');
    return this.engine.close(STOP_GRACE_MS);
  }
}
