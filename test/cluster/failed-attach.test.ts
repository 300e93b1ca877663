/**
 * A client attaches a volume that another one serves, and does not come to serve it: the other goes on, attaches anew, and loses
 * nothing of what was under way. One that has served deposes it for good.
 */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { type ClusterClient, ClusterWorld } from '../support/cluster-world.js';

const EIO = -5;
const ATTACH_MS = 3000;
const HOLD_MS = 20_000;
const VOLUME_ID = 'b'.repeat(32);

/** A volume with two copies that a client serves; another client has `ATTACH_MS` to serve it. */
async function serving(seed: number): Promise<{ world: ClusterWorld; first: ClusterClient }> {
  const world = await ClusterWorld.begin(seed);
  await world.settle(world.calls.setTimes({ attachMs: ATTACH_MS }));
  const first = world.client();
  await world.settle(first.node.attachVolume('v'));
  assert.is(await world.settle(first.write(0, 1, 100)), 4096);
  return { world, first };
}

/** Lets the world go on until something is so, at which it looks every `everyUs`. */
async function ends(world: ClusterWorld, condition: () => boolean, everyUs = 10_000): Promise<void> {
  for (let round = 0; round < 20_000_000 / everyUs; round += 1) {
    if (condition()) return;
    await world.pause(everyUs);
  }
  assert.unreachable('it does not come to that');
}

interface Replica {
  readonly generation: number;
  readonly answered: boolean;
  readonly servedGeneration: number;
}

/** What each device has of the volume. */
function replicas({ nodes }: ClusterWorld): Replica[] {
  return nodes.flatMap(({ host }) => {
    const [store] = host.stores.values();
    const map = store.replicas[store.pageOf(VOLUME_ID, 0)];
    if (map === undefined) return [];
    return [{ generation: map.generation, ...store.ownOf(store.pageOf(VOLUME_ID, 0)) }];
  });
}

/** How far the attach of the second client has come, and for how long after that it goes on. */
const STEPS: readonly (readonly [words: string, reached: (world: ClusterWorld) => boolean, afterUs: number])[] = [
  ['before any member has its map', () => true, 0],
  ['when a member has stored its map', (world) => replicas(world).some(({ generation }) => generation === 2), 0],
  ['when all have stored it', (world) => replicas(world).every(({ generation }) => generation === 2), 0],
  ['when all have answered it', (world) => replicas(world).every(isAnswered), 0],
  ['while the copies are made equal', (world) => replicas(world).every(isAnswered), 800],
];

function isAnswered({ generation, answered }: Replica): boolean {
  return generation === 2 && answered;
}

for (const [at, [words, reached, afterUs]] of STEPS.entries()) {
  check(`failed-attach: a candidate that dies ${words} leaves the volume to whoever served it`, async () => {
    const { world, first } = await serving(10 + at);
    const { engine } = first;
    const second = world.client(1);
    void second.node.attachVolume('v', { takeOver: true }).catch(() => {});
    await ends(world, () => world.generation > 1 && reached(world), 10);
    await world.pause(afterUs);
    assert.ok(replicas(world).every(({ servedGeneration }) => servedGeneration === 1));
    const [written, flushed] = [first.write(0, 1, 200), first.flush()];
    second.kill();
    const read = first.read(0, 1, 1);
    assert.is(await world.settle(written), 4096);
    assert.is(await world.settle(flushed), 0);
    assert.is(await world.settle(read), 200);
    // It is the same engine to whoever uses it, under a generation that is its own.
    await ends(world, () => first.engine.record.generation > 2);
    assert.is(first.engine, engine);
    assert.is(await world.settle(first.write(1, 1, 300)), 4096);
    assert.is(await world.settle(first.read(1, 1)), 300);
    assert.is(await world.settle(first.flush()), 0);
    await ends(world, () => first.states().every((one) => one === 'in-sync'));
    await world.settle(first.node.detachVolume('v'));
    const third = world.client(1);
    await world.settle(third.node.attachVolume('v'));
    for (let round = 0; round < 2; round += 1) {
      assert.is(await world.settle(third.read(0, 1)), 200);
      assert.is(await world.settle(third.read(1, 1)), 300);
    }
    await world.settle(third.node.close());
    await world.settle(first.node.close());
  });
}

check(
  'failed-attach: a candidate that dies when a member may have heard that it serves deposes whoever served',
  async () => {
    const { world, first } = await serving(19);
    const lost = first.engine;
    const second = world.client(1);
    void second.node.attachVolume('v', { takeOver: true }).catch(() => {});
    await ends(world, () => replicas(world).some(({ servedGeneration }) => servedGeneration === 2), 10);
    const held = first.write(0, 1, 200);
    second.kill();
    assert.is(await world.settle(held), EIO);
    await ends(world, () => !lost.serving && world.lease === 'released');
    await world.settle(first.node.attachVolume('v'));
    for (let round = 0; round < 2; round += 1) assert.is(await world.settle(first.read(0, 1)), 100);
    await world.settle(first.node.close());
  },
);

check('failed-attach: what was held is never written again when another client has served', async () => {
  const { world, first } = await serving(20);
  const { engine } = first;
  const cut = (works: boolean) => {
    for (const { machine } of world.nodes) world.link(first.machine, machine, works);
    world.reachesManager(first.machine, works);
  };
  cut(false);
  const held = first.write(0, 1, 111, 1);
  const second = world.client(1);
  await world.settle(second.node.attachVolume('v', { takeOver: true }));
  assert.is(await world.settle(second.write(0, 1, 200)), 4096);
  second.kill();
  // The manager knows no more of who has served than what it was told since it started.
  await world.startManager();
  cut(true);
  assert.is(await world.settle(held), EIO);
  await ends(world, () => !engine.serving);
  const third = world.client(1);
  await ends(world, () => world.lease === 'released');
  await world.settle(third.node.attachVolume('v'));
  for (let round = 0; round < 4; round += 1) assert.is(await world.settle(third.read(0, 1)), 200);
  await world.settle(third.node.close());
  await world.settle(first.node.close());
});

check('two clients do not fight: the one that serves in time keeps the volume', async () => {
  const { world, first } = await serving(21);
  const lost = first.engine;
  const second = world.client(1);
  await world.settle(second.node.attachVolume('v', { takeOver: true }));
  const { generation } = second.engine.record;
  assert.is(await world.settle(first.write(0, 1, 111, 1)), EIO);
  await ends(world, () => !lost.serving);
  await world.pause(2000 * ATTACH_MS);
  assert.is(second.engine.record.generation, generation);
  assert.is(await world.settle(second.write(0, 1, 200)), 4096);
  assert.is(await world.settle(second.read(0, 1)), 200);
  await world.settle(first.node.close());
  await world.settle(second.node.close());
});

check('a candidate that does not serve in time is replaced, and is told so', async () => {
  const { world, first } = await serving(22);
  const second = world.client(1);
  for (const { machine } of world.nodes) world.link(second.machine, machine, false);
  let refused = '';
  void second.node.attachVolume('v', { takeOver: true }).catch(({ message }) => (refused = message));
  await ends(world, () => world.generation === 2);
  // No member has its map: whoever serves works on.
  assert.is(await world.settle(first.write(0, 1, 200)), 4096);
  assert.is(first.engine.record.generation, 1);
  await ends(world, () => first.engine.record.generation === 3);
  assert.is(await world.settle(first.read(0, 1)), 200);
  for (const { machine } of world.nodes) world.link(second.machine, machine, true);
  await ends(world, () => refused !== '');
  assert.is(await world.settle(first.write(0, 1, 300)), 4096);
  assert.is(await world.settle(first.read(0, 1)), 300);
  await world.settle(first.node.close());
  await world.settle(second.node.close());
});

check('a flush that members have yet to answer when its volume is suspended is held like others', async () => {
  const { world, first } = await serving(24);
  const [, slow] = world.nodes;
  // Members are silent for long before they are given up.
  await world.settle(world.calls.setTimes({ leaseMs: 5000, silenceMs: 4000, attachMs: 5000, holdMs: HOLD_MS }));
  // Its process has lived for longer than anything is held.
  await world.pause(1000 * (HOLD_MS + 1000));
  const second = world.client(1);
  void second.node.attachVolume('v', { takeOver: true }).catch(() => {});
  await ends(world, () => world.generation > 1, 10);
  world.link(first.machine, slow.machine, false);
  assert.not(first.engine.suspended);
  let flushed: number | null = null;
  void first.flush().then((result) => {
    flushed = result;
  });
  await ends(world, () => first.engine.suspended, 10);
  second.kill();
  // Something is held, so that the engine looks for what has been for too long.
  const read = first.read(0, 1, 1);
  await world.pause(2_500_000);
  assert.is(flushed, null);
  world.link(first.machine, slow.machine, true);
  await ends(world, () => flushed !== null);
  assert.is(flushed, 0);
  assert.is(await world.settle(read), 100);
  await world.settle(first.node.close());
});

check('a volume that is closed while it is suspended fails what is held', async () => {
  const { world, first } = await serving(23);
  const second = world.client(1);
  void second.node.attachVolume('v', { takeOver: true }).catch(() => {});
  await ends(world, () => world.generation > 1, 10);
  await world.pause(1_000);
  second.kill();
  const results = [first.write(0, 1, 200), first.read(0, 1, 1), first.flush()];
  await ends(world, () => first.engine.suspended);
  results.push(first.write(1, 1, 201, 2), first.read(1, 1, 3), first.flush());
  const error = await world.settle(
    first.node
      .close()
      .then(() => null)
      .catch(({ message }) => message),
  );
  assert.match(error, /could not be flushed when it was closed \(it was closed while it was suspended\)/);
  assert.equal(
    await world.settle(Promise.all(results)),
    results.map(() => EIO),
  );
});

run();
