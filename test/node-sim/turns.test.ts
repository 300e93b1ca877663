/** Control operations side by side: who waits for whom. */

import * as assert from 'uvu/assert';
import { StrakeError } from '#strake/core/errors.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { Turns } from '#strake/volumes/turns.js';
import { check, run } from '../support/check.js';
import { deviceIdOf, SimNode } from '../support/sim-node.js';
import { diskOf, SLOT } from '../support/sim-store.js';

/** Work that ends when it is told to. */
class Work {
  begun = false;
  end: () => void = () => {};
  readonly ended: Promise<void>;

  constructor(turns: Turns, keys: readonly string[]) {
    this.ended = turns.take(keys, () => {
      this.begun = true;
      return new Promise<void>((resolve) => {
        this.end = resolve;
      });
    });
  }
}

/** Lets everything go as far as it can. */
async function settled(): Promise<void> {
  for (let step = 0; step < 10; step += 1) await Promise.resolve();
}

check('operations wait for earlier ones with a common key, and for no others', [], async () => {
  const turns = new Turns();
  const a = new Work(turns, ['a']);
  const both = new Work(turns, ['a', 'b']);
  const b = new Work(turns, ['b']);
  const c = new Work(turns, ['c']);
  await settled();
  assert.equal(
    [a, both, b, c].map(({ begun }) => begun),
    [true, false, false, true],
  );
  a.end();
  await settled();
  assert.equal([both.begun, b.begun], [true, false]);
  both.end();
  await settled();
  assert.is(b.begun, true);
});

check('an operation that fails gives its turn to the next', [], async () => {
  const turns = new Turns();
  const failing = turns.take(['a'], () => Promise.reject(new Error('no')));
  const next = new Work(turns, ['a']);
  assert.is(await failing.catch(({ message }) => message), 'no');
  await settled();
  assert.is(next.begun, true);
});

check('closing refuses what waits and what is asked for later, and what goes on can be waited for', [], async () => {
  const turns = new Turns();
  const going = new Work(turns, ['a']);
  const waiting = new Work(turns, ['a']);
  turns.close(new StrakeError('CLOSED', 'over'));
  const later = new Work(turns, ['b']);
  for (const { ended, begun } of [waiting, later]) {
    assert.is(begun, false);
    assert.is(await ended.catch(({ code }) => code), 'ERR_STRAKE_CLOSED');
  }
  let over = false;
  const end = turns.ended().then(() => {
    over = true;
  });
  await settled();
  assert.is(over, false);
  going.end();
  await end;
});

check('whatever is asked for in whatever order is carried out, one by one for each key', [], async () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const random = new SimRandom(seed);
    // As a node does it: turns of devices are taken before those of volumes.
    const devices = new Turns();
    const volumes = new Turns();
    const held = new Set<string>();
    const going: (() => void)[] = [];
    const order = new Map<string, number[]>();
    const hold = (keys: readonly string[], number: number) => async () => {
      for (const key of keys) {
        assert.is(held.has(key), false, `seed ${seed}: ${key} is held twice`);
        held.add(key);
        order.set(key, [...(order.get(key) ?? []), number]);
      }
      await new Promise<void>((resolve) => going.push(resolve));
      for (const key of keys) held.delete(key);
    };
    const some = (prefix: string) => ['1', '2', '3'].filter(() => random.chance(0.5)).map((key) => prefix + key);
    const all: Promise<void>[] = [];
    for (let number = 0; number < 40; number += 1) {
      const keys = some('v');
      const work = () => volumes.take(keys, hold(keys, number));
      all.push(random.chance(0.3) ? devices.take(some('d'), work) : work());
      if (random.chance(0.3)) going.splice(random.below(Math.max(1, going.length)), 1)[0]?.();
      await settled();
    }
    while (going.length > 0) {
      going.splice(random.below(going.length), 1)[0]?.();
      await settled();
    }
    let over = 0;
    for (const one of all)
      void one.then(() => {
        over += 1;
      });
    await settled();
    assert.is(over, all.length, `seed ${seed}: some wait for ever`);
  }
});

/** A node of two devices, with a volume on each. */
async function twoVolumes() {
  const disks = [diskOf(64), diskOf(128)];
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  // Each goes to the device with most room.
  for (const name of ['large', 'small']) {
    const id = name === 'large' ? 'a'.repeat(32) : 'b'.repeat(32);
    const spec = { id, name, layout: 'single', copies: 1, createdMs: 1, sizeBytes: 100 * SLOT } as const;
    await sim.settle(sim.node.create(spec));
    if (name === 'large')
      for (let stripe = 0; stripe < 80; stripe += 1) {
        const engine = sim.node.engine('large');
        assert.is(
          await sim.settle(sim.begin((token) => engine.write(sim.area(0), 4096, stripe * SLOT, 0, token))),
          4096,
        );
      }
  }
  const deviceOf = (name: string) => sim.node.volume(name).stored.groups[0][0].deviceId;
  assert.equal(['large', 'small'].map(deviceOf), [deviceIdOf(1), deviceIdOf(0)]);
  return { sim, disks };
}

check('operations of a volume do not wait for those of another whose device does not answer', [], async () => {
  const { sim, disks } = await twoVolumes();
  disks[1].faults.add({ action: { kind: 'slow', byUs: 60_000_000 } });
  let deleted = false;
  const deletion = sim.node.delete('large').then(() => {
    deleted = true;
  });
  await sim.settle(sim.node.grow('small', 101 * SLOT));
  const third = { id: 'c'.repeat(32), name: 'third', layout: 'single', copies: 1, createdMs: 1 } as const;
  let made = false;
  void sim.node.create({ ...third, sizeBytes: SLOT }).then(() => {
    made = true;
  });
  await sim.settle(sim.node.delete('small'));
  assert.is(deleted, false);
  await sim.settle(deletion);
  await sim.loop.run(() => made);
  assert.equal(
    [...sim.node.volumes.values()].map(({ name }) => name),
    ['third'],
  );
  await sim.settle(sim.node.close());
});

check('a device is opened while another does not answer', [], async () => {
  const { sim, disks } = await twoVolumes();
  disks[1].faults.add({ action: { kind: 'slow', byUs: 60_000_000 } });
  let deleted = false;
  const deletion = sim.node.delete('large').then(() => {
    deleted = true;
  });
  const third = diskOf(16);
  await sim.format(third, 2);
  const entry = await sim.open(third);
  await sim.settle(sim.node.takeBack(entry));
  await sim.settle(sim.node.forget(deviceIdOf(2)));
  assert.is(deleted, false);
  await sim.settle(deletion);
  await sim.settle(sim.node.close());
});

check(
  'a name is free for a new volume when the old one has been deleted, also if both are asked for at once',
  [],
  async () => {
    const { sim } = await twoVolumes();
    const deletion = sim.node.delete('large');
    const spec = { id: 'c'.repeat(32), name: 'large', layout: 'single', copies: 1, createdMs: 1 } as const;
    const made = await sim.settle(sim.node.create({ ...spec, sizeBytes: SLOT }));
    await sim.settle(deletion);
    assert.is(sim.node.volume('large'), made);
    // Whoever waited for the old one does not get the new one.
    const first = sim.node.delete('large');
    const second = sim.node.grow('large', 2 * SLOT).catch(({ code }) => code);
    await sim.settle(first);
    assert.is(await sim.settle(second), 'ERR_STRAKE_NO_VOLUME');
    await sim.settle(sim.node.close());
  },
);

check(
  'a node that is being closed refuses what waits, and gives back the rest of a volume at the next start',
  [],
  async () => {
    const { sim, disks } = await twoVolumes();
    disks[1].faults.add({ action: { kind: 'slow', byUs: 1_000_000 } });
    const deletion = sim.node.delete('large').then(
      () => 'deleted',
      ({ code }) => code,
    );
    const waiting = sim.node.grow('large', 200 * SLOT).then(String, ({ code }) => code);
    const closed = sim.node.close();
    assert.is(await sim.settle(waiting), 'ERR_STRAKE_CLOSED');
    await sim.settle(closed);
    assert.is(await sim.settle(deletion), 'deleted');
    assert.is(
      await sim.settle(sim.node.grow('small', 200 * SLOT).then(String, ({ code }) => code)),
      'ERR_STRAKE_NO_VOLUME',
    );
  },
);

run();
