/**
 * Checks that imports follow the layers: data flows upward (device, ring, client, net, nbd, worker, embed, command line), and a
 * file imports only from layers below its own.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What each folder of `src` may import from, besides itself. */
const LAYERS = {
  ports: [],
  core: ['ports'],
  ring: ['core'],
  uring: ['core', 'ports'],
  layout: ['core', 'ports'],
  store: ['core', 'ports', 'layout'],
  client: ['core', 'ports', 'layout', 'net', 'wire'],
  raw: ['core', 'ports'],
  net: ['core', 'ports'],
  wire: ['core', 'ports', 'layout', 'net'],
  keys: ['core', 'ports'],
  manager: ['core', 'ports', 'layout', 'net', 'wire'],
  meta: ['core', 'ports'],
  nbd: ['core', 'ports', 'net'],
  node: ['core', 'ports', 'layout', 'store', 'net', 'wire'],
  volumes: ['core', 'ports', 'layout', 'client', 'node', 'net', 'wire'],
  across: ['core', 'ports', 'ring', 'layout', 'client', 'store', 'node', 'volumes'],
  serve: ['core', 'ports', 'ring', 'nbd', 'net', 'wire', 'node', 'volumes'],
  sim: [
    'core',
    'ports',
    'layout',
    'ring',
    'store',
    'client',
    'node',
    'volumes',
    'net',
    'wire',
    'manager',
    'nbd',
    'serve',
  ],
  worker: ['core', 'ports', 'ring', 'uring', 'across', 'layout', 'client', 'store', 'node', 'volumes', 'serve'],
  shard: [
    'core',
    'ports',
    'layout',
    'uring',
    'raw',
    'across',
    'client',
    'store',
    'node',
    'volumes',
    'net',
    'wire',
    'keys',
    'manager',
    'nbd',
    'serve',
    'worker',
  ],
  embed: [
    'core',
    'ports',
    'layout',
    'uring',
    'store',
    'client',
    'keys',
    'manager',
    'meta',
    'node',
    'volumes',
    'serve',
    'worker',
    'sim',
  ],
  bench: ['core', 'keys', 'net', 'embed'],
  control: ['core', 'embed'],
  admin: ['core', 'ports', 'layout', 'keys', 'control'],
  cli: ['core', 'ports', 'store', 'embed', 'bench', 'control', 'admin', 'sim'],
};
/** Files that put the layers together. */
const ROOTS = ['index.ts', 'manager-main.ts', 'shard-main.ts', 'trial-main.ts'];
/** Folders that know the outside world only through ports, so that they run in a simulator unchanged. */
const PURE = [
  'ports',
  'core',
  'ring',
  'layout',
  'store',
  'client',
  'raw',
  'node',
  'across',
  'volumes',
  'net',
  'wire',
  'manager',
  'nbd',
  'serve',
  'sim',
];
const IMPURE = /from 'node:|\b(Date\.now|new Date\b|performance\.|setTimeout|setInterval|setImmediate|Math\.random)/;

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
}

function* importsOf(text) {
  for (const match of text.matchAll(/(?:from|import|import\()\s*'([^']+)'/g)) yield match[1];
}

function checkImport(src, file, target) {
  const name = relative(src, file);
  const folder = name.includes('/') ? name.split('/')[0] : '';
  if (!target.startsWith('.')) return undefined;
  const to = relative(src, join(dirname(file), target));
  if (to.startsWith('../native')) return folder === 'uring' ? undefined : 'only src/uring imports the native addon';
  if (to.startsWith('..')) return 'src imports nothing from outside of src';
  const toFolder = to.includes('/') ? to.split('/')[0] : '';
  if (ROOTS.includes(name) || folder === toFolder) return undefined;
  if (LAYERS[folder] === undefined) return `the folder ${folder || 'src'} is in no layer; see scripts/layers.mjs`;
  if (!LAYERS[folder].includes(toFolder)) return `${folder} must not import from ${toFolder || 'the top of src'}`;
  return undefined;
}

/** All violations of the layers below `src`, as lines of text. */
export function layerErrors(src) {
  const errors = [];
  for (const file of filesBelow(src)) {
    const text = readFileSync(file, 'utf8');
    for (const target of importsOf(text)) {
      const error = checkImport(src, file, target);
      if (error !== undefined) errors.push(`${relative(src, file)}: imports ${target}: ${error}`);
    }
    const [folder] = relative(src, file).split('/');
    const impure = PURE.includes(folder) ? IMPURE.exec(text) : null;
    if (impure !== null)
      errors.push(`${relative(src, file)}: uses ${impure[0]}: ${folder} reaches the world through ports`);
  }
  return errors;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const errors = layerErrors(join(dirname(dirname(fileURLToPath(import.meta.url))), 'src'));
  for (const error of errors) console.error(error);
  process.exitCode = errors.length === 0 ? 0 : 1;
}
