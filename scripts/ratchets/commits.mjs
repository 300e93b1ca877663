/** Subjects of commits: `area: verb …`, in at most 72 characters. */

import { spawnSync } from 'node:child_process';
import { realpathSync } from 'node:fs';

/** The last commit that need not have one; what came before it is left as it is. */
export const BASE = '05f126aab70baf10da786ee8c24170c32225ad2d';
const SUBJECT_MAX = 72;
const FORM = /^[a-z][a-z0-9.-]*: [a-z][a-z-]* \S/;

/** What is wrong with a subject; undefined if nothing is. */
export function subjectError(subject) {
  const { length } = subject;
  if (length > SUBJECT_MAX)
    return `it has ${length} characters: at most ${SUBJECT_MAX} fit, and the body has room for the rest`;
  if (!FORM.test(subject))
    return 'it reads `area: verb …`, in small letters, such as `store: reserve journal room before an operation starts`';
  return subject.endsWith('.') ? 'it ends without a full stop' : undefined;
}

/** Errors of the commits since `base`, or why there is nothing to check. */
export function commitErrors(root, base = BASE) {
  const git = (...args) => {
    const { status, stdout } = spawnSync('git', args, { cwd: root, encoding: 'utf8' });
    return status === 0 ? stdout.trim() : undefined;
  };
  const top = git('rev-parse', '--show-toplevel');
  if (top === undefined || realpathSync(top) !== realpathSync(root)) return { skipped: 'this is no git checkout' };
  if (git('merge-base', '--is-ancestor', base, 'HEAD') === undefined) {
    return { skipped: `the history does not go back to ${base.slice(0, 12)}: git fetch --unshallow` };
  }
  const lines = (git('log', '--no-merges', '--format=%h %s', `${base}..HEAD`) ?? '')
    .split('\n')
    .filter((line) => line !== '');
  const errors = lines.flatMap((line) => {
    const [, id, subject] = /^(\S+) ?(.*)$/.exec(line);
    const error = subjectError(subject);
    return error === undefined ? [] : [`commit ${id} "${subject}": ${error} (git rebase -i ${id}~ and reword)`];
  });
  return { errors };
}
