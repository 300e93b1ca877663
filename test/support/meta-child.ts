/**
 * A process that commits batches to the store in the directory that it is given, for as long as it lives, and prints the sequence
 * of each as a line when it is durable.
 */

import { writeSync } from 'node:fs';
import { LmdbStore } from '#strake/meta/lmdb-store.js';
import { batchOf } from './meta-batches.js';

const store = await LmdbStore.open(process.argv[2]);
let { sequence } = await store.load();
for (;;) {
  await store.commit(batchOf(sequence + 1));
  sequence += 1;
  writeSync(1, `${sequence}\n`);
}
