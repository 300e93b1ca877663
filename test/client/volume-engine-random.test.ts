/** Random work on a volume, in every order of completions, with members that fail and come back: against a model per byte. */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { DEVICE_KEEP_ALLOCATED } from '#strake/ports/device.js';
import { check, run } from '../support/check.js';
import { BLOCK } from '../support/segment-world.js';
import { SIZE, VolumeBench } from '../support/volume-bench.js';

const REQUESTS = 30;
/** The model looks at these bytes of each sector. */
const PROBE = 256;

interface Request {
  readonly kind: 'write' | 'zero' | 'discard' | 'read' | 'flush';
  readonly offset: number;
  readonly length: number;
}

const request = fc
  .tuple(
    fc.constantFrom('write', 'write', 'write', 'zero', 'discard', 'read', 'read', 'flush'),
    fc.nat(SIZE - 1),
    fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: 5 * BLOCK })),
    fc.nat(1),
  )
  .map(([kind, start, span, shape]): Request => {
    const offset = shape === 0 ? start - (start % BLOCK) : start;
    const length = shape === 0 ? BLOCK * Math.ceil(span / BLOCK) : span;
    return { kind: kind as Request['kind'], offset, length: Math.min(length, SIZE - offset) };
  });

/** What a request does to a byte: the value it leaves, or undefined. */
function effect({ kind, offset, length }: Request, tag: number, at: number): number | undefined {
  if (kind === 'read' || kind === 'flush' || at < offset || at >= offset + length) return undefined;
  if (kind === 'write') return tag + 1;
  if (kind === 'zero') return 0;
  const block = at - (at % BLOCK);
  return block >= offset && block + BLOCK <= offset + length ? 0 : undefined;
}

class History {
  readonly issued: number[] = [];
  readonly ended: number[] = [];
  readonly reads = new Map<number, Uint8Array>();
  now = 0;

  constructor(readonly requests: readonly Request[]) {}

  /** Values that a byte may have for someone who asks from `from` to `until`. */
  allowed(at: number, from: number, until: number): Set<number> {
    const writers = this.requests.flatMap((each, tag) =>
      this.issued[tag] < until && effect(each, tag, at) !== undefined ? [tag] : [],
    );
    const current = writers.filter(
      (tag) => !writers.some((later) => this.ended[tag] < this.issued[later] && this.ended[later] < from),
    );
    const values = new Set(current.map((tag) => effect(this.requests[tag], tag, at) as number));
    if (!writers.some((tag) => this.ended[tag] < from)) values.add(0);
    return values;
  }

  verify(image: Uint8Array): void {
    for (let at = 0; at < SIZE; at += PROBE) {
      const values = this.allowed(at, this.now, this.now);
      assert.ok(values.has(image[at]), `byte ${at} is ${image[at]}, not one of ${[...values]}`);
    }
    for (const [tag, bytes] of this.reads) {
      const { offset, length } = this.requests[tag];
      for (let at = offset; at < offset + length; at += PROBE) {
        const values = this.allowed(at, this.issued[tag], this.ended[tag]);
        const value = bytes[at - offset];
        assert.ok(values.has(value), `read ${tag}: byte ${at} is ${value}, not one of ${[...values]}`);
      }
    }
    this.verifyOrder();
  }

  /** No read returns something older than what an earlier read returned. */
  private verifyOrder(): void {
    for (const [first, one] of this.reads) {
      for (const [second, other] of this.reads) {
        if (this.ended[first] >= this.issued[second]) continue;
        const from = Math.max(this.requests[first].offset, this.requests[second].offset);
        const ends = [first, second].map((tag) => this.requests[tag].offset + this.requests[tag].length);
        for (let at = from; at < Math.min(...ends); at += PROBE) {
          const seen = one[at - this.requests[first].offset] - 1;
          const then = other[at - this.requests[second].offset] - 1;
          if (seen < 0 || then < 0 || seen === then) continue;
          assert.not(
            this.ended[then] < this.issued[seen],
            `read ${second} returned ${then} after ${seen} had been read`,
          );
        }
      }
    }
  }
}

interface Plan {
  readonly requests: readonly Request[];
  readonly choices: Iterator<number>;
  readonly faults: boolean;
}

async function play({ requests, choices, faults }: Plan): Promise<void> {
  const bench = await new VolumeBench(['in-sync', 'in-sync']).start();
  const { world, engine } = bench;
  const next = (count: number) => choices.next().value % count;
  const history = new History(requests);
  const noteEnds = () => {
    requests.forEach(({ kind, offset, length }, tag) => {
      if (bench.results[tag] === undefined || history.ended[tag] !== undefined) return;
      history.ended[tag] = history.now;
      if (kind === 'read') history.reads.set(tag, bench.payload(tag, offset, length));
    });
  };
  let broken = -1;
  for (let issued = 0; issued < requests.length || world.pending.length > 0; ) {
    history.now += 1;
    if (faults && next(12) === 0) {
      if (broken < 0 && engine.status().state === 'ok') {
        broken = next(2);
        bench.members[broken].fail = () => -5;
      } else if (broken >= 0 && bench.states()[broken] === 'offline') {
        bench.members[broken].fail = () => undefined;
        if (!engine.status().jobs.some(({ state }) => state === 'running')) {
          engine.attach(0, broken, bench.members[broken]);
          broken = -1;
        }
      }
    }
    if (issued < requests.length && (world.pending.length === 0 || next(2) === 0)) {
      issue(bench, requests[issued], issued);
      history.issued[issued] = history.now;
      issued += 1;
    } else {
      await world.end(world.pending[next(world.pending.length)]);
      noteEnds();
    }
  }
  history.now += 1;
  if (broken >= 0) bench.members[broken].fail = () => undefined;
  requests.forEach(({ kind, length }, tag) => {
    const moves = kind === 'read' || kind === 'write';
    assert.is(bench.results[tag], moves ? length : 0, `${kind} ${tag}`);
  });
  const images = bench.members.filter((_m, at) => bench.states()[at] === 'in-sync').map((each) => bench.image(each));
  assert.ok(images.length >= 1);
  for (const image of images) {
    assert.ok(Buffer.compare(image, images[0]) === 0, 'copies are equal');
    history.verify(image);
  }
}

function issue(bench: VolumeBench, { kind, offset, length }: Request, tag: number): void {
  if (kind === 'write') bench.write(tag, offset, length, tag + 1);
  else if (kind === 'zero') bench.zero(tag, offset, length, tag % 2 === 0 ? DEVICE_KEEP_ALLOCATED : 0);
  else if (kind === 'discard') bench.discard(tag, offset, length);
  else if (kind === 'read') bench.read(tag, offset, length);
  else bench.flush(tag);
}

const plan = (faults: boolean) =>
  fc.record({
    requests: fc.array(request, { minLength: 5, maxLength: REQUESTS }),
    choices: fc.infiniteStream(fc.nat(1 << 20)),
    faults: fc.constant(faults),
  });

check('requests of any alignment land as if one by one, on both copies alike, and reads never go back', async () => {
  await fc.assert(fc.asyncProperty(plan(false), play), { numRuns: 150, seed: 20261121 });
});

check('so they do while members fail, come back and are brought up to date', async () => {
  await fc.assert(fc.asyncProperty(plan(true), play), { numRuns: 300, seed: 20261122 });
});

run();
