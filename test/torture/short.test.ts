/**
 * Every kind of torture once, in one world for each kind of disk: the faults come about, and nothing is lost by them. The long
 * form is `npm run torture`. STRAKE_TEST_SEED asks for the same choices again.
 */

import * as assert from 'uvu/assert';
import { openDevice } from '#strake/index.js';
import { check, type Need, repetitions, run } from '../support/check.js';
import { allows, type CycleKind } from './cycle.js';
import { MEDIA, type Medium } from './disks.js';
import { KINDS } from './kinds/index.js';
import { cycle, type Totals } from './torment.js';
import { World } from './world.js';

const SEED = Number(process.env.STRAKE_TEST_SEED ?? Date.now() % 1e6);

interface Part {
  readonly medium: Medium;
  readonly copies: number;
  readonly kinds: readonly string[];
}

const PARTS: readonly Part[] = [
  { medium: 'power', copies: 2, kinds: ['power-cut', 'power-cut-one'] },
  { medium: 'loop', copies: 2, kinds: ['detach', 'throttle'] },
  { medium: 'file', copies: 2, kinds: ['kill', 'worker', 'failpoint', 'failpoint-recovery', 'pause'] },
  { medium: 'file', copies: 3, kinds: ['failpoint-scrub', 'failpoint-resync', 'failpoint-replace'] },
  {
    medium: 'evil',
    copies: 3,
    kinds: ['eio', 'failed-flush', 'lying-flush', 'slow', 'stuck', 'vanish', 'lost-write', 'rot'],
  },
  { medium: 'evil', copies: 1, kinds: ['power-cut', 'eio', 'lost-write', 'rot'] },
];

function kindNamed(name: string): CycleKind {
  const kind = KINDS.find((each) => each.name === name);
  if (kind === undefined) throw new Error(`there is no kind ${name}`);
  return kind;
}

check('no kind is forgotten', () => {
  const named = new Set(PARTS.flatMap(({ kinds }) => kinds));
  assert.equal(
    KINDS.map(({ name }) => name).filter((name) => !named.has(name)),
    [],
  );
});

async function torture(world: World, kinds: readonly CycleKind[], totals: Totals): Promise<void> {
  for (const kind of kinds) {
    assert.ok(allows(kind, world.settings.medium, world.settings.copies));
    await cycle(world, kind, totals).catch((error: unknown) => {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      throw new Error(`${kind.name}, STRAKE_TEST_SEED=${SEED}: ${text}\n${world.log.join('\n')}`);
    });
  }
  await world.finish();
}

for (const [index, { medium, copies, kinds: names }] of PARTS.entries()) {
  const kinds = names.map(kindNamed);
  const needs: readonly Need[] = [...MEDIA[medium], ...kinds.flatMap((kind) => kind.needs ?? [])];
  check(`on ${medium} disks, ${copies} copies: ${names.join(', ')}`, needs, async () => {
    // Judging opens devices: as long as one is open, that starts no workers.
    const keeper = await openDevice('null:1M');
    const totals: Totals = new Map();
    const world = await World.make({ seed: SEED + index, medium, copies, sealed: false });
    try {
      // What happens to one copy happens to three as well.
      await torture(world, copies > 1 ? kinds : kinds.slice(0, repetitions(kinds.length, 2)), totals);
    } finally {
      await world.remove();
      await keeper.close();
    }
    // A failpoint may be reached before the first answer, so not each kind by itself.
    const all = [...totals.values()];
    assert.ok(all.some(({ acknowledged }) => acknowledged > 0) && all.some(({ readsChecked }) => readsChecked > 0));
  });
}

run();
