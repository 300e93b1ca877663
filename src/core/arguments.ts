/**
 * What a caller gives is checked here, and nowhere else: arguments of the public API, parameters of control calls, and the
 * configuration of a node.
 *
 * A *rule* says in words what a value has to be, and takes it or throws `ERR_STRAKE_INVALID_ARGUMENT`, naming the argument,
 * what was given and what is expected. Nothing is converted on the way: text is no number, null is no offset, and what is
 * merely truthy is not true. Options are taken out of their object once, so that they cannot change after the check, and a
 * key that is not known is an error, as it would otherwise be a wish that silently goes unheard.
 *
 * An entry point checks all of its arguments before it does anything.
 */

import { StrakeError } from './errors.js';
import { PATH_BYTES_MAX, VOLUME_NAME_BYTES_MAX } from './limits.js';

/** What a value has to be. */
export interface Rule<T> {
  /** In words that can follow "has to be". */
  readonly expected: string;
  /** The value as it is used from here on. Throws `ERR_STRAKE_INVALID_ARGUMENT`; `name` is what the caller calls it. */
  take(value: unknown, name: string): T;
}

const TEXT_SHOWN = 60;

/** A value as a message shows it. Runs no code of the value, which may be anything. */
export function shown(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value.length > TEXT_SHOWN ? `${value.slice(0, TEXT_SHOWN)}...` : value);
    case 'number':
      return Object.is(value, -0) ? '-0' : String(value);
    case 'bigint': {
      const digits = String(value);
      return `${digits.length > TEXT_SHOWN ? `${digits.slice(0, TEXT_SHOWN)}...` : digits}n`;
    }
    case 'function':
      return 'a function';
    case 'symbol':
      return 'a symbol';
    case 'object':
      if (value === null) return 'null';
      return Array.isArray(value) ? `a list of ${value.length}` : 'an object';
    default:
      return String(value);
  }
}

/** The error of an argument that is not what it has to be. */
export function wrongArgument(name: string, expected: string, value: unknown): StrakeError {
  return new StrakeError('INVALID_ARGUMENT', `${name} has to be ${expected}, not ${shown(value)}`);
}

function rule<T>(expected: string, holds: (value: unknown) => boolean, convert?: (value: unknown) => T): Rule<T> {
  return {
    expected,
    take: (value, name) => {
      if (!holds(value)) throw wrongArgument(name, expected, value);
      return convert === undefined ? (value as T) : convert(value);
    },
  };
}

// ---- values

export const boolean: Rule<boolean> = rule('true or false', (value) => typeof value === 'boolean');

/** Whole numbers from `min` to `max`, neither text nor bigint. Minus zero is what a calculation gone wrong leaves. */
export function whole(min: number, max = Number.MAX_SAFE_INTEGER, expected?: string): Rule<number> {
  const most = max === Number.MAX_SAFE_INTEGER ? '2^53 - 1' : String(max);
  return rule(expected ?? `a whole number from ${min} to ${most}`, (value) => isWhole(value, min, max));
}

function isWhole(value: unknown, min: number, max: number): boolean {
  return Number.isSafeInteger(value) && !Object.is(value, -0) && (value as number) >= min && (value as number) <= max;
}

export function powerOfTwo(min: number, max: number): Rule<number> {
  const holds = (value: unknown) => isWhole(value, min, max) && Number.isInteger(Math.log2(value as number));
  return rule(`a power of two from ${min} to ${max}`, holds);
}

/** Numbers from `min` to `max`, whole or not. */
export function amount(min: number, max: number): Rule<number> {
  const holds = (value: unknown) => typeof value === 'number' && value >= min && value <= max && !Object.is(value, -0);
  return rule(`a number from ${min} to ${max}`, holds);
}

/** Text of whole characters without zero bytes; its length is counted in bytes. */
export function text(minBytes: number, maxBytes: number): Rule<string> {
  const length = minBytes === 0 ? `at most ${maxBytes}` : `${minBytes} to ${maxBytes}`;
  return rule(`text of ${length} bytes, none of them zero`, (value) => isText(value, minBytes, maxBytes));
}

const HALF_CHARACTER = /\p{Surrogate}/u;

function isText(value: unknown, minBytes: number, maxBytes: number): value is string {
  if (typeof value !== 'string' || value.length > maxBytes || value.includes('\0') || HALF_CHARACTER.test(value)) {
    return false;
  }
  const bytes = Buffer.byteLength(value);
  return bytes >= minBytes && bytes <= maxBytes;
}

export function oneOf<const T extends string | number>(...choices: readonly T[]): Rule<T> {
  const words = choices.map((choice) => (typeof choice === 'string' ? JSON.stringify(choice) : String(choice)));
  return rule(`one of ${words.join(', ')}`, (value) => choices.some((choice) => choice === value));
}

/** A function; what it is called with is the business of who calls it. */
export function callback<T>(): Rule<T> {
  return rule('a function', (value) => typeof value === 'function');
}

/** What `holds` recognises, such as something that the library itself has made. */
export function made<T>(expected: string, holds: (value: unknown) => boolean): Rule<T> {
  return rule(expected, holds);
}

// ---- what is made of values

/** May be left out: undefined is the same as absent. */
export function optional<T>(of: Rule<T>): Rule<T | undefined> {
  return {
    expected: of.expected,
    take: (value, name) => (value === undefined ? undefined : of.take(value, name)),
  };
}

/** May be null, for what is not known. */
export function orNull<T>(of: Rule<T>): Rule<T | null> {
  return {
    expected: `${of.expected}, or null`,
    take: (value, name) => (value === null ? null : of.take(value, name)),
  };
}

/** A list, copied. */
export function list<T>(of: Rule<T>, min: number, max: number): Rule<readonly T[]> {
  const expected = `a list of ${min} to ${max}, each of them ${of.expected}`;
  return {
    expected,
    take: (value, name) => {
      if (!Array.isArray(value)) throw wrongArgument(name, `a list of ${min} to ${max}`, value);
      const items = Array.from<unknown>(value);
      if (items.length < min || items.length > max) throw wrongArgument(name, `a list of ${min} to ${max}`, value);
      return items.map((item, index) => of.take(item, `${name}[${index}]`));
    },
  };
}

/** A plain object: neither a list, nor an instance of something, such as a promise that was not awaited. */
function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const above: unknown = Object.getPrototypeOf(value);
  return above === null || Object.getPrototypeOf(above) === null;
}

function inside(name: string, key: string): string {
  return name === '' ? key : `${name}.${key}`;
}

/** A plain object with these keys and no others. The result has those that are there; values are read once. */
export function fields<T extends object>(rules: { readonly [K in keyof T]-?: Rule<T[K]> }): Rule<T> {
  const known = Object.keys(rules) as (keyof T & string)[];
  const expected = 'an object';
  return {
    expected,
    take: (value, name) => {
      if (!isPlain(value)) throw wrongArgument(name === '' ? 'it' : name, expected, value);
      for (const key of Reflect.ownKeys(value)) {
        if (typeof key === 'string' && Object.hasOwn(rules, key)) continue;
        const words = `unknown key ${JSON.stringify(inside(name, String(key)))}`;
        throw new StrakeError('INVALID_ARGUMENT', words, {
          remedy: known.length === 0 ? 'Nothing can be given here.' : `Known keys are ${known.join(', ')}.`,
        });
      }
      const taken: Partial<T> = {};
      for (const key of known) {
        const given = Object.hasOwn(value, key) ? (value as T)[key] : undefined;
        const checked = rules[key].take(given, inside(name, key));
        if (checked !== undefined) taken[key] = checked;
      }
      return taken as T;
    },
  };
}

/** A plain object whose keys are names that somebody has chosen: a map, as any text may be one of them. */
export function dictionary<T>(key: Rule<string>, of: Rule<T>): Rule<ReadonlyMap<string, T>> {
  const expected = 'an object';
  return {
    expected,
    take: (value, name) => {
      if (!isPlain(value)) throw wrongArgument(name, expected, value);
      const entries = Object.entries(value) as [string, unknown][];
      return new Map(
        entries.map(([found, one]) => [key.take(found, `a key of ${name}`), of.take(one, inside(name, found))]),
      );
    },
  };
}

/** Options: absent altogether, or an object with these keys. */
export function options<T extends object>(rules: { readonly [K in keyof T]-?: Rule<T[K]> }): Rule<T> {
  const given = fields<T>(rules);
  const none = Object.freeze({}) as T;
  return {
    expected: given.expected,
    take: (value, name) => (value === undefined ? none : given.take(value, name)),
  };
}

// ---- what occurs in many places

/** A path as the system takes it. */
export const path: Rule<string> = text(1, PATH_BYTES_MAX);

/** A place in a device or volume. */
export const offsetBytes: Rule<number> = rule(
  'a whole number or bigint from 0 to 2^53 - 1',
  (value) =>
    typeof value === 'bigint'
      ? value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER)
      : isWhole(value, 0, Number.MAX_SAFE_INTEGER),
  Number,
);

/** How much of a device or volume. */
export const lengthBytes: Rule<number> = whole(0);

/** An amount in bytes of which there has to be some. */
export const sizeBytes: Rule<number> = whole(1, undefined, 'a whole number of bytes above 0');

const ID = /^[0-9a-f]{32}$/;

/** The id of a device, a volume or a cluster. */
export const id: Rule<string> = rule('32 hexadecimal digits', (value) => typeof value === 'string' && ID.test(value));

const VOLUME_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** The name of a volume to be. */
export const newVolumeName: Rule<string> = rule(
  `letters, digits, ".", "_" and "-", beginning with a letter or digit, at most ${VOLUME_NAME_BYTES_MAX}, and no id (32 hexadecimal digits)`,
  (value) => isText(value, 1, VOLUME_NAME_BYTES_MAX) && VOLUME_NAME.test(value) && !ID.test(value.toLowerCase()),
);

/** The name or id of a volume that may exist. */
export const volumeName: Rule<string> = text(1, VOLUME_NAME_BYTES_MAX);

export const port: Rule<number> = whole(0, 65535);

/** The kind of a typed array, of whatever realm; undefined of anything else, whatever it says of itself. */
const kindOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)
  ?.get as (this: unknown) => string | undefined;

function isBytes(value: unknown): boolean {
  if (kindOf.call(value) !== 'Uint8Array') return false;
  try {
    // Throws for memory that was given away, and for a view beyond the end of memory that was made smaller.
    Uint8Array.prototype.at.call(value as Uint8Array, 0);
    return true;
  } catch {
    return false;
  }
}

/** Bytes to read into or write from. None at all are fine, as long as there is memory where they would be. */
export const bytes: Rule<Uint8Array> = rule('a Uint8Array of memory that is there', isBytes);

function isSignal(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { aborted, addEventListener, removeEventListener } = value as Partial<AbortSignal>;
  const listens = typeof addEventListener === 'function' && typeof removeEventListener === 'function';
  return typeof aborted === 'boolean' && listens;
}

export const signal: Rule<AbortSignal> = rule('an AbortSignal', isSignal);

// ---- text that stands for a number

/** A whole number out of text such as an option of the command line: digits and nothing else; undefined if it is none. */
export function parseWhole(given: string, min: number, max: number): number | undefined {
  if (!/^\d+$/.test(given)) return undefined;
  const value = Number(given);
  return isWhole(value, min, max) ? value : undefined;
}
