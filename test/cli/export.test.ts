import { existsSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run, tool } from '../support/check.js';
import { greedyClient } from '../support/greedy-client.js';
import { checkError, checkValues, RFC3339_UTC, started } from '../support/records.js';
import {
  atEnd,
  ending,
  output,
  scratchFile,
  scratchFolder,
  socketPath,
  startProcess,
  until,
} from '../support/scratch.js';
import { command, exportDevice, strake } from '../support/strake.js';

const MIB = 1 << 20;
check('export describes itself once, in each format, and is quiet on demand', async () => {
  const device = scratchFile(MIB);
  const server = await exportDevice(device);
  assert.is(server.data.schema, 'strake.export');
  checkValues(server.data);
  assert.equal(
    [server.data.device, server.data.sizeBytes, server.data.readOnly, server.data.pid],
    [device, MIB, false, server.child.pid],
  );
  assert.match(String(server.data.time), RFC3339_UTC);
  const loud = await server.stop();
  assert.is(loud.code, 0);
  assert.is(loud.stdout.trim().split('\n').length, 1);
  assert.match(loud.stderr, /stopping.*\n.*stopped/);
  for (const [options, expected] of [
    [['-o', 'json'], /^\{\n/],
    [['-o', 'table', '--quiet'], /^nbd\+unix:\S+\n$/],
    [['-o', 'table'], /exporting .*1 MiB, read-write.*\nuri +nbd\+unix:/],
  ] as const) {
    const child = await started(['export', device, '--socket', socketPath(), ...options], expected);
    child.process.kill('SIGTERM');
    const { code, stderr } = await child.ended;
    assert.is(code, 0);
    assert.is(stderr === '', options.includes('--quiet' as never));
  }
});

check('where to listen: a socket of its user only, or a loopback address', [tool('nbdinfo')], async () => {
  const unix = await exportDevice('null:1M');
  assert.is(statSync(unix.socket).mode & 0o777, 0o600);
  await unix.stop();
  const json = ['-o', 'json'];
  for (const host of ['0.0.0.0', '192.168.1.1', '::', '8.8.8.8']) {
    checkError(await strake(['export', 'null:1M', '--host', host, '--port', '0', ...json]), 2, 'ADDRESS');
  }
  checkError(await strake(['export', 'null:1M', '--host', 'example.com', ...json]), 2, 'INVALID_ARGUMENT');
  const anywhere = ['export', 'null:1M', '--port', '0', '--host', '0.0.0.0', '--insecure-network', '--quiet'];
  const open = await started(anywhere, /^nbd:\S+\n$/);
  open.process.kill('SIGINT');
  assert.match((await open.ended).stdout, /^nbd:\/\/0\.0\.0\.0:\d+\/\n/);
  const both = ['--socket', socketPath(), '--port', '0'];
  checkError(await strake(['export', 'null:1M', ...both, ...json]), 2, 'INVALID_ARGUMENT');
  for (const host of ['127.0.0.1', 'localhost']) {
    const args = ['export', 'null:1M', '--port', '0', '--host', host, '--name', 'a b', '--quiet'];
    const child = await started(args, /^nbd:\S+\n$/);
    child.process.kill('SIGINT');
    const { stdout } = await child.ended;
    assert.match(stdout, /^nbd:\/\/127\.0\.0\.1:\d+\/a%20b\n$/);
  }
  const long = `/tmp/${'x'.repeat(110)}`;
  assert.match(
    String(checkError(await strake(['export', 'null:1M', '--socket', long, ...json]), 2, 'ADDRESS').message),
    '107',
  );
  const nowhere = join(scratchFolder(), 'missing', 'x.sock');
  const error = checkError(await strake(['export', 'null:1M', '--socket', nowhere, ...json]), 2, 'ADDRESS');
  assert.match(String(error.message), 'folder does not exist');
  const taken = scratchFile(5);
  checkError(await strake(['export', 'null:1M', '--socket', taken, ...json]), 2, 'ADDRESS');
  assert.is(statSync(taken).size, 5, 'a file in the way is left alone');
});

check('without an address the socket lies in the folder meant for it', async () => {
  const folder = scratchFolder().replace(/^.*\/scratch-/, '/tmp/strake-run-');
  mkdirSync(folder);
  atEnd(() => rmSync(folder, { recursive: true, force: true }));
  const server = startProcess(process.execPath, [command, 'export', 'null:1M', '--quiet'], {
    env: { ...process.env, XDG_RUNTIME_DIR: folder },
  });
  const ended = ending(server);
  const socket = join(folder, 'strake-null_1M.sock');
  await until('the socket', () => existsSync(socket));
  server.kill('SIGTERM');
  assert.is((await ended).code, 0);
  assert.is(existsSync(socket), false);
  output('rmdir', folder);
});

check('--read-only refuses writes', [tool('qemu-io'), tool('nbdinfo')], async () => {
  const device = scratchFile(MIB);
  const server = await exportDevice(device, ['--read-only']);
  assert.is(server.data.readOnly, true);
  assert.is(JSON.parse(output('nbdinfo', '--json', server.uri)).exports[0].is_read_only, true);
  assert.throws(() => output('qemu-io', '-f', 'raw', '-c', 'write 0 4k', server.uri));
  output('qemu-io', '-r', '-f', 'raw', '-c', 'read -P 0 0 4k', server.uri);
  await server.stop();
});

check('SIGINT finishes, answers and removes the socket', [tool('fio')], async () => {
  const device = scratchFile(8 * MIB);
  const server = await exportDevice(device);
  const load = ['--rw=randwrite', '--bs=4k', '--iodepth=16', '--size=8M', '--time_based', '--runtime=100'];
  const fio = ending(startProcess('fio', ['--name=load', '--ioengine=nbd', `--uri=${server.uri}`, ...load]));
  await until('data on the device', () => statSync(device).blocks > 0);
  const { code, stderr } = await server.stop();
  assert.is(code, 0, stderr);
  assert.match(stderr, 'everything acknowledged is on the device');
  assert.is(existsSync(server.socket), false);
  await fio;
});

check('a second SIGINT does not wait for a client that does not take its answers', async () => {
  const server = await exportDevice('null:1G');
  const client = await greedyClient(server.socket);
  let told = '';
  server.child.stderr?.on('data', (text: string) => {
    told += text;
  });
  server.child.kill('SIGINT');
  await until('the first signal to be taken', () => told.includes('stopping'));
  // Signals right after the first count as the same.
  await until('the process to end', () => !server.child.kill('SIGINT'));
  const { code, stderr } = await server.ended;
  assert.is(code, 130, stderr);
  assert.is(existsSync(server.socket), false);
  client.destroy();
});

check('draining has an end', async () => {
  const server = await exportDevice('null:1G', ['--drain', '0']);
  const client = await greedyClient(server.socket);
  const { code, stderr } = await server.stop();
  assert.is(code, 0, stderr);
  assert.match(stderr, 'stopped');
  client.destroy();
});

run();
