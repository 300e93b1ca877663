/**
 * Makes mutants: each is a checkout of its own below `target/mutants`, with compiled code of which one or two files are
 * different. Nothing outside of that folder is touched.
 */

import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
// It comes with tsx.
import { transformSync } from 'esbuild';
import { project as ROOT } from '../support/project.js';
import type { Edit, Mutant } from './mutant.js';

export { ROOT };

/** One for each process, so that two hunts do not meet. */
const WORKSHOP = join(ROOT, 'target', 'mutants', String(process.pid));

/** The text with the change made. Throws unless the place is there exactly once. */
export function applyEdit(text: string, { file, find, replace }: Edit): string {
  const places = text.split(find).length - 1;
  if (places !== 1) throw new Error(`src/${file} has ${places} places that read:\n${find}`);
  return text.replace(find, () => replace);
}

/** The files that differ, by their names below `dist`. Throws if a place is not found, or the result does not compile. */
export function mutatedFiles({ edits }: Pick<Mutant, 'edits'>): Map<string, string> {
  const sources = new Map<string, string>();
  for (const edit of edits) {
    const text = sources.get(edit.file) ?? readFileSync(join(ROOT, 'src', edit.file), 'utf8');
    sources.set(edit.file, applyEdit(text, edit));
  }
  const files = new Map<string, string>();
  for (const [file, text] of sources) {
    const { code } = transformSync(text, {
      loader: 'ts',
      format: 'esm',
      target: 'es2022',
      sourcefile: file,
      tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true, useDefineForClassFields: true } },
    });
    files.set(file.replace(/\.ts$/, '.js'), code);
  }
  return files;
}

/** A checkout with this code. Tests in it import that, as they find `#strake/` by the nearest `package.json`. */
export function makeCheckout(name: string, files: ReadonlyMap<string, string>): string {
  const folder = join(WORKSHOP, name);
  removeCheckout(folder);
  mkdirSync(folder, { recursive: true });
  for (const copied of ['package.json', 'tsconfig.json', 'dist', 'test']) {
    cpSync(join(ROOT, copied), join(folder, copied), { recursive: true });
  }
  for (const shared of ['node_modules', 'native']) symlinkSync(join(ROOT, shared), join(folder, shared));
  for (const [file, code] of files) writeFileSync(join(folder, 'dist', file), code);
  return folder;
}

export function removeCheckout(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

/** Removes all that this process has made. */
export function closeWorkshop(): void {
  removeCheckout(WORKSHOP);
}
