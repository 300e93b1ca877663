/** Files of inputs: what was found, and what was found once and is tried again for ever. */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { project } from '../support/scratch.js';
import type { Finding } from './engine.js';
import type { FuzzTarget } from './target.js';

/** Inputs that found something once, in a folder for each target. */
const corpus = join(project, 'test', 'fuzz', 'corpus');
const found = join(project, 'target', 'fuzz');

/** Writes an input to a file. Returns how it is repeated. */
export function save(target: string, input: Uint8Array): string {
  mkdirSync(found, { recursive: true });
  const path = join(found, `${target}-${crc32c(input).toString(16).padStart(8, '0')}.bin`);
  writeFileSync(path, input);
  return `npm run fuzz -- --target ${target} --input ${relative(project, path)}`;
}

/** What there is to say of a finding; its input is written to a file. */
export function tell(target: string, { index, input, error }: Finding): string {
  const where = `${target}: input ${index}, made smaller: ${input.length} bytes`;
  return `${where}\n${error.stack ?? error.message}\nrepeat it: ${save(target, input)}`;
}

/** Names and contents of the files of a target. */
export function regressions(target: FuzzTarget): { name: string; input: Uint8Array }[] {
  const names = readdirSync(corpus, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.bin'));
  const own = names.filter((name) => name.startsWith(`${target.name}/`)).sort();
  return own.map((name) => ({ name, input: readFileSync(join(corpus, name)) }));
}
