/** A build without its assertions: they are gone, and what their conditions do is not. */

import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { project } from '../support/scratch.js';

const { withoutAssertions } = (await import(join(project, 'bench', 'without-assertions.mjs'))) as {
  withoutAssertions: (text: string) => { text: string; count: number };
};

const IMPORT = "import { check } from '../core/check.js';\n";

check('assertions are taken out, wherever they are', () => {
  const { text, count } = withoutAssertions(
    `${IMPORT}check(a < b, 'a', a);\nconst look = () => check(set.has(a), 'b');\n`,
  );
  assert.is(text, `${IMPORT}void 0;\nconst look = () => void 0;\n`);
  assert.is(count, 2);
});

check('a condition that does something is still evaluated', () => {
  for (const condition of ['set.delete(a)', '(left -= 1) >= 0', 'left++ < 3', 'has(list.pop())']) {
    const { text } = withoutAssertions(`${IMPORT}check(${condition}, 'what');\n`);
    assert.is(text, `${IMPORT}void (${condition});\n`);
  }
});

check('functions of the same name are left', () => {
  const text = 'const check = limiter();\ncheck();\n';
  assert.equal(withoutAssertions(text), { text, count: 0 });
});

run();
