/**
 * Another commit, checked out and built in a work tree of its own below `target/against`, by its own set-up.
 *
 * What that commit shares with this tree is not made again: its packages begin as links to ours, and its addon as a copy of
 * ours; its set-up compares its inputs with what they were made from, and makes what differs. Builds of the addon share a folder
 * of cargo's.
 */

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../scripts/setup.mjs';

const BUILD_LIMIT_MS = 15 * 60_000;
/** The end of the output of a build that failed. */
const TOLD_LINES = 15;
const PLACE = join(root, 'target', 'against');

/** An error that says what to do. */
export function refusal(message, remedy) {
  return Object.assign(new Error(message), { remedy });
}

function git(...args) {
  const { status, stdout, stderr, error } = spawnSync('git', args, { cwd: root, encoding: 'utf8' });
  if (error !== undefined) throw refusal(`git cannot be run: ${error.message}`, 'Install it: apt-get install git');
  return { ok: status === 0, stdout: stdout.trim(), stderr: stderr.trim() };
}

/** The commit that a name means. Throws if there is none. */
export function commitOf(rev) {
  if (!git('rev-parse', '--git-dir').ok) {
    throw refusal(
      'this is no git checkout, so there is no other commit to compare with',
      'Clone the repository, and try in there.',
    );
  }
  const { ok, stdout } = git('rev-parse', '--verify', '--quiet', `${rev}^{commit}`);
  if (!ok)
    throw refusal(`no commit is called ${rev}`, 'Give a commit, branch or tag of this checkout; git log lists them.');
  return stdout;
}

function copyPackages(tree) {
  const packages = join(root, 'node_modules');
  const linked = spawnSync('cp', ['-al', packages, join(tree, 'node_modules')], { stdio: 'ignore' });
  if (linked.status === 0) return true;
  rmSync(join(tree, 'node_modules'), { recursive: true, force: true });
  return spawnSync('cp', ['-a', packages, join(tree, 'node_modules')], { stdio: 'ignore' }).status === 0;
}

/** Gives a tree what ours has been made, with the stamps that say what from. */
function lend(tree) {
  const stamps = join('target', 'strake-setup');
  mkdirSync(join(tree, stamps), { recursive: true });
  const lent = {
    packages: copyPackages,
    native: () => cpSync(join(root, 'native'), join(tree, 'native'), { recursive: true }),
  };
  for (const [name, copy] of Object.entries(lent)) {
    const stamp = join(stamps, name);
    if (!existsSync(join(root, stamp)) || copy(tree) === false) continue;
    cpSync(join(root, stamp), join(tree, stamp));
  }
}

function setUp(tree, rev) {
  const program = join(tree, 'scripts', 'setup.mjs');
  const how =
    'Choose a commit that builds: git worktree add FOLDER REV, and npm run build in there, show what is wrong.';
  if (!existsSync(program)) throw refusal(`${rev} cannot be built: it has no scripts/setup.mjs`, how);
  const env = { ...process.env, CARGO_TARGET_DIR: join(PLACE, 'cargo') };
  const options = { cwd: tree, env, encoding: 'utf8', timeout: BUILD_LIMIT_MS };
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [program], options);
  if (status === 0) return;
  const told = `${stdout}${stderr}`.trim().split('\n').slice(-TOLD_LINES).join('\n  ');
  throw refusal(`${rev} cannot be built (${error?.message ?? `exit code ${status}`}):\n  ${told}`, how);
}

function removeTree(tree) {
  git('worktree', 'remove', '--force', tree);
  rmSync(tree, { recursive: true, force: true });
  git('worktree', 'prune');
}

/** Removes what runs have left that were killed; a tree is named after its process. */
function removeOrphans() {
  const orphans = readdirSync(PLACE).filter((name) => /^\d+$/.test(name) && !existsSync(join('/proc', name)));
  for (const name of orphans) removeTree(join(PLACE, name));
}

/** Checks a commit out and builds it. Returns its compiled code, and what removes all of it again. */
export function makeBuild(rev, onProgress) {
  const commit = commitOf(rev);
  const tree = join(PLACE, String(process.pid));
  const remove = () => removeTree(tree);
  mkdirSync(PLACE, { recursive: true });
  removeOrphans();
  onProgress(`building ${rev} (${commit.slice(0, 12)})`);
  try {
    const added = git('worktree', 'add', '--quiet', '--detach', tree, commit);
    if (!added.ok) throw refusal(`${rev} cannot be checked out: ${added.stderr}`, 'See git worktree list.');
    lend(tree);
    setUp(tree, rev);
    return { commit, dist: join(tree, 'dist'), remove };
  } catch (error) {
    remove();
    throw error;
  }
}
