/**
 * A program in the process of a simulated node: it uses the volume over the rings between its thread and the shard's.
 *
 * Both ends are the product's. What is simulated is that the other thread wakes up later, and that the two share memory
 * in which nobody may touch what a device that was given up still has.
 */

import { BufferPool } from '../../core/buffer-pool.js';
import { EBADMSG, EIO, ENODATA } from '../../core/errno.js';
import { CLIENT_BUFFER_CLASSES, CLIENT_RING_ENTRIES } from '../../core/limits.js';
import type { Watch } from '../../core/watch.js';
import { CMD_FLAG_FUA, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE } from '../../nbd/protocol.js';
import { DEVICE_FUA } from '../../ports/device.js';
import type { Volume } from '../../ports/volume.js';
import { createRing } from '../../ring/spsc-ring.js';
import { RingClient } from '../../serve/ring-client.js';
import { REQUEST_DISCARD, REQUEST_FLUSH, REQUEST_ZERO } from '../../serve/ring-protocol.js';
import { RingService } from '../../serve/ring-service.js';
import { Lane } from '../world/mailbox.js';
import type { SimProcess } from '../world/process.js';
import type { SessionRequest } from './nbd-session.js';

/** Memory for the buffers of programs, starting at a page. */
export const RING_MEMORY_BYTES = BufferPool.regionBytes(CLIENT_BUFFER_CLASSES);

/** Buffers and requests at a time, where they are few: requests wait in the program's thread, and large ones are cut. */
const FEW = {
  buffers: [
    { bytes: 4 << 10, count: 2 },
    { bytes: 8 << 10, count: 1 },
    { bytes: 16 << 10, count: 1 },
  ],
  requestsMax: 3,
};

/** What only a device can be the reason of. Everything else is told as it is, so that nothing excuses it. */
const DEVICE_ERRORS: readonly number[] = [EIO, EBADMSG, ENODATA];

/** The rings of a process, and the thread of its programs. */
export class SimRings {
  readonly client: RingClient;
  /** What the program's thread does when it comes to it. */
  readonly program: Lane;

  /** `volume` is what programs know by a number, if it is there; `memoryStart` is of `RING_MEMORY_BYTES`. */
  constructor(process: SimProcess, watch: Watch, memoryStart: number, volume: (number: number) => Volume | undefined) {
    const random = process.random.fork('rings');
    const shard = new Lane(process, random);
    this.program = new Lane(process, random);
    const [requests, replies] = [createRing(CLIENT_RING_ENTRIES), createRing(CLIENT_RING_ENTRIES)];
    const service = new RingService(process, process, watch, {
      requests,
      replies,
      memoryStart,
      memoryBytes: RING_MEMORY_BYTES,
      volume,
      wake: () => this.program.post(() => this.client.drain()),
      onBroken: (why) => {
        throw new Error(why);
      },
    });
    const within = (memory: number, lengthBytes: number) => {
      process.checkRange(memory, lengthBytes);
      return process.bytes.subarray(memory, memory + lengthBytes);
    };
    this.client = new RingClient({
      requests,
      replies,
      memoryStart,
      ...(random.chance(0.5) ? FEW : {}),
      copyIn: (memory, bytes, at, length) => within(memory, length).set(bytes.subarray(at, at + length)),
      copyOut: (bytes, at, memory, length) => bytes.set(within(memory, length), at),
      wakeShard: () => shard.post(() => service.drain()),
      onBusy: () => {},
    });
  }
}

/** What one program asks for. It ends with its process. */
export class RingSession {
  /** Programs cannot ask for the status of blocks. */
  readonly status = false;
  private readonly rings: SimRings;
  private readonly volume: number;

  /** `volume`: its number. */
  constructor(rings: SimRings, volume: number) {
    this.rings = rings;
    this.volume = volume;
  }

  /** Sends a request. A write's payload is put into its bytes by `fill`, from the place that it is told. */
  send(request: SessionRequest, flags: number, fill: (bytes: Uint8Array, at: number) => void): void {
    const { program } = this.rings;
    this.ask(request, flags, fill).then(
      (result) =>
        program.post(() => {
          request.error = DEVICE_ERRORS.includes(-result) ? EIO : Math.abs(result);
          request.ended(request);
        }),
      (error: unknown) =>
        program.post(() => {
          throw error;
        }),
    );
  }

  private ask(request: SessionRequest, flags: number, fill: (bytes: Uint8Array, at: number) => void): Promise<number> {
    const { rings, volume } = this;
    const { client } = rings;
    const { type, offset, length } = request;
    const fua = (flags & CMD_FLAG_FUA) !== 0 ? DEVICE_FUA : 0;
    if (type === CMD_FLUSH) return client.command(REQUEST_FLUSH, volume, 0, 0, 0);
    if (type !== CMD_READ && type !== CMD_WRITE) {
      return client.command(type === CMD_TRIM ? REQUEST_DISCARD : REQUEST_ZERO, volume, offset, length, fua);
    }
    const bytes = new Uint8Array(length);
    if (type === CMD_WRITE) fill(bytes, 0);
    else request.bytes = bytes;
    return client.transfer(type === CMD_WRITE, volume, offset, bytes, fua);
  }

  /** A program cannot take back what it has asked for. */
  finish(): void {}
}
