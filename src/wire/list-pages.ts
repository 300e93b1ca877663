/** Lists that may be longer than one answer: page by page, in the order of their ids. */

import { check } from '../core/check.js';
import { LIST_PAGE_BYTES } from './limits.js';

export interface ListPage<T> {
  readonly list: readonly T[];
  /** Whether there are others behind the last of these. */
  readonly more: boolean;
}

/** What of a list comes behind an id, as much as goes into one answer: one at least, if there is one. */
export function pageAfter<T>(all: readonly T[], idOf: (one: T) => string, after = ''): ListPage<T> {
  const rest = all.filter((one) => idOf(one) > after).sort((one, other) => (idOf(one) < idOf(other) ? -1 : 1));
  let bytes = 0;
  let count = 0;
  while (count < rest.length && bytes < LIST_PAGE_BYTES) {
    bytes += JSON.stringify(rest[count]).length;
    count += 1;
  }
  return { list: rest.slice(0, count), more: count < rest.length };
}

/** The whole list, as it is asked for page by page. What comes and goes meanwhile may be in it or not. */
export async function allPages<T>(
  ask: (after: string | undefined) => Promise<ListPage<T>>,
  idOf: (one: T) => string,
): Promise<readonly T[]> {
  const all: T[] = [];
  for (let after: string | undefined; ; ) {
    const { list, more } = await ask(after);
    all.push(...list);
    const last = list.at(-1);
    if (!more || last === undefined) return all;
    const next = idOf(last);
    check(after === undefined || next > after, 'a list goes back to what was told', all.length);
    after = next;
  }
}
