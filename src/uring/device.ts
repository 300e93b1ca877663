/** The device port over the engine. */

import type { Device, DeviceGeometry } from '../ports/device.js';
import { type Engine, OP_DISCARD, OP_EXTENTS, OP_READ, OP_SYNC, OP_WRITE, OP_ZERO } from './engine.js';

export class UringDevice implements Device {
  readonly geometry: DeviceGeometry;
  readonly file: number;
  operationCount = 0;
  private readonly engine: Engine;

  constructor(engine: Engine, file: number, geometry: DeviceGeometry) {
    this.engine = engine;
    this.file = file;
    this.geometry = geometry;
  }

  read(memory: number, lengthBytes: number, offsetBytes: number, token: number, checksums = 0): void {
    this.operationCount += 1;
    this.engine.transfer(OP_READ, token, this.file, memory, lengthBytes, offsetBytes, checksums);
  }

  write(memory: number, lengthBytes: number, offsetBytes: number, flags: number, token: number, checksums = 0): void {
    const { engine } = this;
    this.operationCount += 1;
    const word = engine.transfer(OP_WRITE, token, this.file, memory, lengthBytes, offsetBytes, checksums);
    engine.words[word + 7] = flags;
  }

  writeFrom(
    source: number,
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
    checksums = 0,
  ): void {
    const { engine } = this;
    this.operationCount += 1;
    const word = engine.transfer(OP_WRITE, token, this.file, memory, lengthBytes, offsetBytes, checksums);
    engine.words[word + 7] = flags;
    engine.words[word + 10] = source;
    engine.words[word + 11] = lengthBytes;
    engine.words[word + 14] = 0;
  }

  sync(token: number): void {
    this.operationCount += 1;
    this.engine.transfer(OP_SYNC, token, this.file, 0, 0, 0, 0);
  }

  discard(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    this.range(OP_DISCARD, offsetBytes, spanBytes, flags, token);
  }

  zero(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    this.range(OP_ZERO, offsetBytes, spanBytes, flags, token);
  }

  private range(op: number, offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    const { engine } = this;
    this.operationCount += 1;
    const word = engine.transfer(op, token, this.file, 0, 0, offsetBytes, 0);
    engine.words[word + 7] = flags;
    engine.floats[(word >> 1) + 4] = spanBytes;
  }

  extents(offsetBytes: number, spanBytes: number, memory: number, roomBytes: number, token: number): void {
    const { engine } = this;
    this.operationCount += 1;
    const word = engine.transfer(OP_EXTENTS, token, this.file, memory, roomBytes, offsetBytes, 0);
    engine.floats[(word >> 1) + 4] = spanBytes;
  }

  fence(): number {
    return this.engine.native.fenceOf(this.file);
  }

  close(): void {
    this.engine.native.closeFile(this.file);
  }
}
