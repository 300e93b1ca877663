/**
 * A manager that decides, asked over the wire while connections break and it is killed and started anew: each call does what it
 * asks for once, however often it had to be sent.
 */

import * as assert from 'uvu/assert';
import type { ManagerSession } from '#strake/client/manager/manager-session.js';
import { memberOffline } from '#strake/layout/map-changes.js';
import { type ReplicaMap, replicaOf, volumeOf } from '#strake/layout/replica-map.js';
import { foundCluster } from '#strake/manager/found.js';
import { Manager } from '#strake/manager/manager.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { SimTimers } from '#strake/sim/world/timers.js';
import { CallWorld, KEY_SEED, type ServingManager } from '../support/call-world.js';
import { check, repetitions, run } from '../support/check.js';
import { CLUSTER, EPOCH, FakeStorageNode, idOf, MemoryMetaStore } from '../support/manager-world.js';

const CLIENT = 'e'.repeat(32);
const KEY = new SimKey(KEY_SEED, new SimRandom(1));

/** A store of a process, which dies with it; a commit takes a while, and is done or not when the process dies amid it. */
class DyingStore extends MemoryMetaStore {
  private readonly pause: () => Promise<void>;

  constructor(before: MemoryMetaStore, pause: () => Promise<void>) {
    super(before.contents());
    this.pause = pause;
  }

  override async commit(batch: Parameters<MemoryMetaStore['commit']>[0]): Promise<void> {
    await this.pause();
    await super.commit(batch);
    await this.pause();
  }
}

/** A cluster of two nodes whose manager is asked over the wire. */
class Decided {
  readonly world: CallWorld;
  readonly nodes = [new FakeStorageNode('a', 1), new FakeStorageNode('b', 1)];
  private readonly random: SimRandom;
  private store = new MemoryMetaStore();
  private serving: ServingManager | null = null;
  restarts = 0;

  constructor(seed: number) {
    this.world = new CallWorld(seed);
    this.random = new SimRandom(seed).fork('test');
  }

  async begin(): Promise<void> {
    await foundCluster(this.store, { clusterId: CLUSTER });
    await this.start();
  }

  private async start(): Promise<void> {
    const { world, random } = this;
    let manager: Manager | null = null;
    const calls = new Proxy({} as Manager, { get: (_, name) => Reflect.get(manager as Manager, name).bind(manager) });
    const serving = world.prepare(calls);
    const { process } = serving;
    const timers = new SimTimers(world.world.time, process);
    const store = new DyingStore(this.store, () => timers.pause(random.below(2000)));
    this.store = store;
    manager = await Manager.open({
      ...{ store, clock: process, completions: process, key: KEY, wallNowMs: () => 1 },
      onStepDown: (error) => {
        throw error;
      },
    });
    for (const node of this.nodes) await node.register(manager);
    serving.listen();
    this.serving = serving;
  }

  /** Breaks the connection, or kills the manager and starts another on what is durable. */
  async harm(): Promise<void> {
    const { world, random } = this;
    await world.pauseOnly(random.below(30_000));
    if (random.chance(0.7)) {
      world.network.reset(world.clientHost, world.managerHost);
      return;
    }
    this.serving?.process.kill();
    this.restarts += 1;
    await this.start();
  }

  /** Members store maps and answer them, and the client tells the manager. */
  async members(maps: readonly ReplicaMap[], session: ManagerSession): Promise<void> {
    const devices = this.nodes.flatMap((node) => node.members);
    for (const map of maps) {
      const { group, mapVersion, volume } = map;
      const inSync = map.members.filter(({ state }) => state === 'in-sync');
      const stored = inSync.map((member) => devices.find(({ deviceId }) => deviceId === member.deviceId));
      const answers = inSync.map(({ deviceId }) => ({ deviceId, incarnation: 1 }));
      // What is stored the next manager hears of the nodes: it does not know what the one before it was told.
      for (const device of stored) device?.store(map);
      await session.stored({ volumeId: volume.id, group, mapVersion, answers });
    }
  }
}

/** The life of a volume, as its client asks for it. */
async function life(cluster: Decided, session: ManagerSession, random: SimRandom): Promise<void> {
  const volumeId = idOf('v');
  const create = { volumeId, name: 'v', sizeBytes: 1 << 24, layout: 'mirror', copies: 2, on: [] } as const;
  const created = await session.create(create);
  assert.equal([created.maps[0].mapVersion, created.maps[0].generation], [EPOCH + 1, 0]);
  await cluster.members(created.maps, session);
  for (let generation = 1; generation <= 3; generation += 1) {
    const [map] = (await session.attach({ volume: 'v', clientId: CLIENT, takeOver: random.chance(0.5) })).maps;
    assert.equal([map.generation, map.holder, map.lease], [generation, CLIENT, 'exclusive'], 'attached once');
    await cluster.members([map], session);
    if (generation === 2) {
      const map2 = replicaOf(memberOffline(volumeOf([map]), 0, 1, { generation: 1, flushNumber: 1 }), 0);
      const asked = { clientId: CLIENT, volumeId, group: 0, before: map.mapVersion, map: map2 };
      const answer = await session.change(asked);
      assert.is(answer.kind, 'decided');
      if (answer.kind === 'decided') assert.is(answer.map.mapVersion, map.mapVersion + 1, 'changed once');
      if (answer.kind === 'decided') await cluster.members([answer.map], session);
    }
    const { maps } = await session.fetch('v');
    const detached = await session.detach({ clientId: CLIENT, volumeId, maps });
    assert.is(detached.kind, 'released');
    if (detached.kind === 'released') await cluster.members(detached.maps, session);
  }
  const renamed = await session.rename('v', 'w');
  assert.is(renamed.maps[0].volume.name, 'w');
  await session.grow('w', 1 << 25);
  const listed = await session.volumes();
  assert.equal(
    listed.map((volume) => [volume.name, volume.sizeBytes, volume.generation]),
    [['w', 1 << 25, 3]],
  );
  await session.delete('w');
  assert.equal(await session.volumes(), []);
}

check('nothing is decided twice, whatever breaks while it is asked for', async () => {
  let restarts = 0;
  for (let seed = 1; seed <= repetitions(60, 15); seed += 1) {
    const cluster = new Decided(seed);
    const { world } = cluster;
    await world.settle(cluster.begin());
    const session = world.connect({ clusterId: null, callMs: 120_000 });
    let over = false;
    const living = life(cluster, session, new SimRandom(seed)).finally(() => {
      over = true;
    });
    const harming = (async () => {
      while (!over) await cluster.harm();
    })();
    await world.settle(Promise.all([living, harming])).catch((error: Error) => {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    });
    restarts += cluster.restarts;
  }
  assert.ok(restarts > 20, `${restarts} restarts`);
});

run();
