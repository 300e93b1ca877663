/** Whether the slots that volumes take are those that they need. */

import { MemberWork } from '../../client/members/member-work.js';
import { Calls } from '../../core/calls.js';
import { ENTRY_FLAGS, ENTRY_WORDS, isVacant } from '../../layout/block-entry.js';
import { NO_FLUSH } from '../../layout/flush-id.js';
import type { CompletionPort } from '../../ports/completion.js';
import { LIST_ALL } from '../../ports/segment-list.js';
import type { StorageNode } from '../../volumes/storage-node.js';

/**
 * Segments of a volume that have been discarded and still have a slot on a current member, as text for each. The volume is idle,
 * and each of its groups complete. Slots that were never written to do not count: a write that failed may leave such.
 */
export async function discardedWithSlots(
  completions: CompletionPort,
  node: StorageNode,
  name: string,
): Promise<string[]> {
  const found: string[] = [];
  const { ownEngine: engine, replicas } = node.volume(name);
  if (engine === null) throw new Error(`volume ${name} is not started`);
  await engine.releaseDiscarded();
  const calls = new Calls(completions);
  const work = new MemberWork(calls, () => NO_FLUSH);
  const current = engine.record.groups.flat().map(({ deviceId }) => {
    const member = replicas.findLast((one) => one.deviceId === deviceId)?.member;
    if (member === undefined) throw new Error(`device ${deviceId} is not there`);
    return member;
  });
  for (const member of current) {
    const stripes: number[] = [];
    await work.list(member, LIST_ALL, null, (stripe) => stripes.push(stripe));
    for (const stripe of stripes) {
      const entries = await work.entries(member, stripe);
      let vacant = true;
      let discarded = false;
      for (let word = 0; word < entries.length; word += ENTRY_WORDS) {
        if (!isVacant(entries, word)) vacant = false;
        else if (entries[word + ENTRY_FLAGS] !== 0) discarded = true;
      }
      if (vacant && discarded) found.push(`segment ${stripe} on ${member.deviceId.slice(0, 4)}`);
    }
  }
  calls.close();
  return found;
}
