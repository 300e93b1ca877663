/**
 * `npm run torture`: real nodes under every fault that this machine can make, for some minutes; see `test/torture/run.ts`.
 * Options: --minutes N, --seed S, --only FAULT,FAULT..., --worlds N, --cycles N (of each world), --lanes N (worlds at a time),
 * --sealed (content whose checksums are all the same).
 */

import { join } from 'node:path';
import { handOver } from './hand-over.mjs';
import { root, setup } from './setup.mjs';

setup();
handOver(join(root, 'test', 'torture', 'run.ts'), process.argv.slice(2));
