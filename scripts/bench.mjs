/**
 * `npm run bench`: the whole suite on scratch files, with results in bench/out: results.json, report.md and report.html.
 * Options: -o json, --rows PREFIX,PREFIX..., --only PREFIX, --seconds N, --rounds N, --size SIZE, --smoke; with --against REV,
 * which compares this tree with that commit: --pairs N, --bound RATIO,
 * --without-assertions.
 */

import { setup } from './setup.mjs';

setup();
const { runSuite } = await import('../bench/suite.mjs');
process.exitCode = await runSuite(process.argv.slice(2));
