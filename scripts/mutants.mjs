/**
 * `npm run mutants`: puts deliberate faults into copies of the compiled code, one at a time, and sees whether the simulator
 * or the tests notice (`test/mutants`). The tree itself is not touched.
 *
 * Options: --only NAME[,NAME], --minutes-each N (default 4: time for the judges of one mutant), --tests brief|full (the judges
 * are the files of `npm test`, or of `npm run test:deep`), --assertions (lets 40 assertions fire that `--seed N`, default 1, draws:
 * `scripts/assertions.mjs`; --only is a part of what they say then).
 *
 * The last line is 'N of N mutants caught'. The exit code is 1 if one was not caught, and 2 if the hunt itself failed.
 */

import { join } from 'node:path';
import { root, setup } from './setup.mjs';

try {
  setup();
  const { register } = await import('tsx/esm/api');
  register();
  const { main } = await import(join(root, 'test', 'mutants', 'main.ts'));
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(`mutants: ${error.message}`);
  process.exitCode = 2;
}
