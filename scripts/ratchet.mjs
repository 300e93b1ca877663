/**
 * Ratchets: rules that old code may still break where `scripts/ratchets.json` says so, with today's numbers, and new code may
 * not. What is listed may only shrink, and the list with it. `node scripts/ratchet.mjs --write`, which `npm run format` does too,
 * lowers numbers and removes entries; it never adds or raises one.
 */

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { circlesOf } from './ratchets/circles.mjs';
import { commitErrors } from './ratchets/commits.mjs';
import { functionsOf as functionsOfRust } from './ratchets/rust.mjs';
import { functionsOf as functionsOfTypeScript } from './ratchets/typescript.mjs';
import { root } from './setup.mjs';

const LIST = join('scripts', 'ratchets.json');
const COMMENT_COLUMNS = 130;
const LIMITS_FILE = 'src/core/limits.ts';
/** That file, or one of a folder for what bounds that folder alone. */
const LIMITS_FILES = /^src\/[a-z]+\/limits\.ts$/;
/** Where bounds are those of an instrument, and bound nothing of a node. */
const INSTRUMENTS = /^src\/(sim|bench)\//;
/** A constant at the top of a file whose name says that it bounds something, and whose value is a number. */
const LIMIT = /^(?:export )?const ([A-Z][A-Z0-9_]*_(?:MAX|MIN|LIMIT|LIMIT_MS|TIMEOUT_MS))\b[^=]*= *[\d(]/gm;
const COMMENT = /^\s*(\/\/|\/\*|\*)/;

/** The rules: what each allows, and what to do about more. Values are of files, or of things in them. */
const RULES = {
  files: {
    most: 500,
    has: (value) => `has ${value} lines`,
    advice: 'move a part of one subject into a file of its own',
  },
  functions: {
    most: 70,
    has: (value) => `has ${value} lines`,
    advice: 'branch in the parent, and compute in functions of their own',
  },
  parameters: {
    most: 6,
    has: (value) => `takes ${value} positional parameters`,
    advice: 'pass a record, or give the thing that several of them describe a type',
  },
  comments: {
    most: 0,
    has: (value) => `has ${value} comment lines wider than ${COMMENT_COLUMNS} columns`,
    advice: 'break them',
  },
  circles: {
    most: 0,
    has: (value) => `is in a circle of ${value} files that import each other (types count)`,
    advice: 'move what both need into a file that neither of them is',
  },
  wiring: {
    most: 0,
    has: () => 'is a field that begins as a function for others to replace, and nobody is told who forgets to',
    advice: 'take the function as an argument of the constructor, or make the field readonly or private',
  },
  limits: {
    most: 0,
    has: () => 'bounds something',
    advice: `declare it in ${LIMITS_FILE} or the limits.ts of its folder, with its unit, and import it`,
  },
};

function* filesBelow(folder) {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true }).sort((one, other) =>
    one.name < other.name ? -1 : 1,
  )) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && entry.name !== 'target' && entry.name !== 'node_modules') yield* filesBelow(path);
    else if (entry.isFile() && /\.(ts|rs)$/.test(entry.name)) yield path;
  }
}

function linesOf(text) {
  return text.replace(/\n$/, '').split('\n');
}

/** An error that a reader can do something about, in the place of one by a parser. */
function parsed(path, parse, remedy) {
  try {
    return parse();
  } catch (error) {
    throw new Error(`${path} cannot be read: ${error.message.split('\n')[0]}: ${remedy}`);
  }
}

function functionsOf(path, text) {
  if (path.endsWith('.rs')) return functionsOfRust(text);
  return parsed(path, () => functionsOfTypeScript(text), 'the types tell more');
}

function listsOf(folder) {
  const path = join(folder, LIST);
  if (!existsSync(path)) return {};
  const remedy = 'after a merge keep either side, and npm run format lowers what is lower';
  return parsed(LIST, () => JSON.parse(readFileSync(path, 'utf8')), remedy);
}

/** All that is above what a rule allows: by rule, the value of each thing, and where to look. */
function measure(texts) {
  const found = Object.fromEntries(Object.keys(RULES).map((rule) => [rule, new Map()]));
  const note = (rule, key, value, where = '') => {
    const before = found[rule].get(key)?.value ?? 0;
    if (value > RULES[rule].most && value > before) found[rule].set(key, { value, where });
  };
  for (const [path, text] of texts) {
    const lines = linesOf(text);
    note('files', path, lines.length);
    note('comments', path, lines.filter((line) => COMMENT.test(line) && line.length > COMMENT_COLUMNS).length);
    for (const { name, line, lines: length, parameters, replaceable } of functionsOf(path, text)) {
      note('functions', `${path}: ${name}`, length, ` (line ${line})`);
      note('parameters', `${path}: ${name}`, parameters, ` (line ${line})`);
      if (replaceable) note('wiring', `${path}: ${name}`, 1, ` (line ${line})`);
    }
    if (LIMITS_FILES.test(path) || INSTRUMENTS.test(path) || !path.startsWith('src/')) continue;
    for (const [, name] of text.matchAll(LIMIT)) note('limits', `${path}: ${name}`, 1);
  }
  for (const circle of circlesOf(texts)) {
    for (const path of circle) note('circles', path, circle.length, `: ${circle.join(', ')}`);
  }
  return found;
}

function errorsOf(rule, found, listed) {
  const { has, advice, most } = RULES[rule];
  const errors = [];
  for (const [key, { value, where }] of found) {
    const before = listed[key];
    const what = `${key}: ${has(value)}${where}`;
    const allowed = most === 0 ? '' : `, at most ${most} are allowed`;
    if (before === undefined) errors.push(`${what}${allowed}: ${advice}`);
    else if (value > before) errors.push(`${what}, and may not grow beyond the ${before} that it had: ${advice}`);
    else if (value < before)
      errors.push(`${what} now: lower its ${before} in ${LIST}, under ${rule} (npm run format does)`);
  }
  for (const key of Object.keys(listed)) {
    if (!found.has(key))
      errors.push(
        `${key}: keeps the rule now, or is gone: remove it from ${LIST}, under ${rule} (npm run format does)`,
      );
  }
  return errors;
}

/** The list with lower numbers and fewer entries, where there is less now. */
function tightened(found, listed) {
  const entries = Object.entries(listed).filter(([key]) => found.has(key));
  return Object.fromEntries(entries.map(([key, before]) => [key, Math.min(before, found.get(key).value)]));
}

/**
 * All violations below a folder, as lines of text. `write`: tightens the list. `begin`: makes the list from what is there, which
 * is for those who introduce a rule.
 */
export function ratchetErrors(folder, { write = false, begin = false } = {}) {
  const texts = new Map();
  for (const part of ['src', 'crates']) {
    for (const file of filesBelow(join(folder, part))) texts.set(relative(folder, file), readFileSync(file, 'utf8'));
  }
  const found = measure(texts);
  const lists = listsOf(folder);
  if (write || begin) {
    for (const rule of Object.keys(RULES)) {
      const all = Object.fromEntries([...found[rule]].map(([key, { value }]) => [key, value]));
      lists[rule] = begin ? all : tightened(found[rule], lists[rule] ?? {});
    }
    writeFileSync(join(folder, LIST), `${JSON.stringify(lists, null, 2)}\n`);
  }
  return Object.keys(RULES).flatMap((rule) => errorsOf(rule, found[rule], lists[rule] ?? {}));
}

function errorsOrWhy(folder, write) {
  try {
    return ratchetErrors(folder, { write });
  } catch (error) {
    return [error.message];
  }
}

/** What the lint reports: a name, and what is wrong, or why it was skipped. */
export function ratchets(folder, write = false) {
  const errors = errorsOrWhy(folder, write);
  const commits = commitErrors(folder);
  return [
    { name: 'ratchets', ...(errors.length === 0 ? {} : { error: errors.join('\n') }) },
    {
      name: 'subjects of commits',
      ...(commits.skipped === undefined ? {} : { skipped: commits.skipped }),
      ...(commits.errors?.length > 0 ? { error: commits.errors.join('\n') } : {}),
    },
  ];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [folder = root] = process.argv.slice(2).filter((word) => word !== '--write');
  const results = ratchets(resolve(folder), process.argv.includes('--write'));
  for (const { name, error, skipped } of results)
    if (error ?? skipped) console.error(error ?? `${name}: skipped: ${skipped}`);
  process.exitCode = results.some(({ error }) => error !== undefined) ? 1 : 0;
}
