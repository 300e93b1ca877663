/**
 * The shards of a process, seen from its main thread.
 *
 * Each shard is one long task in a worker of a Piscina pool whose threads all exist from the beginning. A shard that dies is
 * replaced: whoever has devices or servers on it is told, and sets them up again on its successor.
 */

import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { ENGINES_THERE_BYTES } from '../across/engine-service.js';
import { createLink } from '../across/protocol.js';
import { createVolumeLink } from '../across/volume-protocol.js';
import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES, CLIENT_RING_ENTRIES, ENGINE_SHARDS_MAX } from '../core/limits.js';
import { alignDown } from '../core/units.js';
import { createRing } from '../ring/spsc-ring.js';
import { RingClient } from '../serve/ring-client.js';
import { Engine, type EngineKind } from '../uring/engine.js';
import { native } from '../uring/native.js';
import type { StorageEvent } from '../volumes/storage-events.js';
import { LoadingThreads } from './loading-threads.js';
import type { AnswerMessage, ConnectMessage, ShardCallName, ShardCalls, ShardReady, ShardStart } from './messages.js';

interface Pending {
  readonly resolve: (response: unknown) => void;
  readonly reject: (error: StrakeError) => void;
}

/** Who hears of what happens in shards. */
export interface ShardListener {
  /** A device has been fenced, which has this number in that life of a shard. */
  readonly onFenced: (link: ShardLink, device: number, fence: number) => void;
  /** Something has happened in a shard's node. */
  readonly onEvent: (event: StorageEvent) => void;
  /** The manager of a shard decides nothing any more. */
  readonly onSteppedDown?: (error: StrakeError) => void;
}

/** A shard's life between one start and its end. */
export class ShardLink {
  readonly ready: ShardReady;
  readonly client: RingClient;
  private readonly port: MessagePort;
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;
  private dead: StrakeError | null = null;
  private readonly listener: ShardListener;

  constructor(port: MessagePort, ready: ShardReady, client: RingClient, listener: ShardListener) {
    this.listener = listener;
    this.port = port;
    this.ready = ready;
    this.client = client;
    port.on('message', (message: AnswerMessage) => this.answer(message));
    // The pool's own port keeps the process alive as long as the shard runs.
    port.unref();
  }

  private answer(message: AnswerMessage): void {
    if ('event' in message) this.listener.onEvent(message.event);
    // Whoever embeds Strake has overwritten memory that is shared: what it asked for cannot be told any more.
    if ('broken' in message) this.client.abandon();
    if ('fenced' in message) this.listener.onFenced(this, message.fenced.device, message.fenced.fence);
    if ('steppedDown' in message) this.listener.onSteppedDown?.(StrakeError.fromWire(message.steppedDown));
    if (!('id' in message)) return;
    const pending = this.pending.get(message.id);
    if (pending === undefined) return;
    this.pending.delete(message.id);
    if ('error' in message) pending.reject(StrakeError.fromWire(message.error));
    else pending.resolve(message.response);
  }

  /** Asks the shard for something. `transfer`: ports that become its own. */
  call<Name extends ShardCallName>(
    name: Name,
    request: ShardCalls[Name]['request'],
    transfer: readonly MessagePort[] = [],
  ): Promise<ShardCalls[Name]['response']> {
    if (this.dead !== null) return Promise.reject(this.dead);
    return new Promise((resolve, reject) => {
      const id = this.nextId++;
      this.pending.set(id, { resolve: resolve as Pending['resolve'], reject });
      this.port.postMessage({ id, name, request }, transfer);
    });
  }

  /** The shard has ended: what it still said counts, and whatever is pending after that fails. */
  abandon(error: StrakeError): void {
    // A busy main thread may learn of the end first; a fence that was lost here would be open again on the next shard.
    for (let left = receiveMessageOnPort(this.port); left !== undefined; left = receiveMessageOnPort(this.port)) {
      try {
        this.answer(left.message as AnswerMessage);
      } catch (thrown) {
        // By whoever listens to events: that is theirs to learn of, and no reason to leave the rest undone.
        queueMicrotask(() => {
          throw thrown;
        });
      }
    }
    this.dead = error;
    this.port.close();
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
    this.client.abandon();
  }
}

/** One place in the pool, occupied by one shard after another. */
class ShardPlace {
  link: ShardLink | null = null;
  /** The memory that is not its own, to which its devices are read all the same. */
  guest: Uint8Array | null = null;
}

export interface ShardPoolOptions extends ShardListener {
  readonly kind: EngineKind;
  readonly shards: number;
  /**
   * Whether they are those of one node: the first decides about volumes, and all have devices and engines, and are connected with
   * each other. They are replaced with the first, as their engines have its memory.
   */
  readonly ofNode: boolean;
  /** The most formatted devices of a shard. */
  readonly storesMax: number;
  /** How many of them are likely. */
  readonly storesExpected: number;
  /** Memory for block tables of formatted devices, of all shards together. */
  readonly tablesBytes: number;
  /** Whether a node uses devices of others, or serves its own to them. */
  readonly network: boolean;
  /** The program of a shard. */
  readonly program: URL;
  /** Called when a shard has died, after a new one is ready in its place. */
  readonly onReplaced: (shard: number, link: ShardLink) => void;
  /** Called when a shard that died could not be replaced. */
  readonly onLost: (shard: number, error: StrakeError) => void;
}

/** Memory of shards that ended while the kernel might still write to it; kept for ever, whatever becomes of their pool. */
const quarantine: Uint8Array[] = [];

function keepMemory(link: ShardLink, { guest }: ShardPlace): void {
  quarantine.push(link.ready.arena);
  if (guest !== null) quarantine.push(guest);
}

export class ShardPool {
  readonly kind: EngineKind;
  /** The main thread's own engine: it is woken by shards, and wakes them. */
  private readonly engine: Engine;
  private readonly options: ShardPoolOptions;
  private readonly piscina: Piscina;
  private readonly loading = new LoadingThreads();
  private readonly places: ShardPlace[] = [];
  private busyClients = 0;
  private closing = false;
  /** Of the shards of a node one is replaced after another. */
  private replacing: Promise<void> = Promise.resolve();

  private constructor(options: ShardPoolOptions) {
    this.options = options;
    this.kind = options.kind;
    const small = { blocking: false, arenaBytes: BLOCK_BYTES, operationsMax: 64, filesMax: 4, threads: 1 };
    const onWake = () => {
      for (const place of this.places) place.link?.client.drain();
    };
    this.engine = new Engine({ kind: options.kind, engines: options.shards, onWake, ...small });
    this.piscina = new Piscina({
      filename: options.program.href,
      minThreads: options.shards,
      maxThreads: options.shards,
      idleTimeout: Number.POSITIVE_INFINITY,
      // The default freezes the event loop of an idle worker, and with it its message port.
      atomics: 'disabled',
      recordTiming: false,
    });
    this.loading.note(this.piscina.threads);
  }

  /** Starts all shards. */
  static async start(options: ShardPoolOptions): Promise<ShardPool> {
    const pool = new ShardPool(options);
    try {
      for (let shard = 0; shard < options.shards; shard += 1) {
        pool.places.push(new ShardPlace());
        await pool.startShard(shard);
      }
    } catch (error) {
      await pool.close(0);
      throw error;
    }
    return pool;
  }

  get size(): number {
    return this.places.length;
  }

  /** Memory for block tables, of all shards together. */
  get tablesBytes(): number {
    return this.options.tablesBytes;
  }

  /** Whether they are of a node that uses devices of others, or serves its own to them. */
  get network(): boolean {
    return this.options.network;
  }

  /** The shard in this place. Throws `ERR_STRAKE_WORKER_DIED` while it is being replaced. */
  link(shard: number): ShardLink {
    const { link } = this.places[shard];
    if (link === null) throw new StrakeError('WORKER_DIED', `shard ${shard} has ended and is being replaced`);
    return link;
  }

  /** All that are not being replaced. */
  links(): ShardLink[] {
    return this.places.flatMap(({ link }) => (link === null ? [] : [link]));
  }

  /** Whether this life of a shard is the one that goes on. */
  isCurrent(shard: number, link: ShardLink): boolean {
    return this.places[shard].link === link;
  }

  private async startShard(shard: number): Promise<ShardLink> {
    const place = this.places[shard];
    const { port1, port2 } = new MessageChannel();
    const requests = createRing(CLIENT_RING_ENTRIES);
    const replies = createRing(CLIENT_RING_ENTRIES);
    const { shards, storesMax, storesExpected, ofNode, network } = this.options;
    const tablesBytes = alignDown(this.options.tablesBytes / shards, BLOCK_BYTES);
    const clientEngine = this.engine.id;
    const first = ofNode && shard > 0 ? this.link(0).ready : null;
    const guest = first === null ? null : first.arena.subarray(0, first.sharedBytes);
    place.guest = guest;
    const engineShards = this.engineShards;
    const engineMemory =
      guest === null || shard > engineShards
        ? null
        : this.link(0).ready.engineMemory + (shard - 1) * ENGINES_THERE_BYTES;
    const sizes = { shards, storesMax, storesExpected, tablesBytes, network, guest, engineShards, engineMemory };
    const start: ShardStart = { kind: this.kind, ...sizes, port: port2, requests, replies, clientEngine };
    const ended = this.piscina.run(start, { transferList: [port2] });
    const ready = await new Promise<ShardReady>((resolve, reject) => {
      port1.once('message', (message: AnswerMessage) => {
        if ('ready' in message) resolve(message.ready);
      });
      ended.then(() => reject(new Error('the shard ended at once')), reject);
    }).catch((cause: unknown) => {
      this.loading.note(this.piscina.threads);
      port1.close();
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new StrakeError('WORKER_DIED', `shard ${shard} did not start: ${reason}`, { cause });
    });
    const { arena } = ready;
    const client = new RingClient({
      requests,
      replies,
      memoryStart: ready.clientMemory,
      copyIn: (memory, bytes, at, length) => native().copyBytes(arena, memory, bytes, at, length),
      copyOut: (bytes, at, memory, length) => native().copyBytes(bytes, at, arena, memory, length),
      wakeShard: () => this.engine.wake(ready.engine),
      onBusy: (busy) => this.onBusy(busy),
    });
    const link = new ShardLink(port1, ready, client, this.options);
    place.link = link;
    ended.then(
      () => link.abandon(new StrakeError('CLOSED', `shard ${shard} has been stopped`)),
      (cause: unknown) => this.noteDeath(shard, link, cause),
    );
    if (guest !== null) await this.connect(shard, link);
    return link;
  }

  /** Shards beside the first that run engines. Engines of a node that has sessions with others are where these are. */
  private get engineShards(): number {
    const { ofNode, network, shards } = this.options;
    return ofNode && !network ? Math.min(shards - 1, ENGINE_SHARDS_MAX) : 0;
  }

  /** Connects a shard of a node with all others that are there. */
  private async connect(shard: number, link: ShardLink): Promise<void> {
    for (const [number, { link: other }] of this.places.entries()) {
      if (other === null || other === link) continue;
      // Engines ask members from shards that have engines; the first has some always.
      if (number === 0 || this.engineShards > 0) await this.connectTwo([number, other], [shard, link]);
    }
  }

  private async connectTwo(one: readonly [number, ShardLink], two: readonly [number, ShardLink]): Promise<void> {
    const [forth, back] = [createLink(), createLink()];
    const channels = one[0] === 0 ? [new MessageChannel(), new MessageChannel(), new MessageChannel()] : [];
    const volumes = createVolumeLink();
    const end = (ports: readonly MessagePort[]) => {
      const [devices, engines, authority] = ports;
      return devices === undefined ? null : { devices, engines, authority, volumes };
    };
    const meet = (
      [self, link]: readonly [number, ShardLink],
      [shard, other]: readonly [number, ShardLink],
      ways: Pick<ConnectMessage, 'asks' | 'answers'>,
      ports: readonly MessagePort[],
    ) => link.call('connect', { shard, self, engine: other.ready.engine, ...ways, control: end(ports) }, ports);
    await Promise.all([
      meet(
        one,
        two,
        { asks: forth, answers: back },
        channels.map(({ port1 }) => port1),
      ),
      meet(
        two,
        one,
        { asks: back, answers: forth },
        channels.map(({ port2 }) => port2),
      ),
    ]);
  }

  private onBusy(busy: boolean): void {
    this.busyClients += busy ? 1 : -1;
    this.engine.native.setRef(this.busyClients > 0);
  }

  private noteDeath(shard: number, dead: ShardLink, cause: unknown): void {
    // The pool has just begun another thread in the place of the one that has ended.
    this.loading.note(this.piscina.threads);
    const place = this.places[shard];
    place.link = null;
    // Nothing tells whose operations they are, so it may be kept for another's.
    const mayGoOn = native().leftInFlight() > 0;
    if (mayGoOn) keepMemory(dead, place);
    const reason = cause instanceof Error ? cause.message : String(cause);
    const error = new StrakeError('WORKER_DIED', `shard ${shard} has ended: ${reason}`, { cause });
    dead.abandon(error);
    if (this.closing) return;
    if (this.options.ofNode) this.replacing = this.replacing.then(() => this.replaceOfNode(shard, error, mayGoOn));
    else void this.replace(shard);
  }

  private async replace(shard: number): Promise<void> {
    try {
      const link = await this.startShard(shard);
      this.options.onReplaced(shard, link);
    } catch (failure) {
      if (!this.closing) this.options.onLost(shard, failure as StrakeError);
    }
  }

  /** The one that has the volumes hears of the death of another, and goes on; with it all others are replaced. */
  private async replaceOfNode(shard: number, error: StrakeError, mayGoOn: boolean): Promise<void> {
    // By now it may have been replaced with the first, or that has died as well, and is about to be.
    if (this.closing || this.places[shard].link !== null) return;
    if (shard > 0) {
      if (this.places[0].link === null) return;
      await this.tellOfDeath(shard, error, mayGoOn);
      await this.replace(shard);
      return;
    }
    try {
      const link = await this.startShard(0);
      // None meets one that is about to be stopped.
      await Promise.all(this.places.slice(1).map((place) => this.stopOld(place)));
      for (let other = 1; other < this.places.length; other += 1) await this.startShard(other);
      this.options.onReplaced(0, link);
    } catch (failure) {
      if (!this.closing) this.options.onLost(0, failure as StrakeError);
    }
  }

  /**
   * The shards that go on hear of the death of one. The first does last: clients have back what they have lent to engines there
   * when nobody works for these any more.
   */
  private async tellOfDeath(shard: number, error: StrakeError, mayGoOn: boolean): Promise<void> {
    const tell = (link: ShardLink, goesOn: boolean) =>
      link.call('loseShard', { shard, mayGoOn: goesOn, error: error.toWire() }).catch(() => ({ mayGoOn: true }));
    const [first, ...others] = this.links();
    const told = await Promise.all(others.map((link) => tell(link, mayGoOn)));
    await tell(first, mayGoOn || told.some((one) => one.mayGoOn));
  }

  /** Stops a shard in order, if it is there. */
  private async stopOld(place: ShardPlace): Promise<void> {
    const { link } = place;
    place.link = null;
    if (link !== null) await this.stop(place, link, 0).catch(() => {});
  }

  private async stop(place: ShardPlace, link: ShardLink, graceMs: number): Promise<void> {
    const left = await link.call('stop', { graceMs });
    if (left > 0) keepMemory(link, place);
  }

  /** Stops all shards: servers drain for at most `drainMs`, devices are closed. */
  async close(drainMs: number): Promise<void> {
    this.closing = true;
    const places = [...this.places];
    const stop = async (place: ShardPlace) => {
      if (place.link !== null) await this.stop(place, place.link, drainMs);
    };
    // What the volumes of a node still ask of its devices is answered before these are closed.
    if (this.options.ofNode) await Promise.allSettled(places.splice(0, 1).map(stop));
    await Promise.allSettled(places.map(stop));
    await this.loading.done(this.piscina.threads);
    await this.piscina.destroy();
    this.engine.close(0);
  }

  /** Ends a shard's thread the hard way, for tests of what happens then. */
  async kill(shard: number): Promise<void> {
    const { threadId } = this.link(shard).ready;
    await this.piscina.threads.find((thread) => thread.threadId === threadId)?.terminate();
  }
}
