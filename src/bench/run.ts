/**
 * The schedule of a bench.
 *
 * Rounds are interleaved: within a row, every party is measured once per round, in an order that rotates. Files rotate too:
 * a file system may sit on storage whose parts differ by a factor of two, so a party must not keep one file. Between
 * cells everything is written back and forgotten, so that no party pays for what another has left behind, or finds it in
 * memory. What is reported of a row is the median of its rounds, and of a comparison the median of the ratios within
 * rounds.
 */

import { cpus, release, totalmem } from 'node:os';
import { VERSION } from '../embed/version.js';
import type { Course, Measurement } from './fio.js';
import { measure } from './parties.js';
import type { Probe } from './probes.js';
import { settle } from './processes.js';
import type { Party, Row } from './rows.js';
import type { ProbeContext, Sample } from './samples.js';
import { median, type Spread, spread } from './statistics.js';

export interface BenchOptions {
  readonly rows: readonly Row[];
  /** Measured after the rows. */
  readonly probes?: readonly Probe[];
  /** Files or devices that parties take turns on. */
  readonly files: readonly string[];
  readonly sizeBytes: number;
  readonly rounds: number;
  readonly seconds: number;
  readonly folder: string;
  /** Used slots of the device that is opened, and of that whose tables do not fit in memory. */
  readonly slots?: number;
  /** Times in a round that probes measure what differs much; 1 if absent. */
  readonly times?: number;
  /** Parties that take part. */
  readonly parties: readonly Party[];
  readonly onProgress: (text: string) => void;
  /** What becomes of a row or probe that fails: the others are measured, and it is in the result; or all is given up. */
  readonly onFailure: 'goOn' | 'giveUp';
}

/** A row, or a group of rows of a probe, that could not be measured. */
export interface FailedRow {
  readonly id: string;
  readonly error: string;
}

/** One row's result. `strake` and `rivals` are medians in `unit`. */
export interface RowResult {
  readonly id: string;
  readonly unit: string;
  readonly strake: number;
  readonly rivals: Readonly<Record<string, number>>;
  /** Strake's value divided by the rival's, round by round. */
  readonly ratios: Readonly<Record<string, Spread>>;
  readonly spreads: Readonly<Record<string, Spread>>;
  readonly latencyUsMean: Readonly<Record<string, number>>;
  readonly latencyUsP50: Readonly<Record<string, number>>;
  readonly latencyUsP99: Readonly<Record<string, number>>;
  readonly latencyUsP999: Readonly<Record<string, number>>;
  readonly cpuUsPerOperation: Readonly<Record<string, number>>;
  readonly peakMemoryBytes: Readonly<Record<string, number>>;
  /** Operations that devices were given for each request, of parties of whom that is known. */
  readonly deviceOperations: Readonly<Record<string, number>>;
  /** Of a row of a minute. */
  readonly courses: Readonly<Record<string, Course>>;
}

export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly node: string;
  readonly strake: string;
}

export interface BenchResult {
  readonly time: string;
  readonly machine: Machine;
  readonly rounds: number;
  readonly seconds: number;
  readonly sizeBytes: number;
  readonly rows: readonly RowResult[];
  readonly failed: readonly FailedRow[];
}

type Measurements = Map<Party, Measurement[]>;

function rotate<T>(list: readonly T[], by: number): T[] {
  const at = by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}

async function measureRow(row: Row, options: BenchOptions): Promise<Measurements> {
  const { files, sizeBytes, seconds, folder, slots = 0 } = options;
  const parties = row.parties.filter((party) => options.parties.includes(party));
  const results: Measurements = new Map(parties.map((party) => [party, []]));
  const rounds = row.minute === true ? 1 : options.rounds;
  for (let round = 0; round < rounds; round += 1) {
    for (const [position, party] of rotate(parties, round).entries()) {
      // The file depends on the party and the round, not on the position, so that each party sees each file.
      const place = parties.indexOf(party) + round;
      const file = files[place % files.length];
      const second = files[(place + 1) % files.length];
      await settle(file);
      options.onProgress(`${row.id}  round ${round + 1}/${rounds}  ${position + 1}/${parties.length} ${party}`);
      results.get(party)?.push(await measure({ row, party, file, second, sizeBytes, seconds, folder, slots }));
    }
  }
  return results;
}

/** What is known of some parties only. */
function known<T>(
  results: Measurements,
  pick: (measurement: Measurement) => T | undefined,
  summary: (list: readonly T[]) => T,
): Record<string, T> {
  const lists = [...results].map(
    ([party, list]) => [party, list.map(pick).filter((one) => one !== undefined)] as const,
  );
  return Object.fromEntries(lists.filter(([, list]) => list.length > 0).map(([party, list]) => [party, summary(list)]));
}

function summarise(row: Row, results: Measurements): RowResult {
  const own = results.get('strake') ?? [];
  const byParty = <T>(pick: (list: readonly Measurement[]) => T): Record<string, T> =>
    Object.fromEntries([...results].map(([party, list]) => [party, pick(list)]));
  const rivals = [...results.keys()].filter((party) => party !== 'strake');
  const values = (list: readonly Measurement[]) => list.map(({ value }) => value);
  const ratio = (party: Party) =>
    spread((results.get(party) ?? []).map(({ value }, round) => own[round].value / value));
  const peak = byParty((list) => Math.max(...list.map(({ peakMemoryBytes }) => peakMemoryBytes)));
  return {
    id: row.id,
    unit: row.unit,
    strake: median(values(own)),
    rivals: Object.fromEntries(rivals.map((party) => [party, median(values(results.get(party) ?? []))])),
    ratios: Object.fromEntries(rivals.map((party) => [party, ratio(party)])),
    spreads: byParty((list) => spread(values(list))),
    latencyUsMean: byParty((list) => median(list.map(({ latencyUsMean }) => latencyUsMean))),
    latencyUsP50: byParty((list) => median(list.map(({ latencyUsP50 }) => latencyUsP50))),
    latencyUsP99: byParty((list) => median(list.map(({ latencyUsP99 }) => latencyUsP99))),
    latencyUsP999: byParty((list) => median(list.map(({ latencyUsP999 }) => latencyUsP999))),
    cpuUsPerOperation: byParty((list) => median(list.map(({ cpuUsPerOperation }) => cpuUsPerOperation))),
    peakMemoryBytes: Object.fromEntries(Object.entries(peak).filter(([, bytes]) => bytes > 0)),
    deviceOperations: known(results, ({ deviceOperations }) => deviceOperations, median),
    courses: known(
      results,
      ({ course }) => course,
      (list) => list[0],
    ),
  };
}

function summariseSamples(samples: readonly Sample[]): RowResult[] {
  return [...new Set(samples.map(({ id }) => id))].map((id) => {
    const mine = samples.filter((sample) => sample.id === id);
    const own = mine.map(({ strake }) => strake);
    const names = Object.keys(mine[0].rivals ?? {});
    const byRival = <T>(pick: (name: string) => T) => Object.fromEntries(names.map((name) => [name, pick(name)]));
    const values = (name: string) => mine.map(({ rivals }) => (rivals as Record<string, number>)[name]);
    const ratio = (name: string) => spread(values(name).map((value, round) => own[round] / value));
    return {
      id,
      unit: mine[0].unit,
      strake: median(own),
      rivals: byRival((name) => median(values(name))),
      ratios: byRival(ratio),
      spreads: { strake: spread(own), ...byRival((name) => spread(values(name))) },
      latencyUsMean: {},
      latencyUsP50: {},
      latencyUsP99: {},
      latencyUsP999: {},
      cpuUsPerOperation: {},
      peakMemoryBytes: {},
      deviceOperations: {},
      courses: {},
    };
  });
}

async function runProbe(probe: Probe, options: BenchOptions): Promise<RowResult[]> {
  const { files, sizeBytes, seconds, folder, slots = 0, times = 1 } = options;
  const samples: Sample[] = [];
  for (let round = 0; round < options.rounds; round += 1) {
    options.onProgress(`${probe.group}  round ${round + 1}/${options.rounds}`);
    const context: ProbeContext = { round, files: rotate(files, round), sizeBytes, seconds, folder, slots, times };
    samples.push(...(await probe.sample(context)));
  }
  return summariseSamples(samples);
}

/** What figures are of. */
export function describeMachine(): Machine {
  return {
    processor: cpus()[0]?.model ?? 'not known',
    cores: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.versions.node,
    strake: VERSION,
  };
}

/** Measures all rows. Rejects with what a row fails with, unless `onFailure` is to go on. */
export async function runBench(options: BenchOptions): Promise<BenchResult> {
  const rows: RowResult[] = [];
  const failed: FailedRow[] = [];
  const attempt = async (id: string, measured: () => Promise<readonly RowResult[]>) => {
    try {
      rows.push(...(await measured()));
    } catch (error) {
      if (options.onFailure === 'giveUp') throw error;
      const message = error instanceof Error ? error.message : String(error);
      options.onProgress(`${id} failed: ${message}`);
      failed.push({ id, error: message });
    }
  };
  for (const row of options.rows) await attempt(row.id, async () => [summarise(row, await measureRow(row, options))]);
  for (const probe of options.probes ?? []) await attempt(probe.group, () => runProbe(probe, options));
  return {
    time: new Date().toISOString(),
    machine: describeMachine(),
    rounds: options.rounds,
    seconds: options.seconds,
    sizeBytes: options.sizeBytes,
    rows,
    failed,
  };
}
