/**
 * Workloads whose crashes are enumerated: one for each mechanism of the segment store that orders its writes, and random ones.
 * Each leaves few writes undecided at a time, so that all subsets of them can be tried.
 */

import { ACTIVE_SLOTS_MAX, BATCH_PAGES_MAX } from '#strake/store/limits.js';
import type { StoreBounds } from '#strake/store/store-start.js';
import { type Life, type LifeSettings, SLOTS, STRIPES } from './crash-life.js';
import { DirectMember } from './direct-member.js';
import { SLOT_BLOCKS } from './sim-store.js';

const FUA = 1;
/** Undecided writes from which on random work waits for a flush. */
const UNDECIDED_MAX = 6;
/** Longer than several flushes take. */
const SLOW_US = 20_000;
/** So small that something is evicted all the time. */
const SMALL: StoreBounds = { activeSlots: 2, tablePages: 3 };

export interface Workload extends LifeSettings {
  readonly name: string;
  /** Work whose crashes are not looked at. */
  readonly prepare?: (life: Life) => Promise<void>;
  readonly work: (life: Life) => Promise<void>;
}

/** Gives stripes slots, and writes some blocks of each, durably. */
async function fill(life: Life, stripes: number): Promise<void> {
  const { worker } = life;
  for (let stripe = 0; stripe < stripes; stripe += 1) await life.all(worker.write(stripe, 0, 3));
  await life.all(worker.flush());
}

/** Flushes small writes until the journal is as far as `until` asks. */
async function journalUntil(life: Life, until: (page: number, pages: number, free: number) => boolean): Promise<void> {
  const { worker } = life;
  for (let step = 0; step < 1000; step += 1) {
    const { journal, superblock } = life.store.opened.store;
    if (until(journal.position.page, superblock.layout.journalPages, journal.freePages)) return;
    await life.all(worker.write(step % 2, step % 3));
    await life.all(worker.flush());
  }
  throw new Error('the journal does not come that far');
}

/** The second volume of the device. */
function memberOf({ store }: Life): DirectMember {
  return new DirectMember(store.loop, store.opened.store, 1);
}

/** Gives it slots for these of its segments. */
async function allocateIn(life: Life, ...stripes: number[]): Promise<void> {
  const member = memberOf(life);
  await life.all(...stripes.map((stripe) => life.store.start((token) => member.allocate(stripe, token))));
}

const DIRECTED: readonly Workload[] = [
  {
    name: 'first-writes',
    work: async (life) => {
      const { worker } = life;
      await life.all(worker.write(0, 0, 2));
      await life.all(worker.write(0, 3), worker.write(1, 1));
      await life.all(worker.flush());
      await life.all(worker.write(1, 2));
      // The block is young: it has to become old first.
      await life.all(worker.write(1, 2), worker.write(0, 4));
      await life.all(worker.flush());
    },
  },
  {
    // What a slot held before is another segment's, and stays there; flushes go by while content is on its way.
    name: 'slow-first-writes',
    discard: false,
    prepare: async (life) => {
      await fill(life, SLOTS);
      await life.all(life.worker.zero(1, 0, SLOT_BLOCKS, true));
      await life.all(life.worker.flush());
      await life.all(life.worker.write(4, 5), life.worker.flush());
    },
    work: async (life) => {
      const { worker, disk, store } = life;
      const { dataOffset: start } = store.opened.store.superblock.layout;
      for (const [block, blocks] of [
        [0, 2],
        [3, 1],
      ]) {
        disk.faults.add({ ops: ['write'], start, count: 1, action: { kind: 'slow', byUs: SLOW_US } });
        const slow = worker.write(4, block, blocks);
        for (let step = 0; step < 3; step += 1) await life.all(worker.flush());
        await life.all(worker.write(0, 4 + block), worker.flush());
        await life.all(slow);
        await life.all(worker.flush());
      }
      disk.faults.clear();
    },
  },
  {
    name: 'overwrites',
    prepare: (life) => fill(life, 2),
    work: async (life) => {
      const { worker } = life;
      await life.all(worker.write(0, 0), worker.write(1, 0, 2));
      await life.all(worker.flush());
      await life.all(worker.write(0, 0));
      await life.all(worker.write(0, 0), worker.flush());
      // Two writes go by between flushes, then one: its record is sent early.
      for (let step = 0; step < 3; step += 1) {
        await life.all(worker.write(step % 2, 1));
        await life.all(worker.flush());
      }
    },
  },
  {
    name: 'fua',
    prepare: (life) => fill(life, 2),
    work: async (life) => {
      const { worker } = life;
      await life.all(worker.write(0, 0, 1, FUA), worker.write(0, 1), worker.write(1, 2));
      await life.all(worker.write(2, 0, 2, FUA), worker.write(1, 0, 1, FUA));
      await life.all(worker.write(2, 0, 1, FUA), worker.write(2, 1));
    },
  },
  {
    name: 'two-flushes',
    prepare: (life) => fill(life, 2),
    work: async (life) => {
      const { worker } = life;
      for (let step = 0; step < 3; step += 1) {
        await life.all(worker.write(0, step), worker.flush(), worker.write(1, step), worker.flush());
        await life.all(worker.flush(), worker.write(0, step), worker.flush());
      }
    },
  },
  {
    name: 'zeroes',
    prepare: (life) => fill(life, 2),
    work: async (life) => {
      const { worker } = life;
      await life.all(worker.zero(0, 0, 2, false), worker.write(1, 0));
      await life.all(worker.write(0, 0), worker.zero(1, 1, 4, false));
      await life.all(worker.flush());
      await life.all(worker.zero(0, 0, 1, false), worker.flush());
      await life.all(worker.write(0, 0), worker.flush());
      // A segment that is zero as a whole, and first writes in it that may be torn.
      await life.all(worker.zero(1, 0, SLOT_BLOCKS, false), worker.write(0, 1));
      await life.all(worker.write(1, 1), worker.write(1, 3, 2));
      await life.all(worker.flush(), worker.zero(1, 3, 1, false));
      await life.all(worker.write(1, 3));
      await life.all(worker.flush());
    },
  },
  {
    name: 'release',
    prepare: (life) => fill(life, SLOTS),
    work: async (life) => {
      const { worker } = life;
      await life.all(worker.zero(1, 0, SLOT_BLOCKS, true));
      await life.all(worker.flush());
      // The only slot that is free is that of another segment.
      await life.all(worker.write(4, 1, 2));
      await life.all(worker.write(4, 4), worker.flush());
      await life.all(worker.flush());
    },
  },
  {
    name: 'release-at-once',
    prepare: (life) => fill(life, SLOTS),
    work: async (life) => {
      const { worker } = life;
      await life.all(worker.zero(2, 0, SLOT_BLOCKS, true), worker.write(0, 1));
      // There is none to take before the record of that is durable.
      await life.all(worker.write(5, 0), worker.write(0, 0));
      await life.all(worker.zero(5, 0, SLOT_BLOCKS, true));
      await life.all(worker.write(5, 2));
      await life.all(worker.flush());
    },
  },
  {
    name: 'checkpoint',
    prepare: (life) => fill(life, 3),
    work: async (life) => {
      const { worker, store } = life;
      await life.all(worker.write(0, 0), worker.write(1, 4));
      await life.all(store.opened.store.runCheckpoint('half'), worker.write(1, 0));
      await life.all(worker.write(0, 0), worker.write(2, 4));
      await life.all(worker.flush(), store.opened.store.runCheckpoint('all'));
      await life.all(worker.write(0, 0), worker.flush());
    },
  },
  {
    name: 'journal-end',
    prepare: async (life) => {
      await fill(life, 2);
      await journalUntil(life, (page) => page > 30);
      await life.all(life.store.opened.store.runCheckpoint('half'));
      // A batch may take so many pages, and begins again at the first if they are not there.
      await journalUntil(life, (page, pages) => page >= pages - BATCH_PAGES_MAX - 2);
    },
    work: async (life) => {
      const { worker } = life;
      for (let step = 0; step < 4; step += 1) {
        await life.all(worker.write(0, 0), worker.write(1, step % 3));
        await life.all(worker.flush());
      }
    },
  },
  {
    name: 'journal-full',
    prepare: async (life) => {
      await fill(life, 2);
      await journalUntil(life, (_page, _pages, free) => free < 8);
    },
    work: async (life) => {
      const { worker } = life;
      await life.all(worker.write(0, 0), worker.write(1, 1), worker.flush());
      await life.all(worker.write(0, 1), worker.write(2, 0));
      await life.all(worker.flush());
    },
  },
  {
    name: 'evictions',
    bounds: SMALL,
    prepare: (life) => fill(life, SLOTS),
    work: async (life) => {
      const { worker } = life;
      for (let stripe = 0; stripe < SLOTS; stripe += 1) await life.all(worker.write(stripe, 1), worker.write(0, 0));
      await life.all(worker.flush());
    },
  },
  {
    name: 'volumes',
    prepare: (life) => fill(life, 1),
    work: async (life) => {
      const { worker } = life;
      await life.all(worker.putVolume(1, 7), worker.write(0, 0));
      await life.all(worker.putVolume(1, 8), worker.putVolume(0, 2));
      await life.all(worker.flush(), worker.write(0, 1));
      await life.all(life.store.opened.store.runCheckpoint('half'));
      await life.all(worker.putVolume(0, 3));
    },
  },
  {
    name: 'volume-page-again',
    bounds: { activeSlots: ACTIVE_SLOTS_MAX, tablePages: ACTIVE_SLOTS_MAX + 256, volumes: 2 },
    prepare: async (life) => {
      await fill(life, 1);
      await life.all(life.worker.putVolume(1, 7));
      await allocateIn(life, 0, 1);
      await life.all(life.worker.flush());
    },
    work: async (life) => {
      const { worker, store } = life;
      store.mayForget = () => true;
      const old = memberOf(life);
      await life.all(worker.putVolume(1, -8), worker.write(0, 0));
      await life.all(old.release(0), old.release(1));
      // Its slots are free in memory, and nothing of that need be durable.
      await life.all(worker.putVolume(2, 5, 1), worker.write(0, 1));
      await allocateIn(life, 0);
      await life.all(worker.putVolume(2, 6), worker.flush());
      await life.all(store.opened.store.runCheckpoint('half'));
      await life.all(memberOf(life).release(0), worker.putVolume(2, -7));
      await life.all(worker.putVolume(1, 9, 2), worker.flush());
    },
  },
  {
    name: 'close-and-open',
    prepare: (life) => fill(life, 2),
    work: async (life) => {
      await life.all(life.worker.write(0, 0), life.worker.write(2, 1));
      await life.close();
      await life.open();
      await life.all(life.worker.write(0, 0), life.worker.flush());
      await life.close();
      await life.open();
      await life.all(life.worker.write(1, 0));
    },
  },
  {
    name: 'after-a-crash',
    prepare: async (life) => {
      await fill(life, 3);
      await life.all(life.worker.write(0, 0, 3), life.worker.write(1, 1), life.worker.write(2, 4));
      await life.cutPower();
    },
    work: async (life) => {
      const { worker } = life;
      await life.all(worker.write(0, 0), worker.write(2, 4));
      await life.all(worker.flush());
      await life.all(worker.write(1, 1, 1, FUA), worker.zero(2, 0, SLOT_BLOCKS, true));
      await life.all(worker.write(2, 1));
    },
  },
];

/** Random work, a few operations at a time. */
async function random(life: Life): Promise<void> {
  for (let step = 0; step < 8; step += 1) {
    const { worker } = life;
    if (life.disk.undurable > UNDECIDED_MAX) await life.all(worker.flush());
    const count = 1 + life.random.below(3);
    await life.all(...Array.from({ length: count }, () => worker.one()));
  }
}

async function prepareRandom(life: Life): Promise<void> {
  await fill(life, life.random.below(STRIPES - 1));
  for (let step = life.random.below(20); step > 0; step -= 1) await life.all(life.worker.one(), life.worker.one());
  if (life.random.chance(0.5)) await life.cutPower();
  await life.all(life.worker.flush());
}

const RANDOM: Workload = { name: 'random', prepare: prepareRandom, work: random };

/** Those that use slots again, on a device that cannot discard. */
const RELEASING = DIRECTED.filter(({ name }) => name.startsWith('release'));
/** Those that write the tree, on a device whose directory has an index. */
const WRITING_TREE = DIRECTED.filter(({ name }) => ['checkpoint', 'close-and-open', 'after-a-crash'].includes(name));

export const WORKLOADS: readonly Workload[] = [
  ...DIRECTED,
  RANDOM,
  { ...RANDOM, name: 'random-evictions', bounds: SMALL },
  ...[...RELEASING, RANDOM].map((workload) => ({ ...workload, name: `${workload.name}-no-discard`, discard: false })),
  ...[...WRITING_TREE, RANDOM].map((workload) => ({ ...workload, name: `${workload.name}-index`, directoryLevels: 1 })),
];
