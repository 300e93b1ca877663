/**
 * A device whose operations end in an order that the test chooses: for rules about order, which a real device breaks only
 * now and then. Content moves when an operation begins or when it ends, as a real one may do at any time between.
 */

import { COMPLETION_ABANDONED } from '#strake/ports/completion.js';
import type { Device, DeviceGeometry } from '#strake/ports/device.js';
import { crc32c } from '#strake/uring/checksum.js';
import { WorldWithoutEngine } from './world-without-engine.js';

export interface PendingOperation {
  readonly kind: 'read' | 'write' | 'sync' | 'zero' | 'discard' | 'nop';
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Moves the content, if it has not been moved, and completes; or fails with a negative errno. */
  end(result?: number, flags?: number): void;
}

/** What one checksum covers. */
const CHECKSUM_BLOCK_BYTES = 4096;

/** Completions, memory and device in one, without an engine. */
export class ScriptedWorld extends WorldWithoutEngine {
  private given = 0;
  readonly pending: PendingOperation[] = [];
  readonly content: Uint8Array;
  /** Whether the next operation moves its content when it begins. */
  early: () => boolean = () => false;
  readonly device: Device;

  constructor(memoryBytes: number, sizeBytes: number, logicalBlockBytes: number) {
    super(memoryBytes);
    this.content = new Uint8Array(sizeBytes);
    this.device = this.makeDevice({
      sizeBytes,
      logicalBlockBytes,
      physicalBlockBytes: 4096,
      discard: true,
      writeZeroesMaxBytes: sizeBytes,
    });
  }

  defer(token: number, result: number): void {
    this.begin('nop', 0, 0, token, result, () => {});
  }

  checksum(at: number, lengthBytes: number): number {
    if (at < 0 || lengthBytes < 0 || at + lengthBytes > this.bytes.length)
      throw new Error('the range leaves the memory');
    return crc32c(this.bytes.subarray(at, at + lengthBytes));
  }

  private putChecksums(memory: number, lengthBytes: number, checksums: number): void {
    if (checksums === 0) return;
    if (lengthBytes % CHECKSUM_BLOCK_BYTES !== 0 || checksums % 4 !== 0) {
      throw new Error(`the volume wants checksums of ${lengthBytes} bytes at ${checksums}`);
    }
    const words = new Uint32Array(this.bytes.buffer, checksums, lengthBytes / CHECKSUM_BLOCK_BYTES);
    for (const index of words.keys()) {
      words[index] = this.checksum(memory + index * CHECKSUM_BLOCK_BYTES, CHECKSUM_BLOCK_BYTES);
    }
  }

  /** Ends the operation at this place in the list of those pending. */
  end(index: number, result?: number, flags?: number): void {
    this.pending.splice(index, 1)[0].end(result, flags);
  }

  private begin(
    kind: PendingOperation['kind'],
    offsetBytes: number,
    lengthBytes: number,
    token: number,
    success: number,
    move: () => void,
    settle: () => void = () => {},
    memory = -1,
  ): void {
    const early = kind === 'read' && this.early();
    if (early) move();
    const end = (result = success, flags = 0) => {
      if (result >= 0 && !early) move();
      if (result >= 0) settle();
      if ((flags & COMPLETION_ABANDONED) !== 0 && memory >= 0) {
        this.abandoned.add(memory);
        this.givenUp.push(memory);
      }
      this.finish(token, result, flags);
    };
    this.given += 1;
    this.pending.push({ kind, offsetBytes, lengthBytes, end });
  }

  private makeDevice(geometry: DeviceGeometry): Device {
    const { content, bytes } = this;
    const given = () => this.given;
    const check = (offset: number, length: number) => {
      const unit = geometry.logicalBlockBytes;
      if (offset % unit !== 0 || length % unit !== 0 || length === 0 || offset + length > geometry.sizeBytes) {
        throw new Error(`the volume sent ${length} bytes at ${offset} to a device of ${unit}-byte blocks`);
      }
    };
    const erase = (kind: 'zero' | 'discard') => (offset: number, span: number, _flags: number, token: number) => {
      check(offset, span);
      this.begin(kind, offset, span, token, 0, () => content.fill(0, offset, offset + span));
    };
    const write: Device['write'] = (memory, length, offset, _flags, token, checksums = 0) => {
      check(offset, length);
      this.putChecksums(memory, length, checksums);
      // A device takes the payload at its leisure, but it belongs to the operation as it was given.
      const payload = bytes.slice(memory, memory + length);
      this.begin('write', offset, length, token, length, () => content.set(payload, offset), undefined, memory);
    };
    return {
      geometry,
      get operationCount() {
        return given();
      },
      read: (memory, length, offset, token, checksums = 0) => {
        check(offset, length);
        const move = () => bytes.set(content.subarray(offset, offset + length), memory);
        const settle = () => this.putChecksums(memory, length, checksums);
        this.begin('read', offset, length, token, length, move, settle, memory);
      },
      write,
      writeFrom: (source, memory, length, offset, flags, token, checksums) => {
        this.copy(memory, source, length);
        write(memory, length, offset, flags, token, checksums);
      },
      sync: (token) => this.begin('sync', 0, 0, token, 0, () => {}),
      discard: erase('discard'),
      zero: erase('zero'),
      extents: () => {
        throw new Error('not scripted');
      },
      fence: () => 0,
      close: () => {},
    };
  }
}
