/** Programs that embed Strake: the documented example, and one whose main thread is busy with other things. */

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run, tool, uring } from '../support/check.js';
import { ending, output, project, scratchFile, socketPath, startProcess, until } from '../support/scratch.js';

const MIB = 1 << 20;

check('the example in the documentation does what it says', [tool('nbdcopy'), tool('qemu-io')], async () => {
  const file = scratchFile(8 * MIB);
  const socket = socketPath();
  const child = startProcess(process.execPath, [join(project, 'docs', 'examples', 'embed.mjs'), file, socket]);
  const ended = ending(child);
  let printed = '';
  child.stdout?.on('data', (text: string) => {
    printed += text;
  });
  const uri = await until('the server', () => /serving at (\S+)/.exec(printed)?.[1]);
  assert.match(printed, `${file} has ${8 * MIB} bytes`);
  assert.match(printed, 'read back: written by embed');
  const back = scratchFile(8 * MIB);
  output('nbdcopy', uri, back);
  assert.is(readFileSync(back).toString('latin1', 0, 20), 'written by embed\0\0\0\0');
  output('qemu-io', '-f', 'raw', '-c', 'write -P 66 5000 10000', '-c', 'flush', uri);
  child.kill('SIGINT');
  const { code, stdout, stderr } = await ended;
  assert.is(code, 0, stderr);
  assert.match(stdout, /closed\n$/);
  assert.is(stderr, '');
  assert.is(existsSync(socket), false);
  const content = readFileSync(file);
  assert.is(content.toString('latin1', 0, 16), 'written by embed');
  assert.ok(content.subarray(5000, 15_000).every((byte) => byte === 66));
});

/** Serves, then blocks its event loop until a client in another process, which it waits for, has ended. */
const BUSY = `
  import { execFileSync } from 'node:child_process';
  import { openDevice, serveNbd } from 'strake';
  const [device, socket, image, back] = process.argv.slice(1);
  const opened = await openDevice(device);
  const server = await serveNbd(opened, { socket });
  let turns = 0;
  setInterval(() => { turns += 1; }, 1).unref();
  execFileSync('nbdcopy', ['--flush', image, server.uri], { timeout: 60_000 });
  execFileSync('nbdcopy', [server.uri, back], { timeout: 60_000 });
  console.log(turns);
  await server.close();
  await opened.close();
`;

check('clients are served while the main thread is blocked', [tool('nbdcopy')], async () => {
  const image = scratchFile(new Uint8Array(16 * MIB).map((_, at) => (at * 31) >> 8));
  const [device, back] = [scratchFile(16 * MIB), scratchFile(16 * MIB)];
  const args = ['--input-type=module', '--eval', BUSY, device, socketPath(), image, back];
  // 'strake' is found by name from within the project.
  const stdout = execFileSync(process.execPath, args, { cwd: project, encoding: 'utf8', timeout: 120_000 });
  assert.is(stdout.trim(), '0', 'the event loop did not turn meanwhile');
  assert.ok(readFileSync(back).equals(readFileSync(image)));
  assert.ok(readFileSync(device).equals(readFileSync(image)));
});

check('a program that starts others while it has a device open copies no buffers for them', [uring], async () => {
  const text = `
    import { readFileSync } from 'node:fs';
    import { openDevice } from 'strake';
    const device = await openDevice('null:1M');
    console.log(readFileSync('/proc/self/smaps', 'utf8'));
    await device.close();
  `;
  const args = ['--input-type=module', '--eval', text];
  const maps = execFileSync(process.execPath, args, { cwd: project, encoding: 'utf8', maxBuffer: 64 * MIB });
  // Mappings that want huge pages, which are those of the arena: their sizes, and whether children do without ('dc': proc_pid_smaps(5)).
  const found = [...maps.matchAll(/^Size: +(\d+) kB\n(?:[^V].*\n)+?VmFlags:(.*)$/gm)]
    .map(([, kib, flags]) => ({ bytes: Number(kib) * 1024, flags: flags.trim().split(' ') }))
    .filter(({ bytes, flags }) => bytes > 32 * MIB && flags.includes('hg'));
  assert.ok(found.length > 0, 'there is an arena');
  for (const { bytes, flags } of found) assert.ok(flags.includes('dc'), `${bytes} bytes: ${flags.join(' ')}`);
});

check('CommonJS programs can embed it too, by import()', async () => {
  const text = `import('strake').then(async ({ openDevice }) => {
    const device = await openDevice('null:1M');
    await device.read(new Uint8Array(10), 5);
    await device.close();
    console.log(device.sizeBytes);
  });`;
  const args = ['--input-type=commonjs', '--eval', text];
  assert.is(execFileSync(process.execPath, args, { cwd: project, encoding: 'utf8' }).trim(), String(MIB));
});

run();
