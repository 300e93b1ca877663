/** Places where less is allowed: little or no locked memory, no io_uring, an ordinary user. Each serves real I/O. */

import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, chownSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, type Need, root, run, tool, uring } from '../support/check.js';
import { type Ending, ending, output, project, scratchFile, scratchFolder, startProcess } from '../support/scratch.js';
import { command, exportDevice, strake } from '../support/strake.js';

const MIB = 1 << 20;
const NOBODY = 65534;

/** Root without the capability that lifts the limit of locked memory. */
const UNCAPPED = ['setpriv', '--bounding-set=-ipc_lock', '--inh-caps=-ipc_lock'];
const ORDINARY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
const limited = (bytes: number) => ['prlimit', `--memlock=${bytes}:${bytes}`, ...UNCAPPED];

let launcher: string | undefined;

/** Compiles the program that forbids io_uring to another. */
function denied(): string[] {
  if (launcher === undefined) {
    launcher = join(scratchFolder(), 'deny-io-uring');
    output('cc', '-O1', '-o', launcher, join(project, 'test', 'support', 'deny-io-uring.c'));
  }
  return [launcher];
}

/** Whether an ordinary user can run the product where it lies. */
const readable: Need = () => {
  const [program, ...args] = [...ORDINARY, process.execPath, command, 'explain'];
  return spawnSync(program, args).status === 0 ? undefined : 'other users cannot read the project';
};

interface Finding {
  readonly name: string;
  readonly verdict: string;
  readonly finding: string;
  readonly remedy: string;
}

/** What `strake doctor` finds in an environment, by name. */
async function doctor(wrapper: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Map<string, Finding>> {
  const [program, ...args] = [...wrapper, process.execPath, command, 'doctor', '-o', 'json'];
  const { code, stdout, stderr } = await ending(startProcess(program, args, { env: { ...process.env, ...env } }));
  assert.is(code, 0, stderr);
  const checks: Finding[] = JSON.parse(stdout).checks;
  return new Map(checks.map((one) => [one.name, one]));
}

function digest(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** Serves a device in an environment; independent clients write it, read it and compare. Returns the engine's name. */
async function serve(wrapper: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<unknown> {
  const device = scratchFile(24 * MIB);
  chmodSync(scratchFolder(), 0o755);
  chownSync(device, NOBODY, NOBODY);
  const server = await exportDevice(device, [], env, wrapper);
  const image = scratchFile(randomBytes(24 * MIB));
  output('nbdcopy', '--flush', image, server.uri);
  const back = scratchFile(24 * MIB);
  output('nbdcopy', server.uri, back);
  assert.is(digest(back), digest(image));
  const unaligned = ['-c', 'write -P 7 1000 5000', '-c', 'read -P 7 1000 5000', '-c', 'flush'];
  output('qemu-io', '-f', 'raw', ...unaligned, server.uri);
  const { code, stderr } = await server.stop();
  assert.is(code, 0, stderr);
  assert.ok(
    readFileSync(device)
      .subarray(1000, 6000)
      .every((byte) => byte === 7),
  );
  return server.data.engine;
}

const clients = [tool('nbdcopy'), tool('qemu-io')];
const unprivileged = [root, tool('setpriv'), tool('prlimit'), ...clients];

check('as root, io_uring is used and memory is not limited', [root, uring, ...clients], async () => {
  const found = await doctor([]);
  assert.is(found.get('io_uring')?.verdict, 'ok');
  assert.is(found.get('memlock')?.verdict, 'ok');
  assert.is(await serve([]), 'io_uring');
});

check('without locked memory threads do the work, and doctor says so', [...unprivileged, uring], async () => {
  const found = await doctor(limited(0));
  assert.is(found.get('memlock')?.verdict, 'degraded');
  assert.match(found.get('memlock')?.finding ?? '', /^0 B$/);
  const expected = found.get('io_uring')?.verdict === 'ok' ? 'io_uring' : 'threads';
  if (expected === 'threads') assert.match(found.get('io_uring')?.finding ?? '', /memory|memlock/i);
  assert.is(await serve(limited(0)), expected);
});

for (const shards of ['1', '4']) {
  check(`8 MiB of locked memory is enough for io_uring with ${shards} shards`, [...unprivileged, uring], async () => {
    const found = await doctor(limited(8 * MIB));
    assert.is(found.get('memlock')?.verdict, 'degraded');
    assert.is(found.get('memlock')?.finding, '8 MiB');
    assert.match(found.get('memlock')?.remedy ?? '', /LimitMEMLOCK/);
    assert.is(found.get('io_uring')?.verdict, 'ok');
    assert.is(await serve(limited(8 * MIB), { STRAKE_SHARDS: shards }), 'io_uring');
  });
}

check('where not every shard can have a ring, threads do the work', unprivileged, async () => {
  const server = await exportDevice('null:1M', [], { STRAKE_SHARDS: '8' }, limited(512 << 10));
  output('nbdcopy', server.uri, 'null:');
  assert.is((await server.stop()).code, 0);
});

check('an ordinary user serves a file of its own', [...unprivileged, readable], async () => {
  const found = await doctor(ORDINARY);
  assert.is(found.get('loop devices')?.verdict, 'note');
  assert.match(found.get('loop devices')?.finding ?? '', 'no permission');
  assert.is.not(found.get('memlock')?.finding, 'no limit (CAP_IPC_LOCK)');
  const expected = found.get('io_uring')?.verdict === 'ok' ? 'io_uring' : 'threads';
  // The socket's folder has to be the user's own.
  const free = ['sh', '-c', `chown ${NOBODY} "$(dirname "$6")" && exec ${ORDINARY.join(' ')} "$@"`, 'sh'];
  assert.is(await serve(free), expected);
});

check('STRAKE_ENGINE=threads is obeyed, and doctor says so', clients, async () => {
  const env = { STRAKE_ENGINE: 'threads' };
  assert.is(await serve([], env), 'threads');
  const engine = (await doctor([], env)).get('engine');
  assert.match(engine?.finding ?? '', /threads.*STRAKE_ENGINE=threads/);
});

check('an engine that does not exist is a usage error', async () => {
  const { code, stderr } = await strake(['export', 'null:1M', '-o', 'json'], { STRAKE_ENGINE: 'steam' });
  assert.is(code, 2);
  assert.is(JSON.parse(stderr).code, 'ERR_STRAKE_INVALID_ARGUMENT');
  assert.match(stderr, 'steam');
  const engine = await strake(['doctor', '-o', 'json'], { STRAKE_ENGINE: 'steam' });
  assert.is(engine.code, 1);
  assert.is(JSON.parse(engine.stdout).verdict, 'failed');
});

check('where seccomp denies io_uring, threads do the work, and doctor says why', [tool('cc'), ...clients], async () => {
  const found = await doctor(denied());
  const { verdict, finding, remedy } = found.get('io_uring') as Finding;
  assert.is(verdict, 'degraded');
  assert.match(finding, /not permitted|EPERM|seccomp/i);
  assert.match(remedy, 'io_uring_setup');
  assert.is(found.get('engine')?.finding.startsWith('threads'), true);
  assert.is(await serve(denied()), 'threads');
});

check('io_uring that is demanded and denied is an error, not something else', [tool('cc')], async () => {
  const [program, ...rest] = denied();
  const env = { ...process.env, STRAKE_ENGINE: 'io_uring' };
  const start = (...args: string[]): Promise<Ending> =>
    ending(startProcess(program, [...rest, process.execPath, command, ...args], { env }));
  const { code, stdout, stderr } = await start('export', 'null:1M', '-o', 'json');
  assert.is(code, 1);
  assert.is(stdout, '');
  const error = JSON.parse(stderr);
  assert.is(error.code, 'ERR_STRAKE_NO_ENGINE');
  assert.is(error.errno, 1);
  const examined = await start('doctor', '-o', 'json');
  assert.is(examined.code, 1);
  const engine = JSON.parse(examined.stdout).checks.find((one: Finding) => one.name === 'engine');
  assert.is(engine.verdict, 'failed');
});

run();
