/** Rows that cannot be measured on this machine, and why. */

import { whyNoLoop } from './loop-device.js';
import type { Row, Target } from './rows.js';
import { whyNoVeth } from './veth.js';

const NEEDS: Partial<Record<Target, () => string | null>> = { loop: whyNoLoop, 'nbd-tcp': whyNoVeth };

/** Which of the rows can be measured here, and a line of text for each kind that cannot. */
export function available(rows: readonly Row[]): {
  readonly rows: readonly Row[];
  readonly leftOut: readonly string[];
} {
  const reasons = new Map([...new Set(rows.map(({ target }) => target))].map((of) => [of, NEEDS[of]?.() ?? null]));
  const leftOut = [...reasons].flatMap(([target, why]) => (why === null ? [] : [`rows ${target}.*: ${why}`]));
  return { rows: rows.filter(({ target }) => reasons.get(target) === null), leftOut };
}
