/** Reading and writing by promises: what devices and volumes have in common. */

import {
  signal as abortSignal,
  boolean,
  bytes,
  lengthBytes,
  offsetBytes,
  optional,
  options as optionsOf,
} from '../core/arguments.js';
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

const READ = optionsOf<ReadOptions>({ signal: optional(abortSignal) });
const WRITE = optionsOf<WriteOptions>({ fua: optional(boolean), signal: optional(abortSignal) });
const WRITE_ZEROES = optionsOf<{ keepAllocated?: boolean }>({ keepAllocated: optional(boolean) });

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
  private checkRange(at: number, length: number): void {
    if (at + length <= this.sizeBytes) return;
    const where = `${length} bytes at ${at}`;
    throw new StrakeError('OUT_OF_RANGE', `${this.title}: ${where} is outside of ${formatBytes(this.sizeBytes)}`);
  }

  /** Fills `buffer` from `offset` (bytes, any alignment). The buffer must not be used until this resolves. */
  async read(buffer: Uint8Array, offset: number | bigint, options: ReadOptions = {}): Promise<void> {
    bytes.take(buffer, 'read: buffer');
    const at = offsetBytes.take(offset, 'read: offset');
    const { signal } = READ.take(options, 'read: options');
    await this.settle('read', this.transfer(false, buffer, at, 0), signal);
  }

  /** Writes `buffer` at `offset` (bytes, any alignment). The buffer must not be changed until this resolves. */
  async write(buffer: Uint8Array, offset: number | bigint, options: WriteOptions = {}): Promise<void> {
    bytes.take(buffer, 'write: buffer');
    const at = offsetBytes.take(offset, 'write: offset');
    const { fua, signal } = WRITE.take(options, 'write: options');
    await this.settle('write', this.transfer(true, buffer, at, fua ? DEVICE_FUA : 0), signal);
  }

  /** Makes everything durable whose write has resolved. */
  async flush(): Promise<void> {
    await this.settle('flush', ({ client, device }) => client.command(REQUEST_FLUSH, device, 0, 0, 0));
  }

  /** Tells the device that a range is not needed. What is read from it afterwards is undefined. */
  async discard(offset: number | bigint, length: number): Promise<void> {
    const at = offsetBytes.take(offset, 'discard: offset');
    lengthBytes.take(length, 'discard: length');
    await this.settle('discard', (target) => this.change(target, REQUEST_DISCARD, at, length, 0));
  }

  /** Zeroes a range; with `keepAllocated` its space stays reserved. */
  async writeZeroes(offset: number | bigint, length: number, options: { keepAllocated?: boolean } = {}): Promise<void> {
    const at = offsetBytes.take(offset, 'writeZeroes: offset');
    lengthBytes.take(length, 'writeZeroes: length');
    const { keepAllocated } = WRITE_ZEROES.take(options, 'writeZeroes: options');
    const flags = keepAllocated ? DEVICE_KEEP_ALLOCATED : 0;
    await this.settle('zero', (target) => this.change(target, REQUEST_ZERO, at, length, flags));
  }

  private change(
    { client, device }: BlockTarget,
    op: number,
    at: number,
    length: number,
    flags: number,
  ): Promise<number> {
    this.checkRange(at, length);
    return length === 0 ? Promise.resolve(0) : client.command(op, device, at, length, flags);
  }

  private transfer(
    write: boolean,
    buffer: Uint8Array,
    at: number,
    flags: number,
  ): (target: BlockTarget) => Promise<number> {
    const { length } = buffer;
    return ({ client, device }) => {
      this.checkRange(at, length);
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
