/** `strake device scrub|add|replace|forget`: devices of a running node. */

import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { ControlVolume } from '../control/calls.js';
import { callNode } from '../control/client.js';
import { StrakeError } from '../core/errors.js';
import type { NodeJob } from '../embed/node-types.js';
import { deviceTable, parseSize, shortId } from './describe.js';
import { waitForJobs } from './jobs.js';
import { findControl } from './node-config.js';
import { asUsageError, nodeOption, outputOption, wholeNumber } from './options.js';
import { note, type OutputFormat, print } from './output.js';

interface Common {
  readonly node?: string;
  readonly output: OutputFormat;
}

interface Waiting extends Common {
  readonly wait?: number | true;
  readonly quiet?: boolean;
}

/** The rate that was asked for, if one was. */
type Rate = { readonly bytesPerSecond?: number };

/** The id of the device that somebody named, as the node knows it. Throws `ERR_STRAKE_NO_DEVICE`. */
export async function matchDevice(socket: string, text: string): Promise<string> {
  return (await callNode(socket, 'find-device', { name: text, path: resolve(text) })).deviceId;
}

/** Begins to scrub a volume. One that is being scrubbed already goes on as it does. */
async function beginOrJoin(socket: string, { id, name }: ControlVolume, rate: Rate): Promise<NodeJob> {
  try {
    return (await callNode(socket, 'scrub', { name, ...rate })).job;
  } catch (error) {
    if (!(error instanceof StrakeError) || error.code !== 'ERR_STRAKE_VOLUME_BUSY') throw error;
    const { jobs } = await callNode(socket, 'jobs', {});
    const going = jobs.find(({ kind, volumeId, state }) => kind === 'scrub' && volumeId === id && state === 'running');
    if (going === undefined) throw error;
    note(`strake: ${name} is being scrubbed already, by job ${going.id}`);
    return going;
  }
}

async function scrub(device: string | undefined, options: Waiting & { rate?: number }): Promise<void> {
  const socket = findControl(options.node);
  const id = device === undefined ? undefined : await matchDevice(socket, device);
  const { volumes } = await callNode(socket, 'volumes', {});
  const chosen = volumes.filter(
    ({ groups }) => id === undefined || groups.flat().some(({ deviceId }) => deviceId === id),
  );
  const rate = options.rate === undefined ? {} : { bytesPerSecond: options.rate };
  const jobs: NodeJob[] = [];
  for (const volume of chosen) jobs.push(await beginOrJoin(socket, volume, rate));
  const names = chosen.map(({ name }) => name);
  if (options.wait !== undefined) await waitForJobs(socket, jobs, options);
  const verb = options.wait === undefined ? 'scrubbing' : 'scrubbed';
  const data = { deviceId: id ?? null, volumes: names, jobs };
  const list = jobs.map((job) => `${job.volume} (job ${job.id})`).join(', ');
  const text = jobs.length === 0 ? 'no volume to scrub' : `${verb} ${list}`;
  print({ schema: 'strake.device.scrub', version: 1, data, text }, options.output);
}

async function add(path: string, options: Common): Promise<void> {
  const { device } = await callNode(findControl(options.node), 'add-device', { path: resolve(path) });
  const text = deviceTable([device]);
  print({ schema: 'strake.device.add', version: 1, data: { ...device }, text }, options.output);
}

async function replace(old: string, path: string, options: Waiting): Promise<void> {
  const socket = findControl(options.node);
  const deviceId = await matchDevice(socket, old);
  const full = resolve(path);
  const begun = await callNode(socket, 'replace-device', { deviceId, path: full });
  const { jobs } = begun;
  let { devices } = begun;
  if (options.wait !== undefined) {
    await waitForJobs(socket, jobs, options);
    ({ devices } = await callNode(socket, 'devices', {}));
  }
  const data = { replaced: deviceId, path: full, devices, jobs };
  const progress = options.wait === undefined ? 'is taking' : 'has taken';
  const text = `${full} ${progress} the place of ${shortId(deviceId)}\n${deviceTable(devices)}`;
  print({ schema: 'strake.device.replace', version: 1, data, text }, options.output);
}

async function forget(device: string, options: Common): Promise<void> {
  const socket = findControl(options.node);
  const data = await callNode(socket, 'forget-device', { deviceId: await matchDevice(socket, device) });
  const { deviceId, volumes } = data;
  const text = `${shortId(deviceId)} is given up: ${volumes} deleted volumes no longer wait for it`;
  print({ schema: 'strake.device.forget', version: 1, data: { deviceId, volumes }, text }, options.output);
}

/** Adds the verbs of devices that need a running node. */
export function addNodeDevice(device: Command): void {
  const verb = (usage: string, description: string) =>
    device.command(usage).description(description).addOption(nodeOption()).addOption(outputOption());
  const wait = wholeNumber(1, 10 ** 7);
  verb('scrub [device]', 'read and compare all copies of the volumes on a device, or of all volumes, and repair them')
    .option('--rate <bytes>', 'the most to read in a second, for each volume', asUsageError(parseSize))
    .option('--wait [seconds]', 'wait until it is done', wait)
    .option('--quiet', 'no progress')
    .action(scrub);
  verb(
    'add <path>',
    'give a running node a formatted device of its cluster, or bring one that it has up to date again',
  ).action(add);
  verb('forget <device>', 'give up a device that is lost for good, so that no deleted volume waits for it').action(
    forget,
  );
  verb('replace <old> <path>', 'put a freshly formatted device in the place of another, and rebuild what was there')
    .option('--wait [seconds]', 'wait until it is done', wait)
    .option('--quiet', 'no progress')
    .action(replace);
}
