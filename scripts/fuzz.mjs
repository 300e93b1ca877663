/** `npm run fuzz`: sets the checkout up, and hands over to test/fuzz/main.ts; `docs/testing.md` has its options. */

import { join } from 'node:path';
import { handOver } from './hand-over.mjs';
import { root, setup } from './setup.mjs';

setup();
handOver(join(root, 'test', 'fuzz', 'main.ts'), process.argv.slice(2));
