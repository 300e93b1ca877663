/** fio: the client of all servers, and the rival that uses the device without one. */

import { StrakeError } from '../core/errors.js';
import { run, tool } from './processes.js';
import { onProcessors } from './processors.js';
import type { Pattern, Row } from './rows.js';

/** What happened in each second of a run. */
export interface Course {
  /** Requests of clients that ended. */
  readonly requests: readonly number[];
  /** Operations that the devices were given; empty where that is not known. */
  readonly deviceOperations: readonly number[];
}

/** What one run achieved. */
export interface Measurement {
  /** In the row's unit. */
  readonly value: number;
  readonly operations: number;
  readonly latencyUsMean: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  readonly latencyUsP999: number;
  /** Processor time of the server, or of whoever drives the device, per operation. */
  readonly cpuUsPerOperation: number;
  /** Peak memory of that process; 0 where it was not measured. */
  readonly peakMemoryBytes: number;
  /** Operations that devices were given for each request; absent where that is not known. */
  readonly deviceOperations?: number;
  /** Of a run of a minute. */
  readonly course?: Course;
}

interface FioDirection {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly total_ios: number;
  readonly runtime: number;
  readonly lat_ns: { readonly mean: number };
  readonly clat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}

export interface FioJob {
  readonly read: FioDirection;
  readonly write: FioDirection;
  readonly usr_cpu: number;
  readonly sys_cpu: number;
  readonly error: number;
}

const FIO_PATTERN: Record<Pattern, readonly string[]> = {
  read: ['--rw=read'],
  write: ['--rw=write'],
  randread: ['--rw=randread'],
  randwrite: ['--rw=randwrite'],
  mixed: ['--rw=randrw', '--rwmixread=70'],
  sync: ['--rw=randwrite', '--fsync=1'],
};

/** Where fio works: a file or device, two of them, each by a job of its own at the same time, or a server. */
export type FioTarget =
  | { readonly file: string }
  | { readonly files: readonly [string, string] }
  | { readonly uri: string };

/** What a run does, where it is not a row's usual one. */
export interface FioOptions {
  /** Ends when everything has been written once, if that is before the time is over. */
  readonly once?: boolean;
  /** Ends after so many requests, however long that takes. */
  readonly requests?: number;
  /** Begins the names of files for the rates over each `LOGGED_MS` of the run; see `ratesLogged`. */
  readonly log?: string;
  /** Requests begin at multiples of this many bytes only. */
  readonly alignBytes?: number;
  /** The processors that it runs on; absent, any. */
  readonly processors?: readonly number[];
  /** What its command line begins with, to run it in another network. */
  readonly within?: readonly string[];
}

/** Over how much of a run each rate of a log is. */
export const LOGGED_MS = 1000;
/** Ends a run of so many requests on whatever device. */
const REQUESTS_SECONDS_MAX = 600;

const DIRECT = ['--ioengine=io_uring', '--direct=1', '--fixedbufs', '--registerfiles'];

function fileArgument(file: string): string {
  return `--filename=${file.replace(/:/g, '\\:')}`;
}

/** Options of all jobs, and each job by its name and where it works. */
function places(target: FioTarget): { readonly common: readonly string[]; readonly jobs: readonly string[] } {
  const name = '--name=bench';
  if ('uri' in target) return { common: [], jobs: [name, '--ioengine=nbd', `--uri=${target.uri}`] };
  if ('file' in target) return { common: DIRECT, jobs: [name, fileArgument(target.file)] };
  return { common: DIRECT, jobs: target.files.flatMap((file) => [name, fileArgument(file)]) };
}

/** fio's arguments for a row's pattern on the first `sizeBytes` for `seconds`. */
export function fioArguments(
  row: Pick<Row, 'pattern' | 'blockBytes' | 'depth' | 'clients'>,
  target: FioTarget,
  sizeBytes: number,
  seconds: number,
  { once = false, requests, log, alignBytes }: FioOptions = {},
): string[] {
  const { common, jobs } = places(target);
  return [
    ...common,
    '--thread',
    ...FIO_PATTERN[row.pattern],
    `--bs=${row.blockBytes}`,
    `--iodepth=${row.depth}`,
    `--numjobs=${row.clients}`,
    '--group_reporting',
    `--size=${sizeBytes}`,
    ...(once
      ? []
      : ['--norandommap', requests === undefined ? '--time_based' : `--io_size=${requests * row.blockBytes}`]),
    ...(log === undefined ? [] : [`--write_iops_log=${log}`, `--log_avg_msec=${LOGGED_MS}`]),
    ...(alignBytes === undefined ? [] : [`--blockalign=${alignBytes}`]),
    `--runtime=${Math.round((requests === undefined ? seconds : REQUESTS_SECONDS_MAX) * 1000)}ms`,
    '--allrandrepeat=1',
    '--output-format=json',
    // What comes before the first job holds for all of them.
    ...jobs,
  ];
}

/** fio's report. Throws if something failed in it. */
export function parseFio(output: string, what: string): FioJob {
  const parsed: unknown = JSON.parse(output.slice(output.indexOf('{')));
  const job = (parsed as { jobs: FioJob[] }).jobs[0];
  if (job.error !== 0) throw new StrakeError('IO', `fio reported error ${job.error} in ${what}`);
  return job;
}

/** Runs fio on a row's pattern for `seconds`. */
export async function runFio(
  row: Row,
  target: FioTarget,
  sizeBytes: number,
  seconds: number,
  options: FioOptions = {},
): Promise<FioJob> {
  const { processors, within = [] } = options;
  const line = [...within, tool('fio'), ...fioArguments(row, target, sizeBytes, seconds, options)];
  const [program, ...args] = processors === undefined ? line : onProcessors(processors, line);
  return parseFio(await run(program, args), row.id);
}

/** What fio calls the share of requests that took no longer. */
type Percentile = '50.000000' | '99.000000' | '99.900000';

/** The time that so many of a run's requests took at most, in microseconds; of a mixed run, that of the slower direction. */
function percentileUs({ read, write }: FioJob, percentile: Percentile): number {
  const of = (direction: FioDirection) => direction.clat_ns.percentile?.[percentile] ?? 0;
  return Math.max(of(read), of(write)) / 1000;
}

/** The time that 99% of a run's requests took at most, in microseconds. */
export function p99Us(job: FioJob): number {
  return percentileUs(job, '99.000000');
}

/** A row's figures from fio's, with the processor time of the server if there is one. */
export function measurementOf(row: Row, job: FioJob, serverCpuUs?: number): Omit<Measurement, 'peakMemoryBytes'> {
  const { read, write } = job;
  const operations = read.total_ios + write.total_ios;
  if (operations === 0) throw new StrakeError('IO', `fio did nothing in ${row.id}`);
  const weigh = (pick: (direction: FioDirection) => number) =>
    (pick(read) * read.total_ios + pick(write) * write.total_ios) / operations;
  const runtimeUs = Math.max(read.runtime, write.runtime) * 1000;
  const ownCpuUs = ((job.usr_cpu + job.sys_cpu) / 100) * runtimeUs;
  return {
    value: row.unit === 'iops' ? read.iops + write.iops : (read.bw_bytes + write.bw_bytes) / 1e6,
    operations,
    latencyUsMean: weigh((direction) => direction.lat_ns.mean) / 1000,
    latencyUsP50: percentileUs(job, '50.000000'),
    latencyUsP99: p99Us(job),
    latencyUsP999: percentileUs(job, '99.900000'),
    cpuUsPerOperation: (serverCpuUs ?? ownCpuUs) / operations,
  };
}
