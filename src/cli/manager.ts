/** `strake manager start`: runs the manager of a cluster in the foreground. */

import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { AdminServer } from '../admin/admin-server.js';
import { SOCKET_PATH_MAX } from '../control/limits.js';
import { StrakeError } from '../core/errors.js';
import { addressText } from '../core/stream-address.js';
import type { ClusterManager } from '../embed/manager.js';
import { clusterAddress, nodeAddress } from '../embed/node-addresses.js';
import type { NodeAddress } from '../embed/node-types.js';
import { VERSION } from '../embed/version.js';
import { asUsageError, noun, type OnExit, outputOption } from './options.js';
import { EXIT_FAILED, fields, note, type OutputFormat, print, printError } from './output.js';
import { howToStop, untilStopped } from './stopping.js';

interface StartOptions {
  readonly listen?: NodeAddress;
  readonly admin?: NodeAddress;
  readonly insecureNetwork?: boolean;
  readonly quiet?: boolean;
  readonly output: OutputFormat;
}

/** A socket in the folder of a manager, which an option can put elsewhere. */
function socketIn(dir: string, name: string, option: string): string {
  const path = join(resolve(dir), name);
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX) return path;
  const words = `${path} is too long for a socket, whose path has at most ${SOCKET_PATH_MAX} bytes`;
  throw new StrakeError('ADDRESS', words, {
    remedy: `Give an address of its own: ${option} PATH, or ${option} IP:PORT.`,
  });
}

/** Where a manager listens by default: in its folder. */
export function managerSocket(dir: string): string {
  return socketIn(dir, 'manager.sock', '--listen');
}

/** The token of the admin API, in the folder of a manager. */
export function tokenFileOf(dir: string): string {
  return join(resolve(dir), 'admin.token');
}

/** Opens the admin API of a manager, which its operators and their programs use. */
export async function serveAdmin(
  dir: string,
  { calls }: ClusterManager,
  given: NodeAddress | undefined,
): Promise<AdminServer> {
  const { openAdmin } = await import('../admin/admin-server.js');
  return openAdmin({
    calls,
    listen: clusterAddress(given ?? { socket: socketIn(dir, 'admin.sock', '--admin') }, true),
    tokenFile: tokenFileOf(dir),
    version: VERSION,
    onBug: (error) => note(`strake: this is a bug: ${error instanceof Error ? error.stack : String(error)}`),
  });
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
  let api: AdminServer | null = null;
  try {
    api = await serveAdmin(dir, manager, options.admin);
    const [address, admin] = [addressText(manager.address), addressText(api.address)];
    const { clusterId, keyFile } = manager;
    const about = { dir: resolve(dir), clusterId, address, keyFile, admin };
    const data = { ...about, pid: process.pid, time: new Date().toISOString() };
    const text = fields([
      ['manager', data.dir],
      ['cluster', clusterId],
      ['address', address],
      ['key', keyFile],
      ['admin API', admin],
      ['stop', howToStop()],
    ]);
    print({ schema: 'strake.manager.start', version: 1, data, text: quiet ? address : text }, options.output);
    const ending = await stopped;
    if (ending === 'lost') {
      // Another start reads what is durable, and goes on from there.
      onExit(reason === null ? EXIT_FAILED : printError(reason, options.output));
      return;
    }
    note('strake: stopping; open volumes go on, and changes wait for the next manager', quiet);
  } finally {
    await api?.close();
    await manager.close();
  }
}

export function addManager(program: Command, onExit: OnExit): void {
  const manager = noun(program, 'manager', 'the manager of a cluster, which decides about its volumes');
  manager
    .command('start <dir>')
    .description('run the manager in a folder that `strake cluster init` has made')
    .option('--listen <address>', 'path of a socket, or IP:PORT (DIR/manager.sock)', asUsageError(nodeAddress))
    .option(
      '--admin <address>',
      'of the admin API: a socket, or a loopback IP:PORT (DIR/admin.sock)',
      asUsageError(nodeAddress),
    )
    .option('--insecure-network', 'listen on an address that other hosts reach, where nothing is encrypted')
    .option('--quiet', 'print only the address')
    .addOption(outputOption())
    .action((dir: string, options: StartOptions) => start(dir, options, onExit));
}
