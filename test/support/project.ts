/** Where the project is, for tests as they are written and for what they are compiled to, which lies deeper in the same project. */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The nearest folder above `folder` that has a `package.json`, by which Node.js finds `#strake/` too. */
function projectOf(folder: string): string {
  if (existsSync(join(folder, 'package.json'))) return folder;
  const above = dirname(folder);
  if (above === folder) throw new Error('tests are to be run in a checkout: no folder above them has a package.json');
  return projectOf(above);
}

/** The folder of the project. */
export const project = projectOf(import.meta.dirname);
