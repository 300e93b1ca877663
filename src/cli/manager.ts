/** `strake manager start`: runs the manager of a cluster in the foreground. */

import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { SOCKET_PATH_MAX } from '../control/limits.js';
import { StrakeError } from '../core/errors.js';
import { addressText } from '../core/stream-address.js';
import { nodeAddress } from '../embed/node-addresses.js';
import type { NodeAddress } from '../embed/node-types.js';
import { asUsageError, noun, type OnExit, outputOption } from './options.js';
import { EXIT_FAILED, fields, note, type OutputFormat, print, printError } from './output.js';
import { howToStop, untilStopped } from './stopping.js';

interface StartOptions {
  readonly listen?: NodeAddress;
  readonly insecureNetwork?: boolean;
  readonly quiet?: boolean;
  readonly output: OutputFormat;
}

/** Where a manager listens by default: in its folder. */
export function managerSocket(dir: string): string {
  const path = join(resolve(dir), 'manager.sock');
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX) return path;
  throw new StrakeError(
    'ADDRESS',
    `${path} is too long for a socket, whose path has at most ${SOCKET_PATH_MAX} bytes`,
    {
      remedy: 'Give an address of its own: --listen PATH, or --listen IP:PORT.',
    },
  );
}

async function start(dir: string, options: StartOptions, onExit: OnExit): Promise<void> {
  const { openManager } = await import('../embed/manager.js');
  const { stopped, stop } = untilStopped({ fenced: (path, accepts) => `${path} accepts ${accepts}` });
  const { listen = { socket: managerSocket(dir) }, insecureNetwork = false, quiet = false } = options;
  let reason: StrakeError | null = null;
  const manager = await openManager({
    directory: dir,
    listen,
    insecureNetwork,
    onStepDown: (error) => {
      reason ??= error;
      stop('lost');
    },
  });
  try {
    const address = addressText(manager.address);
    const { clusterId, keyFile } = manager;
    const data = { dir: resolve(dir), clusterId, address, keyFile, pid: process.pid, time: new Date().toISOString() };
    const about = fields([
      ['manager', data.dir],
      ['cluster', clusterId],
      ['address', address],
      ['key', keyFile],
      ['stop', howToStop()],
    ]);
    print({ schema: 'strake.manager.start', version: 1, data, text: quiet ? address : about }, options.output);
    const ending = await stopped;
    if (ending === 'lost') {
      // Another start reads what is durable, and goes on from there.
      onExit(reason === null ? EXIT_FAILED : printError(reason, options.output));
      return;
    }
    note('strake: stopping; open volumes go on, and changes wait for the next manager', quiet);
  } finally {
    await manager.close();
  }
}

export function addManager(program: Command, onExit: OnExit): void {
  const manager = noun(program, 'manager', 'the manager of a cluster, which decides about its volumes');
  manager
    .command('start <dir>')
    .description('run the manager in a folder that `strake cluster init` has made')
    .option('--listen <address>', 'path of a socket, or IP:PORT (DIR/manager.sock)', asUsageError(nodeAddress))
    .option('--insecure-network', 'listen on an address that other hosts reach, where nothing is encrypted')
    .option('--quiet', 'print only the address')
    .addOption(outputOption())
    .action((dir: string, options: StartOptions) => start(dir, options, onExit));
}
