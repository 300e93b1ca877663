/**
 * The shard's end of the rings to an in-process client: whatever lies in the shared memory, nothing but an answer comes of it.
 *
 * An input is a list of steps of 48 bytes; the first byte says what is done: put a request into the ring, overwrite a word of
 * a ring's memory, let the shard work, or take replies. Afterwards nothing outside of the client's memory has changed, and
 * unless an index was overwritten or replies were left to pile up, an honest request is carried out.
 */

import { CLIENT_REQUESTS_MAX } from '#strake/core/limits.js';
import { Watch } from '#strake/core/watch.js';
import { viewOf } from '#strake/layout/fields.js';
import { RAW_VOLUME_SCRATCH_BYTES, RawVolume } from '#strake/raw/raw-volume.js';
import { createRing, RingConsumer, RingProducer } from '#strake/ring/spsc-ring.js';
import {
  REPLY_DONE,
  REQUEST_DISCARD,
  REQUEST_FLUSH,
  REQUEST_READ,
  REQUEST_WRITE,
  REQUEST_ZERO,
} from '#strake/serve/ring-protocol.js';
import { RingService } from '#strake/serve/ring-service.js';
import { SimDevice } from '#strake/sim/disk/device.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import type { SimRandom } from '#strake/sim/world/random.js';
import { BLOCK } from '../../support/sim.js';
import { interesting } from '../mutate.js';
import { demand, type FuzzTarget } from '../target.js';

const STEP_BYTES = 48;
const STEPS_MAX = 64;
const ENTRIES = 32;
/** Memory: scratch of the volume, what nobody may touch, the client's, what nobody may touch. */
const GUARD_BYTES = 4 * BLOCK;
const GUARD_START = RAW_VOLUME_SCRATCH_BYTES;
const CLIENT_START = GUARD_START + GUARD_BYTES;
const CLIENT_BYTES = 8 * BLOCK;
const ARENA_BYTES = CLIENT_START + CLIENT_BYTES + GUARD_BYTES;
const DISK_BYTES = 16 * BLOCK;
const GUARD = 0xa7;
const arena = new Uint8Array(new SharedArrayBuffer(ARENA_BYTES));

/** Steps. Any other number lets the shard work, too. */
const REQUEST = 0;
const POKE_REQUESTS = 1;
const POKE_REPLIES = 2;
const WORK = 3;
const TAKE = 4;
const KINDS = 5;

/** Fields of a request, from byte 4 of a step on. */
interface Request {
  readonly op: number;
  readonly tag: number;
  readonly device: number;
  readonly length: number;
  readonly offset: number;
  readonly memory: number;
  readonly flags: number;
  readonly span: number;
}

function putRequest(view: DataView, at: number, request: Request): void {
  const { op, tag, device, length, offset, memory, flags, span } = request;
  [op, tag, device, length].forEach((word, index) => {
    view.setInt32(at + 4 + 4 * index, word, true);
  });
  view.setFloat64(at + 20, offset, true);
  view.setInt32(at + 28, memory, true);
  view.setInt32(at + 32, flags, true);
  view.setFloat64(at + 36, span, true);
}

function getRequest(view: DataView, at: number): Request {
  const [op, tag, device, length] = [0, 1, 2, 3].map((index) => view.getInt32(at + 4 + 4 * index, true));
  const offset = view.getFloat64(at + 20, true);
  const memory = view.getInt32(at + 28, true);
  return {
    op,
    tag,
    device,
    length,
    offset,
    memory,
    flags: view.getInt32(at + 32, true),
    span: view.getFloat64(at + 36, true),
  };
}

/** A request that may be honest but for one field. */
function anyRequest(random: SimRandom): Request {
  const offset = random.chance(0.5) ? random.below(16) * BLOCK : random.below(DISK_BYTES);
  const length = random.chance(0.5) ? BLOCK : 1 + random.below(3 * BLOCK);
  const request = {
    op: random.between(REQUEST_READ, REQUEST_ZERO),
    tag: random.below(CLIENT_REQUESTS_MAX),
    device: random.below(2),
    length,
    offset,
    memory: CLIENT_START + random.below(6) * BLOCK + (offset % BLOCK),
    flags: random.below(2),
    span: length,
  };
  if (random.chance(0.5)) return request;
  const field = random.pick(Object.keys(request) as (keyof typeof request)[]);
  const bounds = [CLIENT_START, CLIENT_START + CLIENT_BYTES, ARENA_BYTES, DISK_BYTES, GUARD_START, 1 << 20, 2 ** 31];
  const near = random.pick(bounds) + random.between(-2, 2) * random.pick([1, 512, BLOCK]);
  const odd = random.pick([Number.NaN, Number.POSITIVE_INFINITY, -1, 0.5, -BLOCK, interesting(random)]);
  return { ...request, [field]: random.chance(0.6) ? near : odd };
}

function generate(random: SimRandom): Uint8Array {
  const steps = 1 + random.below(24);
  const bytes = new Uint8Array(steps * STEP_BYTES);
  const view = viewOf(bytes);
  const indices = random.chance(0.2);
  for (let at = 0; at < bytes.length; at += STEP_BYTES) {
    const other = random.chance(0.5) ? WORK : indices ? random.below(KINDS) : TAKE;
    bytes[at] = random.chance(0.6) ? REQUEST : other;
    putRequest(view, at, anyRequest(random));
    if (bytes[at] !== POKE_REQUESTS && bytes[at] !== POKE_REPLIES) continue;
    const word = random.pick([16, 32, 48, random.below(64 + 16 * ENTRIES)]);
    view.setInt32(at + 4, word, true);
    view.setInt32(at + 8, random.chance(0.5) ? random.between(-4, 40) : interesting(random), true);
  }
  return bytes;
}

/** A shard with a device, and a client that does as the input says. */
class World {
  readonly loop = new SimLoop({ seed: 1, arena });
  /** An index of a ring is not what it was: nothing has to be answered any more. */
  spoilt = false;
  private readonly requestMemory = createRing(ENTRIES);
  private readonly replyMemory = createRing(2 * ENTRIES);
  private readonly requests: RingProducer;
  private readonly replies: RingConsumer;
  private readonly service: RingService;
  private readonly turn: number;
  /** Requests with a tag that exists, and replies that were taken. */
  private asked = 0;
  private answered = 0;

  constructor() {
    arena.fill(GUARD);
    const { loop } = this;
    const device = new SimDevice(loop, new SimDisk({ sizeBytes: DISK_BYTES }));
    const volume = new RawVolume(loop, loop, device, 0, false, () => {});
    this.turn = loop.register({ complete: () => {} });
    this.service = new RingService(loop, loop, new Watch(loop, loop), {
      requests: this.requestMemory,
      replies: this.replyMemory,
      memoryStart: CLIENT_START,
      memoryBytes: CLIENT_BYTES,
      volume: (number) => (number === 0 ? volume : undefined),
      wake: () => {},
      onBroken: (why) => demand(this.spoilt, why),
    });
    this.requests = new RingProducer(this.requestMemory);
    this.replies = new RingConsumer(this.replyMemory);
  }

  ask({ op, tag, device, length, offset, memory, flags, span }: Request): void {
    // As many requests at a time as there are entries for replies.
    if (!this.spoilt && this.asked - this.answered >= ENTRIES) return;
    const word = this.reserve();
    if (word < 0) return;
    const { words, floats } = this.requests;
    words.set([op, tag, device, length], word);
    floats[(word >> 1) + 2] = offset;
    words.set([memory, flags], word + 6);
    floats[(word >> 1) + 4] = span;
    this.requests.publish();
    if (tag >= 0 && tag < CLIENT_REQUESTS_MAX) this.asked += 1;
  }

  /** The client's own ends may find that what it has overwritten is nonsense. */
  private reserve(): number {
    try {
      return this.requests.reserve();
    } catch (error) {
      if (this.spoilt) return -1;
      throw error;
    }
  }

  poke(memory: SharedArrayBuffer, word: number, value: number): void {
    this.spoilt = true;
    const words = new Int32Array(memory);
    words[Math.abs(word) % words.length] = value;
  }

  step(bytes: Uint8Array): void {
    const view = viewOf(bytes);
    switch (bytes[0] % KINDS) {
      case REQUEST:
        this.ask(getRequest(view, 0));
        break;
      case POKE_REQUESTS:
        this.poke(this.requestMemory, view.getInt32(4, true), view.getInt32(8, true));
        break;
      case POKE_REPLIES:
        this.poke(this.replyMemory, view.getInt32(4, true), view.getInt32(8, true));
        break;
      case TAKE:
        this.take();
        break;
      default:
        this.work();
    }
  }

  /** As in a shard, which is woken by a completion, so that a batch ends after it. */
  work(): void {
    this.service.drain();
    this.loop.defer(this.turn, 0);
    for (let batch = 0; batch < 4; batch += 1) this.loop.step();
  }

  /** Takes replies. Returns the last result for this tag. */
  take(tag = -1): number | undefined {
    let found: number | undefined;
    try {
      for (let word = this.replies.next(); word >= 0; word = this.replies.next()) {
        const { words } = this.replies;
        if (words[word] === REPLY_DONE) this.answered += 1;
        if (words[word + 1] === tag) found = words[word + 2];
      }
      this.replies.release();
    } catch (error) {
      if (!this.spoilt) throw error;
    }
    return found;
  }

  /** Lets everything end. */
  settle(): void {
    this.work();
    for (let batch = 0; this.service.busy; batch += 1) {
      demand(batch < 10_000, 'requests do not end');
      this.loop.step();
    }
    this.take();
  }

  judge(): void {
    this.settle();
    for (const start of [GUARD_START, CLIENT_START + CLIENT_BYTES]) {
      const at = arena.subarray(start, start + GUARD_BYTES).findIndex((byte) => byte !== GUARD);
      demand(at < 0, `byte ${start + at}, outside of the client's memory, has been changed`);
    }
    if (this.spoilt) return;
    demand(this.asked === this.answered, `${this.asked} requests, ${this.answered} replies`);
    this.serveHonestly();
  }

  private serveHonestly(): void {
    const honest = { tag: 5, device: 0, length: BLOCK, offset: 3 * BLOCK, flags: 0, span: 0 };
    arena.fill(0x5e, CLIENT_START, CLIENT_START + BLOCK);
    for (const [op, memory] of [
      [REQUEST_WRITE, CLIENT_START],
      [REQUEST_READ, CLIENT_START + BLOCK],
      [REQUEST_FLUSH, 0],
      [REQUEST_DISCARD, 0],
    ]) {
      this.ask({ ...honest, op, memory, span: BLOCK });
      this.work();
      for (let batch = 0; this.service.busy && batch < 1000; batch += 1) this.loop.step();
      const result = this.take(5);
      demand(result !== undefined && result >= 0, `an honest request ${op} got ${result}`);
    }
    const right = arena.subarray(CLIENT_START + BLOCK, CLIENT_START + 2 * BLOCK).every((byte) => byte === 0x5e);
    demand(right, 'an honest read has wrong data');
  }
}

export const ring: FuzzTarget = {
  name: 'ring',
  covers: ['ring', 'worker', 'client'],
  bytesMax: STEPS_MAX * STEP_BYTES,
  corpus: () => [new Uint8Array(STEP_BYTES)],
  generate,
  run: (bytes) => {
    const world = new World();
    for (let at = 0; at + STEP_BYTES <= bytes.length; at += STEP_BYTES) world.step(bytes.subarray(at, at + STEP_BYTES));
    world.judge();
  },
};
