/**
 * A process that runs one command line after another, for tests of what commands print, where it does not matter that each
 * has a process of its own. It takes `{args, env}` as a line of JSON on its standard input, where `env` is added to the
 * environment of that command, and answers `{code, stdout, stderr}` as a line on its standard output. It ends when its input
 * ends.
 *
 * Its runtime stays, so that commands that read a device share its worker.
 */

import { createInterface } from 'node:readline';
import { runCommand } from '#strake/cli/program.js';
import { Runtime } from '#strake/embed/runtime.js';

const environment = { ...process.env };
const answer = process.stdout.write.bind(process.stdout);
const printed = { stdout: '', stderr: '' };
for (const name of Object.keys(printed)) {
  process[name].write = (text) => {
    printed[name] += text;
    return true;
  };
}

await Runtime.acquire();
for await (const line of createInterface({ input: process.stdin })) {
  printed.stdout = '';
  printed.stderr = '';
  const { args, env } = JSON.parse(line);
  process.env = { ...environment, ...env };
  const code = await runCommand(args);
  answer(`${JSON.stringify({ code, ...printed })}\n`);
}
await Runtime.release();
