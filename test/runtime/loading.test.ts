/** Threads of shards that are still loading their program. */

import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as assert from 'uvu/assert';
import { ShardPool } from '#strake/worker/shard-pool.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { project, scratchFolder } from '../support/scratch.js';

const SHARDS = 4;

check('no thread is terminated before it has loaded its program, though another one has failed', async () => {
  const folder = join(scratchFolder(), 'threads');
  mkdirSync(folder);
  process.env.STRAKE_TEST_THREADS = folder;
  process.env.STRAKE_TEST_SHARDS = String(SHARDS);
  const started = ShardPool.start({
    kind: 'threads',
    shards: SHARDS,
    ofNode: false,
    storesMax: 0,
    storesExpected: 0,
    tablesBytes: 0,
    network: false,
    program: pathToFileURL(join(project, 'test', 'support', 'late-shard.mjs')),
    onReplaced: () => {},
    onLost: () => {},
    onFenced: () => {},
    onEvent: () => {},
  });
  const error = await failure('WORKER_DIED', started);
  assert.match(error.message, 'it does not start');
  const loaded = readdirSync(folder).filter((name) => name.startsWith('loaded'));
  assert.is(loaded.length, SHARDS);
});

run();
