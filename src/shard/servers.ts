/** The NBD servers of a shard: where they listen, what they serve, and how they end. */

import type { NbdExport } from '../nbd/export.js';
import { NbdServer } from '../nbd/server.js';
import type { NbdService } from '../nbd/service.js';
import type { NetPorts } from '../net/connection-resources.js';
import type { Volume } from '../ports/volume.js';
import type { Engine } from '../uring/engine.js';
import { type Listener, listen } from '../uring/transport.js';
import type { ListenNodeMessage, ShardCalls } from '../worker/messages.js';

/** A server, what it serves, and where it listens. */
interface Serving {
  readonly server: NbdServer;
  /** What it serves; null for all volumes of the node. */
  readonly volume: Volume | null;
  readonly listener: Listener;
  /** Resolves when it has been closed, once that has begun. */
  ended: Promise<void> | null;
}

export interface ServersParts {
  readonly engine: Engine;
  readonly ports: NetPorts;
  readonly service: NbdService;
  /** A server has been closed. */
  readonly onEnd: (server: NbdServer) => void;
  /** The last server has not finished in time what it had begun: what is held need not be held any more. */
  readonly onLate: () => void;
}

export class Servers {
  private readonly parts: ServersParts;
  private readonly servings: (Serving | undefined)[] = [];

  constructor(parts: ServersParts) {
    this.parts = parts;
  }

  /** Begins to serve one volume, or, if `target` is null, what the server is told to offer later. */
  begin(message: ListenNodeMessage, target: NbdExport | null): ShardCalls['listen']['response'] & { made: NbdServer } {
    const { engine, ports, service } = this.parts;
    const listener = listen(engine, message.address);
    const { file, port } = listener;
    const made = new NbdServer(service, ports, file, target === null ? [] : [target], message.connectionsMax);
    const number = freeIndex(this.servings);
    this.servings[number] = { server: made, volume: target?.volume ?? null, listener, ended: null };
    return { server: number, port, made };
  }

  /** Closes the server of this number, if there is one. `last`: no other serves the volumes any more. */
  async end(number: number, drainMs: number, last: boolean): Promise<void> {
    const found = this.servings[number];
    if (found !== undefined) await this.endServing(found, drainMs, last);
  }

  /** Closes the servers of a volume; null for those of the node. */
  async endOf(volume: Volume | null, drainMs: number): Promise<void> {
    await this.endAll(drainMs, (serving) => serving.volume === volume);
  }

  async endAll(drainMs: number, wanted: (serving: Serving) => boolean = () => true): Promise<void> {
    const found = this.servings.filter((serving) => serving !== undefined).filter(wanted);
    await Promise.all(found.map((serving) => this.endServing(serving, drainMs)));
  }

  /** Closes a server. Its number is not free before. */
  private endServing(serving: Serving, drainMs: number, last = false): Promise<void> {
    const onLate = () => {
      serving.server.abort();
      // Nobody is left who could be told what comes of it.
      if (last) this.parts.onLate();
    };
    serving.ended ??= drain(serving, drainMs, onLate).then(() => {
      this.parts.onEnd(serving.server);
      this.servings[this.servings.indexOf(serving)] = undefined;
    });
    return serving.ended;
  }
}

/** The first place that is free, or one more. */
function freeIndex(list: readonly (object | undefined)[]): number {
  const index = list.indexOf(undefined);
  return index < 0 ? list.length : index;
}

/** Takes a server's address away, and lets it finish what it has begun, for a while; then `onLate` is called. */
function drain({ server, listener }: Serving, drainMs: number, onLate: () => void): Promise<void> {
  listener.removePath();
  return new Promise((resolve) => {
    const timer = setTimeout(onLate, drainMs);
    server.drain(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
