/** CRC32C of memory, and of what devices read and write, by an engine in the test's own thread. */

import * as assert from 'uvu/assert';
import { EINVAL } from '#strake/core/errno.js';
import type { Device } from '#strake/ports/device.js';
import { crc32c } from '#strake/uring/checksum.js';
import { UringDevice } from '#strake/uring/device.js';
import { Engine, type EngineKind } from '#strake/uring/engine.js';
import { openDeviceFile, within } from '#strake/uring/native-devices.js';
import { check, run, uring } from '../support/check.js';
import { scratchFile } from '../support/scratch.js';

const EFAULT = 14;
const BLOCK = 4096;
const BLOCKS = 3;
const LENGTH = BLOCKS * BLOCK;
const ARENA = 256 << 10;
/** Places in memory. */
const SUMS = 64;
const PAYLOAD = 64 << 10;
const SOURCE = (128 << 10) + 100;

/** RFC 3720, appendix B.4, one bit at a time. */
function reference(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** Blocks that differ from each other. */
const content = Uint8Array.from({ length: LENGTH }, (_, at) => Math.imul(at, 0x9e3779b9) >>> 24);

function blockSums(bytes: Uint8Array): number[] {
  return Array.from({ length: bytes.length / BLOCK }, (_, block) =>
    reference(bytes.subarray(block * BLOCK, (block + 1) * BLOCK)),
  );
}

/** An engine with one device on it, whose operations are awaited. */
class Bench {
  readonly engine: Engine;
  readonly device: Device;
  private readonly waiting: ((result: number) => void)[] = [];
  private readonly token: number;

  constructor(kind: EngineKind, handle: number, guest?: Uint8Array) {
    const memory = guest === undefined ? {} : { guest };
    const sizes = { arenaBytes: ARENA, ...memory, operationsMax: 16, filesMax: 4, threads: 2 };
    this.engine = new Engine({ kind, blocking: false, engines: 1, onWake: () => {}, ...sizes });
    this.engine.native.setRef(true);
    this.token = this.engine.register({ complete: (tag, result) => this.waiting[tag](result) });
    this.device = new UringDevice(this.engine, this.engine.native.adoptDevice(handle), {
      sizeBytes: 1 << 20,
      logicalBlockBytes: 512,
      physicalBlockBytes: BLOCK,
      discard: true,
      writeZeroesMaxBytes: 0,
    });
  }

  /** Resolves with the result of the operation that `start` starts. */
  result(start: (token: number) => void): Promise<number> {
    return new Promise((resolve) => start(this.token + this.waiting.push(resolve) - 1));
  }

  get payload(): Uint8Array {
    return this.engine.bytes.subarray(PAYLOAD, PAYLOAD + LENGTH);
  }

  /** The words where the checksums go, and one more. */
  get sums(): Uint32Array {
    const { bytes } = this.engine;
    return new Uint32Array(bytes.buffer, bytes.byteOffset + SUMS, BLOCKS + 1);
  }
}

async function benchOn(kind: EngineKind, guest?: Uint8Array): Promise<Bench> {
  const { handle } = await within(openDeviceFile(scratchFile(1 << 20), false), 'a file');
  return new Bench(kind, handle, guest);
}

check('CRC32C of arrays, ordinary and shared', () => {
  assert.is(crc32c(Buffer.from('123456789')), 0xe3069283);
  assert.is(crc32c(new Uint8Array(0)), 0);
  assert.is(crc32c(content), reference(content));
  const shared = new Uint8Array(new SharedArrayBuffer(LENGTH));
  shared.set(content);
  assert.is(crc32c(shared.subarray(1, 7000)), reference(content.subarray(1, 7000)));
});

for (const kind of ['io_uring', 'threads'] as const) {
  const needs = kind === 'io_uring' ? [uring] : [];

  check(`CRC32C of an engine's memory (${kind})`, needs, async () => {
    const { engine } = await benchOn(kind);
    engine.bytes.set(content, 100);
    assert.is(engine.checksum(100, LENGTH), reference(content));
    assert.is(engine.checksum(101, 1), reference(content.subarray(1, 2)));
    assert.is(engine.checksum(ARENA, 0), 0);
    const bad = [
      [0, ARENA + 1],
      [ARENA, 1],
      [-1, 1],
      [0, -1],
      [0.5, 1],
      [0, Number.NaN],
      [0, Number.POSITIVE_INFINITY],
      [2 ** 32, 1],
      [0, 2 ** 32 + 1],
    ];
    for (const [at, length] of bad) assert.throws(() => engine.checksum(at, length), /leaves the array/);
    const sums = new Uint32Array(LENGTH / BLOCK + 1);
    engine.checksums(100, LENGTH / BLOCK, sums);
    assert.equal([...sums], [...blockSums(content), 0]);
    for (const [at, blocks] of [
      [-BLOCK, 1],
      [0.5, 1],
      [ARENA - BLOCK + 1, 1],
      [0, ARENA / BLOCK + 1],
    ])
      assert.throws(() => engine.checksums(at, blocks, sums), /leaves the array/);
    assert.throws(() => engine.checksums(0, sums.length + 1, sums), /fewer words/);
    assert.is(engine.close(1000), 0);
    // The memory is there as long as its owner.
    assert.is(engine.checksum(100, LENGTH), reference(content));
  });

  check(`reads and writes yield the CRC32C of each block to those who ask (${kind})`, needs, async () => {
    const bench = await benchOn(kind);
    const { device, engine } = bench;
    const expected = [...blockSums(content), 0];
    bench.payload.set(content);
    assert.is(await bench.result((token) => device.write(PAYLOAD, LENGTH, BLOCK, 0, token, SUMS)), LENGTH);
    assert.equal([...bench.sums], expected);

    bench.sums.fill(0);
    bench.payload.fill(0);
    assert.is(await bench.result((token) => device.read(PAYLOAD, LENGTH, BLOCK, token, SUMS)), LENGTH);
    assert.equal([...bench.sums], expected);
    assert.equal(Buffer.from(bench.payload), Buffer.from(content));

    bench.sums.fill(0);
    bench.payload.fill(0);
    engine.bytes.set(content, SOURCE);
    const copied = (token: number) => device.writeFrom(SOURCE, PAYLOAD, LENGTH, 0, 0, token, SUMS);
    assert.is(await bench.result(copied), LENGTH);
    assert.equal([...bench.sums], expected);

    // The entries of those that asked are used again by those that do not.
    bench.sums.fill(0);
    assert.is(await bench.result((token) => device.read(PAYLOAD, LENGTH, 0, token)), LENGTH);
    assert.is(await bench.result((token) => device.write(PAYLOAD, LENGTH, 0, 0, token)), LENGTH);
    assert.is(await bench.result((token) => device.writeFrom(SOURCE, PAYLOAD, LENGTH, 0, 0, token)), LENGTH);
    assert.equal([...bench.sums], [0, 0, 0, 0]);

    const misaligned = (token: number) => device.read(PAYLOAD, LENGTH - 512, 0, token, SUMS);
    assert.is(await bench.result(misaligned), -EINVAL);
    assert.is(await bench.result((token) => device.read(PAYLOAD, LENGTH, 0, token, ARENA - 8)), -EFAULT);
    assert.is(engine.close(1000), 0);
  });

  check(`a device is written from, and read to, the memory of another engine (${kind})`, needs, async () => {
    const owner = await benchOn(kind);
    const bench = await benchOn(kind, owner.engine.bytes);
    const { device, engine } = bench;
    const payload = engine.guestStart + PAYLOAD;
    assert.is(engine.guestStart, ARENA);
    owner.payload.set(content);
    assert.is(engine.checksum(payload, LENGTH), reference(content));
    assert.is(await bench.result((token) => device.write(payload, LENGTH, BLOCK, 0, token, SUMS)), LENGTH);
    assert.equal([...bench.sums], [...blockSums(content), 0]);
    owner.payload.fill(0);
    bench.sums.fill(0);
    assert.is(await bench.result((token) => device.read(payload, LENGTH, BLOCK, token, SUMS)), LENGTH);
    assert.equal([...bench.sums], [...blockSums(content), 0]);
    assert.equal(Buffer.from(owner.payload), Buffer.from(content));
    engine.fill(payload, BLOCK, 7);
    engine.copy(payload + BLOCK, payload, BLOCK);
    assert.is(await bench.result((token) => device.read(payload + 2 * BLOCK, BLOCK, 0, token)), BLOCK);
    assert.ok(owner.payload.subarray(0, 2 * BLOCK).every((byte) => byte === 7));
    // No range lies in both memories, or behind them.
    for (const at of [ARENA - 512, 2 * ARENA - LENGTH + 512, 2 * ARENA]) {
      assert.is(await bench.result((token) => device.read(at, LENGTH, 0, token)), -EFAULT);
    }
    assert.is(engine.close(1000), 0);
    assert.is(owner.engine.close(1000), 0);
  });

  check(`the checksums of a corrupt read are those of its corrupt bytes (${kind})`, needs, async () => {
    const bench = await benchOn(kind);
    const { device, engine } = bench;
    engine.native.injectFaults([{ op: 'read', count: 1, corrupt: true }]);
    bench.payload.set(content);
    assert.is(await bench.result((token) => device.write(PAYLOAD, LENGTH, 0, 0, token, SUMS)), LENGTH);
    const written = [...bench.sums];
    assert.is(await bench.result((token) => device.read(PAYLOAD, LENGTH, 0, token, SUMS)), LENGTH);
    assert.equal([...bench.sums.subarray(0, BLOCKS)], blockSums(bench.payload));
    assert.is([...bench.sums].filter((sum, block) => sum !== written[block]).length, 1);
    assert.is(await bench.result((token) => device.read(PAYLOAD, LENGTH, 0, token, SUMS)), LENGTH);
    assert.equal([...bench.sums], written);
    assert.is(engine.close(1000), 0);
  });
}

run();
