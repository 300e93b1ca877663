import * as assert from 'uvu/assert';
import { CONTROL, type ControlCall, checkParams } from '#strake/control/calls.js';
import { dictionary, fields, list, offsetBytes, text, whole } from '#strake/core/arguments.js';
import { StrakeError } from '#strake/index.js';
import { check, run } from '../support/check.js';
import { ID, ODD, type Odd } from '../support/odd-values.js';

check('every parameter of every control call is refused when it is wrong', () => {
  let count = 0;
  const fine: Readonly<Record<string, readonly Odd[]>> = {
    name: ['digits', 'word'],
    newName: ['digits', 'word'],
    confirm: ['undefined', 'digits', 'word'],
    path: ['digits', 'word'],
    sizeBytes: ['one'],
    bytesPerSecond: ['undefined', 'one'],
    id: ['one'],
    layout: ['undefined'],
    copies: ['undefined', 'one'],
  };
  const good: Readonly<Record<string, unknown>> = {
    name: 'a',
    newName: 'b',
    path: '/a',
    sizeBytes: 4096,
    deviceId: ID,
    without: [ID],
    id: 1,
  };
  for (const call of Object.keys(CONTROL) as ControlCall[]) {
    const keys = Object.keys(CONTROL[call].fields);
    const params = Object.fromEntries(keys.filter((key) => key in good).map((key) => [key, good[key]]));
    checkParams(call, params);
    for (const key of keys) {
      assert.ok(key in good || key in fine, `${call}: ${key} is known here`);
      for (const [odd, given] of Object.entries(ODD)) {
        if ((fine[key] ?? []).includes(odd as Odd)) continue;
        const names = (error: Error) => error instanceof StrakeError && error.message.includes(`${call}.${key}`);
        assert.throws(() => checkParams(call, { ...params, [key]: given }), names, `${call}: ${key}: ${odd}`);
        count += 1;
      }
    }
    for (const sent of [null, [], 'text', 5]) assert.throws(() => checkParams(call, sent), /has to be an object/);
    assert.throws(() => checkParams(call, { ...params, nonsense: 1 }), /unknown key/);
  }
  assert.ok(count > 200);
});

check('a refusal shows what was given, and runs none of its code', () => {
  const trap = new Proxy({}, { get: () => assert.unreachable('it was asked for something') });
  const hostile = {
    toString: () => assert.unreachable('it was made text of'),
    toJSON: () => assert.unreachable('or JSON'),
  };
  for (const [value, expected] of [
    [-0, '-0'],
    [10n ** 100n, `1${'0'.repeat(59)}...n`],
    ['x'.repeat(100), `"${'x'.repeat(60)}..."`],
    [hostile, 'an object'],
    [trap, 'an object'],
    [[1, 2], 'a list of 2'],
    [undefined, 'undefined'],
  ]) {
    assert.throws(
      () => whole(0, 5).take(value, 'n'),
      (error: Error) => error.message === `n has to be a whole number from 0 to 5, not ${expected}`,
    );
  }
});

check('what is taken is a copy, and names that every object inherits are names', () => {
  const rules = fields({ names: list(text(1, 9), 0, 3), without: dictionary(text(1, 20), list(offsetBytes, 0, 2)) });
  const given = { names: ['a', 'b'], without: JSON.parse('{"__proto__": [1], "constructor": [2]}') as object };
  const taken = rules.take(given, 'it');
  given.names.push('c', 'd', 'e');
  assert.equal(taken.names, ['a', 'b']);
  assert.equal(
    [...taken.without],
    [
      ['__proto__', [1]],
      ['constructor', [2]],
    ],
  );
  assert.throws(
    () => rules.take(JSON.parse('{"names": [], "without": {}, "__proto__": 1}'), 'it'),
    /unknown key "it.__proto__"/,
  );
  assert.throws(
    () => rules.take(JSON.parse('{"names": [], "without": {}, "toString": 1}'), 'it'),
    /unknown key "it.toString"/,
  );
});

run();
