/** A simulated world of several processes: each dies alone, and what it has to do with others goes over connections. */

import * as assert from 'uvu/assert';
import { ECANCELED, ECONNREFUSED, ECONNRESET } from '#strake/core/errno.js';
import { SimDevice } from '#strake/sim/disk/device.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { SimNetwork } from '#strake/sim/net/network.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import type { SimHost } from '#strake/sim/world/host.js';
import type { SimProcess } from '#strake/sim/world/process.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimWorld } from '#strake/sim/world/world.js';
import { check, run } from '../support/check.js';

const MEMORY = 64 << 10;
const ADDRESS = 'node 1:1';

/** A process with a transport, and its operations as promises of their results. */
class Party {
  readonly process: SimProcess;
  readonly transport: SimTransport;
  private readonly base: number;
  private readonly waiting: ((result: number) => void)[] = [];

  constructor(host: SimHost, network: SimNetwork, seed: number) {
    this.process = host.start({ seed, arena: new Uint8Array(MEMORY) });
    this.transport = new SimTransport(this.process, {}, network);
    this.base = this.process.register({ complete: (tag, result) => this.waiting[tag](result) });
  }

  begin(operation: (token: number) => void): Promise<number> {
    return new Promise((resolve) => operation(this.base + this.waiting.push(resolve) - 1));
  }

  connect(address = ADDRESS): Promise<number> {
    return this.begin((token) => this.transport.connect({ path: address }, token));
  }

  accept(listener: number): Promise<number> {
    return this.begin((token) => this.transport.accept(listener, token));
  }

  send(file: number, values: readonly number[]): Promise<number> {
    this.process.bytes.set(values, 1000);
    this.transport.addPiece(1000, values.length);
    return this.begin((token) => this.transport.send(file, token));
  }

  async receive(file: number, length: number): Promise<number | number[]> {
    const result = await this.begin((token) => this.transport.receive(file, 0, length, 8, token));
    return result < 0 ? result : [...this.process.bytes.subarray(0, result)];
  }
}

/** Two processes on two hosts, with a connection between them. */
async function pair(seed = 1) {
  const world = new SimWorld({ seed });
  const network = new SimNetwork(world.time, { latencyUs: [100, 200] });
  const hosts = [world.addHost('one'), world.addHost('two', { delayUs: 50 })];
  const [here, there] = hosts.map((host, number) => new Party(host, network, seed + number));
  const listener = there.transport.listen(ADDRESS);
  const accepted = there.accept(listener);
  const [near, far] = await world.settle(Promise.all([here.connect(), accepted]));
  return { world, network, hosts, here, there, near, far };
}

const ended = (world: SimWorld, forMs: number) => {
  const untilUs = world.time.nowUs + 1000 * forMs;
  let late = false;
  world.time.schedule(null, { start: () => {}, fire: () => (late = true) }, 0, untilUs - world.time.nowUs);
  return world.run(() => late);
};

check('two processes are connected whichever of them has asked, and both send and receive', async () => {
  for (let seed = 1; seed <= 10; seed += 1) {
    const { world, here, there, near, far } = await pair(seed);
    const beganUs = world.time.nowUs;
    const got = await world.settle(
      Promise.all([there.receive(far, 3), here.receive(near, 2), here.send(near, [1, 2, 3]), there.send(far, [8, 9])]),
    );
    assert.equal(got.slice(0, 2), [
      [1, 2, 3],
      [8, 9],
    ]);
    assert.ok(world.time.nowUs - beganUs >= 150, 'the delay of a host counts');
  }
});

check('where nobody listens, or has been killed, a connection is refused', async () => {
  const { world, here, there } = await pair();
  assert.is(await world.settle(here.connect('nowhere')), -ECONNREFUSED);
  there.process.kill();
  assert.is(await world.settle(here.connect()), -ECONNREFUSED);
});

check(
  'a connect that is closed before it has ended is given up, and whoever has accepted it finds the end',
  async () => {
    const { world, network, hosts, here, there } = await pair();
    const accepted = there.accept(there.transport.listen('other'));
    let wasAccepted = false;
    accepted.then(() => (wasAccepted = true));
    const ask = () => {
      let file = -1;
      const result = here.begin((token) => {
        file = here.transport.connect({ path: 'other' }, token);
      });
      return { file, result };
    };
    // In the batch in which it is asked for: nobody hears of it.
    const early = ask();
    here.transport.close(early.file);
    assert.is(await world.settle(early.result), -ECANCELED);
    await ended(world, 20);
    assert.is(wasAccepted, false);
    // While the answer is held back.
    network.cut(hosts[1], hosts[0]);
    const late = ask();
    const far = await world.settle(accepted);
    here.transport.shutdown(late.file);
    here.transport.close(late.file);
    assert.is(await world.settle(late.result), -ECANCELED);
    assert.equal(await world.settle(there.receive(far, 1)), []);
    network.mend(hosts[1], hosts[0]);
    // Nobody is there who could take what is sent.
    await world.settle(there.send(far, [1]));
    await ended(world, 1);
    assert.is(await world.settle(there.receive(far, 1)), -ECONNRESET);
  },
);

check('a process that is killed alone ends its connections behind what it has sent, and nothing else', async () => {
  const { world, hosts, network, here, there, near, far } = await pair();
  const third = new Party(hosts[1], network, 7);
  let ticks = 0;
  const base = third.process.register({
    complete: () => {
      ticks += 1;
      third.process.after(1, base);
    },
  });
  third.process.after(1, base);
  let answered = false;
  there.begin((token) => there.process.after(5, token)).then(() => (answered = true));
  await world.settle(there.send(far, [4, 5]));
  there.process.kill();
  assert.equal(await world.settle(here.receive(near, 2)), [4, 5]);
  assert.equal(await world.settle(here.receive(near, 1)), []);
  await ended(world, 20);
  assert.is(answered, false);
  assert.ok(ticks > 10);
  // What is sent to it is answered with a reset, as its host is up.
  await world.settle(here.send(near, [1]));
  await ended(world, 1);
  assert.is(await world.settle(here.receive(near, 1)), -ECONNRESET);
});

check('a host without power says nothing, and its disks lose what was not durable', async () => {
  const { world, hosts, here, there, near } = await pair();
  const disk = new SimDisk({ sizeBytes: MEMORY });
  hosts[1].disks.add(disk);
  const device = new SimDevice(there.process, disk);
  there.process.bytes.fill(9, 0, 4096);
  await world.settle(there.begin((token) => device.write(0, 4096, 0, 0, token)));
  let received = false;
  const receiving = here.receive(near, 1).then((result) => {
    received = true;
    return result;
  });
  const bootMs = hosts[1].clock.boottimeMs();
  const realMs = hosts[1].clock.realtimeMs();
  hosts[1].powerOff(new SimRandom(3));
  assert.is(disk.undurable, 0);
  assert.throws(() => hosts[1].start({ seed: 1, arena: new Uint8Array(1) }), /has no power/);
  await world.settle(here.send(near, [1]));
  await ended(world, 1000);
  assert.is(received, false);
  hosts[1].powerOn();
  assert.ok(hosts[1].clock.boottimeMs() < bootMs + 1 && hosts[1].clock.realtimeMs() > realMs + 900);
  await world.settle(here.send(near, [1]));
  assert.is(await world.settle(receiving), -ECONNRESET);
});

check('a cut holds back one direction only, on old connections and on new ones, until it is mended', async () => {
  const { world, network, hosts, here, there, near, far } = await pair();
  network.cut(hosts[0], hosts[1]);
  let received = false;
  const receiving = there.receive(far, 1).then((result) => {
    received = true;
    return result;
  });
  await world.settle(here.send(near, [7]));
  await world.settle(there.send(far, [8]));
  assert.equal(await world.settle(here.receive(near, 1)), [8], 'the other direction is open');
  let connected = false;
  const connecting = here.connect().then((file) => {
    connected = true;
    return file;
  });
  await ended(world, 100);
  assert.equal([received, connected], [false, false]);
  network.mend(hosts[0], hosts[1]);
  assert.equal(await world.settle(receiving), [7]);
  assert.ok((await world.settle(connecting)) > near);
});

check('a process that is stopped does nothing meanwhile, and others and disks go on', async () => {
  const { world, here, there, near, far } = await pair();
  const disk = new SimDisk({ sizeBytes: MEMORY });
  const device = new SimDevice(there.process, disk);
  there.process.bytes.fill(6, 0, 4096);
  const told: number[] = [];
  there.begin((token) => device.write(0, 4096, 0, 0, token)).then(() => told.push(world.time.nowUs));
  there.begin((token) => there.process.after(10, token)).then(() => told.push(world.time.nowUs));
  there.process.handOver();
  const untilUs = world.time.nowUs + 500_000;
  there.process.stall(500_000);
  await world.settle(here.send(near, [1]));
  await ended(world, 300);
  assert.is(disk.peek(0, 1)[0], 6, 'the disk has written');
  assert.equal(told, []);
  await ended(world, 300);
  assert.is(told.length, 2);
  assert.ok(told.every((us) => us >= untilUs && us < untilUs + 20_000));
  assert.equal(await world.settle(there.receive(far, 1)), [1]);
});

check('a process that is stopped within a batch is told the rest of it later, and the end of it last', async () => {
  const world = new SimWorld({ seed: 1, batchSpreadUs: 0 });
  const process = world.addHost('host').start({ seed: 1, arena: new Uint8Array(16) });
  const told: [string, number][] = [];
  const token = process.register({ complete: (tag) => told.push([String(tag), world.time.nowUs]) });
  process.onBatchEnd(() => told.push(['end', world.time.nowUs]));
  for (let tag = 0; tag < 3; tag += 1) process.complete(token + tag, 0, 0);
  process.stallWithin(2, 5_000);
  await world.run(() => told.length === 4);
  assert.equal(
    told.map(([what]) => what),
    ['0', '1', '2', 'end'],
  );
  const [first, second, third, end] = told.map(([, us]) => us);
  assert.is(second, first);
  assert.ok(third >= first + 5_000);
  assert.is(end, third);
});

check('a guest that is frozen does not count that, and a host that sleeps counts it in BOOTTIME', () => {
  const world = new SimWorld({ seed: 1 });
  const [asleep, frozen] = [world.addHost('asleep').clock, world.addHost('frozen').clock];
  world.time.nowUs = 1_000_000;
  const realMs = frozen.realtimeMs();
  asleep.suspend(2_000_000);
  frozen.freeze(2_000_000);
  world.time.nowUs = 3_000_000;
  assert.equal([asleep.monotonicMs(), asleep.boottimeMs()], [1_000, 3_000]);
  assert.equal([frozen.monotonicMs(), frozen.boottimeMs(), frozen.realtimeMs() - realMs], [1_000, 1_000, 2_000]);
});

check('while a host stands still nothing in it sees a clock go back, whatever happens to it meanwhile', async () => {
  for (const how of ['sleep', 'freeze'] as const) {
    const world = new SimWorld({ seed: 1 });
    const host = world.addHost('host');
    const start = () => host.start({ seed: 1, arena: new Uint8Array(16) });
    const told: [worldUs: number, clockMs: number][] = [];
    const tick = (process: SimProcess): void => {
      const note = () => told.push([world.time.nowUs, process.nowMs()]);
      process.after(10, process.register({ complete: note }));
      note();
    };
    await ended(world, 1_000);
    const before = start();
    tick(before);
    host.standStill(how, 5_000_000);
    await ended(world, 1_000);
    host.standStill(how, 1_000_000);
    before.stall(500_000);
    tick(start());
    await ended(world, 5_000);
    assert.is(told.length, 4);
    const [first] = told;
    assert.ok(told.slice(2).every(([worldUs]) => worldUs >= first[0] + 5_000_000));
    for (const [at, [, clockMs]] of told.entries()) assert.ok(at === 0 || clockMs >= told[at - 1][1], how);
  }
});

check('clocks of a host run at its rate, and jump where they may', () => {
  const world = new SimWorld({ seed: 1 });
  const { clock } = world.addHost('fast', { clockRate: 2 });
  world.time.nowUs = 10_000_000;
  assert.equal([clock.monotonicMs(), clock.boottimeMs()], [20_000, 20_000]);
  const realMs = clock.realtimeMs();
  clock.sleep(5_000);
  clock.setRealtime(-60_000);
  assert.equal([clock.monotonicMs(), clock.boottimeMs(), clock.realtimeMs() - realMs], [20_000, 25_000, -55_000]);
});

check('which process comes first in a step is up to the seed', async () => {
  const firsts = new Set<number>();
  for (let seed = 1; seed <= 20; seed += 1) {
    const world = new SimWorld({ seed });
    const order: number[] = [];
    for (const number of [0, 1, 2]) {
      const process = world.addHost(`host ${number}`).start({ seed, arena: new Uint8Array(16) });
      process.defer(process.register({ complete: () => order.push(number) }), 0);
    }
    await world.run(() => order.length === 3);
    firsts.add(order[0]);
  }
  assert.is(firsts.size, 3);
});

run();
