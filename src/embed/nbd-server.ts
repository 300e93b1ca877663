/** NBD servers as a program that embeds Strake uses them. */

import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { boolean, fields, made, optional, options as optionsOf, path, port, text, whole } from '../core/arguments.js';
import { StrakeError } from '../core/errors.js';
import { CONNECTIONS_MAX, DRAIN_MS, DRAIN_MS_MAX, EXPORT_TEXT_BYTES_MAX } from '../core/limits.js';
import { isLocal } from '../core/stream-address.js';
import type { StreamAddress } from '../ports/transport.js';
import type { ListenMessage } from '../worker/messages.js';
import type { ShardLink } from '../worker/shard-pool.js';
import type { ShardStats } from '../worker/shard-stats.js';
import { Device } from './device.js';
import { HOST_BYTES_MAX } from './limits.js';
import type { Tenant } from './runtime.js';

/** How to serve a device. Either `socket` or `host` and `port`. */
export interface ServeNbdOptions {
  /** Path of a unix socket, which only its owner can use (mode 0600). */
  readonly socket?: string;
  /** Loopback address, `127.0.0.1` if absent: there is no encryption, so no other is listened on unless that is meant. */
  readonly host?: string;
  /** TCP port; 0 for one that the system chooses. */
  readonly port?: number;
  /** Export name; empty if absent. */
  readonly name?: string;
  /** A line of text for clients that list exports. */
  readonly description?: string;
  /** Refuse writes, also if the device is open for writing. */
  readonly readOnly?: boolean;
  /** The most connections that are served at once. */
  readonly connectionsMax?: number;
  /** Listens on an address that other hosts reach: whoever reaches it can read and, if that is allowed, write everything. */
  readonly insecureNetwork?: boolean;
}

/** How to close a server. */
export interface CloseServerOptions {
  /** Time for requests in flight; after it connections are cut. */
  readonly drainMs?: number;
}

const ADDRESS = {
  socket: optional(path),
  host: optional(text(1, HOST_BYTES_MAX)),
  port: optional(port),
  connectionsMax: optional(whole(1, CONNECTIONS_MAX)),
  insecureNetwork: optional(boolean),
};
const SERVE_NBD = fields<ServeNbdOptions>({
  ...ADDRESS,
  name: optional(text(0, EXPORT_TEXT_BYTES_MAX)),
  description: optional(text(0, EXPORT_TEXT_BYTES_MAX)),
  readOnly: optional(boolean),
});
/** How to serve a node: its volumes have names of their own. */
export type ServeNodeOptions = Omit<ServeNbdOptions, 'name' | 'readOnly' | 'description'>;
export const SERVE_NODE = fields<ServeNodeOptions>(ADDRESS);
export const CLOSE_SERVER = optionsOf<CloseServerOptions>({ drainMs: optional(whole(0, DRAIN_MS_MAX)) });
const servedDevice = made<Device>('a Device that openDevice has opened', (value) => value instanceof Device);

export function addressOf(options: ServeNodeOptions): StreamAddress {
  const tcp = options.port !== undefined || options.host !== undefined;
  if ((options.socket !== undefined) === tcp || (tcp && options.port === undefined)) {
    throw new StrakeError('INVALID_ARGUMENT', 'a server listens either on a socket or on a port: give one of them');
  }
  if (options.socket !== undefined) return { path: options.socket };
  const host = options.host === undefined || options.host === 'localhost' ? '127.0.0.1' : options.host;
  const { port = 0 } = options;
  if (isIP(host) === 0) throw new StrakeError('INVALID_ARGUMENT', `not an IP address: ${JSON.stringify(host)}`);
  const address = { host, port };
  if (!isLocal(address) && options.insecureNetwork !== true) {
    throw new StrakeError('ADDRESS', `${host} can be reached from elsewhere, and the connection is not encrypted`, {
      remedy:
        'Listen on 127.0.0.1 or ::1, and forward the port through a tunnel that encrypts. If only trusted machines reach it, say so with insecureNetwork: true (strake export --insecure-network): nobody has to prove anything there.',
    });
  }
  return address;
}

/** The address of a volume, which means the same in every folder. */
export function uriOf(address: StreamAddress, name: string): string {
  const path = encodeURIComponent(name);
  if ('path' in address) return `nbd+unix:///${path}?socket=${encodeSocket(resolve(address.path))}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `nbd://${host}:${address.port}/${path}`;
}

function encodeSocket(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}

/**
 * Serves a device over NBD. Throws `ERR_STRAKE_ADDRESS_IN_USE`, `ERR_STRAKE_ADDRESS` or `ERR_STRAKE_NO_PERMISSION` if it
 * cannot listen, `ERR_STRAKE_INVALID_ARGUMENT` for bad options.
 */
export async function serveNbd(device: Device, options: ServeNbdOptions): Promise<NbdServerHandle> {
  servedDevice.take(device, 'serveNbd: device');
  const checked = SERVE_NBD.take(options, 'serveNbd: options');
  const { name = '', description = '', readOnly = false, connectionsMax = CONNECTIONS_MAX } = checked;
  const address = addressOf(checked);
  const message = { address, name, description, readOnly, connectionsMax };
  const { link } = device;
  const { server, port } = await link.call('listen', { ...message, device: device.number });
  const actual = 'path' in address ? address : { host: address.host, port: port ?? address.port };
  return new NbdServerHandle(INTERNAL, device, { ...message, address: actual }, server);
}

const INTERNAL = Symbol('strake.internal');

/** A running server. Made by `serveNbd`. */
export class NbdServerHandle implements Tenant {
  readonly device: Device;
  /** Address for clients, such as `nbd+unix:///?socket=/run/strake.sock`. */
  readonly uri: string;
  private readonly message: Omit<ListenMessage, 'device'>;
  private link: ShardLink;
  private server: number;
  private closed: Promise<void> | undefined;
  private state: 'open' | 'closed' | StrakeError = 'open';

  /** @internal */
  constructor(key: symbol, device: Device, message: Omit<ListenMessage, 'device'>, server: number) {
    if (key !== INTERNAL) throw new TypeError('servers are made by serveNbd');
    this.device = device;
    this.message = message;
    this.server = server;
    this.link = device.link;
    this.uri = uriOf(message.address, message.name);
    device.owner.addServer(this);
    device.servers.add(this);
  }

  get shard(): number {
    return this.device.shard;
  }

  /** The TCP port, if there is one. */
  get port(): number | undefined {
    return 'port' in this.message.address ? this.message.address.port : undefined;
  }

  /** Figures of the shard that serves. */
  stats(): Promise<ShardStats> {
    return this.device.stats();
  }

  /** Listens again on a new shard. @internal */
  async restore(link: ShardLink): Promise<void> {
    // It was made on this shard already.
    if (this.link === link) return;
    // The number of a device that is not there could be that of another.
    if (!this.device.isOn(link)) throw new StrakeError('WORKER_DIED', `${this.device.path} has not been opened again`);
    const { server } = await link.call('listen', { ...this.message, device: this.device.number });
    if (this.state !== 'open') {
      await link.call('unlisten', { server, drainMs: 0 });
      return;
    }
    this.link = link;
    this.server = server;
  }

  /** @internal */
  lose(error: StrakeError): void {
    if (this.state === 'open') this.state = error;
  }

  /**
   * Stops accepting, finishes and answers what is in flight, makes it durable, and closes; a unix socket is removed.
   * Idempotent: later calls wait for the first. The device stays open.
   */
  async close(options: CloseServerOptions = {}): Promise<void> {
    const { drainMs = DRAIN_MS } = CLOSE_SERVER.take(options, 'close: options');
    this.closed ??= this.end(drainMs);
    await this.closed;
  }

  private async end(drainMs: number): Promise<void> {
    const usable = this.state === 'open';
    this.state = 'closed';
    this.device.owner.removeServer(this);
    this.device.servers.delete(this);
    if (!usable) return;
    try {
      await this.link.call('unlisten', { server: this.server, drainMs });
    } catch (error) {
      // A worker that has ended serves nobody any more.
      if (!(error instanceof StrakeError && error.code === 'ERR_STRAKE_WORKER_DIED')) throw error;
    }
    if (!this.device.readOnly) await this.device.flushLast();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
