/** `strake export DEVICE`: serves a raw device over NBD until it is told to stop. */

import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { CONNECTIONS_MAX, DRAIN_MS } from '../core/limits.js';
import { formatBytes } from '../core/units.js';
import type { Device } from '../embed/device.js';
import type { NbdServerHandle } from '../embed/nbd-server.js';
import { type OnExit, outputOption, wholeNumber } from './options.js';
import { EXIT_FAILED, fields, type OutputFormat, print } from './output.js';
import { drain, howToStop, untilStopped } from './stopping.js';

interface ExportOptions {
  readonly socket?: string;
  readonly host?: string;
  readonly port?: number;
  readonly name?: string;
  readonly description?: string;
  readonly readOnly?: boolean;
  readonly confirm?: string;
  readonly connections: number;
  readonly insecureNetwork?: boolean;
  readonly drain: number;
  readonly quiet?: boolean;
  readonly output: OutputFormat;
}

/** A socket that only this user can reach, in the folder meant for such things. */
function defaultSocket(device: string): string {
  const folder = process.env.XDG_RUNTIME_DIR || (process.getuid?.() === 0 ? '/run' : tmpdir());
  const name = basename(device).replace(/[^\w.-]/g, '_');
  return join(folder, `strake-${name}.sock`);
}

function announce(device: Device, server: NbdServerHandle, options: ExportOptions): void {
  const { engine } = device.owner;
  const data = {
    uri: server.uri,
    device: device.path,
    sizeBytes: device.sizeBytes,
    readOnly: device.readOnly || options.readOnly === true,
    engine: engine.kind,
    pid: process.pid,
    time: new Date().toISOString(),
  };
  const access = data.readOnly ? 'read-only' : 'read-write';
  const text = options.quiet
    ? server.uri
    : fields([
        ['exporting', `${device.path} (${formatBytes(device.sizeBytes)}, ${access})`],
        ['uri', server.uri],
        ['engine', engine.reason === '' ? engine.kind : `${engine.kind} (${engine.reason})`],
        ['stop', howToStop()],
      ]);
  print({ schema: 'strake.export', version: 1, data, text }, options.output);
}

async function run(path: string, options: ExportOptions, onExit: OnExit): Promise<void> {
  const tcp = options.port !== undefined || options.host !== undefined;
  const { openDevice } = await import('../embed/device.js');
  const { serveNbd } = await import('../embed/nbd-server.js');
  // One device is driven by one shard; more would only take memory.
  process.env.STRAKE_SHARDS ??= '1';
  // The device is locked from here on, so a signal has to be a wish to stop already.
  const { stopped } = untilStopped({
    fenced: (fenced, accepts) => `${fenced} is fenced and accepts ${accepts}; replace the device and export it again`,
  });
  const device = await openDevice(path, { readOnly: options.readOnly, confirm: options.confirm });
  try {
    const address = tcp
      ? { socket: options.socket, host: options.host, port: options.port ?? 10809 }
      : { socket: options.socket ?? defaultSocket(path) };
    const server = await serveNbd(device, {
      ...address,
      name: options.name,
      description: options.description,
      readOnly: options.readOnly,
      connectionsMax: options.connections,
      insecureNetwork: options.insecureNetwork,
    });
    announce(device, server, options);
    const reason = await stopped;
    if (reason === 'lost') onExit(EXIT_FAILED);
    else await drain(() => server.close({ drainMs: options.drain * 1000 }), options.quiet);
  } finally {
    await device.close();
  }
}

export function addExport(program: Command, onExit: OnExit): void {
  program
    .command('export <device>')
    .description('serve a block device or file, raw, over NBD; `null:SIZE` is a device without storage')
    .option('--socket <path>', 'unix socket to listen on (mode 0600)')
    .option('--port <port>', 'TCP port on a loopback address instead', wholeNumber(0, 65535))
    .option('--host <address>', 'loopback address to listen on (127.0.0.1)')
    .option(
      '--insecure-network',
      'take a host that others reach: whoever does can use the device, and nothing is encrypted',
    )
    .option('--name <name>', 'export name', '')
    .option('--description <text>', 'text for clients that list exports')
    .option('--read-only', 'refuse writes')
    .option('--confirm <device>', 'the device again: export it for writing although it holds known data')
    .option('--connections <count>', 'the most connections at once', wholeNumber(1, CONNECTIONS_MAX), CONNECTIONS_MAX)
    .option('--drain <seconds>', 'time for requests in flight when stopping', wholeNumber(0, 3600), DRAIN_MS / 1000)
    .option('--quiet', 'print only the URI')
    .addOption(outputOption())
    .action((path: string, options: ExportOptions) => run(path, options, onExit));
}
