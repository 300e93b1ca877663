/**
 * Which segments may not be the same on members of a group: what their lists tell, without a look at any block.
 *
 * Members tell what is in doubt and what was recorded from some flush on. Of what lies below they tell digests, one for each
 * `DIGEST_CHUNKS`. Only where digests differ every segment of the range is listed, and those of other stamps, or that not every
 * member has, are found. So a list is as long as what may differ, and not as what there is.
 *
 * Clients may write meanwhile, to all members. So digests come first: whatever is modified after them is recorded under a later
 * flush than any that is asked for, and is told by the lists. The other way round a segment that differs could be modified
 * behind the list and before its digests, which agree then, though other blocks of it still differ.
 */

import { type FlushId, isBefore } from '../../layout/flush-id.js';
import { isInDoubt } from '../../layout/request-checks.js';
import { DIGEST_CHUNKS } from '../../ports/limits.js';
import { LIST_DIGESTS, LIST_SINCE } from '../../ports/segment-list.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import type { MemberWork } from '../members/member-work.js';

/** No modification is recorded under it, or later. */
export const AFTER_ALL: FlushId = {
  generation: Number.MAX_SAFE_INTEGER,
  flushNumber: Number.MAX_SAFE_INTEGER,
};

/**
 * Segments that these members may not have alike, and whether any of them is in doubt about it: what is in doubt, what was
 * recorded at `since` or later, and what they have not all recorded under the same flush. Rejects with a `StrakeError`.
 */
export async function candidates(
  work: MemberWork,
  members: readonly SegmentMember[],
  since: FlushId,
): Promise<Map<number, boolean>> {
  const found = new Map<number, boolean>();
  const ranges = await differingRanges(work, members);
  for (const member of members) {
    await work.list(member, LIST_SINCE, since, (stripe, _generation, _flushNumber, state) => {
      found.set(stripe, found.get(stripe) === true || isInDoubt(state));
    });
  }
  for (const first of ranges) {
    for (const stripe of await differingSegments(work, members, first, since)) {
      if (!found.has(stripe)) found.set(stripe, false);
    }
  }
  return found;
}

/** The first segments of the ranges of which the members' digests differ. */
async function differingRanges(work: MemberWork, members: readonly SegmentMember[]): Promise<number[]> {
  // One member alone agrees with itself.
  if (members.length < 2) return [];
  const digests = new Map<number, { readonly high: number; readonly low: number; agreed: number }>();
  for (const member of members) {
    await work.list(member, LIST_DIGESTS, null, (first, high, low) => {
      const known = digests.get(first);
      if (known === undefined) digests.set(first, { high, low, agreed: 1 });
      else if (known.high === high && known.low === low) known.agreed += 1;
    });
  }
  const differing = [...digests].filter(([, { agreed }]) => agreed < members.length);
  return differing.map(([first]) => first).sort((one, other) => one - other);
}

/** Segments of one range that the members have not all recorded under the same flush, or of which one is at `since` or later. */
async function differingSegments(
  work: MemberWork,
  members: readonly SegmentMember[],
  first: number,
  since: FlushId,
): Promise<number[]> {
  const segments = new Map<number, FlushId & { agreed: number }>();
  for (const member of members) {
    await work.listRange(member, first, first + DIGEST_CHUNKS, (stripe, generation, flushNumber) => {
      const known = segments.get(stripe);
      if (known === undefined) segments.set(stripe, { generation, flushNumber, agreed: 1 });
      else if (known.generation === generation && known.flushNumber === flushNumber) known.agreed += 1;
    });
  }
  const differs = (segment: FlushId & { agreed: number }) =>
    segment.agreed < members.length || !isBefore(segment, since);
  return [...segments].filter(([, segment]) => differs(segment)).map(([stripe]) => stripe);
}
