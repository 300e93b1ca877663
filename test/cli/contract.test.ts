/**
 * The contract of the command line: formats, exit codes, what goes where, and how signals end it.
 *
 * Each command is asked for its table in a process of its own, which shows that it ends as it should. For its other formats it
 * shares a process with others, as a start costs more than the command.
 */

import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { ERRORS } from '#strake/core/errors.js';
import { check, loop, repetitions, run, tool } from '../support/check.js';
import { type Command, commandsOfOneProcess } from '../support/command-process.js';
import { checkError, checkRecord, checkValues, type Json, RFC3339_UTC, records } from '../support/records.js';
import { ending, loopDevice, output, scratchFile, scratchFolder, startProcess } from '../support/scratch.js';
import { command, exportDevice, strake } from '../support/strake.js';
import { nodeFolder, up } from '../support/up.js';

const MIB = 1 << 20;
// biome-ignore lint/suspicious/noControlCharactersInRegex: looks for terminal control sequences
const ESCAPE = /\u001b/;

/** Enough for a device to be formatted. */
const DEVICE_BYTES = 64 * MIB;

const bench = ['--only', 'device.randread.4k.qd64', '--seconds', '1', '--rounds', '1'];
const COMMANDS: readonly (readonly [string, (device: string) => string[]])[] = [
  ['strake.explain', () => ['explain']],
  ['strake.explain', () => ['explain', 'ERR_STRAKE_IN_USE']],
  ['strake.doctor', () => ['doctor']],
  ['strake.doctor', (device) => ['doctor', device]],
  ['strake.device.show', (device) => ['device', 'show', device]],
  ['strake.device.list', (device) => ['device', 'list', device]],
  ['strake.device.format', (device) => ['device', 'format', device]],
  ['strake.device.format', (device) => ['device', 'format', device, '--dry-run']],
  ['strake.bench', (device) => ['bench', device, ...bench]],
];

const together = commandsOfOneProcess();

/** Calls `each` for all formats: for tables with what starts a process, for the others with what runs commands in one. */
async function inAllFormats(each: (format: string, command: Command) => Promise<void>): Promise<void> {
  await each('table', (args) => strake(args, { NO_COLOR: '1' }));
  for (const format of ['json', 'jsonl']) await each(format, together);
}

for (const [schema, args] of COMMANDS) {
  const name = args('DEVICE').slice(0, 3).join(' ');
  check(`${name} prints people a table, and machines records`, async () => {
    await inAllFormats(async (format, command) => {
      const device = scratchFile(DEVICE_BYTES);
      const { code, stdout, stderr } = await command([...args(device), '-o', format]);
      assert.is(code, 0, stderr);
      assert.is(stderr, '', 'without a terminal there is no progress');
      assert.not.match(stdout, ESCAPE);
      assert.ok(stdout.endsWith('\n'));
      if (format === 'table') assert.throws(() => JSON.parse(stdout));
      else assert.ok(records(format, stdout, schema).length > 0);
    });
  });
}

check('fsck and dump print people a table, and machines records', async () => {
  const device = scratchFile(DEVICE_BYTES);
  checkError(await strake(['device', 'dump', device, 'table', '-o', 'json']), 2, 'INVALID_ARGUMENT');
  assert.is((await strake(['device', 'fsck', device])).code, 1, 'what is not formatted is not whole');
  assert.is((await strake(['device', 'format', device])).code, 0);
  const [check, dump] = ['fsck', 'dump'].map((word) => ['device', word, device]);
  const others = [
    [...check, '--data', '--exit-code'],
    ...['superblock', 'root', 'volumes', 'slots', 'journal'].map((part) => [...dump, part]),
    [...dump, 'slots', '--slot', '0'],
    [...dump, 'table', '--slot', '0'],
  ];
  await inAllFormats(async (format, command) => {
    for (const args of [check, dump, ...others]) {
      const { code, stdout, stderr } = await (others.includes(args) ? together : command)([...args, '-o', format]);
      assert.is(code, 0, `${args.join(' ')}: ${stderr}`);
      assert.is(stderr, '');
      if (format !== 'table') records(format, stdout, `strake.device.${args[1]}`);
    }
  });
  const file = openSync(device, 'r+');
  writeSync(file, Buffer.alloc(4096, 0xff), 0, 4096, 0);
  closeSync(file);
  assert.is((await strake(['device', 'fsck', device])).code, 0, 'one superblock is enough');
  assert.is((await strake(['device', 'fsck', device, '--exit-code'])).code, 3);
  const { verdict } = checkRecord(
    (await strake(['device', 'fsck', device, '-o', 'json'])).stdout,
    'strake.device.fsck',
  );
  assert.is(verdict, 'recoverable');
});

const NODE_COMMANDS: readonly (readonly [string, readonly string[]])[] = [
  ['strake.status', ['status']],
  ['strake.volume.list', ['volume', 'list']],
  ['strake.volume.create', ['volume', 'create', 'FORMAT', '--size', '1M']],
  ['strake.volume.show', ['volume', 'show', 'FORMAT']],
  ['strake.volume.grow', ['volume', 'grow', 'FORMAT', '--size', '2M']],
  ['strake.volume.scrub', ['volume', 'scrub', 'FORMAT', '--wait']],
  ['strake.device.scrub', ['device', 'scrub', '--wait']],
  ['strake.job.list', ['job', 'list']],
  ['strake.job.cancel', ['job', 'cancel', '1']],
  ['strake.volume.delete', ['volume', 'delete', 'FORMAT']],
];

check('commands to a node print people a table, and machines records', async () => {
  const folder = nodeFolder();
  const device = join(folder, 'disk.img');
  renameSync(scratchFile(DEVICE_BYTES), device);
  assert.is((await strake(['device', 'format', device])).code, 0);
  const node = await up([folder, '--create', 'first=4M']);
  checkValues(node.data);
  await inAllFormats(async (format, command) => {
    for (const [schema, args] of NODE_COMMANDS) {
      const words = args.map((word) => (word === 'FORMAT' ? format : word));
      const { code, stdout, stderr } = await command([...words, '--node', folder, '-o', format]);
      assert.is(code, 0, `${words.join(' ')}: ${stderr}`);
      assert.is(stderr, '', 'without a terminal there is no progress');
      assert.not.match(stdout, ESCAPE);
      if (format === 'table') assert.throws(() => JSON.parse(stdout));
      else assert.ok(records(format, stdout, schema).length > 0);
    }
  });
  const down = await strake(['down', '--node', folder, '-o', 'json']);
  checkRecord(down.stdout, 'strake.down');
  assert.is((await node.ended).code, 0);
  for (const [, args] of NODE_COMMANDS) {
    checkError(await together([...args, '--node', folder, '-o', 'json']), 4, 'NO_NODE');
  }
});

check('usage errors are told, and end with 2', async () => {
  const device = scratchFile(MIB);
  const wrong = [
    ['nonsense'],
    ['export'],
    ['export', device, 'another'],
    ['export', device, '--nonsense'],
    ['export', device, '--port', '65536'],
    ['export', device, '--port', 'x'],
    ['export', device, '--port', '-1'],
    ['export', device, '--connections', '0'],
    ['export', device, '--drain', '1.5'],
    ['device', 'nonsense'],
    ['device', 'show'],
    ['device', 'list'],
    ['device', 'format'],
    ['device', 'format', device, '--slot-size', 'x'],
    ['device', 'replace', 'one'],
    ['up', 'a', 'b'],
    ['up', '--port', '65536'],
    ['up', '--create', 'main'],
    ['up', '--without', 'main'],
    ['status', 'x'],
    ['volume', 'nonsense'],
    ['volume', 'create', 'a'],
    ['volume', 'create', 'a', '--size', '0'],
    ['volume', 'create', 'a', '--size', '1G', '--layout', 'mirror:4'],
    ['volume', 'start', 'a'],
    ['volume', 'scrub', 'a', '--wait', '0'],
    ['doctor', '--nonsense'],
    ['explain', 'a', 'b'],
    ['bench', device, '--seconds', '0'],
  ];
  await inPairs(wrong, async (args) => {
    const people = await strake(args);
    assert.is(people.code, 2, args.join(' '));
    assert.is(people.stdout, '');
    assert.match(people.stderr, /^error: /);
  });
  checkError(await strake([...wrong[0], '-o', 'json']), 2, 'INVALID_ARGUMENT');
  for (const args of wrong) checkError(await together([...args, '-o', 'json']), 2, 'INVALID_ARGUMENT');
});

/** Two at a time, as there are two cores. */
async function inPairs<T>(list: readonly T[], each: (one: T) => Promise<void>): Promise<void> {
  const rest = [...list];
  const work = async () => {
    for (let one = rest.shift(); one !== undefined; one = rest.shift()) await each(one);
  };
  await Promise.all([work(), work()]);
}

check('an unsupported format is a usage error of every command', async () => {
  const device = scratchFile(MIB);
  const commands = [...COMMANDS.map(([, args]) => args(device)), ['export', device]];
  assert.is((await strake(['export', device, '-o', 'yaml'])).code, 2);
  for (const args of commands) {
    const { code, stdout, stderr } = await together([...args, '-o', 'yaml']);
    assert.is(code, 2, args.join(' '));
    assert.is(stdout, '');
    assert.match(stderr, /yaml.*table, json, jsonl/);
  }
});

check('help and version are data; no command at all is a usage error', async () => {
  const help = await strake(['--help']);
  assert.is(help.code, 0);
  assert.is(help.stderr, '');
  for (const [name] of [['up'], ['status'], ['volume'], ['export'], ['device'], ['doctor'], ['bench'], ['explain']])
    assert.match(help.stdout, name);
  assert.match(help.stdout, /Exit codes: 0 ok; 1 failed; 2 usage/);
  assert.match((await strake(['export', '--help'])).stdout, '--read-only');
  assert.match((await strake(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
  const none = await strake([]);
  assert.is(none.code, 2);
  assert.is(none.stdout, '');
});

check('errors have exit codes by their kind', [tool('mkfs.ext4')], async () => {
  const missing = join(scratchFolder(), 'missing');
  const foreign = scratchFile(4 * MIB);
  output('mkfs.ext4', '-q', '-F', foreign);
  const json = ['-o', 'json'];
  for (const command of [['export'], ['device', 'show'], ['doctor'], ['bench']]) {
    checkError(await strake([...command, missing, ...json]), 1, 'NOT_FOUND');
  }
  const refused = checkError(await strake(['export', foreign, ...json]), 5, 'SIGNATURE');
  assert.match(String(refused.message), /ext/);
  assert.match(String(refused.remedy), '--confirm');
  checkError(await strake(['export', foreign, '--confirm', missing, ...json]), 2, 'INVALID_ARGUMENT');
  checkError(await strake(['export', '/dev/null', ...json]), 2, 'NOT_A_DEVICE');
  checkError(await strake(['export', scratchFile(100), '-o', 'jsonl']), 1, 'TOO_SMALL');
  const people = await strake(['export', foreign]);
  assert.is(people.code, 5);
  assert.match(people.stderr, /^strake: .*\n {2}.*--confirm.*\n {2}ERR_STRAKE_SIGNATURE \(strake explain /);
  const server = await exportDevice(foreign, ['--confirm', foreign]);
  checkError(await strake(['export', foreign, ...json]), 5, 'IN_USE');
  checkError(await strake(['export', 'null:1M', '--socket', server.socket, ...json]), 1, 'ADDRESS_IN_USE');
  await server.stop();
});

check('every code is explained, however it is written', async () => {
  const all = await strake(['explain', '-o', 'jsonl']);
  const explained = records('jsonl', all.stdout, 'strake.explain');
  const codes = Object.keys(ERRORS).map((name) => `ERR_STRAKE_${name}`);
  assert.equal(
    explained.map(({ code }) => code),
    codes,
  );
  const asked = explained.filter((_, index) => index % repetitions(1, 5) === 0);
  await inPairs(asked, async ({ code, summary, remedy, exitCode }) => {
    const { stdout } = await strake(['explain', String(code)]);
    for (const part of [code, summary, remedy, exitCode]) assert.match(stdout, String(part));
  });
  const short = checkRecord((await strake(['explain', 'in_use', '-o', 'json'])).stdout, 'strake.explain');
  assert.is(short.code, 'ERR_STRAKE_IN_USE');
  for (const unknown of ['nonsense', '__proto__', 'constructor', '']) {
    checkError(await together(['explain', unknown, '-o', 'json']), 2, 'INVALID_ARGUMENT');
  }
});

check('device show says what a device is', [loop, tool('mkfs.ext4')], async () => {
  const file = scratchFile(4 * MIB);
  output('mkfs.ext4', '-q', '-F', file);
  const disk = loopDevice(file);
  const shown = checkRecord((await strake(['device', 'show', disk.path, '-o', 'json'])).stdout, 'strake.device.show');
  assert.equal([shown.path, shown.kind, shown.sizeBytes], [disk.path, 'block', 4 * MIB]);
  assert.match(String(shown.signatures), /ext/);
  assert.equal(shown.users, []);
  const people = await strake(['device', 'show', disk.path]);
  assert.match(people.stdout, /size +4 MiB \(4194304 bytes\)/);
  assert.match(people.stdout, /holds +ext/);
  assert.match(people.stdout, /used by +nobody/);
  const under = await strake(['device', 'show', file]);
  assert.match(under.stdout, `attached to ${disk.path}`);
  disk.detach();
});

check('bench does not write unless the device is named twice', [tool('mkfs.ext4')], async () => {
  const device = scratchFile(4 * MIB);
  output('mkfs.ext4', '-q', '-F', device);
  const before = readFileSync(device);
  const json = ['-o', 'json'];
  const nothing = await strake(['bench', device, '--only', 'device.randwrite', ...json]);
  assert.match(String(checkError(nothing, 2, 'INVALID_ARGUMENT').message), '--write');
  const other = ['--write', scratchFile(MIB)];
  checkError(await strake(['bench', device, ...other, ...json]), 2, 'INVALID_ARGUMENT');
  checkError(await strake(['bench', device, '--only', 'nonsense', ...json]), 2, 'INVALID_ARGUMENT');
  const { code, stdout, stderr } = await strake([
    'bench',
    device,
    '--only',
    'device.read.',
    '--seconds',
    '1',
    '--rounds',
    '1',
    ...json,
  ]);
  assert.is(code, 0, stderr);
  const { rows, sizeBytes, time } = checkRecord(stdout, 'strake.bench') as {
    rows: Json[];
    sizeBytes: number;
    time: string;
  };
  assert.equal(
    rows.map(({ id }) => id),
    ['device.read.1m.qd16'],
  );
  assert.ok((rows[0].strake as number) > 0);
  assert.is(sizeBytes, 4 * MIB);
  assert.match(time, RFC3339_UTC);
  assert.ok(readFileSync(device).equals(before));
});

check('a reader that has had enough is no failure, a full disk is one', async () => {
  const child = startProcess(process.execPath, [command, 'explain']);
  child.stdout?.destroy();
  const { code, stderr } = await ending(child);
  assert.is(code, 0);
  assert.is(stderr, '');
  const full = spawnSync('sh', ['-c', `"${process.execPath}" "${command}" explain >/dev/full`], { encoding: 'utf8' });
  assert.is(full.status, 1);
  assert.match(full.stderr, /^strake: the output could not be written: .*ENOSPC/);
});

// Seeds whose trials are short, as it is about the command.
check('sim: trials for machines and for people, one again by its seed, and what is no trial', [], async () => {
  const trials = await strake(['sim', '--seeds', '3', '--from', '33', '--jobs', '2', '-o', 'json']);
  assert.is(trials.code, 0, trials.stderr);
  const sums = checkRecord(trials.stdout, 'strake.sim');
  assert.equal([sums.seeds, sums.failed, sums.failures], [3, 0, []]);
  for (const name of ['simulatedSeconds', 'realSeconds', 'processorSeconds', 'events', 'requests'])
    assert.ok((sums[name] as number) > 0);
  const text = await strake(['sim', '--seeds', '1', '--from', '38', '--faults', 'none']);
  assert.match(text.stdout, /^seeds +1\nfailed +0\nsimulated time +\d+ s\n/);
  const hashed = await strake(['sim', '--seeds', '3', '--from', '33', '--trace-hash']);
  assert.match(hashed.stdout, /^seeds +3\nfailed +0\ntrace hash +[0-9a-f]{32}\n$/);
  const again = await strake(['sim', '--seeds', '3', '--from', '33', '--trace-hash', '--jobs', '1', '-o', 'json']);
  assert.ok(hashed.stdout.includes(String(checkRecord(again.stdout, 'strake.sim').traceHash)));
  const replay = () => strake(['sim', '--replay', '34', '--faults', 'kill,rot', '-o', 'jsonl']);
  const lines = (await replay()).stdout.trim().split('\n');
  assert.ok(lines.length > 100);
  const last = checkRecord(lines.at(-1) ?? '', 'strake.sim.replay');
  assert.equal([last.seed, last.failure], [34, null]);
  assert.equal(JSON.parse((await replay()).stdout.trim().split('\n').at(-1) ?? ''), JSON.parse(lines.at(-1) ?? ''));
  const edit = JSON.stringify({ keep: [], endMs: 100 });
  const edited = await strake(['sim', '--replay', '34', '--edit', edit, '--quiet', '-o', 'json']);
  assert.ok((checkRecord(edited.stdout, 'strake.sim.replay').simulatedUs as number) < 10_000_000);
  checkError(
    await strake(['sim', '--shrink', '34', '--faults', 'none', '--quiet', '-o', 'json']),
    2,
    'INVALID_ARGUMENT',
  );
  for (const wrong of [
    ['--faults', 'flood'],
    ['--seeds', '0'],
    ['--replay', 'x'],
    ['--edit', '[]'],
  ]) {
    assert.is((await strake(['sim', ...wrong])).code, 2, wrong.join(' '));
  }
});

run();
