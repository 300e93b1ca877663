/** Commands that share a process: a start costs more than what most of them do. */

import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Ending, ending, project, startProcess } from './scratch.js';

/** Runs a command to its end; `env` is added to its environment. */
export type Command = (args: readonly string[], env?: NodeJS.ProcessEnv) => Promise<Ending>;

function start(): Command {
  const program = join(project, 'test', 'support', 'command-child.mjs');
  const child = startProcess(process.execPath, [program], { stdin: 'pipe' });
  const { stdin, stdout } = child;
  if (stdin === null || stdout === null) throw new Error('the child has no input or output');
  const answers = createInterface({ input: stdout })[Symbol.asyncIterator]();
  const ended = ending(child);
  // What is written after its end is noticed by the answer that does not come.
  stdin.on('error', () => {});
  let busy = false;
  return async (args, env = {}) => {
    if (busy) throw new Error(`${args.join(' ')}: the process still runs another command`);
    busy = true;
    stdin.write(`${JSON.stringify({ args, env })}\n`);
    const { value, done } = await answers.next();
    busy = false;
    if (done) throw new Error(`the process of the commands has ended: ${JSON.stringify(await ended)}`);
    return { signal: null, ...(JSON.parse(value) as Omit<Ending, 'signal'>) };
  };
}

/**
 * What runs commands in one process, which starts with the first of them, and ends with the tests. Each is to be awaited before
 * the next. Exit codes are those with which a process of its own would end.
 */
export function commandsOfOneProcess(): Command {
  let command: Command | undefined;
  return (args, env) => {
    command ??= start();
    return command(args, env);
  };
}
