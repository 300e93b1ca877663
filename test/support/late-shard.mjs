/**
 * The program of a shard that does not start. Of its threads the one that is asked to start loads it at once, the others take their
 * time. They leave files in the folder STRAKE_TEST_THREADS.
 */

import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { threadId } from 'node:worker_threads';

const { STRAKE_TEST_THREADS: folder, STRAKE_TEST_SHARDS: shards } = process.env;
const note = (what) => writeFileSync(join(folder, `${what}-${threadId}`), '');
const threads = (what) =>
  readdirSync(folder).flatMap((name) => (name.startsWith(what) ? [Number(name.slice(what.length + 1))] : []));

note('begun');
while (threads('begun').length < Number(shards)) await pause(1);
// A pool gives its first task to its first thread.
if (threadId > Math.min(...threads('begun'))) {
  while (threads('failed').length === 0) await pause(1);
  await pause(100);
}
note('loaded');

export default function start() {
  note('failed');
  throw new Error('it does not start');
}
