/**
 * Takes the assertions of `src/core/check.ts` out of a compiled build, so that what they cost can be measured:
 * `npm run bench -- --against HEAD --without-assertions` compares this tree with itself, without them.
 *
 * A condition that does something, rather than only looking, is still evaluated.
 */

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from '@babel/parser';

const IMPORT = /^import \{[^}]*\bcheck\b[^}]*\} from '\.[^']*\/check\.js';$/m;
/** Methods and functions that change nothing. */
const LOOKS = new Set(
  (
    'has get includes every some find indexOf isInteger isSafeInteger min max floor slotAt opAt usedBy pinned deviceId fits ' +
    'isPoison isSuspect isLeft isVolume mayBegin generationOf compareFlushes newestVersion doubledDevice rootDirectoryPages'
  ).split(' '),
);

function* nodesIn(node) {
  yield node;
  for (const [key, child] of Object.entries(node)) {
    if (key === 'loc' || key.endsWith('Comments')) continue;
    for (const each of Array.isArray(child) ? child : [child]) if (typeof each?.type === 'string') yield* nodesIn(each);
  }
}

function acts(condition) {
  for (const { type, callee } of nodesIn(condition)) {
    if (type === 'AssignmentExpression' || type === 'UpdateExpression') return true;
    if (type === 'CallExpression' && !LOOKS.has(callee.property?.name ?? callee.name)) return true;
  }
  return false;
}

/** The text of a module without its assertions, and how many there were. */
export function withoutAssertions(text) {
  if (!IMPORT.test(text)) return { text, count: 0 };
  const found = [];
  for (const node of nodesIn(parse(text, { sourceType: 'module' }).program)) {
    if (node.type === 'CallExpression' && node.callee.name === 'check') found.push(node);
  }
  let left = text;
  for (const { start, end, arguments: args } of found.toSorted((one, other) => other.start - one.start)) {
    const [condition] = args;
    const instead = acts(condition) ? `void (${text.slice(condition.start, condition.end)})` : 'void 0';
    left = left.slice(0, start) + instead + left.slice(end);
  }
  return { text: left, count: found.length };
}

/** Takes the assertions out of all modules of a build. Returns how many there were. */
export function removeAssertions(dist) {
  if (!existsSync(join(dist, 'core', 'check.js'))) return 0;
  let removed = 0;
  for (const name of readdirSync(dist, { recursive: true })) {
    if (!name.endsWith('.js')) continue;
    const path = join(dist, name);
    const { text, count } = withoutAssertions(readFileSync(path, 'utf8'));
    if (count === 0) continue;
    writeFileSync(path, text);
    removed += count;
  }
  return removed;
}
