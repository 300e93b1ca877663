/**
 * How long a node takes to serve when one of its devices is not as it should be: from its start until the volume on the other
 * one can be used. The faults are real: a path where nothing is, a device that cannot be written to, one that never answers.
 */

import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { formatFor, NodeProcess, prepareDevices } from './node-process.js';
import { ServerProcess, tool } from './processes.js';
import type { ProbeContext, Sample } from './samples.js';

const VOLUME_BYTES = 16 << 20;
const BAD_BYTES = 64 << 20;
const LOOK_MS = 10;

/** Seconds until a node serves that has a device which works, and this one. */
async function startBeside(good: string, other: string, started: () => void = () => {}): Promise<number> {
  const node = await NodeProcess.start({ files: [good, other] });
  started();
  await node.stop();
  return node.opened.openSeconds;
}

/** A name of a file by which it cannot be written to: root may write to whatever has only its mode against it. */
async function readOnly<T>(file: string, work: (path: string) => Promise<T>): Promise<T> {
  if (process.getuid?.() !== 0) {
    chmodSync(file, 0o400);
    try {
      return await work(file);
    } finally {
      chmodSync(file, 0o600);
    }
  }
  const losetup = tool('losetup');
  const path = execFileSync(losetup, ['--find', '--show', '--read-only', file], { encoding: 'utf8' }).trim();
  try {
    return await work(path);
  } finally {
    execFileSync(losetup, ['--detach', path]);
  }
}

/** A file that never answers while `work` goes on: a program that has been stopped serves it. */
async function hanging<T>(
  folder: string,
  file: string,
  work: (path: string, resume: () => void) => Promise<T>,
): Promise<T> {
  const place = mkdtempSync(join(folder, 'hang-'));
  const socket = join(place, 'nbd.sock');
  const server = new ServerProcess('nbdkit', tool('nbdkit'), ['-f', '-U', socket, 'file', file]);
  await server.listening(socket);
  const mount = mkdtempSync(join(folder, 'hang-'));
  const shown = new ServerProcess('nbdfuse', tool('nbdfuse'), [mount, `nbd+unix:///?socket=${socket}`]);
  try {
    while (!readdirSync(mount).includes('nbd')) await pause(LOOK_MS);
    process.kill(server.pid, 'SIGSTOP');
    // The kernel ends no process that has an operation in flight on such a device.
    return await work(join(mount, 'nbd'), () => process.kill(server.pid, 'SIGCONT'));
  } finally {
    process.kill(server.pid, 'SIGCONT');
    await shown.stop();
    await server.stop();
    if (existsSync(join(mount, 'nbd'))) execFileSync(tool('umount'), ['--lazy', mount]);
    for (const path of [place, mount]) rmSync(path, { recursive: true, force: true });
  }
}

/** Beside a device that fails, that cannot be written to, and that hangs. */
export async function sampleStart({ files, folder }: ProbeContext): Promise<Sample[]> {
  const [good] = files;
  await prepareDevices({ files: [good], volumeBytes: VOLUME_BYTES, warmUpBytes: 0, fill: 'touch' });
  const alone = await NodeProcess.start({ files: [good] });
  await alone.stop();
  const bad = join(folder, 'bad.img');
  writeFileSync(bad, '');
  truncateSync(bad, BAD_BYTES);
  await formatFor(alone.opened.clusterId, bad);
  try {
    const seconds = (id: string, strake: number): Sample => ({ id: `start.${id}`, unit: 's', strake });
    return [
      seconds('fails', await startBeside(good, join(folder, 'no-such-device'))),
      seconds('read-only', await readOnly(bad, (path) => startBeside(good, path))),
      seconds('hangs', await hanging(folder, bad, (path, resume) => startBeside(good, path, resume))),
    ];
  } finally {
    rmSync(bad, { force: true });
  }
}
