/** Goes through a list with a bounded number of pieces of work at a time. */

import { allEnded } from './all-ended.js';
import { check } from './check.js';

/** Called before a lane takes an item: `null` if it may, or what it waits for before it asks again. Throws to end all. */
export type MayTake = (lane: number) => Promise<void> | null;

const ALWAYS: MayTake = () => null;

/**
 * Runs `work` on each item, in the list's order, at most `lanes` of them at a time. Each lane is numbered, from 0 on: what
 * belongs to a number serves one item at a time.
 *
 * Once `work` or `mayTake` fails, no lane takes another item. Rejects then, and only when all lanes have ended: whoever gives up
 * may close what they work on. Of several errors that of the lowest lane is told. The list is not to change meanwhile.
 *
 * For control work: each item costs a promise.
 */
export async function inLanes<T>(
  lanes: number,
  items: readonly T[],
  work: (item: T, lane: number) => Promise<void>,
  mayTake: MayTake = ALWAYS,
): Promise<void> {
  check(lanes > 0, 'a list is gone through in no lane', lanes);
  let next = 0;
  let failed = false;
  const run = async (lane: number): Promise<void> => {
    try {
      while (next < items.length && !failed) {
        const pause = mayTake(lane);
        if (pause !== null) {
          await pause;
          continue;
        }
        const item = items[next];
        next += 1;
        await work(item, lane);
      }
    } catch (error) {
      failed = true;
      throw error;
    }
  };
  // Lanes beyond the items would only end; where a lane may pause, another one may take what it leaves.
  const used = mayTake === ALWAYS ? Math.max(1, Math.min(lanes, items.length)) : lanes;
  await allEnded(Array.from({ length: used }, (_, lane) => run(lane)));
  check(next === items.length, 'a list was not gone through to its end', items.length - next);
}
