import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { type Device, formatDevice, openDevice, openNode, type StrakeError, serveNbd } from '#strake/index.js';
import { check, loop, run, tool } from '../support/check.js';
import { failure } from '../support/failure.js';
import { ending, loopDevice, output, scratchFile, socketPath, startProcess, until } from '../support/scratch.js';
import { events, killWorker } from '../support/worker-death.js';

const MIB = 1 << 20;
const BLOCK = 4096;

/** Threads of this process but those of engines. */
function javascriptThreads(): string[] {
  const name = (thread: string) => readFileSync(`/proc/self/task/${thread}/comm`, 'utf8');
  return readdirSync('/proc/self/task').filter((thread) => {
    try {
      return !/^(strake-io|iou-)/.test(name(thread));
    } catch {
      return false;
    }
  });
}

/** One write after another: each either succeeds or fails as a dead worker lets it fail. */
class Writer {
  /** By block, the values of acknowledged and flushed writes, and of those whose fate is not known. */
  readonly certain = new Map<number, number>();
  readonly possible = new Map<number, number[]>();
  acknowledged = 0;
  failures = 0;
  private going = true;

  constructor(
    private readonly device: Device,
    private readonly first: number,
    private readonly blocks: number,
  ) {}

  async work(): Promise<void> {
    for (let round = 1; this.going; round += 1) {
      const block = this.first + (round % this.blocks);
      const value = 1 + (round % 250);
      try {
        await this.device.write(new Uint8Array(BLOCK).fill(value), block * BLOCK, { fua: round % 16 === 0 });
        this.acknowledged += 1;
        this.certain.set(block, value);
        this.possible.delete(block);
      } catch (error) {
        assert.is((error as StrakeError).code, 'ERR_STRAKE_WORKER_DIED');
        this.failures += 1;
        this.possible.set(block, [...(this.possible.get(block) ?? []), value]);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
  }

  stop(): void {
    this.going = false;
  }

  /** What a block may hold. */
  allowed(block: number): number[] {
    return [this.certain.get(block) ?? 0, ...(this.possible.get(block) ?? [])];
  }
}

function checkContent(content: Uint8Array, writers: readonly Writer[], blocks: number): void {
  writers.forEach((writer, index) => {
    for (let block = index * blocks; block < (index + 1) * blocks; block += 1) {
      const found = content.subarray(block * BLOCK, (block + 1) * BLOCK);
      assert.ok(writer.allowed(block).includes(found[0]), `block ${block} holds ${found[0]}`);
      assert.ok(
        found.every((byte) => byte === found[0]),
        `block ${block} is torn`,
      );
    }
  });
}

for (const kind of ['file', 'loop device'] as const) {
  check(`a worker killed under writes to a ${kind} loses nothing`, kind === 'file' ? [] : [loop], async () => {
    const file = scratchFile(4 * MIB);
    const disk = kind === 'file' ? { path: file, detach: () => {} } : loopDevice(file);
    const device = await openDevice(disk.path);
    const writers = [0, 1, 2, 3].map((index) => new Writer(device, index * 32, 32));
    const work = Promise.all(writers.map((writer) => writer.work()));
    const sum = () => writers.reduce((total, { acknowledged }) => total + acknowledged, 0);
    for (let round = 0; round < 4; round += 1) {
      const before = sum();
      await until('writes', () => sum() > before + 200);
      await killWorker(device);
    }
    const before = sum();
    await until('writes', () => sum() > before + 200);
    for (const writer of writers) writer.stop();
    await work;
    const content = new Uint8Array(4 * MIB);
    await device.read(content, 0);
    checkContent(content, writers, 32);
    await device.flush();
    await device.close();
    disk.detach();
    assert.ok(readFileSync(file).equals(content));
    assert.ok(
      writers.some(({ failures }) => failures > 0),
      'some writes met the death of their worker',
    );
  });
}

check('operations on their way when a worker dies succeed or fail, and none is forgotten', async () => {
  const device = await openDevice(scratchFile(4 * MIB));
  const buffers = Array.from({ length: 600 }, () => new Uint8Array(10_000));
  const pending = buffers.flatMap((buffer, index) => {
    const offset = (index * 5003) % (3 * MIB);
    return [device.write(buffer, offset), device.read(buffer, offset), device.flush()];
  });
  const settled = Promise.allSettled(pending);
  await killWorker(device);
  for (const result of await settled) {
    if (result.status === 'rejected') assert.is(result.reason.code, 'ERR_STRAKE_WORKER_DIED');
  }
  await device.write(buffers[0], 0);
  await device.close();
});

/** Takes the lock on a file as soon as it comes free, so that a device cannot be taken over until it is given up. */
function lockNext(path: string): { readonly locked: Promise<unknown>; readonly release: () => Promise<unknown> } {
  const child = startProcess('flock', ['--exclusive', path, 'sh', '-c', 'echo locked; cat'], { stdin: 'pipe' });
  const locked = new Promise((resolve) => child.stdout?.once('data', resolve));
  const ended = ending(child);
  return {
    locked,
    release: () => {
      child.stdin?.end();
      return ended;
    },
  };
}

/** Whether a process waits for a lock on a file, which /proc/locks marks with an arrow. */
function awaited(path: string): boolean {
  const inode = statSync(path).ino;
  const lines = readFileSync('/proc/locks', 'utf8').split('\n');
  return lines.some((line) => line.includes('->') && line.includes(`:${inode} `));
}

check('devices of a dead worker are not mistaken for one another', [tool('flock')], async () => {
  const [path, otherPath] = [scratchFile(MIB), scratchFile(MIB)];
  const first = await openDevice(path);
  const other = await openDevice(otherPath);
  // The next worker numbers from the beginning again, so the other one gets a number that the first had.
  await first.close();
  const device = await openDevice(path);
  const lock = lockNext(path);
  await until('the lock to be waited for', () => awaited(path));
  const before = events.length;
  await device.owner.kill(device.shard);
  await lock.locked;
  const write = () => other.write(new Uint8Array(BLOCK).fill(1), 0);
  await until('the other device', () =>
    write().then(
      () => true,
      () => undefined,
    ),
  );
  assert.is(other.number, 0);
  await failure('WORKER_DIED', device.write(new Uint8Array(BLOCK).fill(2), 0));
  await failure('WORKER_DIED', device.flush());
  await lock.release();
  await until('the event', () => events.length > before);
  assert.is(events[before].type, 'shard-replaced');
  await device.write(new Uint8Array(BLOCK).fill(3), 0);
  await device.close();
  await other.close();
  assert.equal([readFileSync(path)[0], readFileSync(otherPath)[0]], [3, 1]);
});

check(
  'a server is there again on the same socket after its worker has died',
  [tool('nbdcopy'), tool('fio')],
  async () => {
    const image = scratchFile(new Uint8Array(8 * MIB).fill(0x5a));
    const device = await openDevice(scratchFile(8 * MIB));
    const socket = socketPath();
    const server = await serveNbd(device, { socket });
    const tcp = await serveNbd(device, { port: 0, name: 'again' });
    output('nbdcopy', '--flush', image, server.uri);
    const load = ['--rw=randread', '--bs=4k', '--iodepth=16', '--size=8M', '--time_based', '--runtime=100'];
    const fio = ending(startProcess('fio', ['--name=load', '--ioengine=nbd', `--uri=${server.uri}`, ...load]));
    await until('a load', async () => (await server.stats()).nbd.requests > 500);
    await killWorker(device);
    assert.is.not((await fio).code, 0, 'the client of a dead worker learns of it');
    assert.ok(existsSync(socket));
    for (const { uri } of [server, tcp]) {
      const back = scratchFile(8 * MIB);
      output('nbdcopy', uri, back);
      assert.ok(readFileSync(back).every((byte) => byte === 0x5a));
    }
    output('nbdcopy', '--flush', image, tcp.uri);
    await tcp.close();
    await server.close();
    assert.is(existsSync(socket), false);
    await device.close();
  },
);

check('a fenced device stays fenced when another worker takes it over', async () => {
  const path = scratchFile(MIB);
  const device = await openDevice(path, { faults: [{ op: 'sync', count: 1, errno: 5 }] });
  await device.write(new Uint8Array(BLOCK).fill(1), 0);
  await failure('FENCED', device.flush());
  await until('the event', () => events.some((event) => event.type === 'device-fenced' && event.path === path));
  await killWorker(device);
  await failure('FENCED', device.flush());
  await failure('FENCED', device.write(new Uint8Array(BLOCK), 0));
  const bytes = new Uint8Array(BLOCK);
  await device.read(bytes, 0);
  await device.close();
});

check(
  'a fence is not forgotten if the worker has ended before this thread hears of it',
  [tool('nbdcopy')],
  async () => {
    const path = scratchFile(MIB);
    const others = javascriptThreads();
    const device = await openDevice(path, { faults: [{ op: 'sync', count: 1, errno: 5 }] });
    const [worker] = javascriptThreads().filter((thread) => !others.includes(thread));
    const server = await serveNbd(device, { socket: socketPath() });
    const before = events.length;
    // Begins outside of any message, and lets none in until the worker is gone: that it is gone is what comes first then.
    await setImmediate();
    assert.throws(
      () => output('nbdcopy', '--flush', scratchFile(new Uint8Array(MIB)), server.uri),
      /Input\/output error/,
    );
    const killed = device.owner.kill(device.shard);
    while (javascriptThreads().includes(worker));
    await killed;
    await until('the event', () => events.slice(before).some(({ type }) => type === 'shard-replaced'));
    await failure('FENCED', device.flush());
    await failure('FENCED', device.write(new Uint8Array(BLOCK), 0));
    await failure('FENCED', server.close());
    await device.close();
  },
);

check('a device that is no longer the same is not taken over', async () => {
  const path = scratchFile(MIB);
  const device = await openDevice(path);
  output('sh', '-c', `cp --sparse=always "${path}" "${path}.copy" && mv "${path}.copy" "${path}"`);
  const before = events.length;
  await device.owner.kill(device.shard);
  await until('the event', () => events.length > before);
  assert.is(events[before].type, 'shard-lost');
  await failure('NOT_FOUND', device.write(new Uint8Array(BLOCK), 0));
  await device.close();
});

check('a server whose device is not taken over serves no other device', [tool('nbdcopy')], async () => {
  const [path, otherPath] = [scratchFile(MIB), scratchFile(MIB)];
  const device = await openDevice(path);
  const other = await openDevice(otherPath);
  await other.write(new Uint8Array(BLOCK).fill(2), 0);
  const server = await serveNbd(device, { socket: socketPath() });
  output('sh', '-c', `cp --sparse=always "${path}" "${path}.copy" && mv "${path}.copy" "${path}"`);
  const before = events.length;
  await device.owner.kill(device.shard);
  await until('the event', () => events.length > before);
  assert.is(events[before].type, 'shard-lost');
  const image = scratchFile(new Uint8Array(MIB).fill(1));
  assert.throws(() => output('nbdcopy', image, server.uri), /refused|No such file/);
  const bytes = new Uint8Array(BLOCK);
  await other.read(bytes, 0);
  assert.ok(bytes.every((byte) => byte === 2));
  // The number that the lost device had is the other one's now; a fence under it is the other one's, too.
  await other.link.call('injectFaults', { rules: [{ op: 'sync', count: 1, errno: 5 }] });
  await failure('FENCED', other.flush());
  const fenced = () => events.slice(before).flatMap((event) => (event.type === 'device-fenced' ? [event.path] : []));
  await until('the event', () => fenced().length > 0);
  assert.equal(fenced(), [otherPath]);
  await server.close();
  await other.close();
  await device.close();
});

check("a device that waits to be taken over has no other device's fence", [tool('flock')], async () => {
  const path = scratchFile(MIB);
  const first = await openDevice(path);
  const other = await openDevice(scratchFile(MIB));
  await first.close();
  // It is opened again after the other one, and waits for its lock then.
  const device = await openDevice(path);
  const lock = lockNext(path);
  await until('the lock to be waited for', () => awaited(path));
  const before = events.length;
  await device.owner.kill(device.shard);
  await lock.locked;
  await until('the other device to be taken over', () =>
    other.read(new Uint8Array(1), 0).then(
      () => true,
      () => undefined,
    ),
  );
  await other.link.call('injectFaults', { rules: [{ op: 'sync', count: 1, errno: 5 }] });
  await failure('FENCED', other.flush());
  await lock.release();
  await until('the event', () => events.slice(before).some(({ type }) => type === 'shard-replaced'));
  await device.write(new Uint8Array(BLOCK), 0);
  await killWorker(device);
  await device.write(new Uint8Array(BLOCK), 0);
  await failure('FENCED', other.write(new Uint8Array(BLOCK), 0));
  await other.close();
  await device.close();
});

check('a device that is opened while its worker dies is free again, and a node closes without its worker', async () => {
  const [path, added] = [scratchFile(64 * MIB), scratchFile(64 * MIB)];
  const { clusterId } = await formatDevice(path);
  await formatDevice(added, { clusterId });
  const node = await openNode({ devices: [path] });
  await node.createVolume({ name: 'a', sizeBytes: MIB });
  const killed = node.owner.kill(0);
  await failure('WORKER_DIED', node.addDevice(added));
  await killed;
  await until('the device to be free', () =>
    node.addDevice(added).then(
      () => true,
      () => undefined,
    ),
  );
  const last = node.owner.kill(0);
  await node.close();
  await last;
  await until('the devices to be free', () =>
    openNode({ devices: [path, added] }).then(
      (again) => again.close().then(() => true),
      () => undefined,
    ),
  );
});

check('a node has all its devices when the worker dies again while they are being opened again', async () => {
  const paths = [scratchFile(64 * MIB), scratchFile(64 * MIB)];
  const { clusterId } = await formatDevice(paths[0]);
  await formatDevice(paths[1], { clusterId });
  const node = await openNode({ devices: paths });
  const volume = await node.createVolume({ name: 'a', sizeBytes: MIB, layout: 'mirror' });
  await volume.write(new Uint8Array(BLOCK).fill(7), 0, { fua: true });
  const { owner } = node;
  const before = events.length;
  const first = owner.link(0);
  await owner.kill(0);
  await until('the next worker', () => {
    try {
      return owner.link(0) !== first;
    } catch {
      return undefined;
    }
  });
  await owner.kill(0);
  await until('the event', () => events.slice(before).some(({ type }) => type === 'shard-replaced'));
  assert.is((await node.devices()).length, 2);
  const bytes = new Uint8Array(BLOCK);
  await volume.read(bytes, 0);
  assert.ok(bytes.every((byte) => byte === 7));
  await node.close();
});

check('closing while a worker is being replaced closes', [tool('flock')], async () => {
  const path = scratchFile(MIB);
  const keeper = await openDevice('null:1M');
  const device = await openDevice(path);
  const server = await serveNbd(device, { socket: socketPath() });
  const lock = lockNext(path);
  await until('the lock to be waited for', () => awaited(path));
  const before = events.length;
  await device.owner.kill(device.shard);
  await lock.locked;
  const read = () => keeper.read(new Uint8Array(10), 0);
  await until('the device before it to be taken over', () =>
    read().then(
      () => true,
      () => undefined,
    ),
  );
  await failure('WORKER_DIED', server.close());
  await device.close();
  await failure('CLOSED', device.flush());
  await lock.release();
  await until('the event', () => events.length > before);
  assert.is(events[before].type, 'shard-replaced');
  await read();
  await until('the file to be free', () =>
    openDevice(path).then(
      (again) => again.close().then(() => true),
      () => undefined,
    ),
  );
  assert.equal((await keeper.stats()).devices.length, 1);
  await keeper.close();
});

run();
