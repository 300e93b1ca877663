/**
 * Which replica an entry of the slot table belongs to. Entries name a volume by its id, and one of its groups; in memory they are
 * kept with the number of the replica's page. An entry from before groups were told names none: it belongs to the only replica
 * of its volume.
 */

import { check } from '../../core/check.js';
import type { ReplicaPage } from '../../core/ids.js';
import { getId, NO_ID, putId, viewOf } from '../../layout/fields.js';
import type { SlotOwner } from './slot-page.js';

const NONE = -1;
const ID_WORDS = 4;

export class SlotOwners {
  /** By number of the page; undefined where there is none. */
  readonly list: (SlotOwner | undefined)[];
  private readonly words: Uint32Array;
  private readonly pagesOf = new Map<string, ReplicaPage[]>();
  /** Neighbouring slots mostly belong to the same replica: the one that was found last, and for which group. */
  private last = NONE;
  private lastGroup = 0;

  /** `pages`: of the volumes region. */
  constructor(pages: number) {
    this.list = new Array<SlotOwner | undefined>(pages).fill(undefined);
    this.words = new Uint32Array(pages * ID_WORDS);
  }

  /** Gives a page to a replica, or to nobody. */
  set(page: ReplicaPage, owner: SlotOwner | undefined): void {
    check(page >= 0 && page < this.list.length, 'a replica gets a page that does not exist', page);
    const former = this.list[page];
    if (former !== undefined) {
      const pages = this.pages(former.volumeId).filter((one) => one !== page);
      this.pagesOf.set(former.volumeId, pages);
    }
    this.list[page] = owner;
    this.last = NONE;
    const id = owner?.volumeId ?? NO_ID;
    putId(viewOf(new Uint8Array(this.words.buffer, 4 * ID_WORDS * page, 4 * ID_WORDS)), 0, id);
    if (owner === undefined) return;
    this.pagesOf.set(id, [...this.pages(id), page]);
  }

  /** The pages that a volume has. */
  pages(volumeId: string): readonly ReplicaPage[] {
    return this.pagesOf.get(volumeId) ?? [];
  }

  /** The page of a replica, `group` being its number and 1, or 0 for the only one; -1 if there is none, or are several. */
  find(volumeId: string, group: number): ReplicaPage {
    const pages = this.pages(volumeId);
    if (group === 0) return pages.length === 1 ? pages[0] : NONE;
    return pages.find((page) => this.list[page]?.group === group) ?? NONE;
  }

  /** The same, of the volume whose id is in four words from `word` on. */
  findWords(words: Uint32Array, word: number, group: number): ReplicaPage {
    if (this.last !== NONE && this.lastGroup === group && this.isVolume(this.last, words, word)) return this.last;
    const bytes = new DataView(words.buffer, words.byteOffset + 4 * word, 4 * ID_WORDS);
    this.last = this.find(getId(bytes, 0), group);
    this.lastGroup = group;
    check(
      this.last === NONE || this.isVolume(this.last, words, word),
      'a page is found that is of another volume',
      this.last,
    );
    return this.last;
  }

  private isVolume(page: ReplicaPage, words: Uint32Array, word: number): boolean {
    for (let at = 0; at < ID_WORDS; at += 1) if (words[word + at] !== this.words[ID_WORDS * page + at]) return false;
    return true;
  }
}
