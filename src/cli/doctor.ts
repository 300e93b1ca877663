/** `strake doctor`: whether this machine is fit, what falls back to what, and what that costs. */

import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { availableParallelism, release, totalmem } from 'node:os';
import type { Command } from 'commander';
import { formatBytes } from '../core/units.js';
import { inspectDevice } from '../embed/facts.js';
import { findProgram } from '../embed/programs.js';
import { nativeFacts, support } from '../embed/support.js';
import { type OnExit, outputOption } from './options.js';
import { EXIT_DEGRADED, EXIT_FAILED, type OutputFormat, print, table } from './output.js';

type Verdict = 'ok' | 'note' | 'degraded' | 'failed';

/** One thing that was looked at. */
interface Check {
  readonly name: string;
  readonly verdict: Verdict;
  readonly finding: string;
  /** What to do; empty if all is well. */
  readonly remedy: string;
}

const check = (name: string, verdict: Verdict, finding: string, remedy = ''): Check => ({
  name,
  verdict,
  finding,
  remedy,
});

/** Registered memory of one shard, roughly; a smaller limit leaves part of it unregistered. */
const MEMLOCK_WANTED_BYTES = 96 << 20;
const CAP_IPC_LOCK = 14n;

function addonCheck(): Check {
  try {
    nativeFacts();
    return check('addon', 'ok', `loads on ${process.platform} ${process.arch}, Node.js ${process.versions.node}`);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return check('addon', 'failed', reason, 'Build it (`npm run build`), or use Linux on x86-64 or arm64.');
  }
}

function kernelCheck(): Check {
  const [major, minor] = release().split('.').map(Number);
  const recent = major > 6 || (major === 6 && minor >= 1);
  const remedy = 'Linux 6.1 or newer has the io_uring that Strake uses; older ones fall back to threads.';
  return recent ? check('kernel', 'ok', release()) : check('kernel', 'degraded', release(), remedy);
}

function uringCheck(): Check {
  const { available, reason } = nativeFacts().uring;
  if (available) return check('io_uring', 'ok', 'allowed');
  const remedy =
    'Allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile, set kernel.io_uring_disabled=0, ' +
    'or live with threads: about half the speed at several times the processor time per operation.';
  return check('io_uring', 'degraded', reason, remedy);
}

/** What will do the work, which the environment may have decided. */
function engineCheck(): Check {
  const { engine, reason } = support();
  if (engine === null) {
    return check('engine', 'failed', reason, 'Set STRAKE_ENGINE to auto, or leave it out, to use what there is.');
  }
  if (reason === '') return check('engine', 'ok', engine);
  const remedy = 'Threads do the same as io_uring, slower.';
  return check('engine', 'note', `${engine} (${reason})`, remedy);
}

/** Whether the process may lock memory without limit (CAP_IPC_LOCK in its effective set). */
function mayLockMemory(): boolean {
  const status = readFileSync('/proc/self/status', 'utf8');
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0';
  return ((BigInt(`0x${effective}`) >> CAP_IPC_LOCK) & 1n) === 1n;
}

function memlockCheck(): Check {
  const limit = nativeFacts().memlockBytes;
  if (mayLockMemory()) return check('memlock', 'ok', 'no limit (CAP_IPC_LOCK)');
  const finding = Number.isFinite(limit) ? formatBytes(limit) : 'no limit';
  if (limit >= MEMLOCK_WANTED_BYTES) return check('memlock', 'ok', finding);
  const remedy =
    `Raise RLIMIT_MEMLOCK to ${formatBytes(MEMLOCK_WANTED_BYTES)} per shard (LimitMEMLOCK= in a systemd unit, ` +
    'ulimit -l elsewhere). Buffers beyond it are not registered: large transfers cost about a quarter more.';
  return check('memlock', 'degraded', finding, remedy);
}

function processorCheck(): Check {
  const cores = availableParallelism();
  const finding = `${cores} cores, ${formatBytes(totalmem())} of memory, CRC32C by ${nativeFacts().crc32cKernel}`;
  return cores > 1
    ? check('processor', 'ok', finding)
    : check('processor', 'note', finding, 'With one core, clients and the server take turns.');
}

function usable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function nodeCheck(name: string, path: string, needed: string): Check {
  if (usable(path)) return check(name, 'ok', `${path} can be used`);
  const why = existsSync(path) ? 'no permission' : 'not there';
  return check(name, 'note', `${path}: ${why}`, `Needed only ${needed}.`);
}

function toolsCheck(): Check {
  const tools = { fio: 'fio', 'qemu-nbd': 'qemu-utils', nbdkit: 'nbdkit', nbdinfo: 'libnbd-bin', blkid: 'util-linux' };
  const missing = Object.entries(tools).filter(([tool]) => findProgram(tool) === undefined);
  if (missing.length === 0) return check('tools', 'ok', Object.keys(tools).join(', '));
  const packages = [...new Set(missing.map(([, name]) => name))].join(' ');
  const names = missing.map(([tool]) => tool).join(', ');
  return check('tools', 'note', `not installed: ${names}`, `For benches and tests: apt-get install ${packages}`);
}

function clockCheck(): Check {
  const path = '/sys/devices/system/clocksource/clocksource0/current_clocksource';
  const source = existsSync(path) ? readFileSync(path, 'utf8').trim() : 'not known';
  const slow = source === 'hpet' || source === 'acpi_pm';
  const remedy = 'Reading this clock is a system call; see the kernel parameter clocksource=.';
  return slow ? check('clock', 'note', source, remedy) : check('clock', 'ok', source);
}

async function deviceChecks(path: string): Promise<Check[]> {
  const facts = await inspectDevice(path);
  const checks = [check('device', 'ok', `${facts.path}, ${formatBytes(facts.sizeBytes)}`)];
  const { logicalBlockBytes: logical, physicalBlockBytes: physical } = facts;
  const emulated = facts.kind === 'block' && logical < physical;
  checks.push(
    check(
      'device blocks',
      emulated ? 'note' : 'ok',
      `${logical} logical, ${physical} physical`,
      emulated ? `Requests that are no multiples of ${physical} make the device read before it writes.` : '',
    ),
  );
  const cache = facts.writeCache === true ? 'volatile write cache' : 'no volatile write cache that the kernel knows of';
  const fua = facts.fua === true ? 'forced unit access' : 'no forced unit access: such writes become write and flush';
  checks.push(check('device durability', 'ok', `${cache}; ${fua}`));
  if (facts.users.length > 0) {
    const remedy = 'It cannot be opened for writing while it is used.';
    checks.push(check('device users', 'note', facts.users.join(', '), remedy));
  }
  return checks;
}

async function examine(device: string | undefined): Promise<Check[]> {
  const addon = addonCheck();
  if (addon.verdict === 'failed') return [addon, kernelCheck()];
  const checks = [
    addon,
    kernelCheck(),
    uringCheck(),
    engineCheck(),
    memlockCheck(),
    processorCheck(),
    clockCheck(),
    nodeCheck('loop devices', '/dev/loop-control', 'to try things out on loop devices'),
    nodeCheck('fuse', '/dev/fuse', 'to mount exports with nbdfuse'),
    toolsCheck(),
  ];
  return device === undefined ? checks : [...checks, ...(await deviceChecks(device))];
}

async function run(device: string | undefined, options: { output: OutputFormat; exitCode?: boolean }, onExit: OnExit) {
  const checks = await examine(device);
  const order: Verdict[] = ['ok', 'note', 'degraded', 'failed'];
  const worst = order[Math.max(...checks.map(({ verdict }) => order.indexOf(verdict)))];
  const verdict = worst === 'note' ? 'ok' : worst;
  const rows = checks.map(({ name, verdict: found, finding }) => [name, found, finding]);
  const remedies = checks.filter(({ remedy }) => remedy !== '').map(({ name, remedy }) => `${name}: ${remedy}`);
  const text = [table(['check', 'verdict', 'finding'], rows), '', ...remedies, `verdict: ${verdict}`].join('\n');
  print(
    { schema: 'strake.doctor', version: 1, data: { verdict, checks }, items: checks.map((one) => ({ ...one })), text },
    options.output,
  );
  if (verdict === 'failed') onExit(EXIT_FAILED);
  else if (verdict === 'degraded' && options.exitCode) onExit(EXIT_DEGRADED);
}

export function addDoctor(program: Command, onExit: OnExit): void {
  program
    .command('doctor [device]')
    .description('say whether this machine, and a device, are fit, and what falls back to what')
    .option('--exit-code', 'exit with 3 if something is degraded')
    .addOption(outputOption())
    .action((device: string | undefined, options: { output: OutputFormat; exitCode?: boolean }) =>
      run(device, options, onExit),
    );
}
