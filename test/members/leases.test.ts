/** Leases for reads, between a client and a node: who has one, how long, and which maps have to wait for it. */

import * as assert from 'uvu/assert';
import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import { EPERM, ESTALE } from '#strake/core/errno.js';
import { LeaseAccount } from '#strake/node/lease-account.js';
import { check, run } from '../support/check.js';
import { EPOCH, LeaseClient, LeaseWorld, SERVED } from '../support/lease-world.js';

const US = 1000;
/** Longer than any lease. */
const LONG_US = 2 * DEFAULT_TIMES.leaseMs * US;
/** The first of the members is gone. */
const WITHOUT = { states: ['offline'] } as const;

/** A world in which a reader has a lease under version 1, and another client that can bring maps. */
async function leased(seed: number) {
  const nodes = await new LeaseWorld(seed).start();
  const [reader, other] = ['b', 'c'].map((digit) => new LeaseClient(nodes, digit));
  assert.is(await nodes.settle(other.session.storeMap(nodes.map(1), SERVED)), 0);
  const member = await nodes.settle(reader.open(nodes.map(1)));
  await nodes.when(() => member.mayRead(EPOCH + 1));
  return { nodes, reader, other, member };
}

check('a lease is for the map that the member has answered, and is renewed as long as its node is heard', async () => {
  const { nodes, reader, member } = await leased(1);
  await nodes.pause(LONG_US);
  assert.equal([member.mayRead(EPOCH + 1), member.mayRead(EPOCH + 2)], [true, false]);
  nodes.network.cut(nodes.servingHost, reader.host);
  await nodes.pause(LONG_US);
  assert.not(member.mayRead(EPOCH + 1), 'nothing was heard for longer than a lease');
});

check(
  'a map that leaves a member out is answered when the client has taken it, and a reader goes on under it',
  async () => {
    const { nodes, other, member } = await leased(2);
    assert.is(await nodes.settle(other.session.storeMap(nodes.map(2, WITHOUT), SERVED)), 0);
    assert.not(member.mayRead(EPOCH + 1), 'the lease under the map before is void');
    await nodes.when(() => member.mayRead(EPOCH + 2));
  },
);

check('MAP_STORED waits for a lease of whoever does not answer (Rule B)', async () => {
  const { nodes, reader, other, member } = await leased(3);
  nodes.network.cut(nodes.servingHost, reader.host);
  const stored = nodes.bring(other, nodes.map(2, WITHOUT));
  await nodes.when(() => nodes.gate.mapVersion === EPOCH + 2);
  while (member.mayRead(EPOCH + 1)) {
    assert.is(stored.result, null, 'it is answered while a client reads under the map before');
    await nodes.pause(50 * US);
  }
  await nodes.when(() => stored.result !== null);
  assert.is(stored.result, 0);
});

check('nothing is granted under a map that is being stored, nor under the one before', async () => {
  const { nodes, reader, other } = await leased(16);
  const second = new LeaseClient(nodes, 'f');
  const member = await nodes.settle(second.open(nodes.map(1)));
  await nodes.when(() => member.mayRead(EPOCH + 1));
  nodes.network.cut(nodes.servingHost, reader.host);
  const stored = nodes.bring(other, nodes.map(2, WITHOUT));
  await nodes.when(() => second.heard.includes(EPOCH + 2));
  await nodes.pause(600 * US);
  assert.is(stored.result, null, 'it waits for the client that hears nothing');
  assert.equal([member.mayRead(EPOCH + 1), member.mayRead(EPOCH + 2)], [false, false]);
  await nodes.when(() => stored.result !== null && member.mayRead(EPOCH + 2));
});

check('a lease outlives its connection (lease-outlives-connection), and a newer session of its client', async () => {
  const { nodes, reader, other, member } = await leased(4);
  const grantedUs = nodes.world.time.nowUs;
  nodes.network.reset(nodes.servingHost, reader.host);
  nodes.network.cut(reader.host, nodes.servingHost);
  const stored = nodes.bring(other, nodes.map(2, WITHOUT));
  await nodes.when(() => nodes.gate.mapVersion === EPOCH + 2);
  await nodes.pause(DEFAULT_TIMES.leaseMs * US * 0.8 - (nodes.world.time.nowUs - grantedUs));
  assert.is(stored.result, null, 'the node has forgotten a lease that its client may count on');
  await nodes.when(() => stored.result !== null);
  assert.not(member.mayRead(EPOCH + 1));
});

check('who is served on a connection that served others is told of its own replicas only', async () => {
  const { nodes, reader, other } = await leased(18);
  await nodes.settle(other.open(nodes.map(1)));
  for (const client of [reader, other]) client.session.fail('it is over');
  await nodes.pause(100 * US);
  assert.is(nodes.serving.service.usage().connections, 0);
  const next = new LeaseClient(nodes, 'f');
  const member = await nodes.settle(next.open(nodes.map(1)));
  await nodes.pause(1_200 * US);
  assert.ok(member.mayRead(EPOCH + 1), 'it has taken all that it was told of');
});

check('a map that leaves nobody out waits for no lease', async () => {
  const { nodes, reader, other } = await leased(5);
  nodes.network.cut(nodes.servingHost, reader.host);
  const beganUs = nodes.world.time.nowUs;
  const next = nodes.map(2, { generation: 2, holder: other.clientId });
  assert.is(await nodes.settle(other.session.storeMap(next, SERVED)), 0);
  assert.ok(nodes.world.time.nowUs - beganUs < 500 * US, 'an attach waits for readers of the map before');
});

check('what gives its lease back is not waited for', async () => {
  const { nodes, reader, other, member } = await leased(6);
  member.close();
  assert.not(member.mayRead(EPOCH + 1), 'before the node has heard of it');
  await nodes.pause(50 * US);
  nodes.network.cut(nodes.servingHost, reader.host);
  const beganUs = nodes.world.time.nowUs;
  assert.is(await nodes.settle(other.session.storeMap(nodes.map(2, WITHOUT), SERVED)), 0);
  assert.ok(nodes.world.time.nowUs - beganUs < 500 * US);
});

check('a device that was opened anew answers no map while its former life may have leases (Rule C)', async () => {
  const { nodes, other } = await leased(7);
  nodes.killServing();
  await nodes.serve();
  const beganUs = nodes.world.time.nowUs;
  const session = other.reconnect();
  // That it was answered is on record.
  assert.is(await nodes.settle(session.storeMap(nodes.map(1), SERVED)), 0);
  await nodes.settle(other.open(nodes.map(1)));
  assert.ok(nodes.world.time.nowUs - beganUs < 500 * US, 'what has been answered is admitted at once');
  assert.is(await nodes.settle(session.storeMap(nodes.map(2), SERVED)), 0);
  assert.ok(nodes.world.time.nowUs - beganUs >= DEFAULT_TIMES.leaseMs * US, 'leases of the former life may go on');
});

check('a device that was opened anew by the same process grants nothing by its former life', async () => {
  const { nodes, other, member } = await leased(19);
  await nodes.reopenServed(false);
  const stored = nodes.bring(other, nodes.map(2, WITHOUT));
  await nodes.when(() => stored.result !== null);
  assert.is(stored.result, 0);
  assert.not(member.mayRead(EPOCH + 1), 'the member that was left out may be read');
});

check('a life that ends soon leaves what the one before has granted', async () => {
  const { nodes, other } = await leased(8);
  nodes.killServing();
  await nodes.serve(0);
  nodes.killServing();
  await nodes.serve(0);
  const beganUs = nodes.world.time.nowUs;
  assert.is(await nodes.settle(other.reconnect().storeMap(nodes.map(2), SERVED)), 0);
  assert.ok(nodes.world.time.nowUs - beganUs >= DEFAULT_TIMES.leaseMs * US);
});

check('once older leases have ended, a device that is closed in order leaves only its own', async () => {
  const { nodes, other } = await leased(9);
  nodes.killServing();
  await nodes.serve(0);
  await nodes.pause(LONG_US);
  const device = [...nodes.serving.host.stores.values()][0];
  nodes.serving.host.letGo(device.deviceId);
  await nodes.settle(nodes.serving.host.close(device));
  nodes.killServing();
  await nodes.serve(0);
  const beganUs = nodes.world.time.nowUs;
  assert.is(await nodes.settle(other.reconnect().storeMap(nodes.map(2), SERVED)), 0);
  assert.ok(nodes.world.time.nowUs - beganUs < 500 * US);
});

check('a device that grants no leases gives none', async () => {
  const nodes = new LeaseWorld(10);
  await nodes.format();
  await nodes.serve(0);
  const reader = new LeaseClient(nodes, 'b');
  assert.is(await nodes.settle(reader.session.storeMap(nodes.map(1), SERVED)), 0);
  const member = await nodes.settle(reader.open(nodes.map(1)));
  await nodes.pause(LONG_US);
  assert.not(member.mayRead(EPOCH + 1));
});

check('clocks that move apart void what was granted before, and what is granted later counts', async () => {
  const { nodes, reader, member } = await leased(11);
  // As for a guest that was frozen: its BOOTTIME has not counted what others did.
  reader.host.clock.setRealtime(5_000);
  assert.not(member.mayRead(EPOCH + 1));
  await nodes.when(() => member.mayRead(EPOCH + 1));
  reader.host.clock.sleep(5_000);
  assert.not(member.mayRead(EPOCH + 1), 'the host has slept for longer than a lease');
});

check('a process that stood still counts on nothing that ran out meanwhile (pause-inside-a-batch)', async () => {
  const { nodes, reader, other, member } = await leased(12);
  reader.process.stall(LONG_US);
  const stored = nodes.bring(other, nodes.map(2, WITHOUT));
  await nodes.when(() => stored.result !== null);
  // It has not looked at anything since.
  assert.not(member.mayRead(EPOCH + 1), 'it reads by what its clock said before');
});

check('a map that is not managed takes the place of no managed one, and managed ones have to be proven', async () => {
  const { nodes, other } = await leased(13);
  const unproven = nodes.undecided(EPOCH + 9);
  assert.is(await nodes.settle(other.session.storeMap(unproven, SERVED)), -EPERM);
  assert.is(nodes.gate.mapVersion, EPOCH + 1);
  assert.is(await nodes.settle(nodes.gate.giveBack(unproven)), await nodes.settle(Promise.resolve(nodes.gate.page)));
  assert.equal([nodes.gate.mapVersion, nodes.gate.map?.authentication], [EPOCH + 9, undefined]);
  // And back again.
  assert.is(await nodes.settle(other.session.storeMap(nodes.map(10), SERVED)), 0);
  const forged = nodes.bring(other, { ...nodes.map(11), generation: 7 });
  await nodes.pause(50 * US);
  other.session.fail('the test is over');
  await nodes.when(() => forged.result !== null);
  assert.is.not(forged.result, 0);
  assert.is(nodes.gate.mapVersion, EPOCH + 10);
});

check('a replica is not given back by a map that is older, and nobody else is told of it', async () => {
  const { nodes } = await leased(14);
  assert.is(await nodes.settle(nodes.gate.giveBack(nodes.undecided(EPOCH))), -ESTALE);
  assert.is(nodes.gate.mapVersion, EPOCH + 1);
});

check('a client is told of each newer map, whoever brings it, and goes on over another connection', async () => {
  const { nodes, reader, other, member } = await leased(15);
  assert.is(await nodes.settle(other.session.storeMap(nodes.map(2), SERVED)), 0);
  await nodes.when(() => reader.heard.includes(EPOCH + 2));
  nodes.network.reset(nodes.servingHost, reader.host);
  assert.not(member.mayRead(EPOCH + 1));
  // It is opened again under the map that its node has; what is asked under the one before is told to be behind.
  await nodes.when(() => member.mayRead(EPOCH + 2));
  assert.is(member.map.mapVersion, EPOCH + 1);
  assert.is(member.failed, false);
});

check('a member forgets the leases of clients that have gone', () => {
  const account = new LeaseAccount();
  const map = { ...new LeaseWorld(17).map(1) };
  for (let client = 0; client < 1000; client += 1)
    account.grant(String(client), map, client * 100, DEFAULT_TIMES.leaseMs);
  assert.ok(account.size < 100, `${account.size} leases are counted`);
  const later = new LeaseWorld(17).map(2, WITHOUT);
  assert.is(account.endOf(later, 999 * 100), 999 * 100 + DEFAULT_TIMES.leaseMs, 'and none of those that go on');
});

run();
