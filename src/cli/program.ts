/** A command line is run: all commands, and what becomes of their errors. It leaves the process to whoever calls it. */

import { Command, CommanderError } from 'commander';
import { StrakeError } from '../core/errors.js';
import { VERSION } from '../embed/version.js';
import { addBench } from './bench.js';
import { addCluster } from './cluster.js';
import { addClusterNode } from './cluster-node.js';
import { addDevice } from './device.js';
import { addDoctor } from './doctor.js';
import { addExplain } from './explain.js';
import { addExport } from './export.js';
import { addJob } from './job.js';
import { addManager } from './manager.js';
import { EXIT_FAILED, EXIT_USAGE, FORMATS, type OutputFormat, printError } from './output.js';
import { addSim } from './sim.js';
import { addStatus } from './status.js';
import { addUp } from './up.js';
import { addVolume } from './volume.js';

const EXIT_CODES = `
Exit codes: 0 ok; 1 failed; 2 usage; 3 degraded (only with --exit-code); 4 unavailable or timed out; 5 refused for
safety; 130 interrupted.`;

/** The format asked for, found before the command line is known to be valid. */
function wantedFormat(args: readonly string[]): OutputFormat {
  const at = args.findIndex((arg) => arg === '-o' || arg === '--output');
  const joined = args.find((arg) => /^(-o|--output)=/.test(arg))?.split('=')[1];
  const word = joined ?? (at >= 0 ? args[at + 1] : undefined);
  return FORMATS.find((format) => format === word) ?? 'table';
}

/** Makes every command report usage errors with the same exit code. */
function overrideExits(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) overrideExits(child);
}

/** Runs a command line, without the name of the program. Returns the exit code; errors are told on standard error. */
export async function runCommand(args: readonly string[]): Promise<number> {
  const program = new Command('strake');
  const format = wantedFormat(args);
  // Settings are inherited by the commands that are added afterwards. Machines get a usage error as they get any other.
  program.configureOutput({ outputError: (text, write) => (format === 'table' ? write(text) : undefined) });
  program.description('Keeps volumes on checksummed, mirrored block devices and serves them over NBD').version(VERSION);
  program.addHelpText('after', EXIT_CODES);
  let exitCode = 0;
  const onExit = (code: number) => {
    exitCode = code;
  };
  addUp(program, onExit);
  addStatus(program, onExit);
  addVolume(program, onExit);
  addCluster(program, onExit);
  addManager(program, onExit);
  addClusterNode(program, onExit);
  addDevice(program, onExit);
  addJob(program, onExit);
  addExport(program, onExit);
  addDoctor(program, onExit);
  addBench(program, onExit);
  addSim(program, onExit);
  addExplain(program, onExit);
  overrideExits(program);
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : usage(error, format);
    if (!(error instanceof StrakeError)) {
      process.stderr.write(`strake: this is a bug: ${error instanceof Error ? error.stack : String(error)}\n`);
      return EXIT_FAILED;
    }
    return printError(error, format);
  }
}

/** What commander has not understood; people have been told by commander itself. */
function usage(error: CommanderError, format: OutputFormat): number {
  if (format !== 'table') {
    const words = { remedy: 'See `strake --help`.', cause: error };
    printError(new StrakeError('INVALID_ARGUMENT', error.message.replace(/^error: /, ''), words), format);
  }
  return EXIT_USAGE;
}
