/** `npm run fuzz`: sets the checkout up, and hands over to test/fuzz/main.ts; `docs/testing.md` has its options. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, setup } from './setup.mjs';

setup();
const main = join(root, 'test', 'fuzz', 'main.ts');
const { status } = spawnSync(process.execPath, ['--import', 'tsx', main, ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
});
process.exitCode = status ?? 1;
