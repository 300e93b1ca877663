/**
 * A replica: the part of a volume that one device holds as a member of one group. It gives the volume's engine the member that
 * serves the data, and keeps on the device what that has served.
 */

import { Calls } from '../core/calls.js';
import { check } from '../core/check.js';
import { deviceError } from '../core/errno.js';
import type { ReplicaPage } from '../core/ids.js';
import { replicaOf } from '../layout/replica-map.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { CompletionPort } from '../ports/completion.js';
import type { ChunkIndex, GroupIndex } from '../ports/ids.js';
import { LIST_ALL, SegmentList } from '../ports/segment-list.js';
import type { SegmentMember } from '../ports/segment-member.js';
import { REQUEST_RELEASE, SegmentRequest } from '../ports/segment-request.js';
import { LocalMember } from '../store/local-member.js';
import type { NodeStore } from './node-store.js';

/** Segments that are given back at the same time. */
const RELEASES = 256;

export class Replica {
  readonly group: GroupIndex;
  readonly member: LocalMember;
  private readonly device: NodeStore;
  private readonly page: ReplicaPage;
  private isOpen = true;

  private constructor(completions: CompletionPort, device: NodeStore, page: ReplicaPage, group: GroupIndex) {
    check(page >= 0, 'a replica is of a group that its device does not know', group);
    this.device = device;
    this.page = page;
    this.group = group;
    this.member = new LocalMember(completions, device.store, page);
  }

  get deviceId(): string {
    return this.device.deviceId;
  }

  /** What a device that knows the group has of it; null if it does not know it, or takes no more writes. */
  static on(
    completions: CompletionPort,
    device: NodeStore | undefined,
    map: VolumeMap,
    group: GroupIndex,
  ): Replica | null {
    if (device === undefined || device.failed) return null;
    const page = device.store.volumeTable.indexOf(map.id, group);
    return page < 0 ? null : new Replica(completions, device, page, group);
  }

  /** Of a device that may not know the group yet. Rejects with a `StrakeError` if it cannot store the map. */
  static async make(
    completions: CompletionPort,
    device: NodeStore,
    map: VolumeMap,
    group: GroupIndex,
  ): Promise<Replica> {
    const page = await device.putReplica(replicaOf(map, group));
    if (page < 0) throw deviceError(-page, `store the map of ${map.name} on ${device.path}`);
    return new Replica(completions, device, page, group);
  }

  /**
   * Makes durable that the generation of its map is served, all copies being equal before. A device that does not take that
   * takes nothing later either, and so is noticed.
   */
  async noteServed(): Promise<void> {
    check(this.isOpen, 'a replica is served that is closed', this.group);
    const map = this.device.store.replicas[this.page];
    check(map === undefined || map.group === this.group, 'a replica has the map of another group', this.group);
    if (map !== undefined) await this.device.putReplica(map, { servedGeneration: map.generation });
  }

  /** Gives up what serves the member; nothing may be in flight. */
  close(): void {
    check(this.isOpen, 'a replica is closed twice', this.group);
    this.isOpen = false;
    this.member.close();
  }

  /**
   * Gives back what a device has of a deleted volume. What is left when `ending` says that the node is about to be closed is
   * given back when the device is opened the next time.
   */
  static async release(
    completions: CompletionPort,
    device: NodeStore,
    volumeId: string,
    ending: () => boolean,
  ): Promise<void> {
    const { replicas, volumeTable } = device.store;
    for (const page of volumeTable.indexesOf(volumeId)) {
      const old = volumeTable.legacy.has(page);
      // By now the page may be another volume's.
      if (!old && replicas[page]?.volume.deleted !== true) continue;
      await releasePage({ completions, device, volumeId, page }, ending);
      // A page in the form of version 1 cannot say that the volume is deleted, and nobody is served from it.
      if (old && volumeTable.segmentsOf(page) === 0) await device.store.forgetReplica(page);
    }
  }
}

/** A page whose segments are given back. */
interface Released {
  readonly completions: CompletionPort;
  readonly device: NodeStore;
  readonly volumeId: string;
  readonly page: ReplicaPage;
}

/** Gives back all segments of a page. */
async function releasePage({ completions, device, volumeId, page }: Released, ending: () => boolean): Promise<void> {
  const { store } = device;
  if (store.volumeTable.segmentsOf(page) === 0) return;
  check(store.volumeTable.owners.list[page]?.volumeId === volumeId, 'segments are given back of another volume', page);
  const member = new LocalMember(completions, store, page);
  const calls = new Calls(completions);
  try {
    await releaseAll(calls, member, ending);
    await store.flushed();
  } finally {
    member.close();
    calls.close();
  }
}

/** Gives back all slots of a member, page by page of its list. Rejects with a `StrakeError`. */
export async function releaseAll(calls: Calls, member: SegmentMember, ending: () => boolean): Promise<void> {
  const list = new SegmentList().begin(LIST_ALL);
  const requests = Array.from({ length: RELEASES }, () => new SegmentRequest());
  const release = async (request: SegmentRequest, chunk: ChunkIndex) => {
    const result = await calls.call((token) => member.submit(request.begin(REQUEST_RELEASE, chunk, token)));
    if (result < 0) throw deviceError(-result, `giving back segment ${chunk}`);
  };
  do {
    const listed = await calls.call((token) => {
      list.token = token;
      member.list(list);
    });
    if (listed < 0) throw deviceError(-listed, 'listing the segments of a deleted volume');
    for (let at = 0; at < list.count && !ending(); at += RELEASES) {
      const chunks = [...list.chunks.subarray(at, Math.min(at + RELEASES, list.count))];
      await Promise.all(chunks.map((chunk, index) => release(requests[index], chunk)));
    }
    check(list.next < 0 || list.next > list.cursor, 'a list of what is to be given back does not go on', list.next);
    list.cursor = list.next;
  } while (list.next >= 0 && !ending());
}
