/** What clients discard while a copy is away is given back once all copies are current, and what they asked to keep is kept. */

import * as assert from 'uvu/assert';
import { EIO, ENOSPC } from '#strake/core/errno.js';
import { DEVICE_KEEP_ALLOCATED } from '#strake/ports/device.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import type { SegmentStore } from '#strake/store/segment-store.js';
import { check, run } from '../support/check.js';
import { DirectMember } from '../support/direct-member.js';
import { deviceIdOf, SimNode, VOLUME_NAME } from '../support/sim-node.js';
import { BLOCK, diskOf, randomOf, SLOT } from '../support/sim-store.js';

const STRIPES = 8;
const SIZE = STRIPES * SLOT;

/** The volume's part of a store. */
function directMember({ loop }: SimNode, store: SegmentStore): DirectMember {
  return new DirectMember(loop, store, store.volumeTable.indexOf('a'.repeat(32), 0));
}

class World {
  sim: SimNode;
  readonly disks: SimDisk[] = [];
  private lives = 1;

  constructor() {
    this.sim = new SimNode(1);
  }

  /** A volume with something in each of its segments. */
  static async make(devices: number, copies = devices, slots = 40): Promise<World> {
    const world = new World();
    for (let number = 0; number < devices; number += 1) {
      const disk = diskOf(slots);
      world.disks.push(disk);
      await world.sim.format(disk, number);
      if (number < copies) await world.sim.open(disk);
    }
    const layout = copies === 1 ? 'single' : 'mirror';
    const spec = { id: 'a'.repeat(32), name: VOLUME_NAME, layout, copies, createdMs: 1 } as const;
    await world.sim.settle(world.sim.node.create({ ...spec, sizeBytes: SIZE }));
    await world.fill(1);
    return world;
  }

  async fill(value: number): Promise<void> {
    for (let stripe = 0; stripe < STRIPES; stripe += 1) {
      for (const block of [0, 5, 15]) assert.is(await this.sim.write(stripe, block, value), BLOCK);
    }
  }

  discard(from = 0, length = SIZE): Promise<number> {
    return this.sim.settle(this.sim.begin((token) => this.sim.engine.discardRange(from, length, 0, token)));
  }

  zero(from: number, length: number, flags: number): Promise<number> {
    return this.sim.settle(this.sim.begin((token) => this.sim.engine.zero(from, length, flags, token)));
  }

  /** A device is gone, and the volume goes on without it. */
  async lose(number: number): Promise<void> {
    const { sim } = this;
    this.disks[number].vanished = true;
    assert.is(await sim.write(0, 1, 9), BLOCK);
    await sim.loop.run(() => sim.states()[number] === 'offline');
    await sim.settle(sim.node.forget(deviceIdOf(number)));
  }

  /** It is there again, and being brought up to date. */
  async comeBack(number: number): Promise<void> {
    const { sim } = this;
    const disk = this.disks[number];
    if (disk.vanished) disk.powerCut(randomOf(1));
    disk.vanished = false;
    await sim.settle(sim.node.takeBack(await sim.open(disk)));
  }

  /** The process dies, and another one starts with these devices. */
  async restart(numbers: readonly number[], kill = true): Promise<void> {
    if (!kill) await this.sim.settle(this.sim.node.close());
    else {
      this.sim.loop.kill();
      for (const disk of this.disks) disk.kill(randomOf(this.lives));
    }
    this.lives += 1;
    this.sim = new SimNode(this.lives);
    for (const number of numbers) await this.sim.open(this.disks[number]);
    await this.sim.assemble();
  }

  get used(): number {
    return this.sim.node.volumeReports()[0].usedSlots;
  }

  /** All copies are current, and take so many slots all together. */
  async expect(used: number): Promise<void> {
    await this.sim.jobsEnded();
    const { state, jobs } = this.sim.engine.status();
    assert.is(state, 'ok', JSON.stringify(jobs));
    await this.sim.settle(this.sim.engine.releaseDiscarded());
    assert.is(this.used, used);
    const devices = this.sim.node.deviceStatus().reduce((sum, { usedSlots }) => sum + usedSlots, 0);
    assert.is(devices, used, 'devices and volumes count the same');
    await this.sim.settle(this.sim.node.close());
  }
}

const PIECES = [
  { name: 'at once', step: SIZE },
  { name: 'block by block', step: BLOCK },
  { name: 'in pieces of another size than segments', step: 7 * BLOCK },
];

for (const { name, step } of PIECES) {
  check(`what is discarded while a copy is away is given back when it is current: ${name}`, [], async () => {
    const world = await World.make(2);
    await world.lose(1);
    for (let at = 0; at < SIZE; at += step) assert.is(await world.discard(at, Math.min(step, SIZE - at)), 0);
    assert.is(world.used, STRIPES, 'the copy that is away has to learn of it first');
    await world.comeBack(1);
    await world.expect(0);
  });

  check(`what is discarded of a whole mirror is given back with the next flush: ${name}`, [], async () => {
    const world = await World.make(2);
    for (let at = 0; at < SIZE; at += step) assert.is(await world.discard(at, Math.min(step, SIZE - at)), 0);
    await world.expect(0);
  });
}

check('what still holds something stays, and reads as before', [], async () => {
  const world = await World.make(2);
  await world.lose(1);
  assert.is(await world.discard(0, SIZE - 2 * SLOT - BLOCK), 0);
  await world.comeBack(1);
  await world.sim.jobsEnded();
  assert.is(await world.sim.read(STRIPES - 3, 15), 1);
  assert.is(await world.sim.read(STRIPES - 3, 5), 0);
  assert.is(await world.sim.read(STRIPES - 1, 5), 1);
  await world.expect(6);
});

check('space that was asked to be kept stays, whoever was away, until it is discarded', [], async () => {
  const world = await World.make(2);
  await world.lose(1);
  assert.is(await world.zero(0, 2 * SLOT, DEVICE_KEEP_ALLOCATED), 0);
  assert.is(await world.zero(2 * SLOT, SIZE - 2 * SLOT, 0), 0);
  await world.comeBack(1);
  await world.sim.jobsEnded();
  assert.is(world.used, 4);
  assert.is(await world.discard(0, 4 * BLOCK), 0);
  assert.is(world.used, 4, 'the rest of it is kept');
  await world.restart([0, 1]);
  await world.sim.jobsEnded();
  assert.is(world.used, 4);
  const scrub = world.sim.engine.scrub();
  await world.sim.settle(scrub.ended);
  assert.is(world.used, 4);
  assert.is(await world.discard(0, 2 * SLOT), 0);
  await world.expect(0);
});

check('of three copies two are away, and come back one after the other', [], async () => {
  const world = await World.make(3);
  await world.lose(1);
  assert.is(await world.discard(0, SIZE / 2), 0);
  await world.lose(2);
  assert.is(await world.discard(SIZE / 2, SIZE / 2), 0);
  assert.is(await world.discard(0, SIZE / 2), 0);
  await world.comeBack(2);
  await world.sim.jobsEnded();
  assert.ok(world.used > 0);
  await world.comeBack(1);
  await world.expect(0);
});

check('the device that was lost is replaced by another', [], async () => {
  const world = await World.make(3, 2);
  await world.lose(1);
  assert.is(await world.discard(), 0);
  const entry = await world.sim.open(world.disks[2]);
  await world.sim.settle(world.sim.node.replace(deviceIdOf(1), entry));
  await world.expect(0);
});

for (const kill of [true, false]) {
  const how = kill ? 'dies' : 'is stopped';
  check(`the node ${how} while a copy is away, which is back at the next start`, [], async () => {
    const world = await World.make(2);
    await world.lose(1);
    assert.is(await world.discard(), 0);
    world.disks[1].powerCut(randomOf(2));
    world.disks[1].vanished = false;
    await world.restart([0, 1], kill);
    await world.expect(0);
  });

  check(`the node ${how} when the copy has just become current`, [], async () => {
    for (const batches of [0, 1, 3, 10, 30]) {
      const world = await World.make(2);
      await world.lose(1);
      assert.is(await world.discard(), 0);
      await world.comeBack(1);
      const { sim } = world;
      await sim.loop.run(() => sim.states()[1] === 'in-sync');
      let left = batches;
      await sim.loop.run(() => left-- === 0);
      await world.restart([0, 1], kill);
      await world.expect(0);
    }
  });
}

check('discards while the copy is being brought up to date', [], async () => {
  const world = await World.make(2);
  await world.lose(1);
  await world.fill(2);
  await world.comeBack(1);
  const { sim } = world;
  await sim.loop.run(() => sim.states()[1] === 'syncing');
  for (let at = 0; at < SIZE; at += SLOT) assert.is(await world.discard(at, SLOT), 0);
  await world.expect(0);
});

check('a copy leaves while slots are being given back, and comes back', [], async () => {
  const world = await World.make(2);
  await world.lose(1);
  assert.is(await world.discard(), 0);
  await world.comeBack(1);
  const { sim } = world;
  await sim.loop.run(() => world.used > 0 && world.used < 2 * STRIPES && sim.states()[1] === 'in-sync');
  await world.lose(1);
  assert.is(await world.discard(), 0);
  await world.comeBack(1);
  await world.expect(0);
});

check('a discard fails on one copy', [], async () => {
  const world = await World.make(2);
  const { sim } = world;
  const [{ superblock }] = sim.node.stores.values();
  const { journalOffset: start, dataOffset: end } = superblock.layout;
  world.disks[1].faults.add({ ops: ['write'], start, end, action: { kind: 'error', errno: EIO } });
  assert.is(await world.discard(), 0);
  await sim.loop.run(() => sim.states()[1] === 'offline');
  world.disks[1].vanished = true;
  await sim.settle(sim.node.forget(deviceIdOf(1)).catch(({ code }) => assert.is(code, 'ERR_STRAKE_IO')));
  world.disks[1].faults.clear();
  await world.comeBack(1);
  await world.expect(0);
});

check('full devices have room again, for other volumes too', [], async () => {
  const world = await World.make(2, 2, STRIPES);
  const { sim } = world;
  const [{ superblock }] = sim.node.stores.values();
  const { slots } = superblock.layout;
  const spec = { id: 'b'.repeat(32), name: 'w', layout: 'mirror', copies: 2, createdMs: 1 } as const;
  await sim.settle(sim.node.create({ ...spec, sizeBytes: slots * SLOT }));
  const fill = async (stripe: number) =>
    sim.settle(sim.begin((token) => sim.node.engine('w').write(sim.area(0), BLOCK, stripe * SLOT, 0, token)));
  const full = slots - STRIPES;
  for (let stripe = 0; stripe < full; stripe += 1) assert.is(await fill(stripe), BLOCK);
  assert.is(await fill(full), -ENOSPC);
  world.disks[1].vanished = true;
  assert.is(await fill(0), BLOCK);
  await world.lose(1);
  assert.is(await world.discard(), 0);
  await world.comeBack(1);
  const engines = [sim.engine, sim.node.engine('w')];
  const busy = () => engines.some((engine) => engine.status().jobs.some(({ state }) => state === 'running'));
  await sim.loop.run(() => !busy());
  for (let stripe = full; stripe < slots; stripe += 1) assert.is(await fill(stripe), BLOCK);
  await sim.settle(sim.node.close());
});

check('a volume that has grown meanwhile', [], async () => {
  const world = await World.make(2);
  const { sim } = world;
  await world.lose(1);
  await sim.settle(sim.node.grow(VOLUME_NAME, SIZE + 4 * SLOT));
  assert.is(await sim.write(STRIPES + 2, 3, 4), BLOCK);
  assert.is(await world.discard(0, SIZE + 4 * SLOT), 0);
  await world.comeBack(1);
  await world.expect(0);
});

check('a volume that was deleted while a device was away takes nothing there when it is back', [], async () => {
  const world = await World.make(2);
  const { sim } = world;
  await world.lose(1);
  await sim.settle(sim.node.delete(VOLUME_NAME));
  await world.comeBack(1);
  assert.equal(
    sim.node.deviceStatus().map(({ usedSlots }) => usedSlots),
    [0, 0],
  );
  await sim.settle(sim.node.close());
});

check('the process dies in the middle of a discard, and what is left of it can be discarded', [], async () => {
  for (const copies of [1, 2]) {
    for (let batches = 0; batches < 8; batches += 1) {
      const world = await World.make(copies);
      const { sim } = world;
      void sim.begin((token) => sim.engine.discardRange(0, SIZE, 0, token));
      let left = batches;
      await sim.loop.run(() => left-- === 0);
      await world.restart(copies === 1 ? [0] : [0, 1]);
      assert.is(await world.discard(), 0);
      await world.expect(0);
    }
  }
});

check('slots for writes that a crash cut off before anything was written are given back', [], async () => {
  for (const copies of [1, 2]) {
    for (let batches = 0; batches < 8; batches += 1) {
      const world = await World.make(copies);
      assert.is(await world.discard(), 0);
      const { sim } = world;
      for (let stripe = 0; stripe < STRIPES; stripe += 1) {
        void sim.begin((token) => sim.engine.write(sim.area(stripe), BLOCK, stripe * SLOT, 0, token));
      }
      let left = batches;
      await sim.loop.run(() => left-- === 0);
      await world.restart(copies === 1 ? [0] : [0, 1]);
      let written = 0;
      for (const { store } of world.sim.node.stores.values()) {
        const member = directMember(world.sim, store);
        for (const { stripe } of member.segments()) {
          const entries = await world.sim.settle(member.entries(stripe));
          assert.ok(
            entries.some((word) => word !== 0),
            `segment ${stripe} has content after ${batches} batches`,
          );
          written += 1;
        }
      }
      await world.expect(written);
    }
  }
});

check('a scrub gives back slots without content', [], async () => {
  const world = await World.make(2);
  const { sim } = world;
  // As older versions have left them.
  for (const { store } of sim.node.stores.values()) {
    const member = directMember(sim, store);
    for (let stripe = 0; stripe < STRIPES; stripe += 1) {
      const zero = sim.begin((token) => member.zero(stripe, 0, SLOT / BLOCK, false, 9, 1 << 8, 0, token));
      assert.is(await sim.settle(zero), 0);
    }
  }
  const scrub = sim.engine.scrub();
  await sim.settle(scrub.ended);
  assert.is(scrub.progress.state, 'done');
  await world.expect(0);
});

run();
