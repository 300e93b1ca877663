/** The ratchets of the lint, on small trees that break one rule each, as a process that ends as the lint does. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { project, scratchFolder } from '../support/scratch.js';

const PROGRAM = join(project, 'scripts', 'ratchet.mjs');
const LIST = join('scripts', 'ratchets.json');

/** An empty folder. */
function emptyFolder(): string {
  return mkdtempSync(join(scratchFolder(), 'tree-'));
}

type Lists = Record<string, Record<string, number>>;

function treeOf(files: Readonly<Record<string, string>>, lists: Lists = {}): string {
  const folder = emptyFolder();
  const all = { ...files, [LIST]: JSON.stringify(lists) };
  for (const [path, text] of Object.entries(all)) {
    mkdirSync(join(folder, dirname(path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  return folder;
}

/** What is wrong with a tree; nothing if all is well. */
function errorsOf(folder: string, args: readonly string[] = []): string[] {
  const { status, stderr } = spawnSync(process.execPath, [PROGRAM, ...args, folder], { encoding: 'utf8' });
  const errors = stderr.split('\n').filter((line) => line !== '' && !line.includes(': skipped: '));
  assert.is(status, errors.length === 0 ? 0 : 1, stderr);
  return errors;
}

function refused(folder: string, ...told: readonly RegExp[]): void {
  const errors = errorsOf(folder);
  assert.is(errors.length, told.length, errors.join('\n'));
  for (const [index, pattern] of told.entries()) assert.match(errors[index], pattern);
}

function listsOf(folder: string): Lists {
  return JSON.parse(readFileSync(join(folder, LIST), 'utf8'));
}

const lines = (count: number, line = '// A line.') => `${line}\n`.repeat(count);
const functionOf = (count: number, head = 'export function long(): void') => `${head} {\n${lines(count - 2)}}\n`;

check('a file of more than 500 lines is refused, in TypeScript and in Rust', () => {
  assert.equal(errorsOf(treeOf({ 'src/a.ts': lines(500), 'crates/x/src/a.rs': lines(500) })), []);
  refused(
    treeOf({ 'src/core/a.ts': lines(501) }),
    /^src\/core\/a\.ts: has 501 lines, at most 500 are allowed: move a part/,
  );
  refused(treeOf({ 'crates/x/src/a.rs': lines(501) }), /^crates\/x\/src\/a\.rs: has 501 lines/);
});

check('a listed file may not grow, and the list follows when it shrinks', () => {
  const files = { 'src/a.ts': 600 };
  assert.equal(errorsOf(treeOf({ 'src/a.ts': lines(600) }, { files })), []);
  refused(treeOf({ 'src/a.ts': lines(601) }, { files }), /has 601 lines, and may not grow beyond the 600 that it had/);
  for (const [count, told, left] of [
    [550, /has 550 lines now: lower its 600 in scripts\/ratchets\.json, under files/, { 'src/a.ts': 550 }],
    [500, /^src\/a\.ts: keeps the rule now, or is gone: remove it/, {}],
  ] as const) {
    const folder = treeOf({ 'src/a.ts': lines(count) }, { files });
    refused(folder, told);
    assert.equal(errorsOf(folder, ['--write']), []);
    assert.equal(listsOf(folder)['files'], left);
  }
  const grown = treeOf({ 'src/a.ts': lines(601), 'src/b.ts': lines(501) }, { files });
  assert.is(errorsOf(grown, ['--write']).length, 2, 'nothing is added or raised');
  assert.equal(listsOf(grown)['files'], files);
});

check('a list with the marks of a merge, and code that is none, are told as that', () => {
  const marked = treeOf({});
  writeFileSync(join(marked, LIST), '<<<<<<< HEAD\n{}\n');
  refused(
    marked,
    /^scripts\/ratchets\.json cannot be read: .*: after a merge keep either side, and npm run format lowers/,
  );
  refused(treeOf({ 'src/a.ts': 'const = ;\n' }), /^src\/a\.ts cannot be read: /);
});

check('a function of more than 70 lines is refused, whatever it is written as', () => {
  assert.equal(errorsOf(treeOf({ 'src/a.ts': functionOf(70), 'crates/x/src/a.rs': functionOf(70, 'fn long()') })), []);
  refused(
    treeOf({ 'src/a.ts': `class A {\n${functionOf(71, 'long(): void')}}\n` }),
    /^src\/a\.ts: A\.long: has 71 lines \(line 2\), at most 70 are allowed: branch in the parent/,
  );
  refused(treeOf({ 'src/a.ts': functionOf(71, 'const f = () =>') }), /^src\/a\.ts: f: has 71 lines/);
  const rust = `const BRACE: &str = "}";\n${functionOf(71, "pub fn long<F: Fn(u8) -> u8>(_: &'static str, c: char) -> [u8; 4]")}`;
  refused(treeOf({ 'crates/x/src/a.rs': rust }), /^crates\/x\/src\/a\.rs: long: has 71 lines \(line 2\)/);
});

check('what looks like the end of a Rust function and is none does not end it', () => {
  const body = ["'}';", `"}";`, 'r#"}"#;', '// }', '/* } /* } */ */', "b'}';", String.raw`"\"}";`];
  const text = `fn long<'a>(text: &'a str) {\n${body.join('\n')}\n${lines(62)}}\nfn short() {}\n`;
  refused(treeOf({ 'crates/x/src/a.rs': text }), /a\.rs: long: has 71 lines/);
});

check('a function of seven positional parameters is refused, of an interface too', () => {
  const parameters = (count: number, of = 'number') =>
    Array.from({ length: count }, (_, index) => `p${index}: ${of}`).join(', ');
  const six = `export function f(${parameters(6)}): void {}\n`;
  const rust = (count: number) => `impl A { fn f(&mut self, ${parameters(count, 'Vec<(u8, u8)>')},) {} }\n`;
  assert.equal(errorsOf(treeOf({ 'src/a.ts': six, 'crates/x/src/a.rs': rust(6) })), []);
  const told = /: takes 7 positional parameters \(line 1\), at most 6 are allowed: pass a record/;
  refused(treeOf({ 'src/a.ts': `export function f(${parameters(7)}): void {}\n` }), told);
  refused(treeOf({ 'src/a.ts': `export interface A { f(${parameters(7)}): void }\n` }), told);
  refused(treeOf({ 'src/a.ts': `export class A { constructor(${parameters(7)}) {} }\n` }), told);
  refused(treeOf({ 'crates/x/src/a.rs': rust(7) }), told);
});

check('a circle of files is refused, by types too, and one that is listed may not take in another file', () => {
  const circle = {
    'src/a/one.ts': "import { two } from '../b/two.js';\nexport const one = two;\n",
    'src/b/two.ts': "import type { One } from '../a/three.js';\nexport const two: One = 1;\n",
    'src/a/three.ts': "export { one } from './one.js';\nexport type One = number;\n",
  };
  const told = ['one', 'three'].map(
    (name) => new RegExp(`^src/a/${name}\\.ts: is in a circle of 3 files .*: src/a/one`),
  );
  refused(treeOf(circle), ...told, /^src\/b\/two\.ts: is in a circle of 3 files/);
  const listed = { circles: { 'src/a/one.ts': 3, 'src/b/two.ts': 3, 'src/a/three.ts': 3 } };
  assert.equal(errorsOf(treeOf(circle, listed)), []);
  const wider = {
    ...circle,
    'src/a/three.ts': `${circle['src/a/three.ts']}import './four.js';\n`,
    'src/a/four.ts': "import './one.js';\n",
  };
  const errors = errorsOf(treeOf(wider, listed));
  assert.is(errors.length, 4);
  assert.ok(errors.some((error) => /^src\/a\/four\.ts: is in a circle of 4 files/.test(error)));
  assert.equal(errorsOf(treeOf({ ...circle, 'src/b/two.ts': 'export const two = 1;\n' })), []);
});

check('a wide comment is refused, and wide code is left to the formatter', () => {
  const wide = 'x'.repeat(130);
  assert.equal(errorsOf(treeOf({ 'src/a.ts': `// ${'x'.repeat(127)}\nconst a = '${wide}';\n` })), []);
  for (const comment of [`// ${wide}`, `/** ${wide} */`, `/*\n * ${wide}\n */`]) {
    refused(treeOf({ 'src/a.ts': `${comment}\n` }), /has 1 comment lines wider than 130 columns: break them/);
  }
});

check('a field that begins as a function for others to replace is refused', () => {
  const classOf = (field: string) => ({ 'src/a.ts': `export class Store {\n  ${field}\n}\n` });
  for (const field of [
    'onDamage: (text: string) => void = () => {};',
    'protected checkpoint = () => Promise.resolve();',
    'mayForget = function () { return false; };',
  ]) {
    refused(
      treeOf(classOf(field)),
      /^src\/a\.ts: Store\.\w+: is a field that begins as a function .*: take the function/,
    );
  }
  for (const field of [
    'readonly batchEnd = () => {};',
    'private noteEnd: () => void = () => {};',
    'static names = [].map(() => 1);',
    'onDamage() {}',
    'readonly hooks = { onDamage: () => {} };',
  ]) {
    assert.equal(errorsOf(treeOf(classOf(field))), [], field);
  }
});

check('a limit is declared in its file or that of its folder, and nowhere else', () => {
  const limit = 'export const REQUESTS_MAX = 1 << 10;\n';
  const others = 'const STAGE_MAXIMAL = 1;\nconst NAMES_MAX = namesOf();\nfunction f() {\n  const LOCAL_MAX = 1;\n}\n';
  assert.equal(errorsOf(treeOf({ 'src/core/limits.ts': limit, 'src/a.ts': others, 'src/sim/a.ts': limit })), []);
  assert.equal(errorsOf(treeOf({ 'src/store/limits.ts': limit })), []);
  refused(treeOf({ 'src/store/running/limits.ts': limit }), /^src\/store\/running\/limits\.ts: REQUESTS_MAX/);
  for (const name of ['A_MAX', 'B_MIN', 'C_LIMIT', 'D_TIMEOUT_MS', 'E_BYTES_MAX']) {
    const told = new RegExp(
      `^src/a\\.ts: ${name}: bounds something: declare it in src/core/limits\\.ts or the limits\\.ts of`,
    );
    refused(treeOf({ 'src/a.ts': `const ${name} = 5_000;\n` }), told);
  }
});

check('a subject without an area, or that is too long, is refused, and old ones are not', async () => {
  const { commitErrors, subjectError } = await import(join(project, 'scripts', 'ratchets', 'commits.mjs'));
  for (const right of ['store: reserve room before a write', 'node-sim: let a device die', `a: do ${'x'.repeat(66)}`]) {
    assert.is(subjectError(right), undefined, right);
  }
  const wrong = ['Reserve room', 'store reserve room', 'store: Reserve room', 'store: reserve', 'Store: reserve room'];
  for (const subject of wrong) assert.match(subjectError(subject), /^it reads `area: verb …`/, subject);
  assert.match(subjectError('store: reserve room.'), /full stop/);
  assert.match(subjectError(`a: do ${'x'.repeat(67)}`), /^it has 73 characters/);

  const folder = emptyFolder();
  const git = (...args: readonly string[]) => {
    const identity = ['-c', 'user.name=a', '-c', 'user.email=a@a', '-c', 'init.defaultBranch=main'];
    const { status, stdout, stderr } = spawnSync('git', [...identity, ...args], { cwd: folder, encoding: 'utf8' });
    assert.is(status, 0, stderr);
    return stdout.trim();
  };
  assert.equal(commitErrors(folder), { skipped: 'this is no git checkout' });
  git('init', '--quiet');
  git('commit', '--quiet', '--allow-empty', '-m', 'What was said before');
  const base = git('rev-parse', 'HEAD');
  assert.match(commitErrors(folder).skipped, /^the history does not go back to [0-9a-f]{12}: git fetch --unshallow/);
  git('commit', '--quiet', '--allow-empty', '-m', 'store: reserve room');
  assert.equal(commitErrors(folder, base), { errors: [] });
  git('commit', '--quiet', '--allow-empty', '-m', 'Reserves room');
  const [error, ...more] = commitErrors(folder, base).errors;
  assert.equal(more, []);
  assert.match(
    error,
    /^commit [0-9a-f]+ "Reserves room": it reads `area: verb …`.* \(git rebase -i [0-9a-f]+~ and reword\)/,
  );
});

run();
