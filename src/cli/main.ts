#!/usr/bin/env node
/** The `strake` command. */

import { EXIT_FAILED, isGone } from './output.js';
import { runCommand } from './program.js';
import { isServing } from './stopping.js';

// Whoever read the output has gone, like `head`, or a terminal: what is left of it is not wanted, and that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (isGone(error) || isServing()) return;
  process.stderr.write(`strake: the output could not be written: ${error.message}\n`);
  process.exit(EXIT_FAILED);
});
process.stderr.on('error', () => {});

runCommand(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = EXIT_FAILED;
  },
);
