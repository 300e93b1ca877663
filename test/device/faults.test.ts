/** Devices that fail: by fault rules inside of the engine, and real ones that err, vanish or do not answer. */

import { subscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as assert from 'uvu/assert';
import { type Device, openDevice, type StrakeEvent, serveNbd } from '#strake/index.js';
import { check, run, tool } from '../support/check.js';
import { failure } from '../support/failure.js';
import { faulty, faultyDisk } from '../support/faulty-disk.js';
import { type Ending, ending, scratchFile, socketPath, standStill, startProcess, until } from '../support/scratch.js';

const MIB = 1 << 20;
const KIB = 1 << 10;
const EIO = 5;
// All devices share one shard, so that a bad one could harm the others.
process.env.STRAKE_SHARDS = '1';

const events: StrakeEvent[] = [];
subscribe('strake:event', (message) => {
  events.push(message as StrakeEvent);
});

function fencesOf(path: string): number[] {
  return events.flatMap((event) => (event.type === 'device-fenced' && event.path === path ? [event.fence] : []));
}

/** qemu-io's commands against an export; it ends with 1 if one of them fails. */
function qemuIo(uri: string, ...commands: string[]): Promise<Ending> {
  return ending(startProcess('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri]));
}

async function filled(device: Device, length: number, value: number): Promise<void> {
  await device.write(new Uint8Array(length).fill(value), 0);
  await device.flush();
}

check('a failing read is an error of that request only', async () => {
  const faults = [{ op: 'read', start: 8 * KIB, end: 12 * KIB, count: 1, errno: EIO }];
  const device = await openDevice(scratchFile(MIB), { faults });
  await filled(device, 64 * KIB, 7);
  const blocks = Array.from({ length: 16 }, () => new Uint8Array(4 * KIB));
  const results = await Promise.allSettled(blocks.map((block, index) => device.read(block, index * 4 * KIB)));
  const failed = results.flatMap((result, index) => (result.status === 'rejected' ? [[index, result.reason]] : []));
  assert.is(failed.length, 1);
  assert.is(failed[0][0], 2);
  assert.is(failed[0][1].code, 'ERR_STRAKE_IO');
  assert.is(failed[0][1].errno, EIO);
  for (const [index, block] of blocks.entries()) if (index !== 2) assert.is(block[4095], 7);
  await device.read(blocks[2], 8 * KIB);
  assert.is(blocks[2][0], 7);
  await device.write(blocks[2], 8 * KIB);
  await device.flush();
  assert.equal(fencesOf(device.path), []);
  await device.close();
});

check('an NBD client sees a failing read as an error of that request only', [tool('qemu-io')], async () => {
  const faults = [{ op: 'read', start: 64 * KIB, end: 68 * KIB, errno: EIO }];
  const device = await openDevice(scratchFile(MIB), { faults });
  const server = await serveNbd(device, { socket: socketPath() });
  const parts = ['write -P 5 0 256k', 'read -P 5 0 64k', 'read 64k 4k', 'read -P 5 68k 64k', 'flush', 'read 0 256k'];
  const { code, stdout, stderr } = await qemuIo(server.uri, ...parts);
  assert.is(code, 1);
  assert.is((`${stdout}${stderr}`.match(/read failed: Input\/output error/g) ?? []).length, 2);
  assert.match(stdout, 'read 65536/65536 bytes at offset 69632');
  assert.not.match(stdout, 'Pattern verification failed');
  assert.equal(fencesOf(device.path), []);
  await server.close();
  await device.close();
});

for (const how of ['flush', 'FUA write'] as const) {
  check(`a failed ${how} fences the device for writes, once and for good`, async () => {
    const path = scratchFile(MIB);
    const op = how === 'flush' ? 'sync' : 'write';
    const device = await openDevice(path, { faults: [{ op, skip: 1, count: 1, errno: EIO }] });
    const bytes = new Uint8Array(4 * KIB).fill(3);
    await device.write(bytes, 0);
    await device.flush();
    const attempt = how === 'flush' ? device.flush() : device.write(bytes, 4 * KIB, { fua: true });
    const refused = await failure('FENCED', attempt);
    assert.is(refused.errno, EIO);
    await failure('FENCED', device.write(bytes, 0));
    await failure('FENCED', device.write(bytes.subarray(1), 1));
    await failure('FENCED', device.discard(0, 4 * KIB));
    await failure('FENCED', device.writeZeroes(0, 4 * KIB));
    // The rule has done what it does: it is the device that does not believe a flush any more.
    await failure('FENCED', device.flush());
    const back = new Uint8Array(4 * KIB);
    await device.read(back, 0);
    assert.equal(back, bytes);
    await until('the event', () => fencesOf(path).length > 0);
    assert.equal(fencesOf(path), [1]);
    const other = await openDevice(scratchFile(MIB));
    await filled(other, 4 * KIB, 1);
    await other.close();
    await device.close();
    const again = await openDevice(path);
    await filled(again, 4 * KIB, 4);
    await again.close();
  });
}

check('after a failed flush NBD clients can read, and not write', [tool('qemu-io')], async () => {
  const path = scratchFile(MIB);
  const device = await openDevice(path, { faults: [{ op: 'sync', count: 1, errno: EIO }] });
  await device.write(new Uint8Array(64 * KIB).fill(9), 0);
  const server = await serveNbd(device, { socket: socketPath() });
  const commands = ['flush', 'read -P 9 0 64k', 'write -P 1 0 4k', 'flush', 'discard 0 64k', 'read -P 9 0 64k'];
  const { code, stdout, stderr } = await qemuIo(server.uri, ...commands);
  assert.is(code, 1);
  assert.is(stdout.match(/^read 65536\/65536 bytes/gm)?.length, 2);
  assert.not.match(stdout, /verification failed|wrote/);
  assert.match(`${stdout}${stderr}`, 'write failed: Input/output error');
  await until('the event', () => fencesOf(path).length > 0);
  await failure('FENCED', server.close());
  await device.close();
  assert.ok(readFileSync(path).every((byte, index) => byte === (index < 64 * KIB ? 9 : 0)));
});

check('a write that finds no room is an error, and no reason to fence', async () => {
  const device = await openDevice(scratchFile(MIB), { faults: [{ op: 'write', count: 1, errno: 28 }] });
  const bytes = new Uint8Array(4 * KIB);
  await failure('NO_SPACE', device.write(bytes, 0, { fua: true }));
  await device.write(bytes, 0, { fua: true });
  await device.flush();
  await device.close();
});

check('a failing part of an unaligned write fails the write, and nothing else', async () => {
  const path = scratchFile(MIB);
  const faults = [{ op: 'read', start: 0, end: 512, count: 1, errno: EIO }];
  const device = await openDevice(path, { faults });
  const across = new Uint8Array(8 * KIB).fill(2);
  const results = await Promise.allSettled([device.write(across, 100), device.write(across, 100 * KIB + 100)]);
  assert.equal(
    results.map(({ status }) => status),
    ['rejected', 'fulfilled'],
  );
  await device.write(across, 100);
  const back = new Uint8Array(8 * KIB);
  await device.read(back, 100);
  assert.equal(back, across);
  await device.close();
});

check('an operation that is late does not hold up others', async () => {
  const device = await openDevice(scratchFile(MIB), { faults: [{ op: 'read', count: 1, delayMs: 300 }] });
  const order: string[] = [];
  const read = (name: string, offset: number) =>
    device.read(new Uint8Array(4 * KIB), offset).then(() => {
      order.push(name);
    });
  await Promise.all([read('late', 0), read('first', 4 * KIB), read('second', 0)]);
  assert.is(order[2], 'late');
  await device.close();
});

check('closing waits for operations that are late, and loses none', async () => {
  const path = scratchFile(MIB);
  const device = await openDevice(path, { faults: [{ op: 'write', delayMs: 100 }] });
  const other = await openDevice(scratchFile(MIB));
  const writes = [0, 1, 2].map((index) => device.write(new Uint8Array(4 * KIB).fill(index + 1), index * 4 * KIB));
  const unaligned = device.write(new Uint8Array(1000).fill(9), 20 * KIB + 5);
  const flush = device.flush();
  await device.close();
  await Promise.all([...writes, unaligned, flush]);
  const content = readFileSync(path);
  assert.equal([content[0], content[4 * KIB], content[8 * KIB], content[20 * KIB + 5]], [1, 2, 3, 9]);
  await filled(other, 64 * KIB, 5);
  await failure('CLOSED', device.read(new Uint8Array(1), 0));
  await other.close();
});

check('a write that is lost counts as done, and the device keeps what it had', async () => {
  const path = scratchFile(MIB);
  const faults = [{ op: 'write', start: 4 * KIB, end: 8 * KIB, count: 1, lose: true }];
  const device = await openDevice(path, { faults });
  for (const value of [1, 2]) {
    await filled(device, 12 * KIB, value);
    const content = readFileSync(path);
    // It is one write, of which a part lies in the range: all of it is lost.
    const expected = value === 1 ? [0, 0, 0] : [2, 2, 2];
    assert.equal([content[0], content[4 * KIB], content[8 * KIB]], expected);
  }
  await device.close();
});

check('a corrupt read differs in one bit, which the caller can see', async () => {
  const device = await openDevice(scratchFile(MIB), { faults: [{ op: 'read', count: 1, corrupt: true }] });
  const bytes = new Uint8Array(4 * KIB);
  await device.read(bytes, 0);
  const bits = (all: Uint8Array) => all.reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0);
  assert.is(bits(bytes), 1);
  await device.read(bytes, 0);
  assert.is(bits(bytes), 0);
  await device.close();
});

check(
  'a disk that errs while serving gives its clients errors, and goes on',
  [...faulty, tool('nbdcopy')],
  async () => {
    events.length = 0;
    const disk = await faultyDisk(16 * MIB);
    const device = await openDevice(disk.path);
    await filled(device, 4 * MIB, 6);
    const server = await serveNbd(device, { socket: socketPath() });
    const copy = () => ending(startProcess('nbdcopy', [server.uri, 'null:']));
    assert.is((await copy()).code, 0);
    disk.fail(true);
    const failed = await copy();
    assert.is.not(failed.code, 0);
    assert.match(failed.stderr, 'Input/output error');
    // Without a flush, which would be right to fence the device.
    await failure('IO', device.read(new Uint8Array(100), 5));
    await failure('IO', device.write(new Uint8Array(100), 5));
    await failure('IO', device.write(new Uint8Array(4 * KIB), 0));
    disk.fail(false);
    assert.is((await copy()).code, 0);
    const healed = await qemuIo(server.uri, 'read -P 6 8k 1M', 'write -P 7 0 8k', 'read -P 7 0 8k', 'flush');
    assert.is(healed.code, 0, `${healed.stdout}${healed.stderr}`);
    assert.equal(fencesOf(disk.path), []);
    await server.close();
    await device.close();
    await disk.remove();
    assert.is(readFileSync(disk.file)[8 * KIB - 1], 7);
  },
);

check('a disk that vanishes under load gives errors at once', [...faulty, tool('fio')], async () => {
  events.length = 0;
  const disk = await faultyDisk(16 * MIB);
  const device = await openDevice(disk.path);
  const server = await serveNbd(device, { socket: socketPath() });
  const load = ['--rw=randrw', '--bs=4k', '--iodepth=16', '--size=16M', '--time_based', '--runtime=100'];
  const fio = ending(startProcess('fio', ['--name=load', '--ioengine=nbd', `--uri=${server.uri}`, ...load]));
  await until('a load', async () => (await server.stats()).nbd.requests > 500);
  disk.nbdkit.kill('SIGKILL');
  const { code, stdout, stderr } = await fio;
  assert.is.not(code, 0);
  assert.match(`${stdout}${stderr}`, 'Input/output error');
  await failure('IO', device.read(new Uint8Array(4 * KIB), 0));
  await failure('FENCED', device.flush());
  await failure('FENCED', device.write(new Uint8Array(4 * KIB), 0));
  await until('the event', () => fencesOf(disk.path).length > 0);
  const { nbd, operationsInFlight } = await server.stats();
  assert.is(nbd.requestsInFlight, 0);
  assert.ok(operationsInFlight < 10);
  await failure('FENCED', server.close());
  await device.close();
  await disk.remove();
});

/** Reads and writes a healthy device until told to stop; returns how often. */
async function exercise(device: Device, going: () => boolean): Promise<number> {
  const bytes = new Uint8Array(8 * KIB);
  let rounds = 0;
  for (; going(); rounds += 1) {
    await device.write(bytes.fill(rounds), rounds % 1000);
    await device.flush();
    await device.read(bytes, rounds % 1000);
    assert.ok(bytes.every((byte) => byte === rounds % 256));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return rounds;
}

check('a disk that does not answer is given up; others on its shard go on', [...faulty, tool('qemu-io')], async () => {
  events.length = 0;
  const disk = await faultyDisk(MIB);
  const stuck = await openDevice(disk.path);
  const healthy = await openDevice(scratchFile(MIB));
  await filled(stuck, MIB, 1);
  const server = await serveNbd(stuck, { socket: socketPath() });
  const other = await serveNbd(healthy, { socket: socketPath() });
  await standStill(disk.nbdkit);
  let ended = false;
  const [client, ...attempts] = [
    qemuIo(server.uri, 'read 0 4k', 'write 64k 64k'),
    failure('FENCED', stuck.write(new Uint8Array(64 * KIB).fill(2), 256 * KIB)),
    failure('FENCED', stuck.write(new Uint8Array(100).fill(2), 5)),
    failure('FENCED', stuck.read(new Uint8Array(4 * KIB), 512 * KIB)),
    failure('FENCED', stuck.flush()),
  ] as const;
  const rounds = exercise(healthy, () => !ended);
  const { stdout, stderr } = await client;
  await Promise.all(attempts);
  ended = true;
  assert.is(`${stdout}${stderr}`.match(/failed: Input\/output error/g)?.length, 2);
  assert.ok((await rounds) > 100, 'the healthy device was served meanwhile');
  assert.is((await qemuIo(other.uri, 'read 0 4k', 'write 0 4k', 'flush')).code, 0);
  await until('the event', () => fencesOf(disk.path).length > 0);
  assert.equal(fencesOf(disk.path), [2]);
  await failure('FENCED', stuck.read(new Uint8Array(512), 0));
  await failure('FENCED', stuck.write(new Uint8Array(512), 0));

  disk.nbdkit.kill('SIGCONT');
  await until('the late operations', async () => (await server.stats()).nbd.buffersQuarantined === 0);
  await failure('FENCED', stuck.read(new Uint8Array(512), 0));
  await failure('FENCED', server.close());
  await stuck.close();
  await other.close();
  const again = await until('the disk to be free', () => openDevice(disk.path).catch(() => undefined));
  const content = new Uint8Array(MIB);
  await again.read(content, 0);
  const wanted = (at: number) => {
    const written = (at >= 256 * KIB && at < 320 * KIB) || (at >= 5 && at < 105);
    return content[at] === 1 || (written && content[at] === 2) || (at >= 64 * KIB && at < 128 * KIB);
  };
  assert.is(
    content.findIndex((_, at) => !wanted(at)),
    -1,
  );
  await filled(again, MIB, 3);
  await again.close();
  await filled(healthy, MIB, 4);
  await healthy.close();
  await disk.remove();
  assert.ok(readFileSync(disk.file).every((byte) => byte === 3));
});

check(
  'operations that wait behind those of a disk that does not answer are late, and nothing worse',
  faulty,
  async () => {
    const disk = await faultyDisk(MIB);
    const stuck = await openDevice(disk.path);
    const path = scratchFile(new Uint8Array(MIB).fill(1));
    const healthy = await openDevice(path);
    await standStill(disk.nbdkit);
    // More than the threads that do them.
    const attempts = Array.from({ length: 20 }, (_, index) =>
      failure('FENCED', stuck.writeZeroes(index * 8 * KIB, 4 * KIB)),
    );
    await new Promise((resolve) => setTimeout(resolve, 100));
    const zeroed = healthy.writeZeroes(0, 4 * KIB);
    await Promise.all([...attempts, zeroed]);
    await healthy.writeZeroes(64 * KIB, 4 * KIB);
    assert.equal(fencesOf(path), []);
    await until('the event', () => fencesOf(disk.path).length > 0);

    disk.nbdkit.kill('SIGCONT');
    await until('the late operations', async () => (await stuck.stats()).operationsInFlight < 8);
    await stuck.close();
    await healthy.close();
    await disk.remove();
    const content = readFileSync(path);
    assert.equal([content[0], content[4 * KIB], content[64 * KIB], content[68 * KIB]], [0, 1, 0, 1]);
  },
);

check('memory that an operation may still use is kept when everything has been closed', faulty, async () => {
  const disk = await faultyDisk(MIB);
  const device = await openDevice(disk.path);
  const memory = new WeakRef(device.link.ready.arena.buffer);
  await standStill(disk.nbdkit);
  await failure('FENCED', device.read(new Uint8Array(4 * KIB), 0));
  await device.close();
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let round = 0; round < 10; round += 1) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    collect();
  }
  assert.ok(memory.deref() !== undefined);
  // The process keeps the device open as well, so the disk is taken apart when it ends.
  disk.nbdkit.kill('SIGCONT');
});

run();
