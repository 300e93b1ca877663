/**
 * A replica: the part of a volume that one device holds as a member of one group. It gives the volume's engine the member that
 * serves the data, and knows the map that the device has stored of it.
 */

import { Calls } from '../core/calls.js';
import { check } from '../core/check.js';
import { deviceError } from '../core/errno.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { CompletionPort } from '../ports/completion.js';
import { LIST_ALL, SegmentList } from '../ports/segment-list.js';
import { REQUEST_RELEASE, SegmentRequest } from '../ports/segment-request.js';
import { LocalMember } from '../store/local-member.js';
import type { GroupShare, NodeStore } from './node-store.js';

/** Segments that are given back at the same time. */
const RELEASES = 256;

export class Replica {
  readonly deviceId: string;
  readonly group: number;
  readonly member: LocalMember;
  private isOpen = true;

  private constructor(completions: CompletionPort, { store, deviceId }: NodeStore, index: number, share?: GroupShare) {
    check(share === undefined || share.group < share.groups, 'a replica is of a group that there is not', index);
    check(index >= 0, 'a replica is of a volume that its device does not know', index);
    this.deviceId = deviceId;
    this.group = share?.group ?? 0;
    this.member = new LocalMember(completions, store, index, share);
  }

  /** What a device that knows the volume has of a group; null if it does not know it, or takes no more writes. */
  static on(completions: CompletionPort, device: NodeStore | undefined, map: VolumeMap, group: number): Replica | null {
    if (device === undefined || device.failed) return null;
    const index = device.store.volumeTable.indexOf(map.id);
    return index < 0 ? null : new Replica(completions, device, index, { group, groups: map.groups.length });
  }

  /** Of a device that may not know the volume yet. Rejects with a `StrakeError` if it cannot store the map. */
  static async make(completions: CompletionPort, device: NodeStore, map: VolumeMap, group: number): Promise<Replica> {
    const index = await device.putMap(map);
    if (index < 0) throw deviceError(-index, `store the map of ${map.name} on ${device.path}`);
    return new Replica(completions, device, index, { group, groups: map.groups.length });
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
    const { store } = device;
    const index = store.volumeTable.indexOf(volumeId);
    // By now the page may be another volume's.
    if (index < 0 || store.volumes[index]?.deleted !== true || store.volumeTable.segmentsOf(index) === 0) return;
    const { member } = new Replica(completions, device, index);
    const calls = new Calls(completions);
    try {
      check(store.volumes[index]?.id === volumeId, 'segments are given back of another volume', index);
      await releaseAll(calls, member, ending);
      await store.flushed();
    } finally {
      member.close();
      calls.close();
    }
  }
}

/** Gives back all slots of a member, page by page of its list. Rejects with a `StrakeError`. */
async function releaseAll(calls: Calls, member: LocalMember, ending: () => boolean): Promise<void> {
  const list = new SegmentList().begin(LIST_ALL);
  const requests = Array.from({ length: RELEASES }, () => new SegmentRequest());
  const release = async (request: SegmentRequest, chunk: number) => {
    const result = await calls.call((token) => member.submit(request.begin(REQUEST_RELEASE, chunk, token)));
    if (result < 0) throw deviceError(-result, `giving back segment ${chunk}`);
  };
  do {
    await calls.call((token) => {
      list.token = token;
      member.list(list);
    });
    for (let at = 0; at < list.count && !ending(); at += RELEASES) {
      const chunks = [...list.chunks.subarray(at, Math.min(at + RELEASES, list.count))];
      await Promise.all(chunks.map((chunk, index) => release(requests[index], chunk)));
    }
    check(list.next < 0 || list.next > list.cursor, 'a list of what is to be given back does not go on', list.next);
    list.cursor = list.next;
  } while (list.next >= 0 && !ending());
}
