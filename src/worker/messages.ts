/**
 * The messages between a process's main thread and its shards: the control plane of a node, never its data.
 */

import type { LinkMemory } from '../across/protocol.js';
import type { VolumeLink } from '../across/volume-protocol.js';
import type { WireError } from '../core/errors.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { DeviceGeometry } from '../ports/device.js';
import type { ManagerCalls } from '../ports/manager.js';
import type { StreamAddress } from '../ports/transport.js';
import type { NodeCalls } from '../serve/node-service.js';
import type { Superblock } from '../store/format/superblock.js';
import type { FormatOptions } from '../store/opening/format-device.js';
import type { EngineKind } from '../uring/engine.js';
import type { FaultRule } from '../uring/native.js';
import type { Adopted } from '../volumes/adoption.js';
import type { StorageEvent } from '../volumes/storage-events.js';

/** What a shard is started with. */
export interface ShardStart {
  readonly kind: EngineKind;
  /** The number of shards in the process. */
  readonly shards: number;
  /** The most formatted devices that it will drive; it has memory for them. */
  readonly storesMax: number;
  /** Of these, how many it is likely to drive: their memory is registered with the kernel. */
  readonly storesExpected: number;
  /** Memory for their block tables, unless what it owes each of them is more. */
  readonly tablesBytes: number;
  /** Whether it uses devices of other nodes, or serves its own to them: it has memory for that. */
  readonly network: boolean;
  /** The arena of the first shard of a node, of the others; null of that one, and of a shard of no node. */
  readonly guest: Uint8Array | null;
  /** Of the first: for how many others it has memory that their engines need. */
  readonly engineShards: number;
  /** Of the others: where theirs begins in the guest; null if they run no engines. */
  readonly engineMemory: number | null;
  /** Where control messages come from; transferred. */
  readonly port: import('node:worker_threads').MessagePort;
  /** Memory of the rings to and from the main thread's client. */
  readonly requests: SharedArrayBuffer;
  readonly replies: SharedArrayBuffer;
  /** The main thread's engine, to be woken for replies. */
  readonly clientEngine: number;
}

/** What a shard says when it is ready. */
export interface ShardReady {
  readonly engine: number;
  /** Its memory, and where in it the client's buffers begin. */
  readonly arena: Uint8Array;
  readonly clientMemory: number;
  /** How much of it, from its start, other shards read from and write to. */
  readonly sharedBytes: number;
  /** Where in it the memory for engines of the second shard begins, which is followed by that of the others. */
  readonly engineMemory: number;
  readonly threadId: number;
}

/** Opens a device in a shard: a handle of the addon, or a null device. */
export interface OpenMessage {
  readonly handle: number | null;
  readonly geometry: DeviceGeometry;
  readonly readOnly: boolean;
  readonly faults: readonly FaultRule[];
  /** What it must not accept (`FENCE_*`): a fenced device stays so when another shard takes it over. */
  readonly fence: number;
}

/** Formats a device, and closes it again. */
export interface FormatMessage {
  readonly handle: number;
  readonly geometry: DeviceGeometry;
  readonly options: FormatOptions;
}

/** Connects two shards of a node. Each of the two gets one, with the engine of the other. */
export interface ConnectMessage {
  /** Numbers of the other shard and of this one in the node. */
  readonly shard: number;
  readonly self: number;
  readonly engine: number;
  /** By which members there are asked from here, and those here from there. */
  readonly asks: LinkMemory;
  readonly answers: LinkMemory;
  /** If one of the two is the first, which decides about volumes. */
  readonly control: ConnectControl | null;
}

/** What the first shard of a node and another have between them beside members. Ports are transferred. */
export interface ConnectControl {
  /** For calls about devices of the other shard, about engines there, and from these to whoever decides. */
  readonly devices: import('node:worker_threads').MessagePort;
  readonly engines: import('node:worker_threads').MessagePort;
  readonly authority: import('node:worker_threads').MessagePort;
  /** By which volumes are asked whose engines are there. */
  readonly volumes: VolumeLink;
}

/** A shard that had devices of the node has died. */
export interface LoseShardMessage {
  readonly shard: number;
  /** Its device operations may not have ended. */
  readonly mayGoOn: boolean;
  readonly error: WireError;
}

/** Opens a formatted device as a part of the shard's node, on the shard that has the fewest of them. */
export interface OpenStoreMessage {
  /** Which it was found to be. */
  readonly deviceId: string;
  readonly handle: number;
  readonly geometry: DeviceGeometry;
  readonly path: string;
  /** The cluster that it has to be of, and of which it was found to be. */
  readonly clusterId: string;
  /** The longest lease that it grants to clients, in milliseconds; 0 for none. */
  readonly leaseMs: number;
}

/** A volume of the node as something that an in-process client or a server can use. */
export interface VolumeFacts {
  /** Its number among what the shard has open. */
  readonly device: number;
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
}

/** Serves all volumes of the node by their names. */
export interface ListenNodeMessage {
  readonly address: StreamAddress;
  readonly connectionsMax: number;
}

/** Other nodes: whose devices are used, and where this one's are served. */
export interface NetworkMessage {
  /** The file with the key of the cluster. */
  readonly keyFile: string;
  readonly clusterId: string;
  readonly peers: readonly StreamAddress[];
  /** Null if it serves none. */
  readonly segments: StreamAddress | null;
}

/** Who a node is in its cluster. */
export interface NodeSelf {
  readonly nodeId: string;
  readonly name: string;
  readonly labels: readonly { readonly name: string; readonly value: string }[];
}

/** Reaches the managers of a cluster: for a client, or for a node with its devices. */
export interface JoinMessage {
  /** The file with the key of the cluster. */
  readonly keyFile: string;
  readonly managers: readonly StreamAddress[];
  /** Null: the one whose key that is. */
  readonly clusterId: string | null;
  /** Null of a client that is no node. */
  readonly self: NodeSelf | null;
  /** Where the segments of its devices are served; null if they are not. */
  readonly segments: StreamAddress | null;
}

/** Runs a manager of a cluster on a shard that does nothing else. */
export interface ManageMessage {
  /** The file with the key of the cluster. */
  readonly keyFile: string;
  /** Where nodes and clients reach it. */
  readonly address: StreamAddress;
  /** To its database, which is on the main thread; transferred. */
  readonly store: import('node:worker_threads').MessagePort;
}

/** Something that a manager is asked for, by whichever way the shard has to it. */
export interface ManagerCallMessage {
  readonly name: keyof ManagerCalls<ReplicaMap>;
  readonly args: readonly unknown[];
}

/** Serves a device under a name. */
export interface ListenMessage {
  readonly device: number;
  readonly address: StreamAddress;
  readonly name: string;
  readonly description: string;
  readonly readOnly: boolean;
  readonly connectionsMax: number;
}

/** A load that a shard puts on a device by itself; see `load.ts`. */
export interface LoadMessage {
  readonly device: number;
  readonly pattern: 'read' | 'write' | 'randread' | 'randwrite' | 'mixed' | 'sync';
  readonly blockBytes: number;
  readonly depth: number;
  readonly milliseconds: number;
  readonly seed: number;
}

/** What a load achieved. */
export interface LoadResult {
  readonly operations: number;
  readonly bytes: number;
  readonly errors: number;
  readonly seconds: number;
  readonly latencyUsMean: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  readonly latencyUsP999: number;
}

/** Requests by name: what is sent, and what comes back. */
export interface ShardCalls extends NodeCalls {
  open: { request: OpenMessage; response: { device: number } };
  close: { request: { device: number }; response: null };
  listen: { request: ListenMessage; response: { server: number; port: number | undefined } };
  /** `last`: of a node, of which no other server is left. */
  unlisten: { request: { server: number; drainMs: number; last?: boolean }; response: null };
  format: { request: FormatMessage; response: Superblock };
  openStore: { request: OpenStoreMessage; response: { deviceId: string; shard: number } };
  connect: { request: ConnectMessage; response: null };
  loseShard: { request: LoseShardMessage; response: { mayGoOn: boolean } };
  findVolume: { request: { name: string }; response: VolumeFacts };
  closeNode: { request: null; response: null };
  /** `port`: where segments are served, if that is on TCP. */
  network: { request: NetworkMessage; response: { port: number | undefined } };
  /** `port`: where segments are served, if that is on TCP. Resolves when a manager has answered. */
  joinCluster: { request: JoinMessage; response: { clusterId: string; port: number | undefined } };
  attachVolume: { request: { name: string; takeOver: boolean; readOnly: boolean }; response: VolumeFacts };
  /** Of a node that has joined a cluster: see `adoptVolumes` and `takeBackVolumes`. */
  adoptVolumes: { request: null; response: Adopted };
  takeBackVolumes: { request: null; response: Adopted };
  detachVolume: { request: { id: string }; response: null };
  manage: { request: ManageMessage; response: { clusterId: string; port: number | undefined } };
  managerCall: { request: ManagerCallMessage; response: unknown };
  listenNode: { request: ListenNodeMessage; response: { server: number; port: number | undefined } };
  injectFaults: { request: { rules: readonly FaultRule[] }; response: null };
  stats: { request: null; response: import('./shard-stats.js').ShardStats };
  load: { request: LoadMessage; response: LoadResult };
  stop: { request: { graceMs: number }; response: number };
}

export type ShardCallName = keyof ShardCalls;

/** A call on its way to a shard. */
export interface CallMessage<Name extends ShardCallName = ShardCallName> {
  readonly id: number;
  readonly name: Name;
  readonly request: ShardCalls[Name]['request'];
}

/** Its answer. */
export type AnswerMessage =
  | { readonly id: number; readonly response: unknown }
  | { readonly id: number; readonly error: WireError }
  | { readonly ready: ShardReady }
  | { readonly event: StorageEvent }
  /** The manager of this shard decides nothing any more. */
  | { readonly steppedDown: WireError }
  /** The rings of the in-process client are not used any more. */
  | { readonly broken: string }
  | { readonly fenced: { readonly device: number; readonly fence: number } };
