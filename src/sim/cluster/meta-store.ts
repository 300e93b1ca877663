/**
 * A manager's store in a simulation: what is durable of it, and the end that a process has, which answers after a while.
 *
 * Fault model: the process dies before or after a batch is durable, commits take long, and there is no room. Whoever commits
 * under a sequence that is not that of the store is refused, as another has come before it.
 */

import { StrakeError } from '../../core/errors.js';
import type { MetaBatch, MetaContents, MetaStore } from '../../ports/meta-store.js';
import type { SimProcess } from '../world/process.js';
import { SimTimers } from '../world/timers.js';
import type { StoreFate } from './cluster-plan.js';

/** How long a batch takes, in microseconds. */
const COMMIT_US: readonly [number, number] = [100, 3_000];
/** The same where the store is slow. */
const SLOW_US: readonly [number, number] = [50_000, 1_500_000];

export interface MetaDiskHooks {
  /** What goes wrong with commits from now on. */
  fate: StoreFate | null;
  /** A batch has become durable. */
  onCommitted(batch: MetaBatch): void;
  /** The process that uses the store is to die now. */
  onDeath(): void;
}

/** What is durable. */
export class SimMetaDisk {
  sequence = 0;
  readonly records = new Map<string, string>();
  private readonly hooks: MetaDiskHooks;

  constructor(hooks: MetaDiskHooks) {
    this.hooks = hooks;
  }

  get fate(): StoreFate | null {
    return this.hooks.fate;
  }

  /** The same as it is now, with hooks of its own. */
  clone(hooks: MetaDiskHooks): SimMetaDisk {
    const copy = new SimMetaDisk(hooks);
    copy.sequence = this.sequence;
    for (const [key, value] of this.records) copy.records.set(key, value);
    return copy;
  }

  apply(batch: MetaBatch): void {
    if (batch.expected !== this.sequence) {
      const what = `the store has sequence ${this.sequence}, and not ${batch.expected}`;
      throw new StrakeError('STALE_METADATA', what);
    }
    for (const { key, value } of batch.changes) {
      if (value === null) this.records.delete(key);
      else this.records.set(key, value);
    }
    this.sequence = batch.next;
    this.hooks.onCommitted(batch);
  }

  /** The process that uses it dies. Never ends. */
  end(): Promise<void> {
    this.hooks.fate = null;
    this.hooks.onDeath();
    return new Promise(() => {});
  }
}

export class SimMetaStore implements MetaStore {
  private readonly process: SimProcess;
  private readonly disk: SimMetaDisk;
  private readonly timers: SimTimers;

  constructor(process: SimProcess, disk: SimMetaDisk) {
    this.process = process;
    this.disk = disk;
    this.timers = new SimTimers(process.time, process);
  }

  private wait(slow: boolean): Promise<void> {
    const [least, most] = slow ? SLOW_US : COMMIT_US;
    return this.timers.pause(this.process.random.between(least, most));
  }

  async load(): Promise<MetaContents> {
    await this.wait(false);
    const { sequence, records } = this.disk;
    const sorted = [...records].sort(([one], [other]) => (one < other ? -1 : 1));
    return { sequence, records: sorted.map(([key, value]) => ({ key, value })) };
  }

  async commit(batch: MetaBatch): Promise<void> {
    const { disk } = this;
    await this.wait(disk.fate === 'slow');
    if (disk.fate === 'full') throw new StrakeError('NO_SPACE', 'there is no room for what is to be committed');
    if (disk.fate === 'dies-before') return disk.end();
    disk.apply(batch);
    // It is durable, and whether anybody learns it is another question.
    if (disk.fate === 'dies-after') return disk.end();
    await this.wait(false);
  }

  async close(): Promise<void> {}
}
