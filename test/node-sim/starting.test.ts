/** Volumes that are being started. */

import * as assert from 'uvu/assert';
import { SimDevice } from '#strake/sim/device.js';
import type { SimDisk } from '#strake/sim/disk.js';
import { hostMemoryBytes, SimHost } from '#strake/sim/host.js';
import { SimLoop } from '#strake/sim/loop.js';
import { NbdSession } from '#strake/sim/nbd-session.js';
import { formatDevice } from '#strake/store/open-store.js';
import { check, run } from '../support/check.js';
import { CLUSTER_ID, diskOf, SLOT } from '../support/sim-store.js';

const STORES = 2;

class World {
  readonly arena = new Uint8Array(hostMemoryBytes(STORES));
  readonly disk: SimDisk = diskOf(64);
  loop = new SimLoop({ seed: 1, arena: this.arena });
  host = new SimHost(this.loop, { storesMax: STORES });

  async format(): Promise<void> {
    const { loop } = this;
    const device = new SimDevice(loop, this.disk);
    const ports = { completions: loop, memory: loop, device, memoryStart: 0 };
    await loop.settle(
      formatDevice(ports, { deviceId: '01'.repeat(16), clusterId: CLUSTER_ID, slotBytes: SLOT, nowMs: 1 }),
    );
    device.close();
  }

  async open(): Promise<void> {
    await this.loop.settle(this.host.open(this.disk, 'disk'));
  }

  /** Closes everything, and begins again. */
  async restart(): Promise<void> {
    await this.loop.settle(this.host.close());
    this.loop = new SimLoop({ seed: 2, arena: this.arena, nowUs: this.loop.nowUs });
    this.host = new SimHost(this.loop, { storesMax: STORES });
    await this.open();
  }

  /** Whether an NBD client can use the volume of this name. */
  async isOffered(name: string): Promise<boolean> {
    const { host, loop } = this;
    let offered: boolean | undefined;
    const session = new NbdSession(host.transport.connect(host.listener), name, true, (state) => {
      offered ??= state;
    });
    await loop.run(() => offered !== undefined);
    session.finish();
    return offered === true;
  }
}

check('a volume that is being started is offered to nobody, and can be waited for', [], async () => {
  const world = new World();
  await world.format();
  await world.open();
  for (const [id, name] of [
    ['a', 'first'],
    ['b', 'second'],
  ] as const) {
    const spec = { id: id.repeat(32), name, layout: 'single', copies: 1, createdMs: 1, sizeBytes: SLOT } as const;
    await world.loop.settle(world.host.call('createVolume', spec));
  }
  await world.restart();
  const { host, loop, disk } = world;
  const { node } = host;
  disk.faults.add({ ops: ['sync'], action: { kind: 'slow', byUs: 1_000_000 } });
  const assembled = host.call('assemble', { without: {} });
  const engineOf = (name: string) => node.volumes.get(name)?.engine;
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

run();
