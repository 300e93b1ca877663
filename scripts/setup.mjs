/**
 * Sets a checkout up: installs packages, builds the native addon and the TypeScript. Each step runs only if what it depends
 * on has changed since it last succeeded, so a second run takes a fraction of a second.
 *
 * It uses nothing but Node.js itself, because nothing else is there yet on a fresh clone.
 */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const NODE_MIN = [20, 17];

/** Ends with a message that says what is missing and how to get it. */
function missing(what, how) {
  console.error(`strake: ${what}\n  to install it: ${how}`);
  process.exit(1);
}

function has(program) {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;
}

function checkTools() {
  if (process.platform !== 'linux') missing('Strake drives Linux block devices and builds on Linux only', 'use Linux');
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < NODE_MIN[0] || (major === NODE_MIN[0] && minor < NODE_MIN[1])) {
    missing(`Node.js ${NODE_MIN.join('.')} or newer is needed, this is ${process.versions.node}`, 'https://nodejs.org');
  }
}

function checkCompilers() {
  if (!has('cargo')) {
    missing('the Rust toolchain (cargo) is needed to build the native part', 'curl https://sh.rustup.rs -sSf | sh');
  }
  if (!has('cc') && !has('gcc') && !has('clang')) {
    missing('a C compiler is needed to link the native part', "apt-get install gcc  (or your system's equivalent)");
  }
}

function run(program, args, what) {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (error !== undefined || status !== 0) {
    console.error(`strake: ${what} failed (${error?.message ?? `exit code ${status}`})`);
    process.exit(1);
  }
}

function filesBelow(path) {
  if (!existsSync(path)) return [];
  if (!statSync(path).isDirectory()) return [path];
  const names = readdirSync(path).filter((name) => name !== 'target' && name !== 'node_modules');
  return names.sort().flatMap((name) => filesBelow(join(path, name)));
}

/** A digest of the contents of files and folders. */
function digest(paths) {
  const hash = createHash('sha256');
  // Not the version of Node.js: the addon uses Node-API, which is the same in all.
  hash.update(`${process.arch}\0`);
  for (const file of paths.flatMap((path) => filesBelow(join(root, path)))) {
    hash
      .update(`${relative(root, file)}\0`)
      .update(readFileSync(file))
      .update('\0');
  }
  return hash.digest('hex');
}

/** Runs `build` unless `output` exists and was made from the same inputs. */
function step(name, inputs, output, build) {
  const stamp = join(root, 'target', 'strake-setup', name);
  const now = digest(inputs);
  const before = existsSync(stamp) ? readFileSync(stamp, 'utf8') : '';
  if (existsSync(join(root, output)) && before === now) return;
  build();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, now);
}

function buildNative() {
  checkCompilers();
  console.error('strake: building the native addon (a minute or so, once)');
  const cli = join(root, 'node_modules', '@napi-rs', 'cli', 'dist', 'cli.js');
  const manifest = ['--manifest-path', 'crates/binding/Cargo.toml', '--output-dir', 'native'];
  const names = ['--js', 'index.cjs', '--dts', 'index.d.ts'];
  run(process.execPath, [cli, 'build', '--platform', '--release', ...manifest, ...names], 'building the native addon');
}

/** Checks what the set-up needs, and installs packages. */
export function setupPackages() {
  checkTools();
  step('packages', ['package-lock.json'], 'node_modules/piscina/package.json', () => {
    console.error('strake: installing packages');
    run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], 'npm ci');
  });
}

/** Everything that `npm start`, `npm test` and `npm run bench` need. */
export function setup() {
  setupPackages();
  step('native', ['Cargo.toml', 'Cargo.lock', 'crates'], 'native/index.cjs', buildNative);
  step('typescript', ['tsconfig.json', 'src', 'native/index.d.ts'], 'dist/index.js', () => {
    rmSync(join(root, 'dist'), { recursive: true, force: true });
    run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', '.'], 'compiling TypeScript');
    // What npm has linked to it stays a program when it is compiled again.
    chmodSync(join(root, 'dist', 'cli', 'main.js'), 0o755);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) setup();
