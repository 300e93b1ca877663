/**
 * The bench suite: makes scratch files, measures all rows on them, and writes the report.
 *
 * A smoke run measures a few rows for an instant, to show that the suite works; its numbers mean nothing, and are kept
 * apart from those of a real run.
 */

import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { figuresOf } from '../dist/bench/figures.js';
import { idleFigures } from '../dist/bench/idle.js';
import { available } from '../dist/bench/needs.js';
import { BOUND, matches, PAIRS_MIN } from '../dist/bench/paired.js';
import { PROBES } from '../dist/bench/probes.js';
import { run, tool } from '../dist/bench/processes.js';
import { htmlReport, markdownReport, terminalTables } from '../dist/bench/report.js';
import { ROOT_ROWS, ROWS, SMOKE_ROWS, VOLUME_ROWS } from '../dist/bench/rows.js';
import { runBench } from '../dist/bench/run.js';
import { table } from '../dist/cli/output.js';
import { parseBytes } from '../dist/core/units.js';
import { runAgainst } from './against.mjs';

const out = join(dirname(fileURLToPath(import.meta.url)), 'out');
const TOOLS = ['fio', 'qemu-nbd', 'nbdkit'];
const PARTIES = ['strake', ...TOOLS, 'raw', 'overwrite', 'warm', 'inside', 'file'];
/** Used slots of the sparse device of rows `open` and `volume.cold`; tables for 1280 are held in memory. */
const SLOTS = 100_000;
const SMOKE_SLOTS = 2048;
/** Probes of a smoke run, which has to be short, unless others are named. */
const SMOKE_PROBES = ['open', 'idle', 'rebuild', 'cluster.shards', 'cluster.attach', 'cluster.idle'];
/** Deaths of a process that are measured in a round: twenty in a whole bench. */
const TIMES = 4;
/** One file for each party, and one more, so that parties and files do not rotate in step. */
const FILES = 5;

/** Files whose blocks are all written, as a device's are. */
async function makeFiles(folder, count, sizeBytes) {
  const { bavail, bsize } = statfsSync(folder);
  const needed = count * sizeBytes * 1.1;
  if (bavail * bsize < needed) {
    throw new Error(
      `${folder} has too little space: ${Math.ceil(needed / 2 ** 20)} MiB are needed (--size makes less)`,
    );
  }
  const files = Array.from({ length: count }, (_, index) => join(folder, `scratch-${index}.img`));
  for (const file of files) {
    const how = ['--ioengine=io_uring', '--direct=1', '--iodepth=8', '--fallocate=posix', '--end_fsync=1'];
    await run(tool('fio'), [
      '--name=fill',
      `--filename=${file}`,
      '--rw=write',
      '--bs=1M',
      `--size=${sizeBytes}`,
      ...how,
    ]);
  }
  return files;
}

/** Rows and probes that begin with one of the prefixes, or match a pattern with `*`; some only if a prefix names them. */
function choose({ smoke, rows: list, only, against }) {
  const prefixes = (list ?? only).split(',').map((prefix) => prefix.trim());
  const all = smoke && against === undefined ? SMOKE_ROWS : [...ROWS, ...ROOT_ROWS, ...VOLUME_ROWS];
  const meant = prefixes.flatMap((prefix) => {
    // The whole name of a row means that row, though others may begin with it.
    const named = all.filter(({ id }) => id === prefix);
    return named.length > 0 ? named : all.filter(({ id }) => matches(id, prefix));
  });
  const rows = all.filter((row) => meant.includes(row));
  const probes = PROBES.filter(({ group, optIn }) => {
    const named = prefixes.some((prefix) => prefix !== '' && group.startsWith(prefix));
    if (against !== undefined || (smoke && !named && !SMOKE_PROBES.includes(group))) return false;
    // A prefix may also be longer than a probe's name: it measures all its rows at once.
    return prefixes.some((prefix) => (!optIn && group.startsWith(prefix)) || `${prefix}.`.startsWith(`${group}.`));
  });
  if (rows.length + probes.length === 0) throw new Error(`no row is called ${prefixes.join(' or ')}`);
  return { rows, probes };
}

function options(args) {
  const { values } = parseArgs({
    args,
    options: {
      output: { type: 'string', short: 'o', default: 'table' },
      only: { type: 'string', default: '' },
      rows: { type: 'string' },
      against: { type: 'string' },
      'without-assertions': { type: 'boolean', default: false },
      pairs: { type: 'string' },
      bound: { type: 'string' },
      seconds: { type: 'string' },
      rounds: { type: 'string' },
      size: { type: 'string' },
      smoke: { type: 'boolean', default: false },
    },
  });
  const smoke = values.smoke;
  if (values['without-assertions'] && values.against === undefined)
    throw new Error('--without-assertions goes with --against, whose build it takes them out of');
  const seconds = Number(values.seconds ?? (smoke ? 0.2 : 2));
  const rounds = Number(values.rounds ?? (smoke ? 1 : 5));
  if (!(seconds > 0) || !Number.isInteger(rounds) || rounds < 1)
    throw new Error('--seconds and --rounds are above zero');
  if (!['table', 'json'].includes(values.output)) throw new Error('-o is table or json');
  const pairs = Number(values.pairs ?? (smoke ? 1 : PAIRS_MIN));
  const bound = Number(values.bound ?? BOUND);
  if (!Number.isInteger(pairs) || pairs < (smoke ? 1 : PAIRS_MIN)) throw new Error(`--pairs is at least ${PAIRS_MIN}`);
  if (!(bound > 0)) throw new Error('--bound is above zero');
  const sizeBytes = parseBytes(values.size ?? (smoke ? '64M' : '1G'));
  const slots = smoke ? SMOKE_SLOTS : SLOTS;
  return { ...values, smoke, seconds, rounds, pairs, bound, sizeBytes, slots, ...choose(values) };
}

function fail(error) {
  process.stderr.write(`bench: ${error.message}${error.remedy ? `\n  ${error.remedy}` : ''}\n`);
  return 1;
}

/** Runs the suite, or compares with another commit. Returns the exit code. */
export async function runSuite(args) {
  try {
    const chosen = { ...options(args), onProgress: (text) => process.stderr.write(`${text}\n`) };
    mkdirSync(out, { recursive: true });
    const { rows, leftOut } = available(chosen.rows);
    for (const what of leftOut) process.stderr.write(`bench: left out: ${what}\n`);
    Object.assign(chosen, { rows, leftOut });
    return await (chosen.against === undefined ? runAll(chosen) : runAgainst(chosen, { out, makeFiles }));
  } catch (error) {
    return fail(error);
  }
}

async function runAll({ rows, leftOut, probes, seconds, rounds, sizeBytes, slots, smoke, output, onProgress }) {
  const folder = mkdtempSync(join(out, 'scratch-'));
  try {
    for (const name of TOOLS) tool(name);
    onProgress(`${rows.length} rows and ${probes.length} probes, ${rounds} rounds, ${seconds} s each`);
    const files = await makeFiles(folder, FILES, sizeBytes);
    // What has been measured before a row fails has taken half an hour.
    const schedule = { rows, probes, rounds, seconds, parties: PARTIES, onFailure: 'goOn' };
    const times = smoke ? 1 : TIMES;
    const result = await runBench({ ...schedule, files, sizeBytes, slots, times, folder, onProgress });
    const figures = [...figuresOf(result.rows), ...(await idleFigures(folder, smoke ? 1 : 10))];
    const data = { schema: 'strake.bench', version: 1, ...result, leftOut, figures };
    const name = smoke ? 'smoke' : 'results';
    writeFileSync(join(out, `${name}.json`), `${JSON.stringify(data, null, 2)}\n`);
    writeFileSync(join(out, smoke ? 'smoke.md' : 'report.md'), markdownReport(result, figures));
    writeFileSync(join(out, smoke ? 'smoke.html' : 'report.html'), htmlReport(result, figures));
    if (output === 'json') {
      process.stdout.write(`${JSON.stringify(data, null, 2)}\n`);
    } else {
      for (const { header, rows: cells } of terminalTables(result)) process.stdout.write(`${table(header, cells)}\n\n`);
      const met = figures.map(({ name: what, bound, value, met: ok }) => [
        what,
        `${bound.kind === 'min' ? '≥' : '≤'} ${bound.value}`,
        value?.toFixed(3) ?? '–',
        String(ok ?? 'not measured'),
      ]);
      process.stdout.write(`${table(['figure', 'wanted', 'measured', 'met'], met)}\n`);
      process.stdout.write(`\nreport: ${join('bench', 'out', smoke ? 'smoke.html' : 'report.html')}\n`);
    }
    for (const { id, error } of result.failed) process.stderr.write(`bench: ${id} failed: ${error}\n`);
    return result.failed.length === 0 ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
