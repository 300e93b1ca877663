/** Rows of a minute: what fio's log says of each second, and what is made of it. */

import * as assert from 'uvu/assert';
import { holesOf, plotCourse } from '#strake/bench/minutes.js';
import { parseRates } from '#strake/bench/wide.js';
import { check, run } from '../support/check.js';

check('a second of which the log has no line is one in which nothing ended', () => {
  const log = '1000, 500, 0, 0, 0\n1000, 200, 1, 0, 0\n2001, 90, 1, 0, 0\n4002, 70, 0, 0, 0\n';
  assert.equal(parseRates(log, 5), [700, 90, 0, 70, 0]);
});

check('lines of other directions, and behind the last second, do not count', () => {
  assert.equal(parseRates('999, 5, 2, 0, 0\n1998, 6, 1, 0, 0\n3000, 7, 0, 0, 0\n', 2), [0, 6]);
});

check('a hole is a second of less than a quarter of the median', () => {
  const deviceOperations: number[] = [];
  assert.is(holesOf({ requests: [100, 100, 25, 24, 0, 100, 100], deviceOperations }), 2);
  assert.is(holesOf({ requests: [7, 7, 7], deviceOperations }), 0);
});

check('the plot has a line for requests, and one for device operations where they are known', () => {
  const lines = (deviceOperations: number[]) =>
    plotCourse({ requests: [0, 50], deviceOperations }).match(/points="[^"]+"/g) ?? [];
  assert.equal(lines([]), ['points="70.0,160.0 630.0,0.0"']);
  assert.equal(lines([100, 100]), ['points="70.0,160.0 630.0,80.0"', 'points="70.0,0.0 630.0,0.0"']);
});

run();
