/** Worlds by seed, and what is done to them. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SimRandom } from '#strake/sim/world/random.js';
import { project } from '../support/scratch.js';
import { allows, type CycleKind } from './cycle.js';
import { MEDIA, type Medium } from './disks.js';
import { type Counts, World, type WorldSettings } from './world.js';

/** How often a world is made of these disks, where they can be had. */
const SHARES: readonly (readonly [Medium, number])[] = [
  ['file', 6],
  ['evil', 5],
  ['power', 1],
  ['loop', 2],
];

/** Something that must not be; what is left of its world is kept. */
export interface Violation {
  readonly seed: number;
  readonly kind: string;
  readonly folder: string;
  readonly message: string;
}

export type Totals = Map<string, Counts & { cycles: number; violations: number }>;

/** Kinds that can be done here, of those that are wanted. */
export function possible(kinds: readonly CycleKind[]): CycleKind[] {
  return kinds.filter(
    ({ needs = [], media }) =>
      needs.every((need) => need() === undefined) &&
      media.some((medium) => MEDIA[medium].every((need) => need() === undefined)),
  );
}

function pickWeighted<Item>(random: SimRandom, items: readonly (readonly [Item, number])[]): Item {
  let left = random.below(items.reduce((sum, [, weight]) => sum + weight, 0));
  for (const [item, weight] of items) {
    if (left < weight) return item;
    left -= weight;
  }
  throw new Error('nothing to pick from');
}

/** The world of a seed; null if none of the kinds can be done in any. */
export function settingsFor(seed: number, kinds: readonly CycleKind[], sealed: boolean): WorldSettings | null {
  const choices = SHARES.filter(([medium]) => MEDIA[medium].every((need) => need() === undefined)).flatMap(
    ([medium, share]) =>
      [1, 2, 3].flatMap((copies) => {
        const fits = kinds.some((kind) => allows(kind, medium, copies));
        return fits ? [[{ seed, medium, copies, sealed }, share * (copies === 3 ? 1 : 2)] as const] : [];
      }),
  );
  return choices.length === 0 ? null : pickWeighted(new SimRandom(seed), choices);
}

/** Saves the disks of a world and what was done to it. */
async function keepWorld(world: World, error: unknown): Promise<string> {
  const folder = join(project, 'target', 'torture', `seed-${world.settings.seed}`);
  mkdirSync(folder, { recursive: true });
  const { medium, copies } = world.settings;
  const events = world.events().map((event) => JSON.stringify(event));
  const text = error instanceof Error ? error.stack : String(error);
  const lines = [`${medium}, ${copies} copies`, ...world.log, 'events of the last node:', ...events, `${text}`];
  writeFileSync(join(folder, 'log.txt'), `${lines.join('\n')}\n`);
  if (world.alive) await world.node.kill();
  await world.keep(folder).catch((failure: Error) => console.error(`not kept: ${failure.message}`));
  return folder;
}

/** One cycle: a fault, and the judgement. */
export async function cycle(world: World, kind: CycleKind, totals: Totals): Promise<void> {
  const { counts } = world;
  const total = totals.get(kind.name) ?? { cycles: 0, violations: 0, acknowledged: 0, readsChecked: 0, flushes: 0 };
  totals.set(kind.name, total);
  world.note(`--- ${kind.name}`);
  try {
    await kind.run(world);
    await world.settle();
  } catch (error) {
    total.violations += 1;
    throw error;
  } finally {
    total.cycles += 1;
    total.acknowledged += counts.acknowledged;
    total.readsChecked += counts.readsChecked;
    total.flushes += counts.flushes;
    counts.acknowledged = counts.readsChecked = counts.flushes = 0;
  }
}

/** Lets a world go through cycles of these kinds while `wanted` says so. Returns what went wrong, if anything did. */
export async function torment(
  settings: WorldSettings,
  kinds: readonly CycleKind[],
  totals: Totals,
  wanted: (done: number) => boolean,
): Promise<Violation | null> {
  const { medium, copies, seed } = settings;
  const choices = kinds.filter((kind) => allows(kind, medium, copies)).map((kind) => [kind, kind.weight] as const);
  const random = new SimRandom(seed, 2);
  let name = 'set-up';
  const world = await World.make(settings);
  try {
    for (let done = 0; wanted(done); done += 1) {
      const kind = pickWeighted(random, choices);
      name = kind.name;
      await cycle(world, kind, totals);
    }
    await world.finish();
    return null;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { seed, kind: name, folder: await keepWorld(world, error), message };
  } finally {
    await world.remove();
  }
}
