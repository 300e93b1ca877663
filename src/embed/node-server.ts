/** A server of a node: all its volumes over NBD. */

import { volumeName } from '../core/arguments.js';
import { StrakeError } from '../core/errors.js';
import { DRAIN_MS } from '../core/limits.js';
import type { ListenNodeMessage } from '../worker/messages.js';
import type { ShardLink } from '../worker/shard-pool.js';
import { CLOSE_SERVER, type CloseServerOptions, uriOf } from './nbd-server.js';

/** What makes nodes and what belongs to them. @internal */
export const INTERNAL = Symbol('strake.internal');

interface Owner {
  dropServer(server: NodeServer): void;
}

/** A running server of a node. Made by `Node.serve`. */
export class NodeServer {
  private readonly node: Owner;
  private readonly message: ListenNodeMessage;
  private link: ShardLink;
  private server: number;
  private closed: Promise<void> | null = null;

  /** @internal */
  constructor(key: symbol, node: Owner, message: ListenNodeMessage, link: ShardLink, server: number) {
    if (key !== INTERNAL) throw new TypeError('servers of a node are made by it');
    this.node = node;
    this.message = message;
    this.link = link;
    this.server = server;
  }

  /** Path of the socket, or host and port. */
  get address(): string {
    const { address } = this.message;
    return 'path' in address ? address.path : `${address.host}:${address.port}`;
  }

  /** Address of a volume for clients, such as `nbd+unix:///main?socket=/run/strake.sock`. */
  uriOf(volume: string): string {
    return uriOf(this.message.address, volumeName.take(volume, 'uriOf: volume'));
  }

  /** Listens again on a new shard. @internal */
  async restore(link: ShardLink): Promise<void> {
    // It was made on this shard already.
    if (this.link === link) return;
    const { server } = await link.call('listenNode', this.message);
    if (this.closed !== null) {
      await link.call('unlisten', { server, drainMs: 0 });
      return;
    }
    this.link = link;
    this.server = server;
  }

  /** Stops accepting, finishes and answers what is in flight, and closes; a unix socket is removed. Idempotent. */
  async close(options: CloseServerOptions = {}): Promise<void> {
    const { drainMs = DRAIN_MS } = CLOSE_SERVER.take(options, 'close: options');
    this.closed ??= this.end(drainMs);
    await this.closed;
  }

  /** The same of the last servers of a node: what they have not answered then fails. @internal */
  async endLast(drainMs: number): Promise<void> {
    this.closed ??= this.end(drainMs, true);
    await this.closed;
  }

  private async end(drainMs: number, last = false): Promise<void> {
    this.node.dropServer(this);
    try {
      await this.link.call('unlisten', { server: this.server, drainMs, last });
    } catch (error) {
      if (!(error instanceof StrakeError && error.code === 'ERR_STRAKE_WORKER_DIED')) throw error;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
