/**
 * A shard that has devices of a node whose volumes are on another shard: an engine, the stores of the devices, and the answering
 * ends of the rings and of the control calls.
 *
 * ```text
 *   memory   │ stores │ arena of the shard that has the volumes, as a guest │
 * ```
 */

import type { MessagePort } from 'node:worker_threads';
import { threadId } from 'node:worker_threads';
import type { DeviceCalls } from '../across/device-calls.js';
import { DeviceService } from '../across/device-service.js';
import { MemberAnswerer } from '../across/member-answerer.js';
import { check } from '../core/check.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import { SHARD_FILES_MAX, SHARD_OPERATIONS_MAX, STOP_GRACE_MS } from '../core/limits.js';
import { Watch, type Watched } from '../core/watch.js';
import { deviceHostBytes } from '../node/device-host.js';
import { UringDevice } from '../uring/device.js';
import { Engine } from '../uring/engine.js';
import type { AnswerMessage, CallMessage, ConnectMessage, ShardCalls, ShardStart } from '../worker/messages.js';
import type { ShardStats } from '../worker/shard-stats.js';
import type { DeviceAnswer, DeviceQuestion } from './shard-connection.js';

export class DeviceShard implements Watched {
  private readonly start: ShardStart;
  private readonly guest: Uint8Array;
  private readonly engine: Engine;
  private readonly watch: Watch;
  private readonly devices: DeviceService;
  private readonly stopped: () => void;
  private answerer: MemberAnswerer | null = null;
  private port: MessagePort | null = null;
  /** Devices that are open, or about to be. */
  private files = 0;

  constructor(start: ShardStart, guest: Uint8Array, stopped: () => void) {
    const { kind, shards, storesMax, storesExpected } = start;
    this.start = start;
    this.guest = guest;
    this.stopped = stopped;
    const engine = new Engine({
      kind,
      engines: shards,
      blocking: true,
      arenaBytes: deviceHostBytes(storesMax),
      guest,
      registeredBytesMax: deviceHostBytes(storesExpected),
      operationsMax: SHARD_OPERATIONS_MAX,
      filesMax: SHARD_FILES_MAX,
      onWake: () => this.answerer?.drain(),
    });
    this.engine = engine;
    this.watch = new Watch(engine, engine);
    const ports = { completions: engine, memory: engine, clock: engine, memoryStart: 0, storesMax };
    this.devices = new DeviceService(ports, (event) => this.port?.postMessage({ event } satisfies DeviceAnswer));
    this.watch.add(this);
    start.port.on('message', (message: CallMessage) => void this.handle(message));
    this.post({ ready: { engine: engine.id, arena: engine.bytes, clientMemory: 0, threadId } });
  }

  /** Watches for device operations that never end, as long as there may be any. */
  get busy(): boolean {
    return this.files > 0;
  }

  tick(): void {
    this.engine.native.giveUpOverdue(this.devices.fenceAfterMs);
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

  private connect({ engine: otherEngine, port, link }: ConnectMessage): null {
    check(this.answerer === null, 'a shard of devices is connected twice', this.engine.id);
    const { engine, devices } = this;
    this.port = port;
    this.answerer = new MemberAnswerer({
      completions: engine,
      memory: engine,
      link,
      wake: () => engine.wake(otherEngine),
      guestStart: engine.guestStart,
      guestBytes: this.guest.length,
      member: (device, page) => devices.member(device, page),
    });
    port.on('message', (question: DeviceQuestion) => void this.answer(port, question));
    return null;
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

  // ---------------------------------------------------------------- calls of the shard that has the volumes

  private async answer(port: MessagePort, { id, name, request }: DeviceQuestion): Promise<void> {
    let answer: DeviceAnswer;
    try {
      // What has been put into the ring before counts before: members that are closed.
      this.answerer?.drain();
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

  /** Ends everything. Returns the operations that have not ended: they may still use memory of both shards. */
  private async stop(): Promise<number> {
    await this.answerer?.close();
    await this.devices.close().catch(() => {});
    this.port?.close();
    this.start.port.removeAllListeners('message');
    return this.engine.close(STOP_GRACE_MS);
  }
}
