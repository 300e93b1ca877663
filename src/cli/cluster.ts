/** `strake cluster init|status|set` and `strake events`: a cluster as a whole. */

import { resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { id as idRule, parseWhole } from '../core/arguments.js';
import { StrakeError } from '../core/errors.js';
import type { ClusterEvent, ClusterStatus, ClusterTimes, NodeListed } from '../ports/manager.js';
import type { AdoptedNode } from './adoption.js';
import { addClusterOptions, type ClusterAccess, clusterReach, withCluster } from './cluster-access.js';
import { clusterVolumeTable, nodeTable } from './cluster-describe.js';
import { managerSocket } from './manager.js';
import { asUsageError, noun, type OnExit, outputOption, wholeNumber } from './options.js';
import { EXIT_DEGRADED, fields, type OutputFormat, print, table } from './output.js';

interface Common extends ClusterAccess {
  readonly output: OutputFormat;
}

interface InitOptions {
  readonly clusterId?: string;
  readonly node?: string;
  readonly name?: string;
  readonly output: OutputFormat;
}

/** Throws `ERR_STRAKE_INVALID_ARGUMENT` if an option is given that would do nothing. */
function checkInit({ node, clusterId, name }: InitOptions): void {
  if (node !== undefined && clusterId !== undefined) {
    throw new StrakeError('INVALID_ARGUMENT', '--cluster-id is of no use with --node', {
      remedy: "Leave it out: the cluster has the id that the node's devices were formatted for.",
    });
  }
  if (node === undefined && name !== undefined) {
    throw new StrakeError('INVALID_ARGUMENT', '--name is of no use without --node', {
      remedy: 'Leave it out, or name the folder of the node that is to be taken in: --node DIR.',
    });
  }
}

async function init(dir: string, options: InitOptions): Promise<void> {
  checkInit(options);
  if (options.node !== undefined) {
    await initWithNode(dir, options.node, options);
    return;
  }
  const { initCluster } = await import('../embed/manager.js');
  const { clusterId, keyFile } = await initCluster({ directory: dir, clusterId: options.clusterId });
  const data = { dir: resolve(dir), clusterId, keyFile, volumes: [], refused: [] };
  const text = [
    fields([
      ['cluster', clusterId],
      ['manager', data.dir],
      ['key', `${keyFile} (whoever has it can read and write everything in the cluster)`],
    ]),
    '',
    `next: strake manager start ${dir}`,
    `      strake device format --cluster ${clusterId} DEVICE    on each node`,
    `      strake node start NODEDIR --manager ${managerSocket(dir)} --key-file ${keyFile}`,
  ].join('\n');
  print({ schema: 'strake.cluster.init', version: 1, data, text }, options.output);
}

/** What is told of volumes that a cluster took over, or gave back. */
function handedText({ volumes, refused }: AdoptedNode, done: string): string[] {
  return [
    ...volumes.map((volume) => `${volume}: ${done}`),
    ...refused.map(({ volume, why }) => `${volume}: left as it is: ${why}`),
  ];
}

async function initWithNode(dir: string, node: string, { name, output }: InitOptions): Promise<void> {
  const { adoptNode } = await import('./adoption.js');
  const { keyFileOf } = await import('../embed/manager.js');
  const adopted = await adoptNode(dir, node, name);
  const keyFile = keyFileOf(dir);
  const data = { dir: resolve(dir), keyFile, ...adopted };
  const lines = [
    fields([
      ['cluster', adopted.clusterId],
      ['manager', data.dir],
      ['key', `${keyFile} (whoever has it can read and write everything in the cluster)`],
    ]),
    ...handedText(adopted, 'the manager decides about it now'),
    `next: strake manager start ${dir}`,
    `      strake node start ${node} --manager ${managerSocket(dir)} --key-file ${keyFile}`,
  ];
  print({ schema: 'strake.cluster.init', version: 1, data, text: lines.join('\n') }, output);
}

async function leave(node: string, options: Common & { name?: string }): Promise<void> {
  const { leaveCluster } = await import('./adoption.js');
  const left = await leaveCluster(node, clusterReach(options), options.name);
  const data = { node: resolve(node), ...left };
  const text = [...handedText(left, 'the node decides about it again'), `next: strake up ${node}`].join('\n');
  print({ schema: 'strake.cluster.leave', version: 1, data, text }, options.output);
}

function timesText(times: ClusterTimes): string {
  return table(
    ['time', 'ms'],
    Object.entries(times).map(([name, value]) => [optionName(name), String(value)]),
  );
}

/** What people are told to look at. */
function findings(status: ClusterStatus, nodes: readonly NodeListed[], blocked: readonly string[]): string[] {
  const down = nodes.filter(({ state }) => state === 'down').map(({ name }) => name);
  return [
    ...(status.deciding
      ? []
      : [`the manager does not decide yet: it waits for ${status.awaited.join(', ') || 'nodes'}`]),
    ...(down.length === 0 ? [] : [`nodes that are not heard: ${down.join(', ')}`]),
    ...blocked,
  ];
}

async function status(options: Common & { exitCode?: boolean }, onExit: OnExit): Promise<void> {
  await withCluster(options, async (cluster) => {
    const found = await cluster.status();
    const [nodes, volumes] = await Promise.all([cluster.nodes(), cluster.volumes()]);
    const blocked = volumes.flatMap(({ name, blocked: why }) => (why === null ? [] : [`volume ${name}: ${why}`]));
    const degraded = volumes.flatMap(({ name, groups }) => {
      const bad = groups.filter(({ members }) => members.some(({ state }) => state !== 'in-sync'));
      return bad.length === 0 ? [] : [`volume ${name}: ${bad.length} of ${groups.length} groups lack a current copy`];
    });
    const jobs = volumes.flatMap(({ name, jobs: all }) =>
      all.length === 0 ? [] : [`volume ${name}: ${all.length} members are being brought up to date`],
    );
    const problems = [...findings(found, nodes, blocked), ...degraded];
    const verdict = problems.length === 0 ? 'ok' : 'degraded';
    const data = { ...found, verdict, problems, nodes, volumes, time: new Date().toISOString() };
    const text = [
      fields([
        ['cluster', found.clusterId],
        ['epoch', String(found.epoch)],
        ['metadata', `sequence ${found.sequence}`],
      ]),
      nodeTable(nodes),
      clusterVolumeTable(volumes),
      [...jobs, ...problems, `verdict: ${verdict}`].join('\n'),
    ].join('\n\n');
    print({ schema: 'strake.cluster.status', version: 1, data, text }, options.output);
    if (options.exitCode && verdict !== 'ok') onExit(EXIT_DEGRADED);
  });
}

/** `lease-ms` for `leaseMs`. */
function optionName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `NAME=MS`, added to what was given before. */
function parseTime(text: string, before: Partial<ClusterTimes> = {}): Partial<ClusterTimes> {
  const match = /^([a-z]+(?:-[a-z]+)*)=(\d+)$/.exec(text);
  const value = match === null ? undefined : parseWhole(match[2], 0, Number.MAX_SAFE_INTEGER);
  if (match === null || value === undefined) {
    throw new InvalidArgumentError('NAME=MILLISECONDS is expected, such as lease-ms=3000.');
  }
  const name = match[1].replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return { ...before, [name]: value };
}

async function set(times: Partial<ClusterTimes>, options: Common): Promise<void> {
  await withCluster(options, async (cluster) => {
    const all = await cluster.setTimes(times);
    print({ schema: 'strake.cluster.set', version: 1, data: { times: all }, text: timesText(all) }, options.output);
  });
}

function eventItem({ timeMs, ...event }: ClusterEvent): Record<string, unknown> {
  return { ...event, time: new Date(timeMs).toISOString() };
}

async function events(options: Common & { after: number }): Promise<void> {
  await withCluster(options, async (cluster) => {
    const found: ClusterEvent[] = [];
    for (let { after } = options; ; after = found[found.length - 1].number) {
      const page = await cluster.events(after);
      if (page.length === 0) break;
      found.push(...page);
    }
    const items = found.map(eventItem);
    const rows = found.map(({ number, timeMs, kind, text }) => [
      String(number),
      new Date(timeMs).toISOString(),
      kind,
      text,
    ]);
    const text = rows.length === 0 ? 'no events' : table(['number', 'time', 'event', 'what happened'], rows);
    print({ schema: 'strake.events', version: 1, data: { events: items }, items, text }, options.output);
  });
}

export function addCluster(program: Command, onExit: OnExit): void {
  const cluster = noun(program, 'cluster', 'a cluster of nodes, whose managers decide about its volumes');
  const parseId = asUsageError((text: string) => idRule.take(text.toLowerCase(), 'the id of a cluster'));
  cluster
    .command('init <dir>')
    .description('make a cluster: its key, and the folder of its manager')
    .option('--cluster-id <id>', 'its id: that of devices which are formatted already (a new one)', parseId)
    .option(
      '--node <dir>',
      'folder of a node that stands alone, and does not run meanwhile: its volumes become those of the cluster',
    )
    .option('--name <name>', 'name of that node (that of its folder)')
    .addOption(outputOption())
    .action(init);
  addClusterOptions(cluster.command('leave <node>'))
    .description(
      'give the volumes that lie on one node alone back to it, which does not run meanwhile: `strake up` serves them again',
    )
    .option('--name <name>', 'name of that node (that of its folder)')
    .addOption(outputOption())
    .action(leave);
  addClusterOptions(cluster.command('status'))
    .description('say how the cluster is: nodes, volumes, and what stands against them')
    .option('--exit-code', 'end with 3 unless all is well')
    .addOption(outputOption())
    .action((options: Common & { exitCode?: boolean }) => status(options, onExit));
  addClusterOptions(cluster.command('set'))
    .description('change times of the cluster; without any, show them')
    .argument('[times...]', 'NAME=MILLISECONDS, such as lease-ms=3000')
    .addOption(outputOption())
    .action((texts: readonly string[], options: Common) =>
      set(
        texts.reduce<Partial<ClusterTimes>>((before, text) => parseTime(text, before), {}),
        options,
      ),
    );
  addClusterOptions(program.command('events'))
    .description('what has happened in the cluster')
    .option('--after <number>', 'only events after that of this number', wholeNumber(0, Number.MAX_SAFE_INTEGER), 0)
    .addOption(outputOption())
    .action(events);
}
