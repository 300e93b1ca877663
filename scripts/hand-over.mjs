/** Runs another program of the checkout in place of this one: what it prints, its exit code, and the signals that it gets. */

import { spawn } from 'node:child_process';
import { root } from './setup.mjs';

/** TypeScript is made runnable by a loader. Signals are passed on, and this process waits until the other has cleaned up. */
export function handOver(program, args) {
  const child = spawn(process.execPath, ['--import', 'tsx', program, ...args], { cwd: root, stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGQUIT']) process.on(signal, () => child.kill(signal));
  // Ctrl-C has reached both already, as they are of one group. From elsewhere it reaches this one only.
  process.on('SIGINT', () => {
    if (!process.stdin.isTTY) child.kill('SIGINT');
  });
  child.on('close', (code) => {
    process.exitCode = code ?? 1;
  });
}
