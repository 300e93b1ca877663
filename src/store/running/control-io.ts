/**
 * Device operations as promises, for work that is not on the way of every request: opening, checkpoints, repair.
 */

import type { CompletionPort } from '../../ports/completion.js';
import type { Device } from '../../ports/device.js';

export class ControlIo {
  readonly device: Device;
  private readonly completions: CompletionPort;
  private readonly token: number;
  private readonly pending: (((result: number) => void) | undefined)[] = [];
  private readonly freeTags: number[] = [];
  private idleWaiters: (() => void)[] = [];

  constructor(completions: CompletionPort, device: Device) {
    this.completions = completions;
    this.device = device;
    this.token = completions.register({ complete: (tag, result) => this.end(tag, result) });
  }

  private end(tag: number, result: number): void {
    const resolve = this.pending[tag];
    this.pending[tag] = undefined;
    this.freeTags.push(tag);
    resolve?.(result);
    if (this.busy) return;
    for (const waiter of this.idleWaiters.splice(0)) waiter();
  }

  /** Whether anything is in flight. */
  get busy(): boolean {
    return this.freeTags.length < this.pending.length;
  }

  /** Resolves when nothing is in flight. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.busy) this.idleWaiters.push(resolve);
      else resolve();
    });
  }

  private start(begin: (token: number) => void): Promise<number> {
    return new Promise((resolve) => {
      const tag = this.freeTags.pop() ?? this.pending.length;
      this.pending[tag] = resolve;
      begin(this.token + tag);
    });
  }

  /** Resolves with the result: a count or a negative errno. */
  read(memory: number, lengthBytes: number, offsetBytes: number, checksums = 0): Promise<number> {
    return this.start((token) => this.device.read(memory, lengthBytes, offsetBytes, token, checksums));
  }

  write(memory: number, lengthBytes: number, offsetBytes: number): Promise<number> {
    return this.start((token) => this.device.write(memory, lengthBytes, offsetBytes, 0, token));
  }

  zero(offsetBytes: number, spanBytes: number): Promise<number> {
    return this.start((token) => this.device.zero(offsetBytes, spanBytes, 0, token));
  }

  discard(offsetBytes: number, spanBytes: number): Promise<number> {
    return this.start((token) => this.device.discard(offsetBytes, spanBytes, 0, token));
  }

  sync(): Promise<number> {
    return this.start((token) => this.device.sync(token));
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    this.completions.unregister(this.token);
  }
}
