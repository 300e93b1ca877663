/** A device of a node whose store is on this thread. */

import { check } from '../core/check.js';
import { deviceError } from '../core/errno.js';
import type { ReplicaPage } from '../core/ids.js';
import type { ReplicaMap, ReplicaOwn } from '../layout/replica-map.js';
import type { CompletionPort } from '../ports/completion.js';
import { FENCE_ALL } from '../ports/device.js';
import type { GroupIndex } from '../ports/ids.js';
import type { Superblock } from '../store/format/superblock.js';
import { LocalMember } from '../store/local-member.js';
import type { OpenedStore } from '../store/opening/open-store.js';
import type { RecoveryReport } from '../store/opening/recovery.js';
import type { Checkpointer } from '../store/running/checkpoint.js';
import type { SegmentStore } from '../store/segment-store.js';
import { type DeviceKeeper, GatedDevice, type OwnOfMap } from './gated-device.js';
import type { DrivenDevice, NodeDevice, StoreStatus } from './node-device.js';
import { releaseVolume } from './releases.js';

/** Who has opened a device here. */
export interface NodeStoreHost extends Pick<NodeDevice, 'order'> {
  readonly keeper: DeviceKeeper;
  /** It has been closed, and uses its memory no more. */
  onEnd(): void;
}

export class NodeStore extends GatedDevice implements DrivenDevice {
  /** Volumes are on the first. */
  readonly shard = 0;
  readonly path: string;
  readonly store: SegmentStore;
  readonly checkpointer: Checkpointer;
  readonly recovery: RecoveryReport;
  readonly order: number;
  readonly formerLeaseMs: number;
  private readonly onEnd: () => void;
  private ended = false;

  constructor(path: string, opened: OpenedStore, { order, keeper, onEnd }: NodeStoreHost) {
    super(keeper, opened);
    this.formerLeaseMs = opened.formerLeaseMs;
    this.path = path;
    this.store = opened.store;
    this.checkpointer = opened.checkpointer;
    this.recovery = opened.recovery;
    this.order = order;
    this.onEnd = onEnd;
  }

  get number(): number {
    return this.order;
  }

  get superblock(): Superblock {
    return this.store.superblock;
  }

  get deviceId(): string {
    return this.store.superblock.deviceId;
  }

  get slotBytes(): number {
    return this.store.superblock.layout.slotBytes;
  }

  get replicas(): readonly (ReplicaMap | undefined)[] {
    return this.store.replicas;
  }

  replicasOf(volumeId: string): readonly ReplicaMap[] {
    const { replicas, volumeTable } = this.store;
    return volumeTable.indexesOf(volumeId).flatMap((page) => replicas[page] ?? []);
  }

  get failed(): boolean {
    return this.store.failed;
  }

  get incarnation(): number {
    return this.store.superblock.incarnation;
  }

  get freeSlots(): number {
    return this.store.freeSlots;
  }

  get hasRoom(): boolean {
    return this.store.volumeTable.hasRoom;
  }

  get replicasMax(): number {
    return this.store.replicas.length;
  }

  knows(volumeId: string): boolean {
    return this.store.volumeTable.indexesOf(volumeId).length > 0;
  }

  knowsGroup(volumeId: string, group: GroupIndex): boolean {
    return this.pageOf(volumeId, group) >= 0;
  }

  pageOf(volumeId: string, group: GroupIndex): ReplicaPage {
    return this.store.volumeTable.indexOf(volumeId, group);
  }

  isGone(volumeId: string): boolean {
    return this.store.volumeTable.isGone(volumeId);
  }

  keep(map: ReplicaMap, own: OwnOfMap): Promise<number> {
    return this.store.putReplica(map, own);
  }

  get outstanding(): number {
    return this.store.outstanding;
  }

  fence(): number {
    return this.store.fence();
  }

  ownOf(page: ReplicaPage): ReplicaOwn {
    return this.store.volumeTable.ownOf(page);
  }

  refresh(): Promise<void> {
    return Promise.resolve();
  }

  recordLease(leaseMs: number): Promise<number> {
    return this.checkpointer.raiseLease(leaseMs);
  }

  directMember(completions: CompletionPort, page: ReplicaPage): LocalMember {
    return new LocalMember(completions, this.store, page);
  }

  /** What serves the replica on a page to an engine on another thread; null if there is none on that page. */
  memberOn(completions: CompletionPort, page: ReplicaPage): LocalMember | null {
    return this.store.volumeTable.owners.list[page] === undefined ? null : this.directMember(completions, page);
  }

  release(completions: CompletionPort, volumeId: string, ending: () => boolean): Promise<void> {
    return releaseVolume({ completions, store: this.store, volumeId }, ending);
  }

  async end(): Promise<void> {
    const { store, checkpointer } = this;
    check(!this.ended, 'a device is closed twice', this.order);
    this.ended = true;
    await this.closeGates();
    // Once those of former lives have ended, the next life has to wait for its own only.
    const leaseMs = this.now() < this.silentUntilMs ? checkpointer.leaseMs : this.longestLeaseMs;
    const result = store.failed ? 0 : await checkpointer.close(leaseMs);
    // What ended later would go to whoever registers under the same number next.
    await store.quiet();
    store.dispose();
    this.onEnd();
    if (result < 0) throw deviceError(-result, `close ${this.path}`);
  }

  segmentsOf(volumeId: string, group: GroupIndex | null): number {
    const { volumeTable } = this.store;
    const pages = group === null ? volumeTable.indexesOf(volumeId) : [volumeTable.indexOf(volumeId, group)];
    const count = pages.reduce((sum, page) => sum + (page < 0 ? 0 : volumeTable.segmentsOf(page)), 0);
    check(count <= this.store.slots.usedSlots, 'a volume has more segments than are in use', count);
    return count;
  }

  status(): StoreStatus {
    const { path, shard, store, superblock, recovery } = this;
    return {
      path,
      shard,
      superblock,
      state: store.device.fence() === FENCE_ALL ? 'lost' : store.failed ? 'failed' : 'ok',
      usedSlots: store.slots.usedSlots,
      tableBytes: store.tables.heldBytes,
      recovery,
      counters: { ...store.counters },
      operations: store.device.operationCount,
    };
  }
}
