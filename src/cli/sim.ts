/** `strake sim`: tries the product's own code in a simulation, under every fault there is. */

import { type Command, InvalidArgumentError } from 'commander';
import { StrakeError } from '../core/errors.js';
import { TraceHash } from '../embed/trace-hash.js';
import { CLUSTER_FAULT_KINDS } from '../sim/cluster/cluster-plan.js';
import type { ClusterEdit } from '../sim/cluster/cluster-shrink.js';
import { FAULT_KINDS } from '../sim/trial/plan.js';
import type { PlanEdit } from '../sim/trial/shrink.js';
import type { TrialResult } from '../sim/trial/trial.js';
import { FAILURES_MAX, SEED_MAX, SHRINK_TRIALS_MAX } from './limits.js';
import { type OnExit, outputOption, wholeNumber } from './options.js';
import { EXIT_FAILED, fields, note, type OutputFormat, print } from './output.js';
import { Progress } from './progress.js';

/** The simulator, the product's whole code in it, and the pool of workers: loaded only when something is simulated. */
const simulator = () => import('../embed/trials.js');

const CLUSTER_KINDS = `with --cluster, of ${CLUSTER_FAULT_KINDS.join(',')}`;

/** The first lines of a failure tell what it is. */
const FAILURE_LINES = 6;

interface SimOptions {
  readonly seeds: number;
  readonly from: number;
  readonly replay?: number;
  readonly shrink?: number;
  readonly edit?: PlanEdit & ClusterEdit;
  readonly cluster?: boolean;
  /** Kinds of faults, as they were given. */
  readonly faults: string;
  readonly jobs?: number;
  readonly traceHash?: boolean;
  readonly quiet?: boolean;
  readonly output: OutputFormat;
}

/** Those of these kinds that were asked for, in the order of the list, so that the same set gives the same plans. */
function faultsOf<Kind extends string>(text: string, kinds: readonly Kind[]): readonly Kind[] {
  if (text === 'all') return kinds;
  if (text === 'none') return [];
  const words = text.split(',');
  const unknown = words.filter((word) => !kinds.some((kind) => kind === word));
  if (unknown.length > 0) {
    const what = `no kind of fault is called ${unknown.join(', ')}; there are ${kinds.join(', ')}`;
    throw new StrakeError('INVALID_ARGUMENT', what);
  }
  return kinds.filter((kind) => words.includes(kind));
}

/** What was asked for, of one node or of whole clusters. */
function scene({ cluster, faults }: SimOptions) {
  return cluster === true
    ? ({ cluster: true, faults: faultsOf(faults, CLUSTER_FAULT_KINDS) } as const)
    : ({ cluster: false, faults: faultsOf(faults, FAULT_KINDS) } as const);
}

function parseEdit(text: string): PlanEdit & ClusterEdit {
  try {
    const edit: unknown = JSON.parse(text);
    if (typeof edit === 'object' && edit !== null && !Array.isArray(edit)) return edit;
  } catch {
    // Told below.
  }
  throw new InvalidArgumentError('an object in JSON is expected, as --shrink prints it.');
}

/** What to give beside a seed, to have the same trial. */
function words(options: SimOptions): string {
  const { cluster, faults } = scene(options);
  const all = cluster ? CLUSTER_FAULT_KINDS : FAULT_KINDS;
  const which = faults.length === all.length ? '' : ` --faults ${faults.length === 0 ? 'none' : faults.join(',')}`;
  return `${cluster ? ' --cluster' : ''}${which}`;
}

function shortened(text: string): string {
  return text.split('\n').slice(0, FAILURE_LINES).join('\n');
}

function hex(hash: number): string {
  return hash.toString(16).padStart(8, '0');
}

// ---------------------------------------------------------------- many seeds

class Totals {
  seeds = 0;
  simulatedUs = 0;
  events = 0;
  requests = 0;
  faults = 0;
  failed = 0;
  readonly failures: TrialResult[] = [];

  add(result: TrialResult): void {
    this.seeds += 1;
    this.simulatedUs += result.simulatedUs;
    this.events += result.events;
    this.requests += result.requests;
    this.faults += result.faults;
    if (result.failure === undefined) return;
    this.failed += 1;
    if (this.failures.length < FAILURES_MAX) this.failures.push(result);
  }
}

async function runSeeds(options: SimOptions): Promise<number> {
  const { from, seeds, jobs } = options;
  const { cluster, faults } = scene(options);
  const { makeTrials } = await simulator();
  const totals = new Totals();
  const traces = new TraceHash(from);
  const progress = new Progress('simulating', options.quiet, (amount) => `${amount} seeds`);
  const startedMs = performance.now();
  const before = process.cpuUsage();
  const onResult = (result: TrialResult) => {
    totals.add(result);
    traces.add(result);
    progress.update(totals.seeds, seeds);
  };
  const seedsOf = { from, count: seeds };
  await makeTrials(cluster ? { ...seedsOf, clusterFaults: faults } : { ...seedsOf, faults }, onResult, jobs);
  progress.end();
  const realSeconds = (performance.now() - startedMs) / 1000;
  // Of all workers, as they are threads of this process.
  const { user, system } = process.cpuUsage(before);
  const processorSeconds = (user + system) / 1e6;
  report(totals, { realSeconds, processorSeconds }, traces.digest(), options);
  return totals.failed === 0 ? 0 : EXIT_FAILED;
}

interface Spent {
  readonly realSeconds: number;
  readonly processorSeconds: number;
}

function report(totals: Totals, { realSeconds, processorSeconds }: Spent, hash: string, options: SimOptions): void {
  const { output, traceHash } = options;
  const { seeds, events, requests, failed } = totals;
  const simulatedSeconds = totals.simulatedUs / 1e6;
  const failures = totals.failures
    .sort((one, other) => one.seed - other.seed)
    .map(({ seed, hash, failure }) => ({
      seed,
      hash: hex(hash),
      failure,
      replay: `strake sim --replay ${seed}${words(options)}`,
    }));
  const count: [string, string][] = [
    ['seeds', String(seeds)],
    ['failed', String(failed)],
  ];
  const course: [string, string][] = [
    ['simulated time', `${simulatedSeconds.toFixed(0)} s`],
    ['real time', `${realSeconds.toFixed(1)} s (1 : ${(simulatedSeconds / realSeconds).toFixed(0)})`],
    ['processor time', `${processorSeconds.toFixed(1)} s`],
    ['requests checked', `${(requests / processorSeconds).toFixed(0)} in a second of one core`],
    ['requests answered', `${requests} (${(requests / simulatedSeconds).toFixed(0)} in a simulated second)`],
    ['faults and crashes', String(totals.faults)],
    ['events', String(events)],
  ];
  const text = [
    // With the hash there is nothing that differs from run to run, so that outputs can be compared.
    fields([...count, ...(traceHash ? [['trace hash', hash] as [string, string]] : course)]),
    ...failures.map(({ seed, failure, replay }) => `\nseed ${seed}: ${shortened(failure ?? '')}\n  ${replay}`),
  ].join('\n');
  const sums = {
    seeds,
    simulatedSeconds,
    realSeconds,
    processorSeconds,
    events,
    requests,
    faults: totals.faults,
    failed,
    failures,
  };
  const data = traceHash ? { ...sums, traceHash: hash } : sums;
  print({ schema: 'strake.sim', version: 1, data, text }, output);
}

// ---------------------------------------------------------------- one seed

async function replay(seed: number, options: SimOptions): Promise<number> {
  const { edit, output, quiet } = options;
  const { cluster, faults } = scene(options);
  const log = (timeUs: number, text: string) => {
    if (output === 'table') process.stdout.write(`${(timeUs / 1000).toFixed(3).padStart(12)} ms  ${text}\n`);
    else if (output === 'jsonl') process.stdout.write(`${JSON.stringify({ timeUs, text })}\n`);
  };
  const { makeClusterTrial, makeTrial } = await simulator();
  const told = quiet || output === 'json' ? undefined : log;
  const trial = cluster ? makeClusterTrial(seed, faults, edit, told) : makeTrial(seed, faults, edit, told);
  const result = await trial;
  const { failure } = result;
  const text = `seed ${seed}: ${failure ?? 'nothing went wrong'}\ntrace ${hex(result.hash)}`;
  const data = { ...result, hash: hex(result.hash), failure: failure ?? null };
  print({ schema: 'strake.sim.replay', version: 1, data, text }, output);
  return failure === undefined ? 0 : EXIT_FAILED;
}

async function makeSmaller(seed: number, options: SimOptions): Promise<number> {
  const { output } = options;
  const { cluster, faults } = scene(options);
  note(`strake: making the plan of seed ${seed} smaller, by at most ${SHRINK_TRIALS_MAX} trials`, options.quiet);
  const { shrinkClusterTrial, shrinkTrial } = await simulator();
  const shrunk = cluster
    ? await shrinkClusterTrial(seed, faults, SHRINK_TRIALS_MAX)
    : await shrinkTrial(seed, faults, SHRINK_TRIALS_MAX);
  if (shrunk === undefined) {
    throw new StrakeError('INVALID_ARGUMENT', `seed ${seed} does not fail${words(options)}`, {
      remedy: 'Give the seed and the faults of a failure.',
    });
  }
  const { edit, result, trials } = shrunk;
  const command = `strake sim --replay ${seed}${words(options)} --edit '${JSON.stringify(edit)}'`;
  const { simulatedUs, requests, faults: acted, failure } = result;
  const course = `${(simulatedUs / 1e6).toFixed(3)} s, ${requests} requests, ${acted} faults`;
  const text = `seed ${seed}, smaller after ${trials} trials: ${course}\n${shortened(failure ?? '')}\n  ${command}`;
  const data = { seed, edit, trials, simulatedSeconds: simulatedUs / 1e6, requests, failure, replay: command };
  print({ schema: 'strake.sim.shrink', version: 1, data, text }, output);
  return EXIT_FAILED;
}

export function addSim(program: Command, onExit: OnExit): void {
  const seed = wholeNumber(0, SEED_MAX);
  program
    .command('sim')
    .description(
      'try a storage node, or a cluster, in a simulation: its own code, under seeded faults, checked by an oracle',
    )
    .option('--cluster', 'whole clusters: a manager, nodes, and clients that fight for a volume')
    .option('--seeds <n>', 'how many seeds to try', wholeNumber(1, SEED_MAX), 1000)
    .option('--from <seed>', 'the first seed', seed, 1)
    .option('--replay <seed>', 'try one seed, and print all that happens', seed)
    .option('--shrink <seed>', 'make a failing seed smaller, and print the command that replays what is left', seed)
    .option('--edit <json>', 'with --replay: changes of the plan, as --shrink prints them', parseEdit)
    .option('--faults <kinds>', `all, none, or some of ${FAULT_KINDS.join(',')}; ${CLUSTER_KINDS}`, 'all')
    .option('--jobs <n>', 'workers; by default as many as there are cores', wholeNumber(1, 1024))
    .option('--trace-hash', 'print one hash of all that happened in the trials: code that was only moved keeps it')
    .option('--quiet', 'no progress; with --replay, only the result')
    .addOption(outputOption())
    .action(async (options: SimOptions) => {
      if (options.replay !== undefined) onExit(await replay(options.replay, options));
      else if (options.shrink !== undefined) onExit(await makeSmaller(options.shrink, options));
      else onExit(await runSeeds(options));
    });
}
