/**
 * A device of a node, as whoever decides about volumes asks it: what it knows of them, the maps that it is to store, and the
 * members that serve their data. Its store may be on this thread (`NodeStore`), on another, or in another process.
 *
 * What it knows is told at once, from memory. Of a store on another thread that is what it told last: with the answer to whatever
 * has been asked of it, and before each control operation.
 */

import { check } from '../core/check.js';
import type { ReplicaPage } from '../core/ids.js';
import type { ReplicaMap, ReplicaOwn } from '../layout/replica-map.js';
import type { KnownDevice } from '../layout/starting-map.js';
import type { CompletionPort } from '../ports/completion.js';
import { FENCE_ALL, FENCE_OPEN } from '../ports/device.js';
import type { Generation, GroupIndex } from '../ports/ids.js';
import type { Superblock } from '../store/format/superblock.js';
import type { RecoveryReport } from '../store/opening/recovery.js';
import type { StoreCounters } from '../store/store-start.js';
import type { DeviceMember } from './device-member.js';
import type { ReplicaGate } from './replica-gate.js';

/** A device, as plain data. */
export interface StoreStatus {
  readonly path: string;
  /** The shard that its store is on. */
  readonly shard: number;
  readonly superblock: Superblock;
  readonly state: 'ok' | 'failed' | 'lost';
  readonly usedSlots: number;
  readonly tableBytes: number;
  readonly recovery: RecoveryReport;
  readonly counters: StoreCounters;
  /** Operations that the device itself has been given since it was opened. */
  readonly operations: number;
}

/** A member that is only read, by an engine that has no right to write. */
export interface ReaderMember extends DeviceMember {
  /** Asks under a later map of its group from now on. Returns false if it cannot: the replica is to be opened anew. */
  follow(map: ReplicaMap): boolean;
}

/** What comes of opening a replica to be read. */
export interface ReaderOpening {
  /** Null if it was not opened. */
  readonly member: ReaderMember | null;
  /** What the device has in place of the map under which it was to be opened. */
  readonly maps: readonly ReplicaMap[];
}

export interface NodeDevice extends KnownDevice {
  /** The shard that its store is on; -1 in another process. */
  readonly shard: number;
  readonly path: string;
  readonly deviceId: string;
  readonly superblock: Pick<Superblock, 'deviceId' | 'clusterId'>;
  readonly slotBytes: number;
  readonly freeSlots: number;
  /** Its place in the order in which devices were asked for. */
  readonly order: number;
  /** Whether it could know another replica. */
  readonly hasRoom: boolean;
  /** The most replicas that it can know, with those of deleted volumes. */
  readonly replicasMax: number;

  /** Whether it knows anything of a volume, deleted ones included. */
  knows(volumeId: string): boolean;
  /** Whether it knows a group of a volume. */
  knowsGroup(volumeId: string, group: GroupIndex): boolean;
  /** The page of a replica, or -1. */
  pageOf(volumeId: string, group: GroupIndex): ReplicaPage;
  /** Whether nothing of a volume can come back from here: it is not known, or is durably deleted. */
  isGone(volumeId: string): boolean;
  /** Segments of a volume that have a slot here: of one group, or of all. */
  segmentsOf(volumeId: string, group: GroupIndex | null): number;

  /**
   * Stores the map of a group durably, with what this device is to know of itself. Resolves with its page, `-ENOSPC` if there
   * is no room for it, or another errno.
   *
   * One that managers have decided is brought by whoever decides for the engines of this process: from now on these ask under it.
   * It resolves when the member has answered it: nothing that was admitted under earlier maps goes on, and no lease that it has
   * to wait for; with `-ESTALE` if another map is there that is newer. With `servedGeneration` only that is noted: `-ESTALE` if
   * the map is of another generation by then.
   */
  putReplica(map: ReplicaMap, own?: Partial<Pick<ReplicaOwn, 'servedGeneration' | 'answered'>>): Promise<number>;
  /** Whether what serves the replica on this page under a generation can be had; absent where it always can. */
  serves?(page: ReplicaPage, generation: Generation): boolean;
  /** The newest generation that it knew to have been served when the replica on this page was opened last. */
  servedOn(page: ReplicaPage): Generation;
  /** What serves the data of the replica on this page. */
  member(completions: CompletionPort, page: ReplicaPage): DeviceMember;
  /** Opens a replica that managers decide about to be read, under a map that the device has answered. Never rejects. */
  openReader(completions: CompletionPort, map: ReplicaMap): Promise<ReaderOpening>;
  /**
   * Gives back what it has of a deleted volume. What is left when `ending` says that the node is about to be closed is given back
   * when it is opened the next time. Rejects with a `StrakeError`.
   */
  release(completions: CompletionPort, volumeId: string, ending: () => boolean): Promise<void>;
  /** Closes it in order, if it still takes writes. Rejects with a `StrakeError`; it is closed all the same. */
  end(): Promise<void>;

  /** Null of a device of another node, which tells that itself. */
  status(): StoreStatus | null;
}

/** A device that this process drives, on whichever of its threads. */
export interface DrivenDevice extends NodeDevice {
  /** By which other shards know it on its own; not given again in the life of that. */
  readonly number: number;
  /** What stands before a replica. */
  gate(volumeId: string, group: GroupIndex): ReplicaGate;
  /** See `GatedDevice.endLeases`. */
  endLeases(): void;
  /** See `GatedDevice.grantFor`. */
  grantFor(leaseMs: number): Promise<void>;
  /** See `GatedDevice.bring`. */
  bring(map: ReplicaMap): Promise<number>;
  /** See `GatedDevice.giveBack`. */
  giveBack(map: ReplicaMap): Promise<number>;
  /** Data operations in flight, of all volumes. */
  readonly outstanding: number;
  /** `FENCE_*`: what it still accepts. */
  fence(): number;
  /** What it knows of a replica beside its map, by the number of its page. */
  ownOf(page: ReplicaPage): ReplicaOwn;
  status(): StoreStatus;
  /** Resolves when what it says is of now. Rejects with a `StrakeError` if it has gone. */
  refresh(): Promise<void>;
}

export function isDriven(device: NodeDevice): device is DrivenDevice {
  return device.shard >= 0;
}

/** What of a device is in order, as nodes and managers are told it. */
export type Health = 'healthy' | 'read-only' | 'failed';

export function healthOf(device: DrivenDevice): Health {
  return HEALTH[device.fence()];
}

const HEALTH = ['healthy', 'read-only', 'failed'] as const;
check(FENCE_OPEN === 0 && FENCE_ALL === HEALTH.length - 1, 'fences have no words', FENCE_ALL);

/**
 * Adds a device. They stay in the order in which they were asked for: where a volume is placed, and what is told first, must
 * not hang on which device answers first.
 */
export function addInOrder<D extends NodeDevice>(stores: Map<string, D>, entry: D): void {
  const sorted = [...stores.values(), entry].sort((one, other) => one.order - other.order);
  const ordered = sorted.every(({ order }, at) => at === 0 || sorted[at - 1].order < order);
  check(ordered, 'two devices have one place in the order of a node', entry.order);
  stores.clear();
  for (const one of sorted) stores.set(one.superblock.deviceId, one);
  check(stores.size === sorted.length, 'two devices have one id', entry.order);
}
