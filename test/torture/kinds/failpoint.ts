/**
 * The process kills itself at a named point: when it is about to carry out, or has just carried out, the n-th operation of a
 * kind in a region of its devices. Under load; while the next process recovers; while a job is at work.
 */

import type { FaultRule } from '#strake/uring/native.js';
import { type CycleKind, EVERYWHERE } from '../cycle.js';
import type { World } from '../world.js';

interface Point {
  readonly op: 'read' | 'write' | 'sync' | 'zero' | 'discard';
  /** First and last-but-one offset; everything if absent. */
  readonly region?: (layout: World['layout']) => readonly [number, number];
  /** Operations to let pass at most: those that happen often are met anywhere among many. */
  readonly skipMax: number;
}

/** Failpoints by name; each exists before the operation, and with `-done` after it. */
export const POINTS: Readonly<Record<string, Point>> = {
  'journal-write': { op: 'write', region: ({ journalOffset, dataOffset }) => [journalOffset, dataOffset], skipMax: 60 },
  'data-write': { op: 'write', region: ({ dataOffset, copyOffset }) => [dataOffset, copyOffset], skipMax: 100 },
  sync: { op: 'sync', skipMax: 15 },
  'table-page': {
    op: 'write',
    region: ({ slotTableOffset, journalOffset }) => [slotTableOffset, journalOffset],
    skipMax: 6,
  },
  directory: {
    op: 'write',
    region: ({ directoryOffset, slotTableOffset }) => [directoryOffset, slotTableOffset],
    skipMax: 3,
  },
  'volume-record': {
    op: 'write',
    region: ({ volumesOffset, directoryOffset }) => [volumesOffset, directoryOffset],
    skipMax: 3,
  },
  root: { op: 'write', region: ({ rootOffset, volumesOffset }) => [rootOffset, volumesOffset], skipMax: 4 },
  superblock: { op: 'write', region: ({ rootOffset }) => [0, rootOffset], skipMax: 2 },
  'superblock-copy': { op: 'write', region: ({ copyOffset, sizeBytes }) => [copyOffset, sizeBytes], skipMax: 2 },
  'data-zero': { op: 'zero', skipMax: 4 },
  discard: { op: 'discard', skipMax: 2 },
  read: { op: 'read', skipMax: 200 },
};

/** Points that are passed while devices are opened. */
const OPENING = [
  'journal-write',
  'sync',
  'table-page',
  'directory',
  'volume-record',
  'root',
  'superblock',
  'superblock-copy',
  'read',
];

/** A rule for one of these points, by chance. */
function failpoint(world: World, names: readonly string[], skipShare = 1): FaultRule {
  const { random, layout } = world;
  const name = random.pick(names);
  const { op, region, skipMax } = POINTS[name];
  const [start, end] = region?.(layout) ?? [0, layout.sizeBytes];
  const skip = random.below(Math.ceil(skipMax * skipShare) + 1);
  const kill = random.chance(0.5) ? 'done' : 'before';
  world.note(`failpoint ${name}${kill === 'done' ? '-done' : ''}, ${skip} passed`);
  return { op, start, end, skip, count: 1, kill };
}

/** Sets a failpoint in a node that works: it may be reached before the node has answered. */
async function inject(world: World, names: readonly string[]): Promise<void> {
  await world.node.call('injectFaults', [failpoint(world, names)]).catch((error: Error) => {
    if (!/ended with SIGKILL/.test(error.message)) throw error;
  });
}

export const underLoad: CycleKind = {
  name: 'failpoint',
  weight: 12,
  media: EVERYWHERE,
  async run(world) {
    await inject(world, Object.keys(POINTS));
    await world.loadUntilEnd(400);
  },
};

export const inRecovery: CycleKind = {
  name: 'failpoint-recovery',
  weight: 4,
  media: EVERYWHERE,
  async run(world) {
    const load = await world.load();
    await load.reach(1 + world.random.below(150));
    await world.killNode();
    await world.stop(load);
    for (let again = 1 + world.random.below(3); again > 0; again -= 1) {
      // It may die while it opens its devices, while it reconciles copies, or not at all.
      const faults = [failpoint(world, OPENING, 0.3)];
      const opened = await world.start({ faults }).then(
        () => true,
        (error: Error) => {
          if (!/ended with SIGKILL/.test(error.message)) throw error;
          return false;
        },
      );
      if (opened) await world.loadUntilEnd(30);
    }
  },
};

export const inScrub: CycleKind = {
  name: 'failpoint-scrub',
  weight: 2,
  media: EVERYWHERE,
  async run(world) {
    await inject(world, ['read', 'data-write', 'journal-write', 'sync']);
    // It may be dead before it answers.
    void world.node.call('scrub', 'main').catch(() => {});
    await world.loadUntilEnd(150);
  },
};

/** A copy is missing while clients write; then the node dies while it brings the copy up to date. */
export const inResync: CycleKind = {
  name: 'failpoint-resync',
  weight: 3,
  media: ['file', 'evil'],
  copiesMin: 2,
  async run(world) {
    const away = world.random.pick(world.disks);
    await world.killNode();
    await world.start({ without: [away] });
    const load = await world.load();
    await load.reach(1 + world.random.below(150));
    const points = ['data-write', 'journal-write', 'sync', 'table-page', 'volume-record', 'root', 'read'];
    await inject(world, points);
    void world.node.call('addDevice', away.path).catch(() => {});
    await load.reachOrEnd(150);
    await world.killNode();
    await world.stop(load);
  },
};

/** A lost disk is replaced by a new one, and the node dies meanwhile. */
export const inReplace: CycleKind = {
  name: 'failpoint-replace',
  weight: 2,
  media: ['file'],
  copiesMin: 2,
  async run(world) {
    const lost = world.random.pick(world.disks);
    const spare = await world.disk('file');
    const spareId = await world.format(spare);
    await world.killNode();
    await world.start({ without: [lost] });
    const load = await world.load();
    await load.reach(1 + world.random.below(100));
    const points = ['data-write', 'journal-write', 'sync', 'table-page', 'volume-record', 'root', 'superblock', 'read'];
    await inject(world, points);
    void world.node.call('replaceDevice', world.idOf(lost), spare.path).catch(() => {});
    await load.reachOrEnd(150);
    await world.killNode();
    await world.stop(load);
    await world.completeReplacement(lost, spare, spareId);
  },
};
