/** Times of a cluster that an operator sets: nodes and clients hear of them, and go by them. All of it in simulated time. */

import * as assert from 'uvu/assert';
import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import type { ClusterTimes } from '#strake/ports/manager.js';
import { check, run } from '../support/check.js';
import { type ClusterClient, ClusterWorld } from '../support/cluster-world.js';

interface Serving {
  readonly world: ClusterWorld;
  readonly client: ClusterClient;
}

/** A volume with two copies that a client has attached, in a cluster with these times, which all have heard of. */
async function serving(seed: number, times: Partial<ClusterTimes>): Promise<Serving> {
  const world = await ClusterWorld.begin(seed);
  const client = world.client();
  await world.settle(client.node.attachVolume('v'));
  await world.settle(world.calls.setTimes(times));
  assert.is(await world.settle(client.write(0, 1, 100)), 4096);
  await world.pause(2_000_000);
  return { world, client };
}

/** What a promise has come to, or `waiting`. */
function stateOf<T>(promise: Promise<T>): { value: T | 'waiting' } {
  const state: { value: T | 'waiting' } = { value: 'waiting' };
  void promise.then((value) => (state.value = value));
  return state;
}

async function end({ world, client }: Serving): Promise<void> {
  await world.settle(client.node.close());
}

const LONG: Partial<ClusterTimes> = {
  leaseMs: 6000,
  silenceMs: 5000,
  attachMs: 8000,
  janitorMs: 12_000,
  nodeDownMs: 6000,
};

/** Whether a client that a member has gone silent to still reads from the other one, some seconds later. */
async function readsAfter(seed: number, times: Partial<ClusterTimes>, forUs: number): Promise<boolean> {
  const { world, client } = await serving(seed, times);
  world.managed = false;
  world.link(client.machine, world.nodes[1].machine, false);
  await world.pause(forUs);
  // Some of them go to the member that is silent.
  const reads = [1, 2, 3, 4].map((area) => stateOf(client.read(0, 1, area)));
  await world.pause(100_000);
  const answered = reads.some(({ value }) => value === 100);
  world.link(client.machine, world.nodes[1].machine, true);
  world.managed = true;
  await world.until(() => reads.every(({ value }) => value !== 'waiting'));
  await end({ world, client });
  return answered;
}

check('lease-ms: a member lets clients read for as long as it is set, and no longer', async () => {
  const patient = { ...LONG, leaseMs: 6000 };
  assert.ok(await readsAfter(1, patient, 3_000_000));
  assert.not(await readsAfter(1, patient, 5_900_000), 'the client uses 0.9 of it');
  assert.not(await readsAfter(1, {}, 3_000_000));
});

check(
  'lease-ms: a longer lease is on the device before it is granted, and another life of it waits for it',
  async () => {
    const { world, client } = await serving(3, LONG);
    const [first] = world.nodes;
    const [store] = first.host.stores.values();
    assert.equal([store.leaseMs, store.checkpointer.leaseMs], [6000, 6000]);
    await world.settle(world.calls.setTimes({ ...DEFAULT_TIMES }));
    await world.pause(1_500_000);
    assert.equal([store.leaseMs, store.checkpointer.leaseMs], [2000, 6000], 'the longest that was granted counts');
    await end({ world, client });
    first.kill();
    await first.start();
    const [again] = first.host.stores.values();
    assert.is(again.formerLeaseMs, 6000);
    const beganUs = world.world.time.nowUs;
    const other = world.client(1);
    await world.settle(other.node.attachVolume('v'));
    assert.ok(world.world.time.nowUs - beganUs > 5_000_000, 'it answers no map before that');
    await world.settle(other.node.close());
  },
);

check('lease-ms: a device that cannot put a longer lease on record does not grant it', async () => {
  const { world, client } = await serving(4, {});
  const [, second] = world.nodes;
  const [store] = second.host.stores.values();
  const end = second.disk.faults.add({ ops: ['sync'], action: { kind: 'error', errno: 5 } });
  await world.settle(world.calls.setTimes(LONG));
  await world.pause(1_500_000);
  assert.is.not(store.leaseMs, 6000);
  end();
  client.kill();
});

/** After how many milliseconds of silence a member is out. */
async function outAfter(seed: number, times: Partial<ClusterTimes>): Promise<number> {
  const { world, client } = await serving(seed, times);
  const beganUs = world.world.time.nowUs;
  world.nodes[1].machine.powerOff(world.random());
  await world.until(() => client.states()[1] === 'offline');
  const took = (world.world.time.nowUs - beganUs) / 1000;
  await end({ world, client });
  return took;
}

check('silence-ms: a member that vanishes is reported when it has been silent for as long as is set', async () => {
  assert.ok((await outAfter(5, {})) < 2000);
  assert.ok((await outAfter(5, { silenceMs: 4000, leaseMs: 5000, janitorMs: 10_000 })) >= 4000);
});

/** Whether a member whose disk takes long for each write is done without. */
async function isDoneWithout(seed: number, times: Partial<ClusterTimes>): Promise<boolean> {
  const { world, client } = await serving(seed, times);
  const end = world.nodes[1].disk.faults.add({ ops: ['write'], action: { kind: 'slow', byUs: 2_000_000 } });
  const written = stateOf(client.write(0, 2, 7));
  await world.until(() => written.value !== 'waiting');
  const states = client.states();
  end();
  client.kill();
  return states[1] === 'offline';
}

check(
  'device-operation-ms: a device that does not end an operation for as long as is set is done without',
  async () => {
    assert.not(await isDoneWithout(6, {}));
    assert.ok(await isDoneWithout(6, { deviceOperationMs: 1500 }));
  },
);

check('own-flush-ms: what nobody flushes is flushed after the time that is set', async () => {
  const patient = await serving(7, {});
  assert.ok(patient.client.engine.hasUnflushed);
  await end(patient);
  const hasty = await serving(7, { ownFlushMs: 500 });
  assert.not(hasty.client.engine.hasUnflushed);
  await end(hasty);
});

run();
