/**
 * Device operations as promises, for work that is not on the way of every request: opening, checkpoints, repair.
 */

import { Calls } from '../../core/calls.js';
import { check } from '../../core/check.js';
import type { CompletionPort } from '../../ports/completion.js';
import type { Device } from '../../ports/device.js';

export class ControlIo {
  readonly device: Device;
  private readonly calls: Calls;

  constructor(completions: CompletionPort, device: Device) {
    this.device = device;
    this.calls = new Calls(completions);
  }

  /** Whether anything is in flight. */
  get busy(): boolean {
    return this.calls.running > 0;
  }

  /** Resolves when nothing is in flight. */
  idle(): Promise<void> {
    return this.calls.idle();
  }

  /** Resolves with the result: a count or a negative errno. */
  read(memory: number, lengthBytes: number, offsetBytes: number, checksums = 0): Promise<number> {
    return this.calls.call((token) => this.device.read(memory, lengthBytes, offsetBytes, token, checksums));
  }

  write(memory: number, lengthBytes: number, offsetBytes: number): Promise<number> {
    const { sizeBytes } = this.device.geometry;
    check(
      offsetBytes >= 0 && offsetBytes + lengthBytes <= sizeBytes,
      'control work writes beyond its device',
      offsetBytes,
    );
    return this.calls.call((token) => this.device.write(memory, lengthBytes, offsetBytes, 0, token));
  }

  zero(offsetBytes: number, spanBytes: number): Promise<number> {
    check(
      offsetBytes + spanBytes <= this.device.geometry.sizeBytes,
      'control work zeroes beyond its device',
      offsetBytes,
    );
    return this.calls.call((token) => this.device.zero(offsetBytes, spanBytes, 0, token));
  }

  discard(offsetBytes: number, spanBytes: number): Promise<number> {
    check(spanBytes > 0, 'control work discards nothing', offsetBytes);
    return this.calls.call((token) => this.device.discard(offsetBytes, spanBytes, 0, token));
  }

  sync(): Promise<number> {
    return this.calls.call((token) => this.device.sync(token));
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    this.calls.close();
  }
}
