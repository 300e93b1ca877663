/** Both ends of the rings to volumes on another shard, over a volume that notes what it is asked and answers when the test says so. */

import * as assert from 'uvu/assert';
import { VolumeAnswerer } from '#strake/across/volume-answerer.js';
import { AskedRange, EngineTraffic, VolumeAsker } from '#strake/across/volume-asker.js';
import {
  createVolumeLink,
  VOLUME_DISCARD,
  VOLUME_EXTENTS,
  VOLUME_FLUSH,
  VOLUME_READ,
  VOLUME_WRITE,
  VOLUME_ZERO,
} from '#strake/across/volume-protocol.js';
import { ECANCELED, EIO, ESHUTDOWN } from '#strake/core/errno.js';
import { COMPLETION_ABANDONED } from '#strake/ports/completion.js';
import type { Memory } from '#strake/ports/memory.js';
import type { Volume } from '#strake/ports/volume.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { check, run } from '../support/check.js';

const BLOCK = 4096;
const MEMORY = 1 << 20;
/** Where the asking shard's arena begins for the other one, and where that one has memory of its own. */
const GUEST = 512 << 10;
const OWN = 256 << 10;
const ENGINE = 3;

class Noting implements Volume {
  readonly sizeBytes = 2 ** 50;
  readonly preferredBlockBytes = BLOCK;
  readonly readOnly = false;
  readonly discard = true;
  readonly fastZero = true;
  readonly asked: (readonly [string, ...number[]])[] = [];
  readonly tokens: number[] = [];
  private readonly loop: SimLoop;

  constructor(loop: SimLoop) {
    this.loop = loop;
  }

  private note(token: number, what: string, ...numbers: number[]): void {
    this.asked.push([what, ...numbers]);
    this.tokens.push(token);
  }

  read(memory: number, length: number, offset: number, token: number): void {
    this.note(token, 'read', memory, length, offset);
  }

  write(memory: number, length: number, offset: number, flags: number, token: number): void {
    this.note(token, 'write', memory, length, offset, flags);
  }

  writeFrom(): void {
    throw new Error('what is to be copied is copied by whoever asks');
  }

  flush(token: number): void {
    this.note(token, 'flush');
  }

  discardRange(offset: number, span: number, flags: number, token: number): void {
    this.note(token, 'discard', offset, span, flags);
  }

  zero(offset: number, span: number, flags: number, token: number): void {
    this.note(token, 'zero', offset, span, flags);
  }

  onFence(): void {}

  extents(offset: number, span: number, memory: number, room: number, token: number): void {
    this.loop.bytes.fill(0xee, memory, memory + 16);
    this.note(token, 'extents', offset, span, memory, room);
  }
}

class Pair {
  readonly loop = new SimLoop({ seed: 1, arenaBytes: MEMORY });
  readonly noting = new Noting(this.loop);
  readonly traffic = new EngineTraffic(ENGINE);
  readonly ends: (readonly [number, number] | undefined)[] = [];
  readonly order: string[] = [];
  readonly lent: number[] = [];
  readonly back: number[] = [];
  readonly asker: VolumeAsker;
  readonly answerer: VolumeAnswerer;
  private readonly base: number;

  constructor() {
    const { loop, noting } = this;
    const link = createVolumeLink();
    const wakes = loop.register({ complete: (tag) => (tag === 0 ? this.asker : this.answerer).drain() });
    this.base = loop.register({
      complete: (tag, result, flags) => {
        assert.is(this.ends[tag], undefined, 'each ends once');
        this.ends[tag] = [result, flags];
      },
    });
    this.answerer = new VolumeAnswerer({
      ...{ completions: loop, memory: loop, link, guestStart: GUEST, extents: OWN },
      guest: loop.bytes.subarray(0, GUEST / 2),
      wake: () => loop.defer(wakes, 0),
      engine: (number) => (number === ENGINE ? noting : undefined),
    });
    const memory = Object.create(loop, {
      lend: { value: (at: number) => this.lent.push(at) },
      takeBack: { value: (at: number) => this.back.push(at) },
    }) as Memory;
    this.asker = new VolumeAsker({
      ...{ completions: loop, memory, link },
      wake: () => {
        this.order.push('wake');
        loop.defer(wakes + 1, 0);
      },
      inBatch: () => false,
      takeCopies: () => this.order.push('copies'),
    });
  }

  ask(what: number, at: readonly [number, number, number, number], traffic = this.traffic): void {
    const token = this.base + this.ends.push(undefined) - 1;
    this.asker.ask(traffic, what, new AskedRange().set(...at), token);
  }

  /** Until nothing happens any more. */
  async quiet(): Promise<void> {
    let batches = -1;
    await this.loop.run(() => {
      const same = batches === this.loop.batches;
      batches = this.loop.batches;
      return same || !this.loop.step();
    });
  }

  answer(number: number, result: number, flags = 0): Promise<void> {
    this.loop.complete(this.noting.tokens[number], result, flags);
    return this.quiet();
  }
}

check('each request arrives as it was asked, with its payload behind the memory of the other shard', async () => {
  const pair = new Pair();
  const far = 2 ** 45 + 4096;
  pair.ask(VOLUME_READ, [100, far, 5000, 0]);
  pair.ask(VOLUME_WRITE, [BLOCK, far, BLOCK, 1]);
  pair.ask(VOLUME_FLUSH, [0, 0, 0, 0]);
  pair.ask(VOLUME_DISCARD, [0, far, 2 ** 40, 0]);
  pair.ask(VOLUME_ZERO, [0, 512, 2 ** 33, 3]);
  await pair.quiet();
  assert.equal(pair.noting.asked, [
    ['read', GUEST + 100, 5000, far],
    ['write', GUEST + BLOCK, BLOCK, far, 1],
    ['flush'],
    ['discard', far, 2 ** 40, 0],
    ['zero', 512, 2 ** 33, 3],
  ]);
  assert.equal(pair.order.slice(0, 2), ['copies', 'wake'], 'what is to be copied is there when entries are shown');
  for (const [number, result] of [5000, -EIO, 0, 0, 0].entries()) await pair.answer(number, result);
  assert.equal(
    pair.ends.map((end) => end?.[0]),
    [5000, -EIO, 0, 0, 0],
  );
  let idle = false;
  await pair.traffic.idle().then(() => {
    idle = true;
  });
  assert.ok(idle, 'nothing is in flight');
});

check('what a volume tells of its extents comes to where it was asked for', async () => {
  const pair = new Pair();
  pair.ask(VOLUME_EXTENTS, [3 * BLOCK, 0, 2 ** 30, 64]);
  await pair.quiet();
  assert.equal(pair.noting.asked, [['extents', 0, 2 ** 30, OWN, 64]]);
  await pair.answer(0, 1);
  assert.equal([pair.ends, pair.loop.bytes[3 * BLOCK], pair.loop.bytes[3 * BLOCK + 15]], [[[1, 0]], 0xee, 0xee]);
});

check('a volume that is served no more answers so', async () => {
  const pair = new Pair();
  pair.ask(VOLUME_READ, [0, 0, BLOCK, 0], new EngineTraffic(ENGINE + 1));
  await pair.quiet();
  assert.equal(pair.ends, [[-ESHUTDOWN, 0]]);
});

check('memory of a request that was given up is lent until it has ended', async () => {
  const pair = new Pair();
  // A part of a block, of which the volume reads all.
  pair.ask(VOLUME_READ, [16 * BLOCK + 512, 512, 1024, 0]);
  await pair.quiet();
  pair.loop.abandon(GUEST + 16 * BLOCK, BLOCK, false);
  await pair.answer(0, -EIO, COMPLETION_ABANDONED);
  assert.equal([pair.ends, pair.lent, pair.back], [[[-EIO, COMPLETION_ABANDONED]], [16 * BLOCK + 512], []]);
  pair.loop.endAbandoned(GUEST + 16 * BLOCK, BLOCK, false);
  await pair.quiet();
  pair.asker.drain();
  assert.equal(pair.back, [16 * BLOCK + 512]);
});

for (const mayGoOn of [false, true]) {
  const what = mayGoOn ? 'keeps memory that it may still use' : 'gives memory back';
  check(`what a shard was asked that dies is given up, and it ${what}`, async () => {
    const pair = new Pair();
    pair.ask(VOLUME_READ, [BLOCK, 0, BLOCK, 0]);
    pair.ask(VOLUME_FLUSH, [0, 0, 0, 0]);
    await pair.quiet();
    pair.asker.lose(mayGoOn);
    pair.ask(VOLUME_WRITE, [2 * BLOCK, 0, BLOCK, 0]);
    await pair.quiet();
    const flags = mayGoOn ? COMPLETION_ABANDONED : 0;
    assert.equal(pair.ends, [
      [-ECANCELED, flags],
      [-ECANCELED, 0],
      [-ECANCELED, 0],
    ]);
    assert.equal(pair.lent, mayGoOn ? [BLOCK] : []);
    await pair.traffic.idle();
    pair.asker.dispose();
  });
}

run();
