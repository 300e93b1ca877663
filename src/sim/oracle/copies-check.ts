/** Whether the copies of a replica group are equal, as their stores know them. That what lies there is that, `fsck` says. */

import { MemberWork } from '../../client/members/member-work.js';
import { Calls } from '../../core/calls.js';
import type { ReplicaPage } from '../../core/ids.js';
import { ENTRY_CHECKSUM, ENTRY_FLAGS, ENTRY_WORDS, isVacant } from '../../layout/block-entry.js';
import { NO_FLUSH } from '../../layout/flush-id.js';
import type { NodeStore } from '../../node/node-store.js';
import type { CompletionPort } from '../../ports/completion.js';

import { LIST_ALL } from '../../ports/segment-list.js';
import { LocalMember } from '../../store/local-member.js';

/** A copy: the store that has it, the process in which that is, and the page of the replica. */
export interface Copy {
  readonly completions: CompletionPort;
  readonly store: NodeStore;
  readonly page: ReplicaPage;
}

/** Of each chunk that is not all zeroes the checksums and flags of its blocks. */
async function contentOf({ completions, store, page }: Copy): Promise<Map<number, string>> {
  const calls = new Calls(completions);
  const work = new MemberWork(calls, () => NO_FLUSH);
  const member = new LocalMember(completions, store.store, page);
  const chunks: number[] = [];
  await work.list(member, LIST_ALL, null, (chunk) => chunks.push(chunk));
  const content = new Map<number, string>();
  for (const chunk of chunks) {
    const entries = await work.entries(member, chunk);
    const blocks: string[] = [];
    for (let word = 0; word < entries.length; word += ENTRY_WORDS) {
      const [checksum, flags] = [entries[word + ENTRY_CHECKSUM], entries[word + ENTRY_FLAGS]];
      blocks.push(isVacant(entries, word) ? 'zero' : `${checksum.toString(16)}/${flags}`);
    }
    if (blocks.some((block) => block !== 'zero')) content.set(chunk, blocks.join(' '));
  }
  member.close();
  calls.close();
  return content;
}

/** What differs between the copies of a group, as text for each chunk. Nobody writes to them. */
export async function differences(copies: readonly Copy[]): Promise<string[]> {
  const contents: Map<number, string>[] = [];
  for (const copy of copies) contents.push(await contentOf(copy));
  const chunks = new Set(contents.flatMap((content) => [...content.keys()]));
  const found: string[] = [];
  for (const chunk of [...chunks].sort((one, other) => one - other)) {
    const texts = contents.map((content) => content.get(chunk) ?? 'zeroes');
    if (new Set(texts).size === 1) continue;
    const told = copies.map(({ store }, at) => `${store.deviceId.slice(0, 4)}: ${texts[at]}`);
    found.push(`chunk ${chunk} differs: ${told.join('; ')}`);
  }
  return found;
}
