/** Programs with a time limit, of which nothing stays behind. */

import { spawn } from 'node:child_process';
import { root } from '../setup.mjs';

/** How long what a program has left behind, outside of its group, may keep its output open. */
const LEFT_MS = 5_000;

/** Programs that run. */
const groups = new Set();

function endGroup(pid) {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nothing of the group is left.
  }
}

// They have groups of their own, so a signal to this process does not reach them.
process.on('exit', () => groups.forEach(endGroup));
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
]) {
  process.on(signal, () => process.exit(code));
}

/**
 * Runs a program in a process group of its own, which ends with it, or after `limitMs`. What it prints is kept until the end,
 * so that programs that run side by side do not mix their output; of one whose errors are `'inherit'`, they are shown as they
 * come. `env` is added to the environment; undefined takes away.
 */
export function run(program, args, limitMs, env = {}, errors = 'pipe') {
  return new Promise((resolve) => {
    const started = performance.now();
    const child = spawn(program, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', errors],
      detached: true,
    });
    let output = '';
    const streams = [child.stdout, child.stderr].filter((stream) => stream !== null);
    for (const stream of streams) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        output += text;
      });
    }
    const end = () => {
      // Without a process there is no group.
      if (child.pid !== undefined) endGroup(child.pid);
    };
    if (child.pid !== undefined) groups.add(child.pid);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      end();
    }, limitMs);
    child.on('error', (error) => {
      output += error.message;
    });
    let left;
    child.on('exit', () => {
      end();
      groups.delete(child.pid);
      left = setTimeout(() => {
        for (const stream of streams) stream.destroy();
      }, LEFT_MS);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      clearTimeout(left);
      if (late) output += `\nended after ${limitMs / 1000} s without an end in sight`;
      resolve({ code, signal, output, seconds: (performance.now() - started) / 1000 });
    });
  });
}
