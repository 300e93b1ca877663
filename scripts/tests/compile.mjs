/**
 * Compiles all tests at once, so that not each of a hundred processes, and each thread that it starts, loads a compiler of its own.
 *
 * What is compiled lies in the project, in which Node.js finds `#strake/` and packages as it does from `test`. Each run of the
 * tests has a folder of its own, made anew: two runs do not meet, and nothing stale is run.
 */

import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { root } from '../setup.mjs';
import { run } from './process.mjs';

const COMPILED = join(root, 'target', 'compiled-tests');
const LIMIT_MS = 120_000;

function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code !== 'ESRCH';
  }
}

/** Folders are named by the processes that have made them. One that was killed has left its own. */
function removeLeft() {
  for (const name of existsSync(COMPILED) ? readdirSync(COMPILED) : []) {
    if (!isRunning(Number(name))) rmSync(join(COMPILED, name), { recursive: true, force: true });
  }
}

/** What is imported, but not compiled. Other programs and data are found in `test` itself, by the place of the project. */
function copyModules(folder) {
  for (const name of readdirSync(join(root, 'test'), { recursive: true })) {
    if (!/\.mjs$/.test(name)) continue;
    mkdirSync(join(folder, 'test', dirname(name)), { recursive: true });
    cpSync(join(root, 'test', name), join(folder, 'test', name));
  }
}

/**
 * Compiles the tests, and returns what finds the arguments of Node.js that run one, given its path below `test`. Types are
 * not checked, which is a matter of the lint. Throws if a file cannot be read as TypeScript. What was compiled goes away at
 * the end of this process.
 */
export async function compileTests() {
  removeLeft();
  const folder = join(COMPILED, String(process.pid));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  remove();
  process.on('exit', remove);
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const settings = ['--noEmit', 'false', '--noCheck', '--declaration', 'false', '--sourceMap', '--outDir', folder];
  const args = [compiler, '-p', 'tsconfig.test.json', ...settings];
  const { code, output } = await run(process.execPath, args, LIMIT_MS);
  if (code !== 0) throw new Error(`the tests do not compile:\n${output}`);
  copyModules(folder);
  // Errors tell the lines of what was written, as they do where a file is run by hand.
  return (file) => ['--enable-source-maps', join(folder, 'test', file.replace(/\.ts$/, '.js'))];
}
