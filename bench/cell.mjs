/**
 * Measures one cell of a build, which need not be the one that this file belongs to, and prints the measurement as JSON.
 * Arguments: the folder of the compiled build, and a JSON object: a cell of `src/bench/parties.ts` with the row's name for the row.
 */

import { join } from 'node:path';

const [build, text] = process.argv.slice(2);
const { ROWS, ROOT_ROWS = [], VOLUME_ROWS } = await import(join(build, 'bench', 'rows.js'));
const { measure } = await import(join(build, 'bench', 'parties.js'));
const cell = JSON.parse(text);
const row = [...ROWS, ...ROOT_ROWS, ...VOLUME_ROWS].find(({ id }) => id === cell.row);
if (row === undefined) {
  process.stderr.write(`this build has no row ${cell.row}\n`);
  process.exitCode = 1;
} else {
  process.stdout.write(JSON.stringify(await measure({ ...cell, row, party: 'strake' })));
}
