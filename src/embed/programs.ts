/** Finding other programs. */

import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Where a program is, if it is installed; also in the folders that only root has in its path. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}
