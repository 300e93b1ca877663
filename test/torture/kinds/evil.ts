/**
 * Faults of evil disks. At most all copies but one are evil at once, and then nothing may fail or be lost; a volume without
 * redundancy may answer errors, and never wrong data.
 */

import type { FaultOp, FaultRule } from '#strake/sim/disk/faults.js';
import { until } from '../../support/scratch.js';
import type { CycleKind } from '../cycle.js';
import { Evil } from '../disks.js';
import type { World } from '../world.js';

const EIO = 5;
const SLOW_US_MAX = 100_000;

function evilDisk(disk: unknown): Evil['disk'] {
  if (!(disk instanceof Evil)) throw new Error('the disk is not evil');
  return disk.disk;
}

/** The disks that are evil this time: as many as the redundancy survives, or the only one. */
function victims(world: World): Evil[] {
  const count = world.settings.copies === 1 ? 1 : 1 + world.random.below(world.settings.copies - 1);
  const left = [...world.disks];
  const chosen: Evil[] = [];
  while (chosen.length < count) {
    const [disk] = left.splice(world.random.below(left.length), 1);
    evilDisk(disk);
    chosen.push(disk as Evil);
  }
  return chosen;
}

async function makeEvil(world: World, disks: readonly Evil[], rule: () => FaultRule): Promise<void> {
  for (const disk of disks) {
    const made = rule();
    world.note(`${disk.path}: ${JSON.stringify(made)}`);
    await disk.disk.faults(made);
  }
}

async function makeGood(disks: readonly Evil[]): Promise<void> {
  for (const disk of disks) await disk.disk.faults();
}

/** A load during which some disks follow a rule. The node lives on, but for one without redundancy if `fatal`. */
async function loadOn(world: World, disks: readonly Evil[], rule: () => FaultRule): Promise<void> {
  const load = await world.load();
  await load.reach(1 + world.random.below(80));
  await makeEvil(world, disks, rule);
  await load.reach(80);
  await makeGood(disks);
  await world.stop(load);
}

/**
 * A volume without redundancy may have stopped for good: another process opens it. What its device had not made durable is
 * lost with the first one, as if the power had failed.
 */
async function endIfSingle(world: World): Promise<void> {
  if (world.settings.copies > 1) return;
  world.mayFail = true;
  world.loss = 'power cut';
  await world.killNode();
}

/** Any operation, or those of one kind, once or some times or for ever, anywhere or in a range. */
function anyRule(world: World, action: FaultRule['action']): FaultRule {
  const { random, layout } = world;
  const ops = random.pick<readonly FaultOp[]>([['read'], ['write'], ['read', 'write', 'sync', 'discard', 'zero']]);
  const anywhere = random.chance(0.5);
  const start = anywhere ? 0 : random.below(layout.sizeBytes);
  const end = anywhere ? layout.sizeBytes : start + random.below(layout.sizeBytes / 4);
  const count = random.pick([1, 1, 3, 1_000_000]);
  return { ops, start, end, skip: random.below(20), count, action };
}

export const errors: CycleKind = {
  name: 'eio',
  weight: 5,
  media: ['evil'],
  async run(world) {
    await loadOn(world, victims(world), () => anyRule(world, { kind: 'error', errno: EIO }));
    await endIfSingle(world);
  },
};

export const failedFlush: CycleKind = {
  name: 'failed-flush',
  weight: 3,
  media: ['evil'],
  async run(world) {
    const action = { kind: 'error', errno: EIO } as const;
    await loadOn(world, victims(world), () => ({ ops: ['sync'], skip: world.random.below(3), count: 1, action }));
    await endIfSingle(world);
  },
};

/**
 * Flushes do nothing, and then the power fails, of those disks alone or of all, when nothing is in flight: a block that was
 * being written may be torn on the copies that count, and whole and old on one that has lied.
 */
export const lyingFlush: CycleKind = {
  name: 'lying-flush',
  weight: 4,
  media: ['evil'],
  copiesMin: 2,
  async run(world) {
    const disks = victims(world);
    await makeEvil(world, disks, () => ({ ops: ['sync'], action: { kind: 'lie' } }));
    const load = await world.load([EIO]);
    await load.reach(20 + world.random.below(150));
    await world.stop(load);
    await world.flush();
    for (const disk of disks) {
      world.ruined.add(disk);
      // What it has lost of data alone is found by reading it.
      world.damaged.add(disk);
    }
    if (world.random.chance(0.5)) {
      await world.powerFails();
      return;
    }
    await world.killNode();
    for (const disk of disks) await disk.restore();
  },
};

export const slow: CycleKind = {
  name: 'slow',
  weight: 2,
  media: ['evil'],
  async run(world) {
    const { random } = world;
    const slowly = () => ({ probability: 0.2, action: { kind: 'slow', byUs: random.below(SLOW_US_MAX) } }) as const;
    await loadOn(world, victims(world), slowly);
  },
};

/** Some operations hang for a while, then end. */
export const stuck: CycleKind = {
  name: 'stuck',
  weight: 2,
  media: ['evil'],
  async run(world) {
    const [victim] = victims(world);
    const load = await world.load([]);
    await load.reach(1 + world.random.below(60));
    const before = await victim.disk.acted();
    const count = 1 + world.random.below(8);
    await makeEvil(world, [victim], () => ({ count, action: { kind: 'stick' } }));
    await until('an operation to hang', async () => (await victim.disk.acted()) > before);
    await makeGood([victim]);
    await load.reach(40);
    await world.stop(load);
  },
};

/** The device is gone, and comes back with all that it had: a cable, not the power. */
export const vanish: CycleKind = {
  name: 'vanish',
  weight: 4,
  media: ['evil'],
  async run(world) {
    const victim = world.random.pick(world.disks);
    const load = await world.load();
    await load.reach(1 + world.random.below(80));
    world.note(`${victim.path} vanishes`);
    await victim.cut();
    await load.reach(50);
    const { disk } = victim as Evil;
    if (world.settings.copies > 1) await world.giveBack(victim, () => disk.reappear());
    await world.stop(load);
    await endIfSingle(world);
    if (world.settings.copies === 1) await disk.reappear();
  },
};

/** Data that is written does not arrive, arrives elsewhere, or arrives changed. */
export const lostWrite: CycleKind = {
  name: 'lost-write',
  weight: 4,
  media: ['evil'],
  async run(world) {
    const { random, layout } = world;
    const disks = victims(world);
    const blocks = (layout.copyOffset - layout.dataOffset) / 4096 - 512;
    await loadOn(world, disks, () => {
      const elsewhere = layout.dataOffset + 4096 * random.below(blocks);
      const action = random.pick<FaultRule['action']>([
        { kind: 'lose' },
        { kind: 'misdirect', toOffsetBytes: elsewhere },
        { kind: 'corrupt' },
      ]);
      const { dataOffset: start, copyOffset: end } = layout;
      return { ops: ['write'], start, end, skip: random.below(20), count: 1 + random.below(4), action };
    });
    damage(world, disks);
  },
};

function damage(world: World, disks: readonly Evil[]): void {
  // A block of the only copy that does not match its checksum is an error as long as no crash explains it.
  if (world.settings.copies === 1) world.mayFail = true;
  else for (const disk of disks) world.damaged.add(disk);
}

/** Bits flip at rest: in data; or anywhere, so that a disk may be refused. */
export const rot: CycleKind = {
  name: 'rot',
  weight: 4,
  media: ['evil'],
  async run(world) {
    const { random, layout } = world;
    const load = await world.load();
    await load.reach(1 + random.below(100));
    await world.stop(load);
    await world.node.close();
    const disks = victims(world);
    const anywhere = world.settings.copies > 1 && random.chance(0.4);
    for (const disk of disks) {
      const start = anywhere ? 0 : layout.dataOffset;
      const end = anywhere ? layout.sizeBytes : layout.copyOffset;
      const places = await disk.disk.rot(start, end, 1 + random.below(6));
      world.note(`${disk.path}: bits flipped at ${places.join(' ')}`);
      if (!anywhere) continue;
      world.ruined.add(disk);
      world.rotten.add(disk);
    }
    damage(world, disks);
  },
};
