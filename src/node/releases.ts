/** What a store has of deleted volumes is given back. */

import { Calls } from '../core/calls.js';
import { check } from '../core/check.js';
import { deviceError } from '../core/errno.js';
import type { ReplicaPage } from '../core/ids.js';
import type { CompletionPort } from '../ports/completion.js';
import type { ChunkIndex } from '../ports/ids.js';
import { LIST_ALL, SegmentList } from '../ports/segment-list.js';
import type { SegmentMember } from '../ports/segment-member.js';
import { REQUEST_RELEASE, SegmentRequest } from '../ports/segment-request.js';
import { LocalMember } from '../store/local-member.js';
import type { SegmentStore } from '../store/segment-store.js';

/** Segments that are given back at the same time. */
const RELEASES = 256;

/** A volume of which a store gives back what it has. */
export interface Released {
  readonly completions: CompletionPort;
  readonly store: SegmentStore;
  readonly volumeId: string;
}

/** See `NodeDevice.release`. */
export async function releaseVolume(released: Released, ending: () => boolean): Promise<void> {
  const { store, volumeId } = released;
  const { replicas, volumeTable } = store;
  for (const page of volumeTable.indexesOf(volumeId)) {
    const old = volumeTable.legacy.has(page);
    // By now the page may be another volume's.
    if (!old && replicas[page]?.volume.deleted !== true) continue;
    await releasePage(released, page, ending);
    // A page in the form of version 1 cannot say that the volume is deleted, and nobody is served from it.
    if (old && volumeTable.segmentsOf(page) === 0) await store.forgetReplica(page);
  }
}

/** Gives back all segments of a page. */
async function releasePage(
  { completions, store, volumeId }: Released,
  page: ReplicaPage,
  ending: () => boolean,
): Promise<void> {
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
