/**
 * A node that serves a member of a managed volume, and clients on hosts of their own that have sessions with it: they open it, read
 * under its leases, and bring it maps. Maps are those that a manager would decide.
 */

import { NodeSession } from '#strake/client/members/node-session.js';
import type { RemoteMember } from '#strake/client/members/remote-member.js';
import { SessionService } from '#strake/client/members/session-service.js';
import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import { NO_FLUSH } from '#strake/layout/flush-id.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import type { MemberState } from '#strake/layout/volume-map.js';
import type { ReplicaGate } from '#strake/node/replica-gate.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import type { SimHost } from '#strake/sim/world/host.js';
import type { SimProcess } from '#strake/sim/world/process.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { authenticateMap } from '#strake/wire/maps.js';
import { CLUSTER_ID, SLOT } from './sim-store.js';
import { ADDRESS, deviceIdOf, KEY_SEED, SMALL_SEGMENTS, SMALL_SESSIONS, TwoNodes } from './two-nodes.js';

const VOLUME = 'a'.repeat(32);
/** Versions of managed maps. */
export const EPOCH = 2 ** 32;
/** Index of the member that is served. */
export const SERVED = 1;

/** What is told of a map. */
export interface MapChanges {
  readonly generation?: number;
  readonly holder?: string;
  /** Of the three members; all are in-sync if nothing else is said. */
  readonly states?: readonly MemberState[];
}

export class LeaseClient {
  readonly clientId: string;
  readonly host: SimHost;
  readonly process: SimProcess;
  readonly service: SessionService;
  /** Versions of maps that it was told of, beside what it asked for. */
  readonly heard: number[] = [];
  session: NodeSession;
  private readonly nodes: LeaseWorld;

  constructor(nodes: LeaseWorld, digit: string) {
    this.nodes = nodes;
    this.clientId = digit.repeat(32);
    this.host = nodes.world.addHost(`client ${digit}`);
    const bytes = SessionService.regionBytes(SMALL_SESSIONS);
    this.process = this.host.start({ seed: nodes.nextSeed(), arena: new Uint8Array(new SharedArrayBuffer(bytes)) });
    const { process } = this;
    const transport = new SimTransport(process, {}, nodes.network);
    this.service = new SessionService({
      ports: { completions: process, memory: process, transport, clock: process },
      memoryStart: 0,
      sizes: SMALL_SESSIONS,
      key: new SimKey(KEY_SEED, process.random.fork('key')),
      clusterId: CLUSTER_ID,
      clientId: this.clientId,
      principal: 'test',
    });
    this.session = this.connect();
  }

  /** Another session with the node, after the one before has ended. */
  reconnect(): NodeSession {
    this.session.fail('the test begins another');
    this.session = this.connect();
    return this.session;
  }

  private connect(): NodeSession {
    return new NodeSession(this.service, ADDRESS, {
      onDevices: () => {},
      onFailed: () => {},
      onMaps: (maps) => this.heard.push(...maps.map(({ mapVersion }) => mapVersion)),
    });
  }

  /** Opens the replica under a map whose generation has been served. */
  async open(map: ReplicaMap, role: 'reader' | 'writer' = 'reader'): Promise<RemoteMember> {
    await this.nodes.gate.noteServedHere(map.generation);
    const { member, status } = await this.session.open(map, SERVED, role);
    if (member === null) throw new Error(`the replica was not opened: ${status} ${this.session.reason}`);
    return member;
  }
}

export class LeaseWorld extends TwoNodes {
  private readonly key: SimKey;

  constructor(seed: number) {
    super(seed);
    this.key = new SimKey(KEY_SEED, this.random());
  }

  async start(): Promise<this> {
    await this.format();
    await this.serve();
    return this;
  }

  /** Starts the node, in another life of its device. */
  serve(leaseMs = DEFAULT_TIMES.leaseMs): Promise<void> {
    return this.startServing(KEY_SEED, SMALL_SEGMENTS, leaseMs);
  }

  get gate(): ReplicaGate {
    const device = this.serving.host.stores.get(deviceIdOf(SERVED));
    if (device === undefined) throw new Error('the device is not open');
    return device.gate(VOLUME, 0);
  }

  /** A map that a manager has decided: version `n` of the first epoch. */
  map(n: number, changes: MapChanges = {}): ReplicaMap {
    return authenticateMap(this.undecided(EPOCH + n, changes), this.key);
  }

  /** A map that nobody has proven. */
  undecided(mapVersion: number, { generation = 1, holder = 'e'.repeat(32), states = [] }: MapChanges = {}): ReplicaMap {
    const one = { since: NO_FLUSH, incarnation: 1, flushNumber: 0, joined: 1 };
    const state = (place: number) => states[place] ?? 'in-sync';
    return {
      volume: {
        ...{ id: VOLUME, name: 'v', headerVersion: 0, createdMs: 1, sizeBytes: 64 * SLOT, layout: 'mirror', copies: 3 },
        ...{ segmentBytes: SLOT, deleted: false },
      },
      ...{ group: 0, groups: 1, mapVersion, generation, holder, lease: 'exclusive' },
      members: [0, 1, 2].map((place) => ({ ...one, place, state: state(place), deviceId: deviceIdOf(place) })),
    };
  }

  /** Lets the world go on until this holds. */
  when(holds: () => boolean): Promise<void> {
    return this.settle(this.world.until(holds));
  }

  /** Brings a map by a client, and notes when it has been answered. */
  bring(client: LeaseClient, map: ReplicaMap): { result: number | null } {
    const told: { result: number | null } = { result: null };
    void client.session.storeMap(map, SERVED).then((result) => {
      told.result = result;
    });
    return told;
  }
}
