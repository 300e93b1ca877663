/** Requests, answers, lists and maps at random, for tests of how they travel. */

import fc from 'fast-check';
import { ENTRY_WORDS } from '#strake/layout/block-entry.js';
import type { ReplicaMap, ReplicaMember } from '#strake/layout/replica-map.js';
import { SegmentList } from '#strake/ports/segment-list.js';
import {
  REQUEST_ACCEPT,
  REQUEST_AGREED,
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_FUA,
  REQUEST_KEEP,
  REQUEST_KINDS,
  REQUEST_MARKED,
  REQUEST_NEWER,
  REQUEST_POISON,
  REQUEST_READ,
  REQUEST_RELEASE,
  REQUEST_RELEASE_ZERO,
  REQUEST_SAME,
  REQUEST_WRITE,
  REQUEST_ZERO,
  SegmentRequest,
} from '#strake/ports/segment-request.js';
import { ReplicaAddress } from '#strake/wire/request-codec.js';

/** Lets a failure show what a record was made from, and not all that it has room for. */
function showing<T extends object>(record: T, from: object): T {
  return Object.defineProperty(record, fc.toStringMethod, { value: () => JSON.stringify(from) });
}

const word = fc.integer({ min: 0, max: 0xffff_ffff });
const short = fc.integer({ min: 0, max: 0xffff });
export const exact = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER));
export const id = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => Buffer.from(bytes).toString('hex'))
  .filter((text) => text !== '0'.repeat(32));

const FLAGS: Readonly<Record<number, number>> = {
  [REQUEST_WRITE]: REQUEST_FUA | REQUEST_NEWER | REQUEST_SAME | REQUEST_COPY,
  [REQUEST_ZERO]: REQUEST_FUA | REQUEST_KEEP | REQUEST_NEWER | REQUEST_SAME,
  [REQUEST_RELEASE]: REQUEST_RELEASE_ZERO,
  [REQUEST_FLUSH]: REQUEST_MARKED,
};
/** Kinds that bear a stamp, those that are recorded under nothing, and those that name no chunk. */
const STAMPED = [REQUEST_WRITE, REQUEST_ZERO, REQUEST_POISON];
const UNRECORDED = [REQUEST_READ, REQUEST_ENTRIES];
const WHOLE = [REQUEST_FLUSH, REQUEST_AGREED];
const RANGED = [REQUEST_READ, REQUEST_WRITE, REQUEST_ZERO, REQUEST_ENTRIES, REQUEST_ACCEPT, REQUEST_POISON];

export const requests: fc.Arbitrary<SegmentRequest> = fc
  .record({
    kind: fc.integer({ min: 0, max: REQUEST_KINDS - 1 }),
    flags: short,
    chunk: exact,
    range: fc.tuple(fc.integer({ min: 0, max: 255 }), fc.oneof(fc.integer({ min: 1, max: 8 }), fc.constant(256))),
    stamp: fc.tuple(word, word),
    generation: fc.integer({ min: 0, max: 2 ** 24 - 1 }),
    flushNumber: fc.integer({ min: 0, max: 2 ** 40 - 1 }),
    settled: fc.tuple(exact, exact),
    fill: word,
  })
  .map((from) => {
    const { kind, flags, chunk, range, stamp, generation, flushNumber, settled, fill } = from;
    const request = new SegmentRequest().begin(kind, WHOLE.includes(kind) ? 0 : chunk, 0);
    request.flags = flags & (FLAGS[kind] ?? 0);
    if (!UNRECORDED.includes(kind)) [request.generation, request.flushNumber] = [generation, flushNumber];
    if (kind === REQUEST_FLUSH) [request.settledGeneration, request.settledNumber] = settled;
    if (STAMPED.includes(kind)) [request.stampLow, request.stampHigh] = stamp;
    if (RANGED.includes(kind)) {
      request.block = range[0];
      request.blocks = Math.min(range[1], 256 - range[0]);
    }
    const lists = ((request.flags & REQUEST_SAME) !== 0 ? 1 : 0) + ((request.flags & REQUEST_COPY) !== 0 ? 1 : 0);
    const words = (kind === REQUEST_ENTRIES ? 1 : lists) * request.blocks * ENTRY_WORDS;
    if (words > 0) request.entries = Uint32Array.from({ length: words }, (_, at) => (fill + at * 0x9e37_79b9) >>> 0);
    return showing(request, from);
  });

export const addresses: fc.Arbitrary<ReplicaAddress> = fc
  .record({
    ...{ volume: id, group: short, member: short, mapVersion: exact, incarnation: exact, clusterEpoch: word },
    ...{ session: word, class: fc.integer({ min: 0, max: 1 }) },
  })
  .map(({ volume, ...rest }) => {
    const address = Object.assign(new ReplicaAddress(), rest);
    address.volume.set(volume);
    return address;
  });

export const lists: fc.Arbitrary<SegmentList> = fc
  .record({
    kind: fc.integer({ min: 0, max: 3 }),
    numbers: fc.tuple(exact, exact, exact, exact, exact),
    most: fc.integer({ min: 40, max: 4096 }),
    next: fc.option(exact, { nil: -1 }),
    entries: fc.array(
      fc.tuple(fc.integer({ min: 0, max: 2 ** 48 - 1 }), exact, exact, fc.integer({ min: 0, max: 1 })),
      { maxLength: 40 },
    ),
  })
  .map((from) => {
    const { kind, numbers, most, next, entries } = from;
    const list = new SegmentList().begin(kind, numbers[0], numbers[1]);
    [list.cursor, list.sinceGeneration, list.sinceNumber] = numbers.slice(2);
    list.next = next;
    list.most = most;
    for (const entry of entries) list.add(...entry);
    return showing(list, from);
  });

const counter = fc.integer({ min: 0, max: 2 ** 52 - 1 });
const version = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const flush = fc.tuple(exact, exact).map(([generation, flushNumber]) => ({ generation, flushNumber }));

function membersOf(copies: number): fc.Arbitrary<readonly ReplicaMember[]> {
  const member = (place: number) =>
    fc.record({
      ...{
        deviceId: id,
        place: fc.constant(place),
        since: flush,
        incarnation: exact,
        flushNumber: exact,
        joined: version,
      },
      state: fc.constantFrom('in-sync' as const, 'syncing' as const, 'offline' as const),
    });
  const moving = fc.array(member(copies - 1), { maxLength: 2 });
  return fc
    .tuple(fc.tuple(...Array.from({ length: copies }, (_, place) => member(place))), moving)
    .map(([all, more]) => {
      const ids = new Set<string>();
      return [...all, ...more].map((one, at) => {
        const deviceId = ids.has(one.deviceId) ? `${at}`.repeat(32).slice(0, 32) : one.deviceId;
        ids.add(deviceId);
        return { ...one, deviceId };
      });
    });
}

const generation = fc.integer({ min: 0, max: 2 ** 24 - 1 });

/** Bytes of so many blocks at the most, and of one at least. */
function blocks(most: number): fc.Arbitrary<number> {
  return fc.integer({ min: 1, max: most }).map((count) => count * 4096);
}

export const maps: fc.Arbitrary<ReplicaMap> = fc.integer({ min: 1, max: 3 }).chain((copies) =>
  fc
    .record({
      volume: fc
        .record({
          ...{ id, name: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }), headerVersion: counter },
          ...{ createdMs: exact, sizeBytes: blocks(2 ** 40), segmentBytes: blocks(2 ** 19), deleted: fc.boolean() },
          layout: fc.constant(copies === 1 ? ('single' as const) : ('mirror' as const)),
          copies: fc.constant(copies),
        })
        .map((volume) => ({ ...volume })),
      groups: fc.integer({ min: 1, max: 65_535 }),
      ...{ group: short, mapVersion: version.map((one) => Math.max(1, one)), generation, holder: id },
      lease: fc.constantFrom('released' as const, 'exclusive' as const, 'shared' as const),
      members: membersOf(copies),
    })
    .map((map) => ({ ...map, group: map.group % map.groups })),
);
