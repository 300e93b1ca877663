/**
 * How decisions become durable. What is decided changes the memory of the manager at once, and is put here; it is answered when
 * the batch that it is part of has been committed. Decisions that arrive while a batch is being committed share the next one.
 *
 * A commit that fails ends this manager: nobody knows what the store has, so nothing is decided any more, and what was not
 * committed is never answered. Whoever starts next reads what is there.
 */

import { check } from '../core/check.js';
import { type StrakeError, toStrakeError } from '../core/errors.js';
import { Notify } from '../core/notify.js';
import type { MetaStore } from '../ports/meta-store.js';

export class Journal {
  /** Batches that are durable. */
  sequence: number;
  private readonly store: MetaStore;
  private readonly onFailure: (error: StrakeError) => void;
  /** By name: what the next batch has. */
  private changes = new Map<string, string | null>();
  /** Counts batches of this life: the one that is being filled, and the last that is durable. */
  private filling = 1;
  private durable = 0;
  private held = true;
  private running = false;
  private failed = false;
  private readonly committed = new Notify();
  private readonly idle = new Notify();

  /** @param sequence what the store has; nothing is committed before `release` */
  constructor(store: MetaStore, sequence: number, onFailure: (error: StrakeError) => void) {
    this.store = store;
    this.sequence = sequence;
    this.onFailure = onFailure;
  }

  /** From now on batches are committed. */
  release(): void {
    this.held = false;
    this.start();
  }

  put(key: string, record: object): void {
    this.change(key, JSON.stringify(record));
  }

  remove(key: string): void {
    this.change(key, null);
  }

  private change(key: string, value: string | null): void {
    this.changes.set(key, value);
    this.start();
  }

  /** Resolves when everything that has been put so far is durable; never, if it could not be made so. */
  async settled(): Promise<void> {
    const batch = this.changes.size > 0 ? this.filling : this.filling - 1;
    while (this.durable < batch || this.failed) await this.committed.next();
  }

  private start(): void {
    if (this.running || this.held || this.failed) return;
    this.running = true;
    // What else is decided in this turn of the loop is part of the batch.
    void Promise.resolve().then(() => this.run());
  }

  private async run(): Promise<void> {
    while (this.changes.size > 0 && !this.failed) await this.commitOne();
    this.running = false;
    this.idle.tell();
  }

  private async commitOne(): Promise<void> {
    const changes = [...this.changes].map(([key, value]) => ({ key, value }));
    const [batch, expected] = [this.filling, this.sequence];
    this.changes = new Map();
    this.filling += 1;
    try {
      await this.store.commit({ expected, next: expected + 1, changes });
    } catch (error) {
      this.failed = true;
      this.onFailure(toStrakeError(error));
      return;
    }
    check(batch === this.durable + 1, 'batches have been committed out of their order', batch);
    this.sequence = expected + 1;
    this.durable = batch;
    this.committed.tell();
  }

  /** Commits what has been put, unless it is held back, and nothing more. Resolves when nothing is under way. */
  async end(): Promise<void> {
    while (this.running) await this.idle.next();
    this.failed = true;
  }
}
