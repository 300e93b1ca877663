/**
 * Requests at random on the volume of a simulated node, some at the same time, each of which has to succeed. What flushes
 * cover is not noted: the history is to be checked for what was acknowledged.
 */

import { DEVICE_FUA, DEVICE_KEEP_ALLOCATED } from '#strake/ports/device.js';
import type { SimRandom } from '#strake/sim/world/random.js';
import { rangeOf } from './node-load.js';
import { SECTOR, type SectorHistory } from './sector-history.js';
import type { SimNode } from './sim-node.js';
import { BLOCK, SLOT } from './sim-store.js';

/** Batches in which a load has to get on. */
const BATCHES_MAX = 200_000;

export class SimLoad {
  answered = 0;
  /** What a request was that failed; empty while none has. */
  private failure = '';
  private going = true;
  private running: number;
  private readonly sim: SimNode;
  private readonly history: SectorHistory;
  private readonly random: SimRandom;

  /** `depth`: requests at the same time, at most `AREAS`. */
  constructor(sim: SimNode, history: SectorHistory, random: SimRandom, depth: number) {
    this.sim = sim;
    this.history = history;
    this.random = random;
    this.running = depth;
    for (let index = 0; index < depth; index += 1) void this.worker(sim.area(index));
  }

  /** Runs until `until` holds. Throws as soon as a request fails. */
  async run(until: () => boolean): Promise<void> {
    await this.sim.loop.run(() => until() || this.failure !== '', { batches: BATCHES_MAX });
    if (this.failure !== '') throw new Error(this.failure);
  }

  /** Runs until so many more requests have been answered. */
  reach(more: number): Promise<void> {
    const goal = this.answered + more;
    return this.run(() => this.answered >= goal);
  }

  /** Lets what is in flight end. */
  stop(): Promise<void> {
    this.going = false;
    return this.run(() => this.running === 0);
  }

  /** The whole volume. */
  async content(): Promise<Uint8Array> {
    const { sim } = this;
    const image = new Uint8Array(this.history.count * SECTOR);
    const memory = sim.area(0);
    for (let offset = 0; offset < image.length; offset += SLOT) {
      const result = await sim.settle(sim.begin((token) => sim.engine.read(memory, SLOT, offset, token)));
      this.note(result, 'read', offset, SLOT, 0);
      image.set(sim.loop.bytes.subarray(memory, memory + SLOT), offset);
    }
    return image;
  }

  private async worker(memory: number): Promise<void> {
    while (this.going) await this.request(memory);
    this.running -= 1;
  }

  private request(memory: number): Promise<void> {
    const { random } = this;
    const dice = random.below(100);
    if (dice < 6) return this.flush();
    if (dice < 12) return this.read(memory);
    return this.modify(memory, dice < 70 ? 'write' : dice < 85 ? 'zero' : 'trim');
  }

  private async flush(): Promise<void> {
    const result = await this.sim.begin((token) => this.sim.engine.flush(token));
    this.note(result, 'flush', 0, 0, 0);
  }

  private place(kind: 'write' | 'zero' | 'trim' | 'read') {
    const { sector, count } = rangeOf((below) => this.random.below(below), this.history.count, kind);
    return { sector, count, offset: sector * SECTOR, length: count * SECTOR };
  }

  private async read(area: number): Promise<void> {
    const { offset, length } = this.place('read');
    const memory = area + (offset % BLOCK);
    const result = await this.sim.begin((token) => this.sim.engine.read(memory, length, offset, token));
    this.note(result, 'read', offset, length, 0);
  }

  private async modify(area: number, kind: 'write' | 'zero' | 'trim'): Promise<void> {
    const { history, random, sim } = this;
    const { engine, loop } = sim;
    const { sector, count, offset, length } = this.place(kind);
    const fua = random.below(10) === 0;
    const keep = kind === 'zero' && random.chance(0.5);
    const flags = (fua ? DEVICE_FUA : 0) | (keep ? DEVICE_KEEP_ALLOCATED : 0);
    const change = history.begin(sector, count, kind, fua);
    const memory = area + (offset % BLOCK);
    const result = await sim.begin((token) => {
      if (kind === 'write') {
        loop.bytes.set(history.payload(change), memory);
        engine.write(memory, length, offset, flags, token);
      } else if (kind === 'zero') {
        engine.zero(offset, length, flags, token);
      } else {
        engine.discardRange(offset, length, flags, token);
      }
    });
    history.end(change, this.note(result, kind, offset, length, flags));
  }

  private note(result: number, kind: string, offset: number, length: number, flags: number): boolean {
    this.answered += 1;
    if (result >= 0) return true;
    const request = `${kind} of ${length} bytes at ${offset} with flags ${flags}`;
    const status = JSON.stringify(this.sim.engine.status());
    if (this.failure === '') this.failure = `answer ${this.answered}: ${request} ended with ${result}: ${status}`;
    return false;
  }
}
