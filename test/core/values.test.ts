/** Sizes as text, errors as data. */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { check as assertion, InternalError, unlessInternal } from '#strake/core/check.js';
import { deviceError } from '#strake/core/errno.js';
import { ERRORS, type ErrorName, StrakeError, toStrakeError } from '#strake/core/errors.js';
import { alignDown, alignUp, formatBytes, parseBytes } from '#strake/core/units.js';
import { check, run } from '../support/check.js';

check('sizes are read as people write them', () => {
  const sizes: Record<string, number> = {
    '4096': 4096,
    '64k': 65536,
    '1.5G': 1.5 * 2 ** 30,
    '1GiB': 2 ** 30,
    '2 TiB': 2 ** 41,
    '0': 0,
  };
  for (const [text, bytes] of Object.entries(sizes)) assert.is(parseBytes(text), bytes, text);
});

check('what is not a size is refused with an example', () => {
  for (const text of ['', 'k', '-1', '1e3', '0x10', '1.0000001k', '9007199254740993', '10000P', '1 000', '1x', '٣']) {
    assert.throws(
      () => parseBytes(text),
      (error: StrakeError) => error.code === 'ERR_STRAKE_INVALID_ARGUMENT' && error.message.includes('64k'),
      text,
    );
  }
});

check('a size that is printed whole reads back the same', () => {
  const bytes = fc
    .tuple(fc.integer({ min: 1, max: 1023 }), fc.integer({ min: 0, max: 4 }))
    .map(([n, p]) => n * 1024 ** p);
  fc.assert(
    fc.property(bytes, (value) => parseBytes(formatBytes(value)) === value),
    { seed: 20261121 },
  );
});

check('alignment is exact up to 2^53', () => {
  const value = fc.maxSafeNat();
  const unit = fc.integer({ min: 0, max: 20 }).map((power) => 2 ** power);
  const property = fc.property(value, unit, (number, step) => {
    const down = alignDown(number, step);
    assert.ok(BigInt(down) % BigInt(step) === 0n && down <= number && number - down < step);
    if (number > Number.MAX_SAFE_INTEGER - step) return;
    const up = alignUp(number, step);
    assert.ok(BigInt(up) % BigInt(step) === 0n && up >= number && up - number < step);
  });
  fc.assert(property, { numRuns: 1000, seed: 20261121 });
});

check('every error says what it means and what to do, and survives the way between threads', () => {
  for (const name of Object.keys(ERRORS) as ErrorName[]) {
    const { summary, remedy } = ERRORS[name];
    assert.match(summary, /^[A-Z].*\.$/, name);
    assert.match(remedy, /\S.*\.$/, name);
    const error = new StrakeError(name, 'what happened', { errno: 5, syscall: 'read' });
    const copy = StrakeError.fromWire(structuredClone(error.toWire()));
    for (const key of ['code', 'message', 'remedy', 'errno', 'syscall', 'retryable'] as const) {
      assert.is(copy[key], error[key]);
    }
  }
});

check('system errors become typed ones that keep the number', () => {
  const expected: [number, string][] = [
    [5, 'ERR_STRAKE_IO'],
    [28, 'ERR_STRAKE_NO_SPACE'],
    [30, 'ERR_STRAKE_READ_ONLY'],
    [95, 'ERR_STRAKE_NOT_SUPPORTED'],
  ];
  for (const [errno, code] of expected) {
    const error = deviceError(errno, 'write x');
    assert.is(error.code, code);
    assert.is(error.errno, errno);
  }
  const cause = new TypeError('surprise');
  assert.is(toStrakeError(cause).cause, cause);
});

check('an operating error may count as a value, a contradiction never does', async () => {
  assert.is(await Promise.reject(new StrakeError('IO', 'no')).catch(unlessInternal(7)), 7);
  const contradiction = async () => assertion(false, 'it cannot be');
  const error = await contradiction()
    .catch(unlessInternal(7))
    .catch((reason: unknown) => reason);
  assert.instance(error, InternalError);
});

run();
