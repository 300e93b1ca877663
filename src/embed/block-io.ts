/** Reading and writing by promises: what devices and volumes have in common. */

import { types } from 'node:util';
import { EINVAL } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import { formatBytes } from '../core/units.js';
import { DEVICE_FUA, DEVICE_KEEP_ALLOCATED } from '../ports/device.js';
import type { RingClient } from '../serve/ring-client.js';
import { REQUEST_DISCARD, REQUEST_FLUSH, REQUEST_ZERO } from '../serve/ring-protocol.js';

/** Options of a read. */
export interface ReadOptions {
  readonly signal?: AbortSignal;
}

/** Options of a write. */
export interface WriteOptions {
  /** Resolve only when the data is durable. */
  readonly fua?: boolean;
  readonly signal?: AbortSignal;
}

/** Where operations go: a shard's rings, and a number there. */
export interface BlockTarget {
  readonly client: RingClient;
  readonly device: number;
}

export abstract class BlockIo {
  /** Operations in flight, and who waits for the last. */
  private running = 0;
  private whenIdle: (() => void) | null = null;

  abstract get sizeBytes(): number;
  /** What errors call it. */
  protected abstract get title(): string;
  /** Rejects with a `StrakeError` if it is closed, or between two workers. */
  protected abstract target(): Promise<BlockTarget>;
  /** The error that a failed operation means; `errno` is positive. */
  protected abstract failure(what: string, errno: number): Promise<StrakeError>;

  /** Throws `ERR_STRAKE_OUT_OF_RANGE`. The size is known once there is a target. */
  private offsetNumber(offset: number | bigint, length: number): number {
    const at = Number(offset);
    if (!Number.isSafeInteger(at) || at < 0 || at + length > this.sizeBytes) {
      const where = `${length} bytes at ${offset}`;
      throw new StrakeError('OUT_OF_RANGE', `${this.title}: ${where} is outside of ${formatBytes(this.sizeBytes)}`);
    }
    return at;
  }

  /** Fills `buffer` from `offset` (bytes, any alignment). The buffer must not be used until this resolves. */
  async read(buffer: Uint8Array, offset: number | bigint, options: ReadOptions = {}): Promise<void> {
    await this.settle('read', this.transfer(false, buffer, offset, 0), options.signal);
  }

  /** Writes `buffer` at `offset` (bytes, any alignment). The buffer must not be changed until this resolves. */
  async write(buffer: Uint8Array, offset: number | bigint, options: WriteOptions = {}): Promise<void> {
    const flags = options.fua ? DEVICE_FUA : 0;
    await this.settle('write', this.transfer(true, buffer, offset, flags), options.signal);
  }

  /** Makes everything durable whose write has resolved. */
  async flush(): Promise<void> {
    await this.settle('flush', ({ client, device }) => client.command(REQUEST_FLUSH, device, 0, 0, 0));
  }

  /** Tells the device that a range is not needed. What is read from it afterwards is undefined. */
  async discard(offset: number | bigint, length: number): Promise<void> {
    await this.settle('discard', (target) => this.change(target, REQUEST_DISCARD, offset, length, 0));
  }

  /** Zeroes a range; with `keepAllocated` its space stays reserved. */
  async writeZeroes(offset: number | bigint, length: number, options: { keepAllocated?: boolean } = {}): Promise<void> {
    const flags = options.keepAllocated ? DEVICE_KEEP_ALLOCATED : 0;
    await this.settle('zero', (target) => this.change(target, REQUEST_ZERO, offset, length, flags));
  }

  private change(
    { client, device }: BlockTarget,
    op: number,
    offset: number | bigint,
    length: number,
    flags: number,
  ): Promise<number> {
    const at = this.offsetNumber(offset, length);
    return length === 0 ? Promise.resolve(0) : client.command(op, device, at, length, flags);
  }

  private transfer(
    write: boolean,
    buffer: Uint8Array,
    offset: number | bigint,
    flags: number,
  ): (target: BlockTarget) => Promise<number> {
    if (!types.isUint8Array(buffer)) {
      throw new StrakeError('INVALID_ARGUMENT', `${this.title}: the buffer is not a Uint8Array`);
    }
    const { length } = buffer;
    return ({ client, device }) => {
      const at = this.offsetNumber(offset, length);
      // Bytes that were given away since are no success, and neither is a part of them.
      return buffer.length === length ? client.transfer(write, device, at, buffer, flags) : Promise.resolve(-EINVAL);
    };
  }

  private async settle(
    what: string,
    start: (target: BlockTarget) => Promise<number>,
    signal?: AbortSignal,
  ): Promise<void> {
    checkSignal(signal);
    const operation = this.track(this.target().then(start));
    const result = await (signal === undefined ? operation : abortable(operation, signal));
    if (result < 0) throw await this.failure(what, -result);
  }

  /** Counts an operation until it has ended, so that closing can wait for it. */
  protected track<T>(operation: Promise<T>): Promise<T> {
    this.running += 1;
    return operation.finally(() => {
      this.running -= 1;
      if (this.running === 0) this.whenIdle?.();
    });
  }

  /** Resolves when nothing is under way. What is begun meanwhile counts, so whoever closes refuses it first. @internal */
  async idle(): Promise<void> {
    if (this.running === 0) return;
    await new Promise<void>((resolve) => {
      this.whenIdle = resolve;
    });
  }
}

function givenUp(signal: AbortSignal): StrakeError {
  return new StrakeError('ABORTED', 'the operation was given up', { cause: signal.reason });
}

export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw givenUp(signal);
}

function abortable<T>(operation: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(givenUp(signal));
    signal.addEventListener('abort', abort, { once: true });
    operation.finally(() => signal.removeEventListener('abort', abort)).then(resolve, reject);
  });
}
