/** Deleted volumes: any number of them, none of which comes back, and none of which keeps its place for ever. */

import * as assert from 'uvu/assert';
import { EIO } from '#strake/core/errno.js';
import type { StrakeError } from '#strake/core/errors.js';
import { replicaOf } from '#strake/layout/replica-map.js';
import { NO_CLIENT, NO_DEVICE } from '#strake/layout/volume-map.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { check, run } from '../support/check.js';
import { fsck } from '../support/damaged-store.js';
import { deviceIdOf, SimNode, VOLUME_NAME } from '../support/sim-node.js';
import { diskOf, randomOf, SLOT } from '../support/sim-store.js';

/** More than a device has pages for, twice over. */
const MANY = 600;
const STRIPES = 4;

let lastId = 0;

/** Ids are never used again. */
function newId(): string {
  lastId += 1;
  return lastId.toString().padStart(32, 'c');
}

class World {
  readonly disks: SimDisk[] = [];
  sim = new SimNode(1);
  private lives = 1;

  static async of(count: number): Promise<World> {
    const world = new World();
    for (let number = 0; number < count; number += 1) {
      const disk = diskOf(16);
      world.disks.push(disk);
      await world.sim.format(disk, number);
      await world.sim.open(disk);
    }
    return world;
  }

  get node() {
    return this.sim.node;
  }

  /** Opens these devices in a new life, after an orderly end or a kill of the last one. */
  async again(
    which: readonly number[],
    without: readonly string[] = [],
    end: 'close' | 'kill' = 'close',
  ): Promise<void> {
    if (end === 'close') await this.sim.settle(this.node.close());
    else for (const disk of this.disks) disk.kill(randomOf(this.lives));
    this.lives += 1;
    this.sim = new SimNode(this.lives);
    for (const number of which) await this.sim.open(this.disks[number]);
    await this.sim.assemble(without);
  }

  create(name = VOLUME_NAME, layout: 'single' | 'mirror' = 'mirror') {
    const copies = layout === 'single' ? 1 : 2;
    const spec = { id: newId(), name, layout, copies, createdMs: 1, sizeBytes: STRIPES * SLOT };
    return this.sim.settle(this.node.create(spec));
  }

  async delete(name = VOLUME_NAME): Promise<void> {
    await this.sim.settle(this.node.delete(name));
  }

  async fill(value: number): Promise<void> {
    for (let stripe = 0; stripe < STRIPES; stripe += 1) assert.is(await this.sim.write(stripe, 0, value), 4096);
    assert.is(await this.sim.flush(), 0);
  }

  async turnOver(times: number): Promise<void> {
    for (let time = 0; time < times; time += 1) {
      await this.create();
      await this.delete();
    }
  }

  /** A device comes back to the running node. */
  async back(number: number): Promise<void> {
    await this.sim.settle(this.node.takeBack(await this.sim.open(this.disks[number])));
  }

  store(number: number) {
    const entry = this.node.stores.get(deviceIdOf(number));
    assert.ok(entry);
    return entry.store;
  }

  /** How many volumes a device knows that are deleted, or are not. */
  known(number: number, deleted: boolean): number {
    return this.store(number).replicas.filter((replica) => replica?.volume.deleted === deleted).length;
  }

  usedSlots(): number[] {
    return this.node.deviceStatus().map(({ usedSlots }) => usedSlots);
  }
}

function refusal(world: World, work: Promise<unknown>): Promise<StrakeError> {
  return world.sim.settle(work).then(
    () => Promise.reject(new Error('it was not refused')),
    (error: StrakeError) => error,
  );
}

check('volumes are made and deleted any number of times', async () => {
  const world = await World.of(2);
  await world.create('kept');
  for (let time = 0; time < MANY; time += 1) {
    await world.create();
    if (time % 50 === 0) await world.fill(time + 1);
    if (time % 150 === 149) await world.again([0, 1], [], time % 300 === 149 ? 'close' : 'kill');
    await world.delete();
  }
  await world.create();
  await world.fill(7);
  await world.again([0, 1]);
  assert.equal([...world.node.volumes.values()].map(({ name }) => name).toSorted(), ['kept', VOLUME_NAME].toSorted());
  for (let stripe = 0; stripe < STRIPES; stripe += 1) assert.is(await world.sim.read(stripe, 0), 7);
  assert.equal(world.usedSlots(), [STRIPES, STRIPES]);
  assert.equal(world.node.awaitedDevices(), []);
  await world.sim.settle(world.node.close());
  for (const disk of world.disks) assert.is((await fsck(disk)).verdict, 'clean');
});

check('a volume that is deleted while a device is away does not come back with it', async () => {
  const world = await World.of(2);
  await world.create();
  await world.fill(1);
  await world.again([0], [deviceIdOf(1)]);
  await world.delete();
  assert.equal(world.node.awaitedDevices(), [{ deviceId: deviceIdOf(1), volumes: 1 }]);
  // The note outlasts whatever happens to other volumes, and a crash.
  for (let time = 0; time < VOLUMES_MAX; time += 1) {
    await world.create('other', 'single');
    await world.delete('other');
  }
  await world.again([0], [], 'kill');
  // One of the same name is another volume.
  await world.create(VOLUME_NAME, 'single');
  await world.back(1);
  assert.equal(world.node.awaitedDevices(), []);
  assert.is(world.node.volumes.size, 1);
  assert.equal(world.usedSlots(), [0, 0]);
  await world.delete();
  await world.again([1]);
  assert.is(world.node.volumes.size, 0);
  await world.sim.settle(world.node.close());
});

/** Pages that the smallest devices have for replicas. */
const VOLUMES_MAX = 256;

const SPEC = { name: VOLUME_NAME, layout: 'single', copies: 1, createdMs: 1, sizeBytes: SLOT } as const;

/** Puts notes on a device, of volumes that it had together with device 1 or another. */
async function putNotes(world: World, number: number, count: number, other = deviceIdOf(1)): Promise<void> {
  const member = {
    state: 'in-sync',
    since: { generation: 0, flushNumber: 0 },
    incarnation: 0,
    flushNumber: 0,
    joined: 1,
  } as const;
  const groups = [[deviceIdOf(number), other].map((deviceId) => ({ ...member, deviceId }))];
  const map = {
    name: 'gone',
    headerVersion: 0,
    holder: NO_CLIENT,
    lease: 'released',
    createdMs: 1,
    sizeBytes: SLOT,
    layout: 'mirror',
    copies: 2,
    segmentBytes: SLOT,
  } as const;
  for (let put = 0; put < count; put += 1) {
    const note = { ...map, id: newId(), versions: [9], generation: 1, deleted: true, groups };
    assert.ok((await world.sim.settle(world.store(number).putReplica(replicaOf(note, 0)))) >= 0);
  }
}

for (const end of ['back', 'given up', 'kept away'] as const) {
  check(`notes that fill a device: what they wait for is ${end}`, async () => {
    const world = await World.of(2);
    await world.again([0]);
    await putNotes(world, 0, VOLUMES_MAX);
    assert.equal(world.node.awaitedDevices(), [{ deviceId: deviceIdOf(1), volumes: VOLUMES_MAX }]);
    const before = JSON.stringify(world.store(0).replicas);
    const error = await refusal(world, world.node.create({ ...SPEC, id: newId() }));
    assert.is(error.code, 'ERR_STRAKE_NO_SPACE');
    for (const part of [VOLUME_NAME, 'device disk', deviceIdOf(1)])
      assert.ok(error.message.includes(part), error.message);
    assert.ok(error.remedy.endsWith(`strake device forget ${deviceIdOf(1)}`), error.remedy);
    assert.is(JSON.stringify(world.store(0).replicas), before);
    if (end === 'kept away') {
      await world.sim.settle(world.node.close());
      return;
    }
    if (end === 'back') await world.back(1);
    else assert.is(await world.sim.settle(world.node.giveUp(deviceIdOf(1))), VOLUMES_MAX);
    assert.equal(world.node.awaitedDevices(), []);
    // That it has been given up is not forgotten.
    await world.again(end === 'back' ? [0, 1] : [0], [], 'kill');
    assert.equal(world.node.awaitedDevices(), []);
    await world.create(VOLUME_NAME, 'single');
    if (end === 'given up') {
      const named = world.store(0).replicas.flatMap((replica) => replica?.members ?? []);
      assert.ok(named.every(({ deviceId }) => [deviceIdOf(0), NO_DEVICE].includes(deviceId)));
    }
    await world.sim.settle(world.node.close());
  });
}

check('a device that is here is not given up', async () => {
  const world = await World.of(2);
  const error = await refusal(world, world.node.giveUp(deviceIdOf(1)));
  assert.is(error.code, 'ERR_STRAKE_VOLUME_BUSY');
  assert.is(await world.sim.settle(world.node.giveUp('f'.repeat(32))), 0);
  await world.sim.settle(world.node.close());
});

check('a device in a drawer does not start a volume that the others have forgotten', async () => {
  const world = await World.of(3);
  await world.again([0, 2]);
  await world.create();
  await world.fill(1);
  await world.again([0], [deviceIdOf(2)]);
  await world.sim.settle(world.node.replace(deviceIdOf(2), await world.sim.open(world.disks[1])));
  await world.sim.jobsEnded();
  await world.delete();
  // Device 2 has been replaced, so nothing waits for it, and its volume is forgotten by and by.
  assert.equal(world.node.awaitedDevices(), []);
  for (let time = 0; time < VOLUMES_MAX; time += 1) {
    await world.create('other');
    await world.delete('other');
  }
  await world.back(2);
  const report = world.node.volumeReports().find(({ stored }) => stored.name === VOLUME_NAME);
  assert.is(report?.status, null);
  assert.ok(report?.unproven);
  assert.ok(report?.reason.includes(deviceIdOf(0)), report?.reason);
  await world.again([0, 1, 2]);
  assert.throws(() => world.sim.engine, /does not know it/);
  // It is there for those who want it, and can be deleted.
  await world.again([0, 1, 2], [deviceIdOf(0)]);
  assert.is(await world.sim.read(0, 0), 1);
  await world.delete();
  assert.equal(world.usedSlots(), [0, 0, 0]);
  await world.sim.settle(world.node.close());
});

check('a deletion that one device has not stored yet is not forgotten by another', async () => {
  const world = await World.of(2);
  await world.create();
  for (const number of [0, 1]) await putNotes(world, number, VOLUMES_MAX - 1, deviceIdOf(5));
  const { id } = world.node.volume(VOLUME_NAME).stored;
  world.disks[1].faults.add({ ops: ['sync'], action: { kind: 'slow', byUs: 1_000_000 } });
  const deleting = world.node.delete(VOLUME_NAME);
  await world.sim.loop.run(() => world.store(0).volumeTable.isGone(id));
  assert.is(world.store(1).replicas[0]?.volume.deleted, true, 'it is on its way');
  assert.not(world.store(0).volumeTable.hasRoom);
  world.disks[1].faults.clear();
  await world.sim.settle(deleting);
  assert.ok(world.store(0).volumeTable.hasRoom);
  await world.create();
  assert.not(world.store(0).volumeTable.hasRoom);
  await world.sim.settle(world.node.close());
});

check('a device that fails during a deletion keeps nothing from the others, and is awaited', async () => {
  const world = await World.of(2);
  await world.create();
  await world.fill(1);
  world.disks[1].faults.add({ ops: ['sync'], action: { kind: 'error', errno: EIO } });
  await world.delete();
  assert.equal(world.node.awaitedDevices(), [{ deviceId: deviceIdOf(1), volumes: 1 }]);
  assert.is(world.store(0).slots.usedSlots, 0);
  await world.create(VOLUME_NAME, 'single');
  world.disks[1].faults.clear();
  await world.again([0, 1], [], 'kill');
  assert.equal(world.node.awaitedDevices(), []);
  assert.equal(world.usedSlots(), [0, 0]);
  assert.is(world.node.volumes.size, 1);
  await world.sim.settle(world.node.close());
});

check('what a crash has left of a deleted volume is given back at the next start', async () => {
  const world = await World.of(2);
  await world.create();
  await world.fill(1);
  for (const disk of world.disks) disk.faults.add({ ops: ['sync'], action: { kind: 'slow', byUs: 100_000 } });
  void world.node.delete(VOLUME_NAME);
  await world.sim.loop.run(() =>
    [0, 1].every((number) => world.store(number).volumeTable.isGone(world.store(number).replicas[0]?.volume.id ?? '')),
  );
  for (const disk of world.disks) disk.faults.clear();
  await world.again([0, 1], [], 'kill');
  assert.equal([world.node.volumes.size, ...world.usedSlots()], [0, 0, 0]);
  await world.sim.settle(world.node.close());
});

check('volumes that could not be made leave nothing that keeps others from being made', async () => {
  const world = await World.of(2);
  for (let at = 0; at < 32; at += 1) await world.create(`v${at}`, 'single');
  const before = world.known(0, true) + world.known(1, true);
  for (let time = 0; time < VOLUMES_MAX; time += 1) {
    assert.is((await refusal(world, world.node.create({ ...SPEC, id: newId() }))).code, 'ERR_STRAKE_BUSY');
  }
  assert.is(world.known(0, true) + world.known(1, true), before);
  await world.delete('v0');
  await world.create(VOLUME_NAME, 'single');
  await world.sim.settle(world.node.close());
});

run();
