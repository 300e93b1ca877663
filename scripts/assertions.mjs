/**
 * Assertions that are on in production (`src/core/check.ts`): how many there are where data is kept.
 *
 * A state that must not be travels, and what it has damaged is found a thousand events later. So the lint refuses less than one
 * assertion for so many lines in the store, in the engine of volumes and in the node, and messages that would have to be put
 * together each time: an assertion on the way of every request costs a comparison, and nothing else.
 *
 * `node scripts/assertions.mjs` prints the figures, and with `--draw 40 --seed 1` which assertions are drawn by that seed: what
 * `npm run mutants -- --assertions` lets fire.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parse } from '@babel/parser';
import { root } from './setup.mjs';

const LINES_EACH = 40;
/** Folders that are counted together: both of a node were one. */
const PLACES = [['src/store'], ['src/client'], ['src/node', 'src/volumes']];

function* filesBelow(folder) {
  if (!existsSync(folder)) return;
  const entries = readdirSync(folder, { withFileTypes: true }).sort((one, other) => (one.name < other.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.name.endsWith('.ts')) yield path;
  }
}

function* callsIn(node) {
  if (node.type === 'CallExpression' && node.callee.name === 'check') yield node;
  for (const [key, child] of Object.entries(node)) {
    if (key === 'loc' || key.endsWith('Comments')) continue;
    for (const each of Array.isArray(child) ? child : [child]) if (typeof each?.type === 'string') yield* callsIn(each);
  }
}

/** The assertions of a file: where they are, and what they say; undefined if that is put together. */
function assertionsOf(folder, path) {
  const text = readFileSync(path, 'utf8');
  const lines = text.replace(/\n$/, '').split('\n').length;
  const { program } = parse(text, { sourceType: 'module', plugins: ['typescript'] });
  const file = relative(folder, path);
  const found = [...callsIn(program)].map(({ loc, arguments: [, what] }) => ({
    file,
    line: loc.start.line,
    says: what?.type === 'StringLiteral' ? what.value : undefined,
  }));
  return { lines, found };
}

/** By place: its lines, and its assertions in the order of the files. */
export function assertionsBelow(folder) {
  return PLACES.map((folders) => {
    const files = folders
      .flatMap((one) => [...filesBelow(join(folder, one))])
      .map((path) => assertionsOf(folder, path));
    const lines = files.reduce((sum, file) => sum + file.lines, 0);
    return { name: folders.join(' and '), lines, found: files.flatMap(({ found }) => found) };
  });
}

/** Violations, as lines of text. */
export function assertionErrors(folder) {
  const errors = [];
  const seen = new Map();
  for (const { name, lines, found } of assertionsBelow(folder)) {
    const least = Math.ceil(lines / LINES_EACH);
    if (found.length < least) {
      const advice = 'assert what must hold where a wrong state would travel';
      errors.push(`${name}: ${found.length} assertions in ${lines} lines, at least ${least} are wanted: ${advice}`);
    }
    for (const { file, line, says } of found) {
      const where = `${file}:${line}`;
      if (says === undefined)
        errors.push(`${where}: what an assertion says is a constant text: a number goes beside it`);
      else if (seen.has(says))
        errors.push(`${where}: ${seen.get(says)} says '${says}' too: words tell which of them it was`);
      else seen.set(says, where);
    }
  }
  return errors;
}

/** FNV-1a, of 32 bits (Fowler, Noll and Vo), and a last mixing, so that texts that end alike lie apart. */
function hashOf(text) {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return (hash ^ (hash >>> 13)) >>> 0;
}

/** So many different assertions of all places. One that comes or goes changes little of what is drawn, a move nothing. */
export function draw(folder, count, seed) {
  const all = assertionsBelow(folder).flatMap(({ found }) => found);
  const rank = ({ says }) => hashOf(`${seed}: ${says}`);
  return all.sort((one, other) => rank(one) - rank(other)).slice(0, count);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { draw: { type: 'string' }, seed: { type: 'string', default: '1' } } });
  if (values.draw === undefined) {
    for (const { name, lines, found } of assertionsBelow(root)) {
      console.log(
        `${name}: ${found.length} assertions, one for ${(lines / found.length).toFixed(1)} of ${lines} lines`,
      );
    }
  } else {
    for (const { file, line, says } of draw(root, Number(values.draw), Number(values.seed)))
      console.log(`${file}:${line}: ${says}`);
  }
  const errors = assertionErrors(root);
  for (const error of errors) console.error(error);
  process.exitCode = errors.length === 0 ? 0 : 1;
}
