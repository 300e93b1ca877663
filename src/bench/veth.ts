/**
 * Two network namespaces with a pair of virtual Ethernet devices between them: TCP that is no loopback, on one machine. They need
 * root, and are gone when the process ends in order.
 */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { StrakeError } from '../core/errors.js';
import { findProgram } from '../embed/programs.js';
import { tool } from './processes.js';

export interface TcpPlace {
  readonly host: string;
  readonly port: number;
}

/** Of the block for benchmarks of networks (RFC 2544), which no network that is in use has. */
const SERVER = '198.18.0.1';
const CLIENT = '198.18.0.2';
const PORT = 10809;
/** State of a socket that listens, in /proc/net/tcp (include/net/tcp_states.h). */
const LISTENS = '0A';
const START_MS = 20_000;
const LOOK_MS = 10;

function ip(...args: readonly string[]): void {
  execFileSync(tool('ip'), args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Why no namespaces can be made here; null if they can. */
export function whyNoVeth(): string | null {
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  if (findProgram('ip') === undefined) return 'ip is not installed (apt-get install iproute2)';
  try {
    Veth.make().remove();
    return null;
  } catch (error) {
    return `network namespaces cannot be made: ${(error as Error).message.trim().split('\n').at(-1)}`;
  }
}

export class Veth {
  readonly place: TcpPlace = { host: SERVER, port: PORT };
  readonly uri = `nbd://${SERVER}:${PORT}/`;
  private readonly names = ['s', 'c'].map((side) => `strake-${process.pid}-${side}`);
  private readonly onExit = () => this.removeNamespaces();

  private constructor() {
    process.on('exit', this.onExit);
  }

  /** Throws if the system does not let it. */
  static make(): Veth {
    const veth = new Veth();
    try {
      const [server, client] = veth.names;
      for (const name of veth.names) ip('netns', 'add', name);
      ip('-n', server, 'link', 'add', 'strake0', 'type', 'veth', 'peer', 'name', 'strake0', 'netns', client);
      for (const [name, address] of [
        [server, SERVER],
        [client, CLIENT],
      ]) {
        ip('-n', name, 'address', 'add', `${address}/30`, 'dev', 'strake0');
        ip('-n', name, 'link', 'set', 'strake0', 'up');
      }
      return veth;
    } catch (error) {
      veth.remove();
      throw error;
    }
  }

  /** What a command line begins with to run where the server is. */
  get server(): readonly string[] {
    return [tool('ip'), 'netns', 'exec', this.names[0]];
  }

  /** As `server`, for the client. */
  get client(): readonly string[] {
    return [tool('ip'), 'netns', 'exec', this.names[1]];
  }

  /** Resolves when somebody listens in the network of a process. */
  async listening(pid: number): Promise<void> {
    const late = AbortSignal.timeout(START_MS);
    const port = `:${PORT.toString(16).toUpperCase()}`;
    while (true) {
      const lines = readFileSync(`/proc/${pid}/net/tcp`, 'utf8').split('\n');
      const found = lines.some((line) => {
        const [, local, , state] = line.trim().split(/\s+/);
        return state === LISTENS && local.endsWith(port);
      });
      if (found) return;
      if (late.aborted) throw new StrakeError('TIMED_OUT', `nobody listens at ${SERVER}:${PORT}`);
      await pause(LOOK_MS);
    }
  }

  remove(): void {
    process.off('exit', this.onExit);
    this.removeNamespaces();
  }

  private removeNamespaces(): void {
    for (const name of this.names) {
      try {
        ip('netns', 'delete', name);
      } catch {
        // It was not made.
      }
    }
  }
}
