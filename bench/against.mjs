/**
 * `npm run bench -- --against REV`: this tree against another commit, row by row, pair by pair. What is decided how is in
 * `src/bench/paired.ts`.
 */

import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compare, orderOf } from '../dist/bench/paired.js';
import { run, settle, tool } from '../dist/bench/processes.js';
import { onProcessors, pinning } from '../dist/bench/processors.js';
import { describeMachine } from '../dist/bench/run.js';
import { table } from '../dist/cli/output.js';
import { root } from '../scripts/setup.mjs';
import { makeBuild, refusal } from './other-build.mjs';
import { removeAssertions } from './without-assertions.mjs';

const CELL = join(root, 'bench', 'cell.mjs');
/** Of files that volumes are on, and of others, as formatting changes what a file system has allocated. */
const FILES = 2;
const ON_VOLUMES = ['volume', 'mirror2', 'cluster'];

/**
 * A folder whose `fio` is the real one, on processors of its own. So clients are pinned whichever build starts them, and the
 * server is where the process is that starts it.
 */
function pinnedClient(folder, { client }) {
  const shims = join(folder, 'bin');
  mkdirSync(shims);
  writeFileSync(join(shims, 'fio'), `#!/bin/sh\nexec taskset -c ${client.join(',')} '${tool('fio')}' "$@"\n`);
  chmodSync(join(shims, 'fio'), 0o755);
  return shims;
}

class Comparison {
  constructor({ folder, builds, files, options, pinned }) {
    Object.assign(this, { folder, builds, files, options, pinned });
    this.shims = pinned === null ? undefined : pinnedClient(folder, pinned);
  }

  /** The value of one build on a row. */
  async measure(row, build, pair) {
    const { sizeBytes, seconds, slots } = this.options;
    const files = this.files[ON_VOLUMES.includes(row.target) ? 'volumes' : 'plain'];
    const file = files[pair % files.length];
    const second = files[(pair + 1) % files.length];
    // Devices that are made once are of the build that made them.
    const folder = join(this.folder, build);
    mkdirSync(folder, { recursive: true });
    if (row.target !== 'null') await settle(file);
    const cell = { row: row.id, file, second, sizeBytes, seconds, folder, slots };
    const line = [process.execPath, CELL, this.builds[build], JSON.stringify(cell)];
    // Rows of devices have no client, and rows of a cluster choose processors themselves.
    const apart = this.pinned !== null && !['device', 'cluster'].includes(row.target);
    const command = apart
      ? ['env', `PATH=${this.shims}:${process.env.PATH}`, ...onProcessors(this.pinned.server, line)]
      : line;
    return JSON.parse(await run(command[0], command.slice(1))).value;
  }

  async compare(row) {
    const { pairs, bound, onProgress } = this.options;
    const values = { before: [], after: [] };
    for (let pair = 0; pair < pairs; pair += 1) {
      for (const build of orderOf(pair)) {
        onProgress(`${row.id}  pair ${pair + 1}/${pairs}  ${build}`);
        values[build].push(await this.measure(row, build, pair));
      }
    }
    return compare(row, values.before, values.after, bound);
  }
}

const rounded = (value) => (value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3));

function tell({ rows, against, pairs, bound }) {
  const cells = rows.map(({ id, unit, before, after, ratio, verdict }) => [
    id,
    unit,
    rounded(before),
    rounded(after),
    ratio.median.toFixed(3),
    `${ratio.low.toFixed(3)}–${ratio.high.toFixed(3)}`,
    `${(100 * ratio.coverage).toFixed(1)}%`,
    verdict,
  ]);
  const header = ['row', 'unit', 'before', 'after', 'ratio', 'interval', 'coverage', 'verdict'];
  process.stdout.write(`${table(header, cells)}\n\n`);
  process.stdout.write(`before: ${against.commit.slice(0, 12)} (${against.rev}); after: this tree; ${pairs} pairs\n`);
  process.stdout.write(
    `ratio: median of after / before within pairs, with its interval by order statistics (binomial)\n`,
  );
  process.stdout.write(`lower: the interval ends below ${bound}\n`);
}

/**
 * Compares `rows`. Returns the exit code: 1 if a row is lower. `makeFiles` makes scratch files in a folder; `out` is where
 * results go.
 */
export async function runAgainst(options, { out, makeFiles }) {
  const { against: rev, rows, pairs, bound, seconds, sizeBytes, output, smoke, onProgress } = options;
  tool('fio');
  const build = makeBuild(rev, onProgress);
  const folder = mkdtempSync(join(out, 'scratch-'));
  const removeAll = () => {
    rmSync(folder, { recursive: true, force: true });
    build.remove();
  };
  const stop = (signal) => {
    removeAll();
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    if (options['without-assertions']) {
      const removed = removeAssertions(build.dist);
      if (removed === 0)
        throw refusal(`${rev} has no assertions to take out`, 'Choose a commit that has src/core/check.ts.');
      onProgress(`${removed} assertions taken out of ${rev}`);
    }
    const pinned = pinning();
    if (pinned === null) onProgress('server and client are not pinned apart: that takes taskset and two processors');
    const [plain, volumes] = [join(folder, 'plain'), join(folder, 'volumes')];
    for (const made of [plain, volumes]) mkdirSync(made);
    const wants = (targets) => rows.some(({ target }) => targets.includes(target));
    const files = {
      plain: wants(['nbd', 'nbd-tcp', 'loop', 'device']) ? await makeFiles(plain, FILES, sizeBytes) : [folder],
      volumes: wants(ON_VOLUMES) ? await makeFiles(volumes, FILES, sizeBytes) : [],
    };
    const builds = { before: build.dist, after: join(root, 'dist') };
    const comparison = new Comparison({ folder, builds, files, options, pinned });
    const results = [];
    for (const row of rows) results.push(await comparison.compare(row));
    const data = {
      schema: 'strake.bench.against',
      version: 1,
      time: new Date().toISOString(),
      machine: describeMachine(),
      against: { rev, commit: build.commit },
      pairs,
      seconds,
      sizeBytes,
      bound,
      pinned,
      rows: results,
    };
    writeFileSync(join(out, smoke ? 'against-smoke.json' : 'against.json'), `${JSON.stringify(data, null, 2)}\n`);
    if (output === 'json') process.stdout.write(`${JSON.stringify(data, null, 2)}\n`);
    else tell(data);
    return results.some(({ verdict }) => verdict === 'lower') ? 1 : 0;
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
    removeAll();
  }
}
