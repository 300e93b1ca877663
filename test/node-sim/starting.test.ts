/** Volumes that are being started. */

import * as assert from 'uvu/assert';
import { SimDevice } from '#strake/sim/disk/device.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { NbdSession } from '#strake/sim/net/nbd-session.js';
import { NodeProgram, programMemoryBytes } from '#strake/sim/trial/node-program.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { formatDevice } from '#strake/store/opening/format-device.js';
import { check, run } from '../support/check.js';
import { CLUSTER_ID, diskOf, SLOT } from '../support/sim-store.js';

const STORES = 2;

function specOf(id: string, name: string) {
  return { id: id.repeat(32), name, layout: 'single', copies: 1, createdMs: 1, sizeBytes: SLOT } as const;
}

class World {
  readonly arena = new Uint8Array(programMemoryBytes(STORES));
  readonly disk: SimDisk = diskOf(64);
  loop = new SimLoop({ seed: 1, arena: this.arena });
  host = new NodeProgram(this.loop, { storesMax: STORES });

  async format(disk = this.disk, deviceId = '01'.repeat(16)): Promise<void> {
    const { loop } = this;
    const device = new SimDevice(loop, disk);
    const ports = { completions: loop, memory: loop, device, memoryStart: 0 };
    await loop.settle(formatDevice(ports, { deviceId, clusterId: CLUSTER_ID, slotBytes: SLOT, nowMs: 1 }));
    device.close();
  }

  async open(): Promise<void> {
    await this.loop.settle(this.host.open(this.disk, 'disk'));
  }

  /** Closes everything, and begins again. */
  async restart(): Promise<void> {
    await this.loop.settle(this.host.close());
    this.loop = new SimLoop({ seed: 2, arena: this.arena, nowUs: this.loop.nowUs });
    this.host = new NodeProgram(this.loop, { storesMax: STORES });
    await this.open();
  }

  async create(id: string, name: string): Promise<void> {
    await this.loop.settle(this.host.call('createVolume', specOf(id, name)));
  }

  /** An NBD client of the volume of this name; undefined if it is not offered. */
  async connect(name: string): Promise<NbdSession | undefined> {
    const { host, loop } = this;
    let offered: boolean | undefined;
    const session = new NbdSession(host.transport.peer(host.listener), name, true, (state) => {
      offered ??= state;
    });
    await loop.run(() => offered !== undefined);
    return offered ? session : undefined;
  }

  async isOffered(name: string): Promise<boolean> {
    const session = await this.connect(name);
    session?.finish();
    return session !== undefined;
  }
}

check('a volume that is being started is offered to nobody, and can be waited for', [], async () => {
  const world = new World();
  await world.format();
  await world.open();
  await world.create('a', 'first');
  await world.create('b', 'second');
  await world.restart();
  const { host, loop, disk } = world;
  const { node } = host;
  disk.faults.add({ ops: ['sync'], action: { kind: 'slow', byUs: 1_000_000 } });
  const assembled = host.call('assemble', { without: new Map() });
  const engineOf = (name: string) => node.volumes.named(name).at(0)?.engine;
  await loop.run(() => engineOf('first')?.serving === true && engineOf('second')?.serving === false);
  // What is offered is looked at again after each call.
  await loop.settle(host.call('scrub', { name: 'first', bytesPerSecond: 0 }));
  assert.equal([await world.isOffered('first'), await world.isOffered('second')], [true, false]);
  assert.throws(() => node.engine('second'), /is being started/);
  const waited = node.started('second');
  assert.is(engineOf('second')?.serving, false);
  const engine = await loop.settle(waited);
  assert.ok(engine.serving);
  await loop.settle(assembled);
  assert.ok(await world.isOffered('second'));
  await loop.settle(host.close());
});

/** A node that has begun to start a volume: it knows the volume, and the device is too slow for an engine to be there. */
async function knownOnly() {
  const world = new World();
  await world.format();
  await world.open();
  await world.create('a', 'first');
  await world.restart();
  const { host, loop, disk } = world;
  disk.faults.add({ ops: ['sync'], action: { kind: 'slow', byUs: 1_000_000 } });
  const assembled = host.call('assemble', { without: new Map() });
  await loop.run(() => host.node.volumes.size === 1);
  return { host, loop, assembled };
}

check('a volume can be waited for before it has an engine', [], async () => {
  const { host, loop, assembled } = await knownOnly();
  assert.is(host.node.volumes.named('first').at(0)?.engine, null);
  assert.ok((await loop.settle(host.node.started('first'))).serving);
  await loop.settle(assembled);
  await loop.settle(host.close());
});

check('a volume whose start is on its way when the node begins to close is not served', [], async () => {
  const { host, loop, assembled } = await knownOnly();
  host.node.endWork();
  await loop.settle(assembled);
  const [volume] = host.node.volumes.named('first');
  assert.equal([volume.engine, volume.reason], [null, 'the node is being closed']);
  await loop.settle(host.close());
});

check('a volume that somebody uses by the turn of its deletion is not deleted', [], async () => {
  const world = new World();
  await world.format();
  await world.open();
  for (const [id, name] of [
    ['a', 'first'],
    ['b', 'other'],
  ] as const)
    await world.create(id, name);
  const { host, loop, disk } = world;
  disk.faults.add({ ops: ['sync'], action: { kind: 'slow', byUs: 1_000_000 } });
  const growing = host.call('growVolume', { name: 'first', sizeBytes: 2 * SLOT });
  const deleting = host.call('deleteVolume', { name: 'first' }).then(
    () => '',
    (error: { code: string }) => error.code,
  );
  await loop.settle(host.call('scrub', { name: 'other', bytesPerSecond: 0 }));
  const session = await world.connect('first');
  assert.ok(session?.serving);
  await loop.settle(growing);
  assert.is(await loop.settle(deleting), 'ERR_STRAKE_VOLUME_BUSY');
  assert.ok(session.serving);
  session.finish();
  await loop.run(() => host.service.stats().connections === 0);
  await loop.settle(host.call('deleteVolume', { name: 'first' }));
  assert.is(await world.connect('first'), undefined);
  await loop.settle(host.close());
});

check('who is connected to a volume that ends is let go, and it is offered to nobody at once', [], async () => {
  const world = new World();
  await world.format();
  await world.open();
  for (const [id, name] of [
    ['a', 'first'],
    ['b', 'other'],
  ] as const)
    await world.create(id, name);
  const { host, loop } = world;
  const [session, other] = [await world.connect('first'), await world.connect('other')];
  assert.ok(session?.serving && other?.serving);
  const ended = host.node.volumes.named('first').at(0)?.engine?.close();
  assert.is(await world.connect('first'), undefined);
  await loop.run(() => host.service.stats().connections === 1);
  await loop.settle(ended as Promise<void>);
  assert.not.ok(session.serving);
  assert.ok(other.serving);
  other.finish();
  await loop.run(() => host.service.stats().connections === 0);
});

check('devices that are opened side by side stay in the order in which they were asked for', [], async () => {
  const world = new World();
  await world.format();
  const second = diskOf(64);
  await world.format(second, '02'.repeat(16));
  const { host, loop, disk } = world;
  disk.faults.add({ ops: ['read'], action: { kind: 'slow', byUs: 1_000_000 } });
  const opened: string[] = [];
  const openings = [disk, second].map(async (one, at) => {
    await host.open(one, `disk${at}`);
    opened.push(`disk${at}`);
  });
  await loop.settle(Promise.all(openings));
  assert.equal(opened, ['disk1', 'disk0']);
  assert.equal(
    [...host.node.stores.values()].map(({ path }) => path),
    ['disk0', 'disk1'],
  );
  await loop.settle(host.close());
});

run();
