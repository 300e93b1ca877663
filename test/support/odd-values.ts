/** Values of every kind, most of which are wrong for any one argument. */

export const ID = 'f'.repeat(32);

/** What programs in JavaScript pass by mistake; each argument accepts few of these. */
export const ODD = {
  undefined: undefined,
  null: null,
  empty: '',
  digits: '0',
  word: 'x',
  false: false,
  true: true,
  zero: 0,
  minusZero: -0,
  one: 1,
  negative: -1,
  fraction: 1.5,
  nan: Number.NaN,
  infinite: Number.POSITIVE_INFINITY,
  tooLarge: 2 ** 53,
  bigint: 1n,
  bigNegative: -1n,
  bigTooLarge: 2n ** 53n,
  emptyList: [],
  list: [0],
  emptyObject: {},
  valueOf: { valueOf: () => 0, toString: () => '0' },
  boxed: Object(0) as object,
  date: new Date(0),
  map: new Map(),
  symbol: Symbol('odd'),
  function: () => 0,
  bytes: new Uint8Array(1),
  promise: Promise.resolve(0),
  zeroByte: 'a\0b',
  halfCharacter: 'a\ud800',
  endless: 'x'.repeat(70_000),
} as const;
export type Odd = keyof typeof ODD;
