/** What a fault is that lets an assertion fire, and who meets it if nobody else is named. */

import { type Edit, type Judge, sim } from './mutant.js';

export interface AssertionMutant {
  /** What the assertion says. */
  readonly says: string;
  readonly edits: readonly Edit[];
  /** Asked in this order, until the assertion fires. */
  readonly judges: readonly Judge[];
}

export const ANY = sim('all', 40);
export const CALM = sim([], 6);

/** A change of one place, met by the first seeds of the simulator if nobody else is named. */
export function one(
  says: string,
  file: string,
  find: string,
  replace: string,
  ...judges: readonly Judge[]
): AssertionMutant {
  return { says, edits: [{ file, find, replace }], judges: judges.length === 0 ? [CALM, ANY] : judges };
}
