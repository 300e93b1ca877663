/** Batches of a store of a manager, by their numbers. */

import type { MetaBatch } from '#strake/ports/meta-store.js';

/** What batch `next` changes: a record of its own, one that all batches change, and one of those before is taken away. */
export function batchOf(next: number): MetaBatch {
  return {
    ...{ expected: next - 1, next },
    changes: [
      { key: `batch/${next}`, value: JSON.stringify({ next, text: 'x'.repeat((next * 131) % 3000) }) },
      { key: 'last', value: String(next) },
      ...(next > 20 ? [{ key: `batch/${next - 20}`, value: null }] : []),
    ],
  };
}
