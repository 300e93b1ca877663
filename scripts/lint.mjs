/**
 * Formatting, lint, types, layers and ratchets, of TypeScript and of Rust. With `--write`, mends what can be mended.
 */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { dictionaryErrors } from './dictionaries.mjs';
import { layerErrors } from './layers.mjs';
import { root, setup } from './setup.mjs';
import { run } from './tests/process.mjs';

const bin = (name) => join(root, 'node_modules', '.bin', name);
const CLIPPY = ['clippy', '--quiet'];
const DENY = ['--', '-D', 'warnings'];
const LIMIT_MS = 900_000;

/** Each check: a name, and a program with its arguments. */
function commands(write) {
  return [
    [
      'format and lint of TypeScript',
      bin('biome'),
      ['check', '--error-on-warnings', ...(write ? ['--write'] : []), '.'],
    ],
    ['format of Rust', 'cargo', ['fmt', '--all', ...(write ? [] : ['--check'])]],
    // The binding is a plugin without tests: checking it together with test targets would call its exports dead code.
    ['lint of Rust', 'cargo', [...CLIPPY, '--workspace', '--exclude', 'strake-binding', '--all-targets', ...DENY]],
    ['lint of the binding', 'cargo', [...CLIPPY, '-p', 'strake-binding', ...DENY]],
  ];
}

/** Tests see the types of what they test as it was compiled. */
const TYPES = ['types', bin('tsc'), ['-p', 'tsconfig.test.json']];

/** Whether this toolchain has a component; some distributions ship cargo without them. */
function missingComponent(program, args) {
  if (program !== 'cargo') return false;
  return spawnSync('cargo', [args[0], '--version'], { stdio: 'ignore' }).status !== 0;
}

async function result([name, program, args]) {
  if (missingComponent(program, args)) {
    return { name, skipped: `cargo ${args[0]} is not installed: rustup component add clippy rustfmt` };
  }
  const { code, output } = await run(program, args, LIMIT_MS);
  return code === 0 ? { name } : { name, error: output };
}

/**
 * Runs all checks, one after the other. Returns one entry per check: its name, and what is wrong, or undefined; or why it was
 * skipped. Packages are to be there; what needs the build waits for `built`, and comes last.
 */
export async function lint(write = false, built = Promise.resolve()) {
  const results = [];
  for (const command of commands(write)) results.push(await result(command));
  for (const [name, errorsIn] of [
    ['layers', layerErrors],
    ['dictionaries', dictionaryErrors],
  ]) {
    const errors = errorsIn(join(root, 'src'));
    results.push(errors.length === 0 ? { name } : { name, error: errors.join('\n') });
  }
  // It needs a package, and on a fresh clone there is none before the set-up.
  const { ratchets } = await import('./ratchet.mjs');
  results.push(...ratchets(root, write));
  const { assertionErrors } = await import('./assertions.mjs');
  const errors = assertionErrors(root);
  results.push({ name: 'assertions', ...(errors.length === 0 ? {} : { error: errors.join('\n') }) });
  await built;
  results.push(await result(TYPES));
  return results;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  setup();
  const results = await lint(process.argv.includes('--write'));
  for (const { name, error, skipped } of results) {
    console.log(
      error === undefined ? `ok    ${name}${skipped ? ` (skipped: ${skipped})` : ''}` : `FAIL  ${name}\n${error}`,
    );
  }
  process.exitCode = results.some(({ error }) => error !== undefined) ? 1 : 0;
}
