/** A bench of which a row cannot be measured. */

import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { markdownReport } from '#strake/bench/report.js';
import { ROWS } from '#strake/bench/rows.js';
import { type BenchOptions, runBench } from '#strake/bench/run.js';
import { check, run } from '../support/check.js';
import { scratchFolder } from '../support/scratch.js';

function benchOf(onFailure: BenchOptions['onFailure']) {
  const folder = scratchFolder();
  return runBench({
    rows: ROWS.filter(({ id }) => id === 'device.randread.4k.qd1' || id === 'null.randread.4k.qd1'),
    probes: [{ group: 'other', sample: async () => [{ id: 'other', unit: 'seconds', strake: 2 }] }],
    files: [join(folder, 'missing.img')],
    sizeBytes: 1 << 20,
    rounds: 1,
    seconds: 0.1,
    folder,
    parties: ['strake'],
    onProgress: () => {},
    onFailure,
  });
}

check('a row that fails is told of, and the others are measured', async () => {
  const result = await benchOf('goOn');
  assert.equal(
    result.failed.map(({ id }) => id),
    ['device.randread.4k.qd1', 'null.randread.4k.qd1'],
  );
  assert.match(result.failed[0].error, 'missing.img');
  assert.equal(
    result.rows.map(({ id, strake }) => [id, strake]),
    [['other', 2]],
  );
  assert.match(markdownReport(result, []), 'not measured: device.randread.4k.qd1, null.randread.4k.qd1.');
});

check('where failures are not wanted the first one ends it', async () => {
  const error = await benchOf('giveUp').catch((reason: Error) => reason);
  assert.instance(error, Error);
  assert.match((error as Error).message, 'missing.img');
});

run();
