/** Closing finishes what was begun, refuses the rest, and leaves nothing open. */

import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { openDevice, serveNbd } from '#strake/index.js';
import { check, repetitions, run, tool } from '../support/check.js';
import { failure } from '../support/failure.js';
import { CMD, NbdClient } from '../support/nbd-client.js';
import { ending, project, scratchFile, socketPath, startProcess, until } from '../support/scratch.js';
import { killWorker } from '../support/worker-death.js';

const MIB = 1 << 20;
const BLOCK = 4096;

/** What this process has open, without what Node.js itself opens at will. */
function descriptors(): string[] {
  const links = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, '#')];
    } catch {
      return [];
    }
  });
  return links.filter((link) => !/^(pipe|\/dev\/null|\/proc)/.test(link)).sort();
}

check('closing under load finishes what was begun, and refuses the rest', [tool('fio')], async () => {
  const path = scratchFile(8 * MIB);
  const device = await openDevice(path);
  const server = await serveNbd(device, { socket: socketPath() });
  const load = ['--rw=randwrite', '--bs=64k', '--iodepth=32', '--size=8M', '--time_based', '--runtime=100'];
  const fio = ending(startProcess('fio', ['--name=load', '--ioengine=nbd', `--uri=${server.uri}`, ...load]));
  await until('a load', async () => (await server.stats()).nbd.requests > 200);
  await server.close();
  assert.is.not((await fio).code, 0);
  const writes = Array.from({ length: 300 }, (_, index) =>
    device.write(new Uint8Array(20_000).fill(index % 256), index * 20_000),
  );
  const closing = device.close();
  await failure('CLOSED', device.read(new Uint8Array(1), 0));
  await Promise.all(writes);
  await closing;
  await device.close();
  const content = readFileSync(path);
  for (let index = 0; index < 300; index += 1) assert.is(content[index * 20_000], index % 256);
});

check('what is closed before its server takes the server with it, and no other device gets its writes', async () => {
  const keeper = await openDevice('null:1M');
  const [path, otherPath] = [scratchFile(MIB), scratchFile(MIB)];
  const device = await openDevice(path);
  const socket = socketPath();
  const server = await serveNbd(device, { socket });
  const client = await NbdClient.connect(socket);
  await client.write(0, Buffer.alloc(BLOCK, 1));
  await device.close();
  const other = await openDevice(otherPath);
  const late = await client.write(0, Buffer.alloc(BLOCK, 2)).then(
    () => 'done',
    () => 'refused',
  );
  assert.equal([readFileSync(path)[0], readFileSync(otherPath)[0]], [1, 0]);
  assert.is(late, 'refused');
  assert.is(existsSync(socket), false);
  await server.close();
  await other.close();
  await keeper.close();
});

check('closing a server twice at once waits twice for its last request', async () => {
  const device = await openDevice(scratchFile(MIB), { faults: [{ op: 'write', count: 1, delayMs: 300 }] });
  const socket = socketPath();
  const server = await serveNbd(device, { socket });
  const client = await NbdClient.connect(socket);
  const cookie = client.submit({ type: CMD.write, offset: 0, payload: Buffer.alloc(BLOCK, 1) });
  await until('the write', async () => (await server.stats()).nbd.requestsInFlight === 1);
  void server.close();
  await server.close();
  assert.is((await device.stats()).nbd.connections, 0);
  assert.is((await client.answer(cookie)).error, 0);
  await device.close();
});

for (const alone of [true, false]) {
  // Alone it starts and stops the shards each time; otherwise they go on.
  const name = alone ? 'alone' : 'beside another device';
  check(`opening, serving and closing fifty times, ${name}, leaves nothing open`, async () => {
    const keeper = alone ? undefined : await openDevice('null:1M');
    const path = scratchFile(MIB);
    const round = async (kill: boolean) => {
      const device = await openDevice(path);
      const server = await serveNbd(device, { socket: socketPath() });
      await device.write(new Uint8Array(100), 50);
      if (kill) await killWorker(device);
      await server.close();
      await device.close();
    };
    await round(false);
    const before = descriptors();
    const rounds = repetitions(50, 10);
    for (let count = 0; count < rounds; count += 1) await round(count % 10 === 9);
    const additional = () => {
      const known = [...before];
      return descriptors().filter((link) => {
        const at = known.indexOf(link);
        if (at >= 0) known.splice(at, 1);
        return at < 0;
      });
    };
    // Some are closed in the background.
    await until('descriptors to be closed', () => additional().length === 0).catch(() => {});
    assert.equal(additional(), []);
    await keeper?.close();
  });
}

/** Runs a program of a few lines, as one that embeds Strake; it has to end by itself. */
async function program(text: string): Promise<string> {
  const index = join(project, 'dist', 'index.js');
  const lines = `import * as strake from ${JSON.stringify(index)};\n${text}`;
  const child = startProcess(process.execPath, ['--input-type=module', '--eval', lines]);
  const { code, stdout, stderr } = await ending(child);
  assert.is(code, 0, stderr);
  return stdout.trim();
}

check('closing a device closes its servers first, once, and gives the storage free', async () => {
  const path = scratchFile(MIB);
  const device = await openDevice(path);
  const servers = await Promise.all([0, 1].map(() => serveNbd(device, { socket: socketPath() })));
  const client = connect(decodeURIComponent(new URL(servers[0].uri).searchParams.get('socket') ?? ''));
  await once(client, 'data');
  const gone = once(client, 'close');
  await Promise.all([device.close(), servers[1].close(), device.close()]);
  await gone;
  for (const server of servers) await server.close();
  await failure('CLOSED', device.flush());
  await (await openDevice(path)).close();
});

check('importing starts nothing, and the program ends', async () => {
  const facts = await program(`
    import { readdirSync } from 'node:fs';
    const threads = readdirSync('/proc/self/task').length;
    await import(${JSON.stringify(join(project, 'dist', 'index.js'))} + '?again');
    const more = readdirSync('/proc/self/task').length - threads;
    console.log(JSON.stringify({
      more, resources: process.getActiveResourcesInfo().filter((name) => !/Pipe|TTY|Req|Immediate/.test(name)),
      signals: process.listenerCount('SIGINT') + process.listenerCount('SIGTERM'),
      addon: process.report.getReport().sharedObjects.some((path) => path.includes('strake')),
    }));`);
  assert.equal(JSON.parse(facts), { more: 0, resources: [], signals: 0, addon: false });
});

check('a program ends by itself when it has closed everything', async () => {
  const path = scratchFile(MIB);
  const socket = socketPath();
  const told = await program(`
    const device = await strake.openDevice(${JSON.stringify(path)});
    const server = await strake.serveNbd(device, { socket: ${JSON.stringify(socket)} });
    await device.write(new Uint8Array(100).fill(1), 10);
    await server.close();
    await device.close();
    console.log('closed');`);
  assert.is(told, 'closed');
  assert.is(readFileSync(path)[10], 1);
});

run();
