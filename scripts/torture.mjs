/**
 * `npm run torture`: real nodes under every fault that this machine can make, for some minutes; see `test/torture/run.ts`.
 * Options: --minutes N, --seed S, --only FAULT,FAULT..., --worlds N, --cycles N (of each world), --lanes N (worlds at a time),
 * --sealed (content whose checksums are all the same).
 */

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root, setup } from './setup.mjs';

setup();
const program = join(root, 'test', 'torture', 'run.ts');
const child = spawn(process.execPath, ['--import', 'tsx', program, ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
});
// Ctrl-C reaches both: this one waits until the other has cleaned up.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.on('close', (code) => {
  process.exitCode = code ?? 1;
});
