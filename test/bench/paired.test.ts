/** What a comparison of two builds concludes from what it measured. */

import * as assert from 'uvu/assert';
import { compare, divide, matches, orderOf, verdictOf } from '#strake/bench/paired.js';
import { medianInterval } from '#strake/bench/statistics.js';
import { check, run } from '../support/check.js';

/** 1 to `count`, in an order in which no neighbours are neighbours. */
function shuffled(count: number): number[] {
  const ranks = Array.from({ length: count }, (_, index) => index + 1);
  return [...ranks.filter((rank) => rank % 2 === 0), ...ranks.filter((rank) => rank % 2 === 1).reverse()];
}

check('the interval of a median is the one of the tables, whatever the order of the values', () => {
  // Ranks and coverage for 95%, as in tables of the binomial distribution.
  const known: readonly (readonly [count: number, low: number, high: number, coverage: number])[] = [
    [6, 1, 6, 0.9688],
    [8, 1, 8, 0.9922],
    [9, 2, 8, 0.9609],
    [10, 2, 9, 0.9785],
    [12, 3, 10, 0.9614],
    [15, 4, 12, 0.9648],
    [20, 6, 15, 0.9586],
    [25, 8, 18, 0.9567],
    [50, 18, 33, 0.9672],
    [100, 40, 61, 0.9648],
  ];
  for (const [count, low, high, coverage] of known) {
    const interval = medianInterval(shuffled(count));
    assert.equal([interval.low, interval.high], [low, high], `of ${count}`);
    assert.ok(Math.abs(interval.coverage - coverage) < 1e-4, `of ${count}: ${interval.coverage}`);
    assert.is(interval.median, (count + 1) / 2);
  }
});

check('values that are too few give all that they span, and say how little that covers', () => {
  assert.equal(medianInterval([2, 1, 3, 5, 4]), { median: 3, low: 1, high: 5, coverage: 0.9375 });
  assert.equal(medianInterval([7]), { median: 7, low: 7, high: 7, coverage: 0 });
  assert.is(verdictOf(medianInterval([0.1, 0.1, 0.1, 0.1, 0.1]), 0.98), 'not judged');
});

check('lower is what is below the bound with its whole interval, and one slow pair is not', () => {
  const row = { id: 'a', unit: 'iops' };
  const before = [100, 200, 100, 200, 100, 200, 100, 200, 100];
  const scaled = (by: number) => before.map((value) => value * by);
  const lower = compare(row, before, scaled(0.9), 0.98);
  assert.is(lower.verdict, 'lower');
  assert.equal([lower.before, lower.after, lower.ratio.median], [100, 90, 0.9]);
  assert.is(compare(row, before, scaled(0.99), 0.98).verdict, 'not lower');
  assert.is(compare(row, before, scaled(0.98), 0.98).verdict, 'not lower');
  assert.is(compare(row, before, scaled(2), 0.98).verdict, 'not lower');
  // Two of nine pairs above the bound: the second largest is one of them, so it may as well be chance.
  const mixed = (above: number) => before.map((value, pair) => value * (pair < above ? 1.1 : 0.9));
  assert.is(compare(row, before, mixed(1), 0.98).verdict, 'lower');
  assert.is(compare(row, before, mixed(2), 0.98).verdict, 'not lower');
  assert.is(compare(row, before, [1, ...scaled(1).slice(1)], 0.98).verdict, 'not lower');
});

check('ratios are of pairs: what drifts for both builds does not count', () => {
  const drift = [1000, 900, 800, 700, 600, 500, 400, 300, 200];
  const same = compare(
    { id: 'a', unit: 'iops' },
    drift,
    drift.map((value) => value * 1.01),
    0.98,
  );
  assert.ok(same.ratio.high - same.ratio.low < 1e-9);
  assert.is(same.verdict, 'not lower');
});

check('builds take turns, and neither is always first', () => {
  assert.equal([0, 1, 2, 3].flatMap(orderOf), [
    'before',
    'after',
    'after',
    'before',
    'before',
    'after',
    'after',
    'before',
  ]);
});

check('server and client share no processor, and no core if there are two', () => {
  assert.is(divide([[0]]), null);
  assert.equal(divide([[0, 1]]), { server: [0], client: [1] });
  assert.equal(divide([[0], [1]]), { server: [0], client: [1] });
  assert.equal(
    divide([
      [0, 4],
      [1, 5],
      [2, 6],
    ]),
    { server: [0, 4], client: [1, 5, 2, 6] },
  );
});

check('patterns mean rows that begin with them, or, with a star, are like them', () => {
  assert.ok(matches('null.randread.4k.qd1', 'null.'));
  assert.ok(matches('null.randread.4k.qd1', 'null.*'));
  assert.ok(matches('volume.read.1m.qd16', '*.qd16'));
  assert.not.ok(matches('nbd.null', 'null.*'));
  assert.not.ok(matches('nullxrandread', 'null.*'));
});

run();
