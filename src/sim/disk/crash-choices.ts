/**
 * What a power cut may keep of the modifications that are not durable: by chance, or each way after the other, with a name for
 * each.
 */

import { SECTOR_BYTES } from '../../core/limits.js';
import type { SimRandom } from '../world/random.js';
import type { Keep, SimWrite } from './write.js';

/** Up to so many modifications that are not durable, every subset of them is among the crash images. */
const SUBSETS_MAX = 12;
/** Up to so many sectors, every way of tearing a modification is among them. */
const TEARS_MAX = 8;

/** Of the modification with this number among those that are not durable: whether it is kept, or which sectors are. */
export type Decide = (place: number) => boolean | ((sector: number) => boolean);

/** The numbers of modifications that are kept wholly, and that of one that is torn. */
export function keyOf(writes: readonly SimWrite[], decide: Decide): string {
  let key = '';
  let place = 0;
  for (const write of writes) {
    const kept = write.durable || decide(place);
    if (!write.durable) place += 1;
    if (kept !== false) key += `${kept === true ? '' : 'torn '}${write.number} `;
  }
  return key;
}

/** How a power cut treats modifications: a different way each time, as bugs hide in different ones. */
export function choice(random: SimRandom): Keep {
  const style = random.below(4);
  const share = random.pick([0.1, 0.5, 0.9]);
  if (style === 0) return () => random.chance(0.5);
  if (style === 1) return () => random.chance(share);
  let last: SimWrite | null = null;
  let whole = 0;
  return (write, _sector) => {
    if (write !== last) {
      last = write;
      // Of some modifications a part survives; most survive wholly or not at all.
      whole = random.chance(style === 2 ? 0 : 0.25) ? 0.5 : random.chance(share) ? 1 : 0;
    }
    return whole === 0.5 ? random.chance(0.5) : whole === 1;
  };
}

/** What a crash image keeps: as decided for each modification, or by chance. */
type Choice =
  | { readonly origin: string; readonly decide: Decide; readonly tear: string }
  | { readonly origin: string; readonly decide: null; readonly keep: Keep; readonly tear: '' };

/** What crash images keep, with a name for each; see `SimDisk.crashes`. */
export function* choices(open: readonly SimWrite[], random: SimRandom): Generator<Choice, void, undefined> {
  const done = new Set<string>();
  for (const kept of obvious(open.length)) {
    const name = kept.map(Number).join('');
    if (done.has(name)) continue;
    done.add(name);
    yield { origin: `kept ${name}`, decide: (place) => kept[place], tear: '' };
  }
  yield* tears(open, tearsOf);
  const { length } = open;
  for (let subset = 0; length <= SUBSETS_MAX && subset < 1 << length; subset += 1) {
    const name = [...open.keys()].map((index) => (subset >> index) & 1).join('');
    if (!done.has(name)) yield { origin: `kept ${name}`, decide: (place) => ((subset >> place) & 1) === 1, tear: '' };
  }
  yield* tears(open, blockTears);
  if (length <= SUBSETS_MAX) return;
  for (let number = 0; ; number += 1) {
    yield { origin: `random ${number}`, decide: null, keep: choice(random.fork('crash')), tear: '' };
  }
}

/** Prefixes, each alone, all but each. */
function* obvious(count: number): Generator<boolean[], void, undefined> {
  const all = [...Array(count).keys()];
  for (let prefix = 0; prefix <= count; prefix += 1) yield all.map((index) => index < prefix);
  for (const chosen of all) yield all.map((index) => index === chosen);
  for (const chosen of all) yield all.map((index) => index !== chosen);
}

/** Ways of tearing a modification of so many sectors, with names. */
type Tears = Generator<[string, (sector: number) => boolean], void, undefined>;

/** Each modification torn, with all before it and none after it, and with all others. */
function* tears(open: readonly SimWrite[], waysOf: (sectors: number) => Tears): Generator<Choice, void, undefined> {
  for (const [torn, write] of open.entries()) {
    for (const [tear, keep] of waysOf(write.length / SECTOR_BYTES)) {
      const origin = `torn ${torn} ${tear}`;
      yield { origin, decide: (place) => (place === torn ? keep : place < torn), tear };
      if (torn === open.length - 1) continue;
      yield { origin: `${origin} of all`, decide: (place) => (place === torn ? keep : true), tear };
    }
  }
}

function tearsOf(sectors: number): Tears {
  return sectors <= TEARS_MAX ? everyTear(sectors) : someTears(sectors);
}

function* everyTear(sectors: number): Tears {
  for (let mask = 1; mask < (1 << sectors) - 1; mask += 1) yield [`mask ${mask}`, (at) => ((mask >> at) & 1) === 1];
}

/** Of a long modification, each block torn in every way, with the blocks before it and without those after it. */
function* blockTears(sectors: number): Tears {
  for (let first = 0; sectors > TEARS_MAX && first < sectors; first += TEARS_MAX) {
    const count = Math.min(TEARS_MAX, sectors - first);
    for (const [name, keep] of everyTear(count)) {
      yield [`block ${first / TEARS_MAX} ${name}`, (at) => at < first || (at < first + count && keep(at - first))];
    }
  }
}

/** Beginnings, ends, and holes of one page, at page boundaries and one sector beside the first and the last. */
function* someTears(sectors: number): Tears {
  const cuts = new Set([1, sectors - 1]);
  for (let cut = TEARS_MAX; cut < sectors; cut += TEARS_MAX) cuts.add(cut);
  for (const cut of cuts) {
    yield [`before ${cut}`, (at) => at < cut];
    yield [`from ${cut}`, (at) => at >= cut];
    yield [`without ${cut}`, (at) => at < cut || at >= cut + TEARS_MAX];
  }
}
