/** The command line against a node, from outside: folders with formatted devices, and commands that have to work or to fail. */

import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type Command, commandsOfOneProcess } from './command-process.js';
import { nodeFolder } from './up.js';

const DEVICE_BYTES = 96 << 20;

export type Json = Record<string, unknown>;

/** An empty file of this size in a folder. */
export function file(folder: string, name: string, bytes = DEVICE_BYTES): string {
  const path = join(folder, name);
  const opened = openSync(path, 'w');
  ftruncateSync(opened, bytes);
  closeSync(opened);
  return path;
}

/** Commands share a process, as a start takes much longer than they do; nodes, and what they are, have their own. */
const together = commandsOfOneProcess();

/** Runs a command that has to work, and returns what it printed. */
export async function ask(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Json> {
  const { code, stdout, stderr } = await together([...args, '-o', 'json'], env);
  assert.is(code, 0, `${args.join(' ')}: ${stderr}`);
  return JSON.parse(stdout) as Json;
}

/** Runs a command that has to fail, by `run`: in a process of its own if others run meanwhile. */
export async function refused(
  args: readonly string[],
  exitCode: number,
  name: string,
  env: NodeJS.ProcessEnv = {},
  run: Command = together,
): Promise<Json> {
  const { code, stdout, stderr } = await run([...args, '-o', 'json'], env);
  assert.is(code, exitCode, `${args.join(' ')}: ${stderr}`);
  assert.is(stdout, '');
  const line = stderr.trim().split('\n').at(-1) ?? '';
  const error = JSON.parse(line) as Json;
  assert.is(error.code, `ERR_STRAKE_${name}`, String(error.message));
  assert.ok(String(error.remedy).length > 10);
  return error;
}

export interface Made {
  readonly folder: string;
  readonly devices: readonly string[];
  readonly ids: readonly string[];
  readonly cluster: string;
}

/** A folder with formatted devices of one cluster. */
export async function made(count: number): Promise<Made> {
  const folder = nodeFolder();
  const devices: string[] = [];
  const ids: string[] = [];
  let cluster: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const path = file(folder, `d${index}.img`);
    const { deviceId, clusterId } = await ask(['device', 'format', path, '--label', `disk${index}`, ...cluster]);
    cluster = ['--cluster', String(clusterId)];
    devices.push(path);
    ids.push(String(deviceId));
  }
  return { folder, devices, ids, cluster: cluster[1] };
}
