/** The zone test against a search through all orders, on small random histories; and the power model likewise. */

import * as assert from 'uvu/assert';
import { VolumeHistory } from '#strake/sim/oracle/history.js';
import { HistoryViolation } from '#strake/sim/oracle/history-report.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { check, run } from '../support/check.js';
import {
  afterPowerCut,
  isLinearizable,
  judge,
  onSector,
  type SmallHistory,
  type SmallOptions,
  smallHistory,
} from '../support/small-history.js';

const SECTORS = 8;
const SEED = 20261121;

const ONE = { sectors: 1, shape: 'first' } as const;
const PARTS = { sectors: SECTORS, shape: 'any', zeroes: true, mutation: 0.4 } as const;

function newOracle(losesPower: boolean): VolumeHistory {
  return new VolumeHistory({ sectors: SECTORS, losesPower });
}

interface Verdicts {
  accepted: number;
  rejected: number;
}

/** Compares the oracle with the search on so many histories. */
function compare(runs: number, label: string, options: Omit<SmallOptions, 'operations' | 'concurrency'>): Verdicts {
  const random = new SimRandom(SEED).fork(label);
  const verdicts = { accepted: 0, rejected: 0 };
  for (let index = 0; index < runs; index += 1) {
    const concurrency = random.between(1, 4);
    const history = smallHistory(random, { ...options, operations: random.between(2, 9), concurrency });
    const oracle = newOracle(random.chance(0.5));
    const violation = judge(history, oracle);
    const right = Array.from({ length: options.sectors }, (_, sector) => onSector(history, sector)).every(
      isLinearizable,
    );
    if (right !== (violation === undefined)) {
      throw new Error(`${label} ${index}: ${right}, but ${violation?.message}\n${JSON.stringify(history, null, 1)}`);
    }
    assert.is(oracle.undecided, 0);
    verdicts[right ? 'accepted' : 'rejected'] += 1;
  }
  return verdicts;
}

for (const [name, runs, options] of [
  ['a sector', 12_000, { sectors: 1, shape: 'first', zeroes: false, mutation: 0.4 }],
  ['a sector with zeroes', 12_000, { sectors: 1, shape: 'first', zeroes: true, mutation: 0.4 }],
  ['whole blocks', 6000, { sectors: SECTORS, shape: 'whole', zeroes: true, mutation: 0.4 }],
] as const) {
  check(`the zone test agrees with a search through all orders: ${name}`, () => {
    const { accepted, rejected } = compare(runs, name, options);
    assert.ok(accepted > runs / 4, `${accepted} accepted`);
    assert.ok(rejected > runs / 8, `${rejected} rejected`);
  });
}

/** Whether the oracle lets a sector hold this value after a power cut. */
function survives(history: SmallHistory, sector: number, value: number): boolean {
  const oracle = newOracle(true);
  assert.is(judge(history, oracle), undefined);
  let now = history.events.length + 2;
  oracle.powerCut(now);
  try {
    // It stays what it was found to be, also when power is cut again.
    for (let again = 0; again < 3; again += 1) {
      now += 10;
      oracle.endReadValues(oracle.beginRead(sector, 1, now), [value], now + 1);
      if (again > 0) oracle.powerCut(now + 2);
    }
    oracle.checkpoint();
    return true;
  } catch (error) {
    if (error instanceof HistoryViolation) return false;
    throw error;
  }
}

check('the zone test agrees on blocks that are written in parts', () => {
  const random = new SimRandom(SEED).fork('parts');
  const counts = { accepted: 0, rejected: 0, caught: 0 };
  for (let index = 0; index < 3000; index += 1) {
    const history = smallHistory(random, { ...PARTS, operations: random.between(3, 12), concurrency: 3 });
    const violation = judge(history, newOracle(random.chance(0.5)));
    const right = Array.from({ length: SECTORS }, (_, sector) => onSector(history, sector)).every(isLinearizable);
    // A torn block may be right for each of its sectors, so that only one direction has to hold for what was mutated.
    if (!history.mutated) assert.is(violation, undefined, violation?.message);
    if (!right) assert.ok(violation, JSON.stringify(history));
    counts[violation === undefined ? 'accepted' : 'rejected'] += 1;
    if (!right) counts.caught += 1;
  }
  assert.ok(counts.accepted > 500 && counts.caught > 500, JSON.stringify(counts));
});

check('after a power cut exactly that is allowed which some order of effects leaves', () => {
  const random = new SimRandom(SEED).fork('power');
  let [allowedCount, refusedCount, ambiguous] = [0, 0, 0];
  for (let index = 0; index < 3000; index += 1) {
    const operations = random.between(2, 7);
    const history = smallHistory(random, { ...ONE, zeroes: false, mutation: 0, operations, concurrency: 3 });
    const allowed = afterPowerCut(onSector(history, 0));
    ambiguous += allowed.size > 1 ? 1 : 0;
    for (let value = 0; value <= operations; value += 1) {
      const accepted = survives(history, 0, value);
      if (accepted !== allowed.has(value)) {
        throw new Error(`${index}: ${value}, ${accepted}, ${[...allowed]}\n${JSON.stringify(history)}`);
      }
      if (accepted) allowedCount += 1;
      else refusedCount += 1;
    }
  }
  assert.ok(
    allowedCount > 3000 && refusedCount > 3000 && ambiguous > 500,
    `${[allowedCount, refusedCount, ambiguous]}`,
  );
});

check('after a power cut all is allowed that some order of effects leaves, also with zeroes', () => {
  const random = new SimRandom(SEED).fork('power and zeroes');
  let [allowedCount, refusedCount] = [0, 0];
  for (let index = 0; index < 2000; index += 1) {
    const operations = random.between(2, 7);
    const history = smallHistory(random, { ...ONE, zeroes: true, mutation: 0, operations, concurrency: 3 });
    const allowed = afterPowerCut(onSector(history, 0));
    for (let value = 0; value <= operations; value += 1) {
      const accepted = survives(history, 0, value);
      if (allowed.has(value)) assert.ok(accepted, `${value} of ${[...allowed]} ${JSON.stringify(history)}`);
      if (accepted) allowedCount += 1;
      else refusedCount += 1;
    }
  }
  assert.ok(allowedCount > 2000 && refusedCount > 2000, `${[allowedCount, refusedCount]}`);
});

run();
