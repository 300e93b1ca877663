/** A mirror over two processes in a simulated world: it serves, goes on with one, and is brought up to date again. */

import * as assert from 'uvu/assert';
import { check, repetitions, run } from '../support/check.js';
import { TwoNodes } from '../support/two-nodes.js';

check('a mirror serves over another process', async () => {
  const nodes = new TwoNodes(1);
  await nodes.format();
  await nodes.startServing();
  await nodes.startEngine();
  await nodes.create();
  assert.equal(nodes.states(), ['in-sync', 'in-sync']);
  for (let stripe = 0; stripe < 4; stripe += 1)
    assert.is(await nodes.settle(nodes.write(stripe, 1, 100 + stripe)), 4096);
  assert.is(await nodes.settle(nodes.flush()), 0);
  for (let round = 0; round < 4; round += 1) {
    for (let stripe = 0; stripe < 4; stripe += 1) assert.is(await nodes.settle(nodes.read(stripe, 1)), 100 + stripe);
  }
  assert.equal(nodes.states(), ['in-sync', 'in-sync']);
});

check('what is said behind an await is said at once, and does not wait for something else to happen', async () => {
  const nodes = new TwoNodes(1);
  await nodes.format();
  await nodes.startServing();
  const lap = async (work: () => Promise<unknown>) => {
    const beganUs = nodes.world.time.nowUs;
    await work();
    return nodes.world.time.nowUs - beganUs;
  };
  // Of a network and disks that take less than a millisecond; timers tick every quarter of a second.
  assert.ok((await lap(() => nodes.startEngine())) < 50_000, 'the devices of the other node are there');
  assert.ok((await lap(() => nodes.create())) < 50_000, 'a volume is made, and serves');
  nodes.killEngine();
  assert.ok((await lap(() => nodes.startEngine())) < 50_000, 'a volume is attached');
  nodes.network.reset(nodes.engineHost, nodes.servingHost);
  assert.ok((await lap(() => nodes.settle(nodes.write(0, 1, 1)))) < 50_000, 'a session goes on by another connection');
});

async function started(seed: number, loss = 0): Promise<TwoNodes> {
  const nodes = new TwoNodes(seed, loss);
  await nodes.format();
  await nodes.startServing();
  await nodes.startEngine();
  await nodes.create();
  return nodes;
}

/** Both disks hold the same in each block that was written. */
async function agree(nodes: TwoNodes, blocks: ReadonlyMap<number, number>): Promise<void> {
  for (let round = 0; round < 4; round += 1) {
    for (const [stripe, value] of blocks) assert.is(await nodes.settle(nodes.read(stripe, 1)), value, `${stripe}`);
  }
}

check('a killed process is done without, and brought up to date when it is back', async () => {
  const nodes = await started(2);
  const blocks = new Map<number, number>();
  const write = async (stripe: number, value: number) => {
    assert.is(await nodes.settle(nodes.write(stripe, 1, value)), 4096);
    blocks.set(stripe, value);
  };
  for (let stripe = 0; stripe < 8; stripe += 1) await write(stripe, 100 + stripe);
  nodes.killServing();
  const beganUs = nodes.world.time.nowUs;
  for (let stripe = 4; stripe < 12; stripe += 1) await write(stripe, 200 + stripe);
  assert.equal(nodes.states(), ['in-sync', 'offline']);
  assert.ok(nodes.world.time.nowUs - beganUs < 300_000, 'a process that is killed is noticed at once');
  await nodes.startServing();
  await nodes.settle(nodes.world.until(() => nodes.states()[1] === 'in-sync'));
  await agree(nodes, blocks);
  await nodes.settle(nodes.node.close());
});

check('a process that vanishes is done without, and comes back with the same life', async () => {
  const nodes = await started(3);
  const blocks = new Map<number, number>();
  const write = async (stripe: number, value: number) => {
    assert.is(await nodes.settle(nodes.write(stripe, 1, value)), 4096);
    blocks.set(stripe, value);
  };
  for (let stripe = 0; stripe < 8; stripe += 1) await write(stripe, 100 + stripe);
  nodes.network.cut(nodes.engineHost, nodes.servingHost);
  nodes.network.cut(nodes.servingHost, nodes.engineHost);
  const beganUs = nodes.world.time.nowUs;
  for (let stripe = 4; stripe < 12; stripe += 1) await write(stripe, 200 + stripe);
  assert.equal(nodes.states(), ['in-sync', 'offline']);
  assert.ok(nodes.world.time.nowUs - beganUs < 3_000_000, 'a process that is silent is given up');
  nodes.network.mend(nodes.engineHost, nodes.servingHost);
  nodes.network.mend(nodes.servingHost, nodes.engineHost);
  await nodes.settle(nodes.world.until(() => nodes.states()[1] === 'in-sync'));
  await agree(nodes, blocks);
  await nodes.settle(nodes.node.close());
});

check('an engine that dies and comes again finds the other process as it was: nothing is compared', async () => {
  const nodes = await started(4);
  for (let stripe = 0; stripe < 4; stripe += 1)
    assert.is(await nodes.settle(nodes.write(stripe, 1, 100 + stripe)), 4096);
  nodes.killEngine();
  await nodes.startEngine();
  assert.equal(nodes.states(), ['in-sync', 'in-sync']);
  assert.equal(nodes.engine.status().jobs, []);
  for (let stripe = 0; stripe < 4; stripe += 1) assert.is(await nodes.settle(nodes.read(stripe, 1)), 100 + stripe);
  await nodes.settle(nodes.node.close());
});

check('a device of another process that went back to an earlier image is not believed', async () => {
  const nodes = await started(5);
  for (let stripe = 0; stripe < 4; stripe += 1)
    assert.is(await nodes.settle(nodes.write(stripe, 1, 100 + stripe)), 4096);
  nodes.killEngine();
  nodes.killServing();
  const image = nodes.disks[1].clone();
  // What the map says after this differs from what the image has in nothing but what a start changes.
  await nodes.startServing();
  await nodes.startEngine();
  for (let stripe = 0; stripe < 4; stripe += 1)
    assert.is(await nodes.settle(nodes.write(stripe, 1, 200 + stripe)), 4096);
  nodes.killEngine();
  nodes.killServing();
  nodes.replaceDisk(1, image);
  await nodes.startServing();
  await nodes.startEngine();
  // It has the incarnation that the map knows, in another life.
  assert.ok(
    nodes.engine.status().jobs.some(({ kind }) => kind === 'resync'),
    'it is brought up to date',
  );
  for (let round = 0; round < 4; round += 1) {
    for (let stripe = 0; stripe < 4; stripe += 1) assert.is(await nodes.settle(nodes.read(stripe, 1)), 200 + stripe);
  }
});

check('a process that was stopped itself gives nobody up for that', async () => {
  for (const stoppedMs of [400, 900, 5_000, 60_000]) {
    const nodes = await started(6);
    assert.is(await nodes.settle(nodes.write(0, 1, 1)), 4096);
    // What is asked is on its way, and with half of the connections another one is to be made.
    const asked = [1, 2, 3].map((number) => nodes.write(number, 1, 100 + number, number));
    if (stoppedMs > 500) nodes.network.reset(nodes.engineHost, nodes.servingHost);
    await nodes.pause(100);
    nodes.process.stall(stoppedMs * 1000);
    for (const result of await nodes.settle(Promise.all(asked))) assert.is(result, 4096);
    await nodes.pause(2_000_000);
    assert.equal(nodes.states(), ['in-sync', 'in-sync'], `${stoppedMs} ms`);
    assert.equal(nodes.engine.status().jobs, []);
    await nodes.settle(nodes.node.close());
  }
});

check(
  'a device that its node has closed and opened again within one session is taken back as what it is now',
  async () => {
    // It goes while nothing is asked of it, or in the middle of writes; in order, or as it is.
    for (const [asked, inOrder] of [
      [0, true],
      [0, false],
      [3, true],
      [3, false],
    ] as const) {
      const nodes = await started(7);
      for (let stripe = 0; stripe < 4; stripe += 1)
        assert.is(await nodes.settle(nodes.write(stripe, 1, 100 + stripe)), 4096);
      const before = nodes.sessions.usage().connections;
      const writes = Array.from({ length: asked }, (_, at) => nodes.write(at, 1, 200 + at, at));
      await nodes.reopenServed(inOrder);
      for (const result of await nodes.settle(Promise.all(writes))) assert.is(result, 4096);
      for (let stripe = 0; stripe < 4; stripe += 1)
        assert.is(await nodes.settle(nodes.write(stripe, 2, 300 + stripe)), 4096);
      await nodes.settle(nodes.world.until(() => nodes.states()[1] === 'in-sync'));
      await nodes.jobsEnded();
      for (let round = 0; round < 4; round += 1) {
        for (let stripe = 0; stripe < 4; stripe += 1) {
          const first = stripe < asked ? 200 + stripe : 100 + stripe;
          assert.is(await nodes.settle(nodes.read(stripe, 1)), first);
          assert.is(await nodes.settle(nodes.read(stripe, 2)), 300 + stripe);
        }
      }
      assert.is(nodes.sessions.usage().connections, before);
      await nodes.settle(nodes.node.close());
    }
  },
);

check(
  'a node whose device is slow is waited for when its connection breaks, and one that says nothing is not',
  async () => {
    const nodes = await started(8);
    assert.is(await nodes.settle(nodes.write(0, 1, 1)), 4096);
    assert.is(await nodes.settle(nodes.flush()), 0);
    const remove = nodes.disks[1].faults.add({ probability: 1, action: { kind: 'slow', byUs: 2_500_000 } });
    const slow = nodes.write(0, 1, 2);
    await nodes.pause(10_000);
    remove();
    nodes.network.reset(nodes.engineHost, nodes.servingHost);
    assert.is(await nodes.settle(slow), 4096);
    assert.equal(nodes.states(), ['in-sync', 'in-sync']);
    const beganUs = nodes.world.time.nowUs;
    nodes.network.cut(nodes.engineHost, nodes.servingHost);
    nodes.network.reset(nodes.engineHost, nodes.servingHost);
    assert.is(await nodes.settle(nodes.write(0, 1, 3)), 4096);
    assert.equal(nodes.states(), ['in-sync', 'offline']);
    assert.ok(nodes.world.time.nowUs - beganUs < 2_000_000, 'a node that does not answer is given up');
  },
);

check(
  'a node that falls silent amid writes is done without after a second and a half, and not within a second',
  async () => {
    for (let phase = 0; phase < 6; phase += 1) {
      const nodes = await started(30 + phase);
      const busyUntilUs = nodes.world.time.nowUs + 1_000_000 + phase * 90_000;
      for (let turn = 0; nodes.world.time.nowUs < busyUntilUs; turn += 1)
        assert.is(await nodes.settle(nodes.write(0, 1, turn)), 4096);
      const beganUs = nodes.world.time.nowUs;
      nodes.network.cut(nodes.engineHost, nodes.servingHost);
      nodes.network.cut(nodes.servingHost, nodes.engineHost);
      assert.is(await nodes.settle(nodes.write(0, 1, 1_000)), 4096);
      assert.equal(nodes.states(), ['in-sync', 'offline']);
      const goneUs = nodes.world.time.nowUs - beganUs;
      assert.ok(goneUs >= 1_000_000 && goneUs < 1_600_000, `phase ${phase}: ${goneUs} µs`);
    }
  },
);

check('a volume is served though the device that knows of it has answered after those of other nodes', async () => {
  const nodes = await started(9);
  assert.is(await nodes.settle(nodes.write(0, 1, 5)), 4096);
  nodes.killEngine();
  await nodes.startEngine(true);
  await nodes.pause(2_000_000);
  assert.equal(nodes.states(), ['in-sync', 'in-sync']);
  assert.is(await nodes.settle(nodes.read(0, 1)), 5);
});

/** What goes wrong while blocks are written. */
type Trouble = 'reset' | 'cut' | 'one-way' | 'kill';

async function trouble(nodes: TwoNodes, kind: Trouble, forUs: number): Promise<void> {
  const { network, engineHost, servingHost } = nodes;
  if (kind === 'reset') network.reset(engineHost, servingHost);
  else if (kind === 'kill') {
    nodes.killServing();
    await nodes.pause(forUs);
    await nodes.startServing();
  } else {
    network.cut(servingHost, engineHost);
    if (kind === 'cut') network.cut(engineHost, servingHost);
    await nodes.pause(forUs);
    network.mend(servingHost, engineHost);
    if (kind === 'cut') network.mend(engineHost, servingHost);
  }
}

check('writes go on through resets, partitions and deaths, and both copies agree in the end', async () => {
  for (let seed = 1; seed <= repetitions(60, 8); seed += 1) {
    const nodes = await started(seed, seed % 3 === 0 ? 0.02 : 0);
    const random = nodes.random();
    const blocks = new Map<string, number>();
    let going = true;
    let value = seed << 16;
    // Each writer has blocks of its own, so that the last acknowledged value is what a block has to hold.
    const writer = async (number: number) => {
      while (going) {
        await nodes.pauseOnly(random.between(200, 40_000));
        const [stripe, block] = [random.below(8), 2 * number + random.below(2)];
        value += 1;
        const own = value;
        const result = await nodes.write(stripe, block, own, number);
        assert.is(result, 4096, `seed ${seed}`);
        blocks.set(`${stripe} ${block}`, own);
        if (random.chance(0.2)) assert.is(await nodes.flush(), 0);
        if (random.chance(0.3)) assert.is(await nodes.read(stripe, block, number), own, `seed ${seed}`);
      }
    };
    const writers = [0, 1, 2, 3].map((number) => writer(number));
    for (let turn = 0; turn < 6; turn += 1) {
      await nodes.pause(random.between(1_000, 100_000));
      await trouble(nodes, random.pick(['reset', 'reset', 'cut', 'one-way', 'kill']), random.between(1_000, 3_000_000));
      if (random.chance(0.5)) await nodes.settle(nodes.world.until(() => nodes.states()[1] === 'in-sync'));
    }
    going = false;
    await nodes.settle(Promise.all(writers));
    await nodes.settle(nodes.world.until(() => nodes.states()[1] === 'in-sync'));
    await nodes.jobsEnded();
    // Each copy alone has what was acknowledged.
    for (const [key, expected] of blocks) {
      const [stripe, block] = key.split(' ').map(Number);
      for (let round = 0; round < 2; round += 1) {
        assert.is(await nodes.settle(nodes.read(stripe, block)), expected, `seed ${seed}`);
      }
    }
    const { asked } = nodes.usage();
    assert.ok(asked < 8, 'nothing is left of what was asked');
    await nodes.settle(nodes.node.close());
  }
});

run();
