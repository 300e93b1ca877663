/**
 * Checks that nothing in `src` is looked up by arbitrary text in an object: `byName['constructor']` finds what every object
 * inherits. What is keyed by text is a Map.
 *
 * TypeScript lets text index only what has an index signature, so it is these that are forbidden. `Record<string, unknown>` is
 * allowed: what is found there has no type, and is checked before it is used.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

const FORBIDDEN = [
  { pattern: /\bRecord<string, (?!unknown>|never>)/, what: 'a Record by any text' },
  { pattern: /\[\w+: string\]:/, what: 'an index signature' },
  {
    pattern: /(?<!for \((?:const|let) [\w[\], ]+|\[\w+)(?<=[\w)]) in [A-Za-z(]/,
    what: '`in` with a name that is no literal',
  },
];
/** Where one is as it should be, and why. */
const ALLOWED = new Map([
  ['control/calls.ts', 'the fields of a call, which are asked for with Object.hasOwn'],
  ['core/errors.ts', 'the table of errors, whose keys are a type'],
  ['store/checking/dump.ts', 'what is printed as JSON, and never looked up'],
  ['embed/node-types.ts', 'an option of programs, which becomes a Map at once'],
  ['worker/shard-stats.ts', 'counters, which are listed and never looked up'],
]);
/** Their results are JSON by the names of parties, which the bench itself chooses. */
const FOLDERS_ALLOWED = ['bench'];

/** The lines of a text without comments and strings, which are not code. */
function codeOf(text) {
  const blank = (found) => found.replace(/[^\n]/g, ' ');
  return text.replace(/\/\*[\s\S]*?\*\/|\/\/.*|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`/g, blank).split('\n');
}

/** All violations below `src`, as lines of text. */
export function dictionaryErrors(src) {
  const errors = [];
  for (const entry of readdirSync(src, { withFileTypes: true, recursive: true })) {
    const file = join(entry.parentPath, entry.name);
    const name = relative(src, file);
    if (!entry.isFile() || !name.endsWith('.ts')) continue;
    if (ALLOWED.has(name) || FOLDERS_ALLOWED.includes(name.split('/')[0])) continue;
    for (const [index, line] of codeOf(readFileSync(file, 'utf8')).entries()) {
      for (const { pattern, what } of FORBIDDEN) {
        if (pattern.test(line)) errors.push(`${name}:${index + 1}: ${what}: use a Map, or Object.hasOwn`);
      }
    }
  }
  return errors;
}
