/** Starting, watching and measuring the processes of a bench. */

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { StrakeError } from '../core/errors.js';
import { findProgram } from '../embed/programs.js';

const PACKAGES: Record<string, string> = { fio: 'fio', 'qemu-nbd': 'qemu-utils', nbdkit: 'nbdkit' };
/** Nothing starts this slowly unless something is wrong. */
const START_MS = 20_000;
/** More than servers give their clients to finish. */
const STOP_MS = 20_000;
const RETRY_MS = 10;

/** Where a tool is. Throws `ERR_STRAKE_TOOL_MISSING` with the way to install it. */
export function tool(name: string): string {
  const path = findProgram(name);
  if (path === undefined) {
    const how = `apt-get install ${PACKAGES[name] ?? name}`;
    throw new StrakeError('TOOL_MISSING', `${name} is not installed`, { remedy: `Install it: ${how}` });
  }
  return path;
}

/** Runs a program to its end. Resolves with its standard output. */
export function run(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, [...args], { maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new StrakeError('IO', `${program} failed: ${(stderr || error.message).trim().slice(0, 500)}`));
    });
  });
}

/** Writes everything back, and drops the file from the page cache, which not every server goes around. */
export async function settle(file: string): Promise<void> {
  await run('sync', []);
  await run('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none']);
}

const servers = new Set<ChildProcess>();

/** Ends what still serves, at once: this process ends, and nobody else knows of it. */
function endAll(): void {
  for (const child of servers) child.kill('SIGKILL');
}

/** A process that serves until it is stopped. */
export class ServerProcess {
  readonly child: ChildProcess;
  private readonly name: string;
  private output = '';

  /** `ipc`: it is a Node.js program that exchanges messages. */
  constructor(name: string, program: string, args: readonly string[], ipc = false) {
    this.name = name;
    this.child = spawn(program, [...args], { stdio: ['ignore', 'ignore', 'pipe', ...(ipc ? ['ipc' as const] : [])] });
    if (servers.size === 0) process.on('exit', endAll);
    servers.add(this.child);
    this.child.once('exit', () => {
      servers.delete(this.child);
      if (servers.size === 0) process.off('exit', endAll);
    });
    this.child.stderr?.on('data', (chunk: Buffer) => {
      this.output = (this.output + chunk.toString()).slice(-2000);
    });
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new StrakeError('IO', `${this.name} did not start`);
    return this.child.pid;
  }

  /** Resolves when somebody accepts connections at `socket`. */
  async listening(socket: string): Promise<void> {
    const late = AbortSignal.timeout(START_MS);
    const answered = untilAnswered(socket, late);
    await this.unlessGone(answered);
  }

  /** As `work`, but rejects if the process ends before. */
  unlessGone<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const gone = (code: number | null) => {
        reject(new StrakeError('IO', `${this.name} ended with ${code}: ${this.output.trim()}`));
      };
      this.child.once('error', reject);
      this.child.once('exit', gone);
      work.then(resolve, reject).finally(() => {
        this.child.off('error', reject);
        this.child.off('exit', gone);
      });
    });
  }

  /** Ends it and waits until it is gone. One that does not end is killed, and said so: its figures count all the same. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill(signal);
    const late = setTimeout(() => {
      process.stderr.write(`bench: ${this.name} did not end within ${STOP_MS / 1000} s, and was killed\n`);
      this.child.kill('SIGKILL');
    }, STOP_MS);
    await gone;
    clearTimeout(late);
  }
}

/** The system tells of the moment in which a socket is bound, but not of the one from which it is listened on. */
async function untilAnswered(socket: string, signal: AbortSignal): Promise<void> {
  while (!(existsSync(socket) && (await answers(socket)))) {
    if (signal.aborted) throw new StrakeError('TIMED_OUT', `nobody listens at ${socket}`);
    await pause(RETRY_MS);
  }
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const client = connect(socket);
    client.once('connect', () => {
      client.destroy();
      resolve(true);
    });
    client.once('error', () => resolve(false));
  });
}

/** Clock ticks per second of /proc/PID/stat (USER_HZ, the same on all architectures that Strake runs on). */
const TICKS_PER_SECOND = 100;

/** Processor time of a process so far, in microseconds, all threads together. */
export function processorTimeUs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1e6;
}

/** Memory of a process in bytes: the most so far, or now. */
export function memoryBytes(pid: number, which: 'VmHWM' | 'VmRSS'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kib = new RegExp(`^${which}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1];
  return Number(kib ?? 0) * 1024;
}
