/**
 * Clients that use a volume at random over NBD until they are stopped or their server is gone. An error that was not to
 * be expected is told with the request, and with what the node said of the volume right after it.
 */

import { HistoryViolation } from '#strake/sim/oracle/history-report.js';
import { CMD, FLAG, type NbdClient } from './nbd-client.js';
import type { NodeProcess } from './node-process.js';
import { until } from './scratch.js';
import { SECTOR, type SectorHistory } from './sector-history.js';

/** Numbers that are the same for the same seed. */
export function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/**
 * A range of a volume of so many sectors: mostly whole blocks, some in a small part of it that is written again and again;
 * some of odd sectors.
 */
export function rangeOf(
  random: (below: number) => number,
  size: number,
  kind: 'write' | 'zero' | 'trim' | 'read',
): { readonly sector: number; readonly count: number } {
  const area = random(3) === 0 ? Math.min(size, 512) : size;
  const shape = random(10);
  const large = kind === 'write' || kind === 'read' ? 256 : 1024;
  const count =
    shape < 6 ? 8 : shape < 8 ? 8 * (1 + random(8)) : shape < 9 ? 1 + random(24) : 8 * (1 + random(large / 8));
  const unit = count % 8 === 0 && random(20) > 0 ? 8 : 1;
  const fits = Math.min(count, area);
  return { sector: unit * random(Math.floor((area - fits) / unit) + 1), count: fits };
}

export interface LoadOptions {
  readonly connections?: number;
  /** Requests of each connection in flight. */
  readonly depth?: number;
  readonly seed: number;
  /** Errors that requests may be answered with. */
  readonly errors?: readonly number[];
}

/** What the load needs of a node: clients, and what to tell of a failure. */
type LoadedNode = Pick<NodeProcess, 'connect' | 'events'> & { volume(name: string): Promise<unknown> };

/** Events of a node that are told with a failure. */
const EVENTS_TOLD = 10;

export class NodeLoad {
  acknowledged = 0;
  flushes = 0;
  /** Reads whose content was as it may be. */
  readsChecked = 0;
  /** Answers with an error. */
  failed = 0;
  private readonly node: LoadedNode;
  private readonly volume: string;
  private readonly history: SectorHistory;
  private readonly errors: readonly number[];
  private readonly random: (below: number) => number;
  private going = true;
  /** All workers have ended. */
  private over = false;
  private work: Promise<unknown> = Promise.resolve();
  private clients: NbdClient[] = [];
  private unexpected: Promise<Error> | null = null;

  private constructor(node: LoadedNode, volume: string, history: SectorHistory, { seed, errors = [] }: LoadOptions) {
    this.node = node;
    this.volume = volume;
    this.history = history;
    this.random = randomOf(seed);
    this.errors = errors;
  }

  static async start(
    node: LoadedNode,
    volume: string,
    history: SectorHistory,
    options: LoadOptions,
  ): Promise<NodeLoad> {
    const { connections = 3, depth = 6 } = options;
    const load = new NodeLoad(node, volume, history, options);
    load.clients = await Promise.all(Array.from({ length: connections }, () => node.connect(volume)));
    const workers = load.clients.flatMap((client) => Array.from({ length: depth }, () => load.worker(client)));
    load.work = Promise.all(workers).then(() => {
      load.over = true;
    });
    return load;
  }

  /** Waits until so many more requests have been answered. */
  async reach(more: number): Promise<void> {
    const goal = this.acknowledged + this.failed + more;
    await until(`${more} answers`, () => this.acknowledged + this.failed >= goal || this.unexpected !== null);
    if (this.unexpected !== null) throw await this.unexpected;
  }

  /** Waits until so many more requests have been answered, or the server is gone. */
  async reachOrEnd(more: number): Promise<void> {
    const goal = this.acknowledged + this.failed + more;
    await until(`${more} answers or the end`, () => this.over || this.acknowledged + this.failed >= goal);
  }

  /** Lets what is in flight end, and disconnects. */
  async stop(): Promise<void> {
    this.going = false;
    await this.work;
    await Promise.all(this.clients.map((client) => client.destroy()));
    if (this.unexpected !== null) throw await this.unexpected;
  }

  private async worker(client: NbdClient): Promise<void> {
    while (this.going) {
      try {
        await this.request(client);
      } catch (error) {
        // The connection has gone with its server; who killed it knows. What was in flight may have been done or not.
        if (error instanceof HistoryViolation) this.unexpected ??= Promise.resolve(error);
        if (error instanceof Error && /against the protocol|assert/i.test(`${error.name} ${error.message}`)) {
          this.unexpected = Promise.resolve(error);
        }
        return;
      }
    }
  }

  private async request(client: NbdClient): Promise<void> {
    const dice = this.random(100);
    if (dice < 6) await this.flush(client);
    else if (dice < 20) await this.read(client);
    else await this.change(client, dice < 88 ? 'write' : dice < 94 ? 'zero' : 'trim');
  }

  private async flush(client: NbdClient): Promise<void> {
    const flush = this.history.beginFlush();
    const { error } = await client.ask({ type: CMD.flush });
    const good = this.note(error, 'flush');
    this.history.end(flush, good);
    if (good) this.flushes += 1;
  }

  private async read(client: NbdClient): Promise<void> {
    const { sector, count } = rangeOf(this.random, this.history.count, 'read');
    const read = this.history.beginRead(sector, count);
    const { error, data } = await client.ask({ type: CMD.read, offset: sector * SECTOR, length: count * SECTOR });
    const good = this.note(error, `read of ${count * SECTOR} bytes at ${sector * SECTOR}`);
    this.history.endRead(read, good ? data : null);
    if (good) this.readsChecked += 1;
  }

  private async change(client: NbdClient, kind: 'write' | 'zero' | 'trim'): Promise<void> {
    const { sector, count } = rangeOf(this.random, this.history.count, kind);
    const fua = this.random(10) === 0;
    const change = this.history.begin(sector, count, kind, fua);
    const place = { offset: sector * SECTOR, length: count * SECTOR, flags: fua ? FLAG.fua : 0 };
    const type = { write: CMD.write, zero: CMD.writeZeroes, trim: CMD.trim }[kind];
    const payload = kind === 'write' ? { payload: this.history.payload(change) } : {};
    const { error } = await client.ask({ type, ...place, ...payload });
    const request = `${kind} of ${place.length} bytes at ${place.offset}${fua ? ' with FUA' : ''}`;
    this.history.end(change, this.note(error, request));
  }

  private note(error: number, request: string): boolean {
    if (error === 0) {
      this.acknowledged += 1;
      return true;
    }
    this.failed += 1;
    if (!this.errors.includes(error)) this.unexpected ??= this.describe(error, request);
    return false;
  }

  private async describe(error: number, request: string): Promise<Error> {
    const { node } = this;
    const answers = this.acknowledged + this.failed;
    const volume = await node.volume(this.volume).catch(({ message }: Error) => message);
    const state = typeof volume === 'string' ? volume : JSON.stringify(volume);
    const events = node.events.slice(-EVENTS_TOLD).map((event) => `\n  ${JSON.stringify(event)}`);
    return new Error(
      `answer ${answers}: ${request} was answered with ${error}\nvolume: ${state}\nevents:${events.join('')}`,
    );
  }
}
