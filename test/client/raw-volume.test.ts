/** Order and alignment of a raw volume, under every order of completions that a device may choose. */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { COMPLETION_ABANDONED } from '#strake/ports/completion.js';
import { RAW_VOLUME_SCRATCH_BYTES, RawVolume } from '#strake/raw/raw-volume.js';
import { check, run } from '../support/check.js';
import { ScriptedWorld } from '../support/scripted-device.js';

const BLOCK = 4096;
const BLOCKS = 6;
const SIZE = BLOCKS * BLOCK;
/** What the device holds before; no request writes it. */
const OLD = 255;
const AREA = SIZE + 2 * BLOCK;
const REQUESTS_MAX = 40;

interface Request {
  readonly offset: number;
  readonly length: number;
  readonly zero: boolean;
}

/** A volume over a scripted device, and a record of when requests came and ended. */
class Bench {
  readonly world = new ScriptedWorld(RAW_VOLUME_SCRATCH_BYTES + REQUESTS_MAX * AREA, SIZE, BLOCK);
  readonly volume = new RawVolume(this.world, this.world, this.world.device, 0, false, () => {});
  readonly results: number[] = [];
  readonly flags: number[] = [];
  /** Requests that had ended when this one was made. */
  readonly endedBefore: number[][] = [];
  private readonly token = this.world.register({
    complete: (tag, result, flags) => {
      assert.is(this.results[tag], undefined, 'a request ends once');
      this.results[tag] = result;
      this.flags[tag] = flags;
    },
  });

  constructor() {
    this.world.content.fill(OLD);
  }

  /** Where the payload of request `tag` for this offset lies. */
  private memory(tag: number, offset: number): number {
    return RAW_VOLUME_SCRATCH_BYTES + tag * AREA + (offset % BLOCK);
  }

  issue(tag: number, { offset, length, zero }: Request): void {
    this.endedBefore[tag] = Object.keys(this.results).map(Number);
    if (zero) {
      this.volume.zero(offset, length, 0, this.token + tag);
      return;
    }
    const at = this.memory(tag, offset);
    this.world.bytes.fill(tag + 1, at, at + length);
    this.volume.write(at, length, offset, 0, this.token + tag);
  }

  flush(tag: number): void {
    this.volume.flush(this.token + tag);
  }
}

const exclusive = ({ offset, length }: Request) => offset % BLOCK !== 0 || length % BLOCK !== 0;
const covers = ({ offset, length }: Request, at: number) => offset <= at && at < offset + length;

/** The requests whose content a byte may hold in the end; none of them stands for what was there before. */
function lastWriters(bench: Bench, requests: readonly Request[], at: number): number[] {
  const writers = requests.flatMap((request, tag) => (covers(request, at) ? [tag] : []));
  return writers.filter((tag) =>
    writers.every((later) => {
      const ordered = exclusive(requests[tag]) || exclusive(requests[later]) || bench.endedBefore[later].includes(tag);
      return later <= tag || !ordered;
    }),
  );
}

function verify(bench: Bench, requests: readonly Request[]): void {
  requests.forEach((request, tag) => {
    assert.is(bench.results[tag], request.zero ? 0 : request.length, `request ${tag} succeeded`);
  });
  for (let at = 0; at < SIZE; at += 1) {
    const value = bench.world.content[at];
    const allowed = lastWriters(bench, requests, at).map((tag) => (requests[tag].zero ? 0 : tag + 1));
    const expected = allowed.length === 0 ? [OLD] : allowed;
    if (!expected.includes(value)) assert.unreachable(`byte ${at} is ${value}, not one of ${expected.join(', ')}`);
  }
}

const request = fc
  .tuple(
    fc.nat(SIZE - 1),
    fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 3 * BLOCK })),
    fc.boolean(),
    fc.nat(3),
  )
  .map(([start, span, zero, shape]): Request => {
    // A quarter is aligned, so that all pairings of aligned and unaligned requests come up.
    const offset = shape === 0 ? start - (start % BLOCK) : start;
    const length = shape === 0 ? BLOCK * Math.ceil(span / BLOCK) : span;
    return { offset, length: Math.min(length, SIZE - offset), zero };
  });

check('overlapping requests of any alignment land as if one by one, in every order of completions', () => {
  const plan = fc.record({
    requests: fc.array(request, { minLength: 1, maxLength: REQUESTS_MAX }),
    choices: fc.infiniteStream(fc.nat(1 << 20)),
  });
  const property = fc.property(plan, ({ requests, choices }) => {
    const bench = new Bench();
    const next = () => choices.next().value as number;
    bench.world.early = () => next() % 2 === 0;
    let issued = 0;
    while (issued < requests.length || bench.world.pending.length > 0) {
      const { pending } = bench.world;
      if (issued < requests.length && (pending.length === 0 || next() % 2 === 0)) {
        bench.issue(issued, requests[issued]);
        issued += 1;
      } else {
        bench.world.end(next() % pending.length);
      }
    }
    verify(bench, requests);
  });
  fc.assert(property, { numRuns: 400, seed: 20261121 });
});

check('a flush covers every write that ended before it was asked for', () => {
  const bench = new Bench();
  const { pending } = bench.world;
  bench.flush(0);
  assert.equal(
    pending.map(({ kind }) => kind),
    ['sync'],
  );
  bench.issue(1, { offset: 0, length: BLOCK, zero: false });
  bench.world.end(1);
  assert.is(bench.results[1], BLOCK);
  bench.flush(2);
  bench.flush(3);
  assert.is(pending.length, 1, 'the running flush may have begun before the write: another one is needed');
  bench.world.end(0);
  while (pending.some(({ kind }) => kind === 'nop')) bench.world.end(pending.findIndex(({ kind }) => kind === 'nop'));
  assert.is(bench.results[0], 0);
  assert.is(bench.results[2], undefined);
  assert.equal(
    pending.map(({ kind }) => kind),
    ['sync'],
    'one flush for both that waited',
  );
  bench.world.end(0, -5);
  while (pending.length > 0) bench.world.end(0);
  assert.equal([bench.results[2], bench.results[3]], [-5, -5], 'all learn of the failure');
});

check('a part that fails fails its request, and lets the others that wait for it go on', () => {
  const bench = new Bench();
  const { pending } = bench.world;
  bench.issue(0, { offset: 100, length: 10, zero: false });
  bench.issue(1, { offset: 200, length: 10, zero: false });
  assert.equal(
    pending.map(({ kind }) => kind),
    ['read'],
    'the second waits for the first',
  );
  bench.world.end(0, -5);
  while (pending.length > 0) bench.world.end(0);
  assert.is(bench.results[0], -5);
  assert.is(bench.results[1], 10);
  assert.equal([...bench.world.content.subarray(199, 211)], [OLD, ...new Array(10).fill(2), OLD]);
});

check('scratch memory of operations that were given up is used again only when they have ended', () => {
  const bench = new Bench();
  const { pending, givenUp } = bench.world;
  for (let tag = 0; tag < 30; tag += 1) {
    bench.issue(tag, { offset: 100, length: 1, zero: false });
    while (pending.length > 0) bench.world.end(0, -5, COMPLETION_ABANDONED);
    assert.is(bench.results[tag], -5);
  }
  assert.is(new Set(givenUp).size, givenUp.length, 'none was used twice');
  assert.ok(givenUp.length < 30, 'the end of scratch memory is an error');
  bench.world.endGivenUp();
  bench.issue(30, { offset: 100, length: 1, zero: false });
  while (pending.length > 0) bench.world.end(0);
  assert.is(bench.results[30], 1);
});

check('a discard leaves the blocks that it covers in part alone', () => {
  const bench = new Bench();
  bench.volume.discardRange(100, 2 * BLOCK, 0, 1 << 23);
  const [operation] = bench.world.pending;
  assert.equal([operation.kind, operation.offsetBytes, operation.lengthBytes], ['discard', BLOCK, BLOCK]);
});

check('a buffer is held back only if the kernel may still use it, not for a patch that was given up', () => {
  const bench = new Bench();
  const { pending } = bench.world;
  // Only a patch: the caller's buffer never goes to the device.
  bench.issue(0, { offset: 100, length: 200, zero: false });
  while (pending.length > 0) bench.world.end(0, -5, COMPLETION_ABANDONED);
  // Two patches and a whole block: first a patch is given up after the block has ended, then the block itself.
  for (const [tag, given] of [
    [1, 'read'],
    [2, 'write'],
  ] as const) {
    bench.issue(tag, { offset: 100, length: 2 * BLOCK, zero: false });
    while (pending.length > 0) {
      if (pending[0].kind === given) bench.world.end(0, -5, COMPLETION_ABANDONED);
      else bench.world.end(0);
    }
  }
  assert.equal(bench.results, [-5, -5, -5]);
  assert.equal(bench.flags, [0, 0, COMPLETION_ABANDONED]);
});

run();
