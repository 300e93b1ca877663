/**
 * Devices of a mirror fail in many ways while clients go on, are let go of, lose power and come back: no request fails, and
 * nothing that was acknowledged is lost. One device at a time: the others serve.
 */

import * as assert from 'uvu/assert';
import { EIO } from '#strake/core/errno.js';
import type { NodeDevice } from '#strake/node/node-device.js';
import type { SimDeviceSettings } from '#strake/sim/disk/device.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import type { FaultRule } from '#strake/sim/disk/faults.js';
import type { SimRandom } from '#strake/sim/world/random.js';
import { check, repetitions, run } from '../support/check.js';
import { SectorHistory } from '../support/sector-history.js';
import { SimLoad } from '../support/sim-load.js';
import { AREAS, deviceIdOf, SimNode } from '../support/sim-node.js';
import { diskOf, randomOf, SLOT } from '../support/sim-store.js';

const SEEDS = Number(process.env.STRAKE_SEEDS ?? repetitions(20, 5));
const SEED = Number(process.env.STRAKE_TEST_SEED ?? 1);
const CYCLES = 4;
/** Few, so that requests meet in them, and they are given back and allocated again and again. */
const SEGMENTS = 8;
/** Requests after which a device that only fails at times is cut off for good. */
const PATIENCE = 100;

const error = { kind: 'error', errno: EIO } as const;

/** Ways to fail; null stands for a device that has gone. */
const FAULTS: readonly (FaultRule | null)[] = [
  null,
  { ops: ['write', 'sync', 'discard', 'zero'], action: error },
  { probability: 0.5, action: error },
  { ops: ['write'], count: 1, action: error },
  { ops: ['sync'], count: 1, action: error },
  { ops: ['read'], action: error },
  { action: { kind: 'slow', byUs: 30_000 } },
];

/** Devices of one mirror may be much slower than others. */
function speed(random: SimRandom): SimDeviceSettings {
  const factor = random.pick([1, 1, 5, 20]);
  return { latencyUs: [20, 200 * factor], syncLatencyUs: [100, 1000 * factor] };
}

/** How a mirror is made. */
interface Shape {
  /** Devices are opened on another shard than the volume, or on its own, by chance. */
  readonly spread: boolean;
}

class Mirror {
  readonly sim: SimNode;
  readonly disks: SimDisk[];
  readonly load: SimLoad;
  readonly history: SectorHistory;
  private readonly random: SimRandom;
  private readonly shape: Shape;

  private constructor(sim: SimNode, disks: SimDisk[], seed: number, random: SimRandom, shape: Shape) {
    this.sim = sim;
    this.shape = shape;
    this.disks = disks;
    this.random = random;
    this.history = new SectorHistory(seed, SEGMENTS * SLOT);
    this.load = new SimLoad(sim, this.history, random.fork('load'), random.between(4, AREAS));
  }

  static async create(seed: number, shape: Shape): Promise<Mirror> {
    const random = randomOf(seed);
    const sim = new SimNode(seed);
    const disks = Array.from({ length: random.pick([2, 2, 2, 3]) }, () => diskOf(random.pick([80, 200])));
    for (const [number, disk] of disks.entries()) {
      await sim.format(disk, number);
      await Mirror.open(sim, disk, number, random, shape);
    }
    await sim.createMirror(disks.length, SEGMENTS);
    return new Mirror(sim, disks, seed, random, shape);
  }

  private static open(
    sim: SimNode,
    disk: SimDisk,
    number: number,
    random: SimRandom,
    { spread }: Shape,
  ): Promise<NodeDevice> {
    if (spread && random.chance(0.5)) return sim.openAway(disk, number, speed(random));
    return sim.open(disk, speed(random));
  }

  private degraded(): boolean {
    return this.sim.engine.status().state === 'degraded';
  }

  /** A device fails until the volume goes on without it. */
  async fail(disk: SimDisk): Promise<void> {
    const { load, random } = this;
    const fault = random.pick(FAULTS);
    if (fault === null) disk.vanished = true;
    else disk.faults.add(fault);
    const enough = load.answered + PATIENCE;
    await load.run(() => this.degraded() || load.answered > enough);
    disk.vanished = true;
    await load.run(() => this.degraded());
  }

  /** It is let go of, loses power, and comes back. */
  async bringBack(disk: SimDisk, number: number): Promise<void> {
    const { load, random, sim } = this;
    if (random.chance(0.5)) await load.reach(random.below(100));
    // That it cannot be closed in order does not matter any more.
    await sim.settle(sim.node.forget(deviceIdOf(number)).catch(({ code }) => assert.is(code, 'ERR_STRAKE_IO')));
    disk.powerCut(random);
    disk.faults.clear();
    disk.vanished = false;
    await load.reach(random.below(30));
    const entry = await Mirror.open(sim, disk, number, random, this.shape);
    await sim.settle(sim.node.takeBack(entry));
    await load.run(() => sim.engine.status().jobs.every(({ state }) => state !== 'running'));
    const { state, jobs } = sim.engine.status();
    assert.is(state, 'ok', JSON.stringify(jobs));
  }

  /** Every copy is right. */
  async verify(what: string): Promise<void> {
    await this.load.stop();
    for (let turn = 0; turn < 3; turn += 1) this.history.check(await this.load.content(), 'death', what);
    await this.sim.settle(this.sim.node.close());
  }
}

async function failOneByOne(shape: Shape): Promise<void> {
  for (let seed = SEED; seed < SEED + SEEDS; seed += 1) {
    const mirror = await Mirror.create(seed, shape);
    const { load } = mirror;
    const random = randomOf(-seed);
    try {
      for (let cycle = 0; cycle < CYCLES; cycle += 1) {
        await load.reach(random.between(1, 200));
        const number = random.below(mirror.disks.length);
        await mirror.fail(mirror.disks[number]);
        await mirror.bringBack(mirror.disks[number], number);
      }
      await mirror.verify(`seed ${seed}`);
    } catch (reason) {
      throw new Error(`seed ${seed}`, { cause: reason });
    }
  }
}

check('no request fails while devices of a mirror fail one by one, are let go of and come back', [], () =>
  failOneByOne({ spread: false }),
);

check('nor where devices are on another shard than the volume', [], () => failOneByOne({ spread: true }));

run();
