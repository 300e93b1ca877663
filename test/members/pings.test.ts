/** The second connection of a session, for its pings: what passes by it, what overtakes what, and what is done without it. */

import * as assert from 'uvu/assert';
import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import { check, run } from '../support/check.js';
import { EPOCH, LeaseClient, LeaseWorld, SERVED } from '../support/lease-world.js';

const US = 1000;
/** Longer than any lease. */
const LONG_US = 2 * DEFAULT_TIMES.leaseMs * US;
/** The first of the members is gone. */
const WITHOUT = { states: ['offline'] } as const;

/** A reader that has a lease under version 1, and both connections; and another client that can bring maps. */
async function paired(seed: number) {
  const nodes = await new LeaseWorld(seed).start();
  const [reader, other] = ['b', 'c'].map((digit) => new LeaseClient(nodes, digit));
  assert.is(await nodes.settle(other.session.storeMap(nodes.map(1), SERVED)), 0);
  const member = await nodes.settle(reader.open(nodes.map(1)));
  const connections = () => nodes.network.between(reader.host, nodes.servingHost);
  await nodes.when(() => member.mayRead(EPOCH + 1) && connections().length === 2);
  // Pings go by the second one from the next on.
  await nodes.pause(600 * US);
  const [first, second] = connections();
  return { nodes, reader, other, member, first, second, connections };
}

check('leases are renewed while nothing goes on by the first connection', async () => {
  const { nodes, reader, member, first, connections } = await paired(1);
  for (const side of [0, 1] as const) first.block(side);
  await nodes.pause(LONG_US);
  assert.ok(member.mayRead(EPOCH + 1), 'a ping waits for what was asked before it');
  assert.not(reader.session.failed);
  assert.is(connections()[0], first, 'a node that answers is no silent one');
});

check('a PONG that overtakes a MAP_CHANGED grants nothing beyond the map before (pong-overtakes-map)', async () => {
  const { nodes, reader, other, member, first } = await paired(2);
  first.block(0);
  const stored = nodes.bring(other, nodes.map(2, WITHOUT));
  await nodes.when(() => nodes.gate.mapVersion === EPOCH + 2);
  while (stored.result === null) {
    await nodes.pause(20 * US);
    assert.not(member.mayRead(EPOCH + 2), 'the client has not heard of this map');
    if (member.mayRead(EPOCH + 1)) assert.is(stored.result, null, 'a map is answered while a client reads without it');
  }
  assert.not(member.mayRead(EPOCH + 1), 'the member that was left out may be read');
  assert.not(reader.heard.includes(EPOCH + 2));
  first.unblock(0);
  await nodes.when(() => member.mayRead(EPOCH + 2));
});

check(
  'a PONG that a MAP_CHANGED overtakes grants nothing under the map that it brings (pong-overtakes-map)',
  async () => {
    const { nodes, reader, other, member, second } = await paired(3);
    // Until a PING has been answered whose PONG does not arrive.
    second.block(0);
    await nodes.when(() => second.ways[0].underWay.length > 0);
    const stored = nodes.bring(other, nodes.map(2, WITHOUT));
    await nodes.when(() => reader.heard.includes(EPOCH + 2));
    assert.is(stored.result, null, 'it waits for the lease of the reader');
    second.unblock(0);
    await nodes.when(() => member.mayRead(EPOCH + 2));
    assert.ok(nodes.gate.answered, 'a lease is used that was granted under the map before');
  },
);

check('pings go by the first connection while there is no second one, and there is another one soon', async () => {
  const { nodes, reader, member, first, second, connections } = await paired(4);
  second.reset(0);
  await nodes.pause(20 * US);
  const untilUs = nodes.world.time.nowUs + LONG_US;
  while (nodes.world.time.nowUs < untilUs) {
    assert.ok(member.mayRead(EPOCH + 1));
    await nodes.pause(50 * US);
  }
  assert.not(reader.session.failed);
  assert.is(connections().length, 2);
  assert.is(connections()[0], first, 'the session has lost its first connection too');
});

check('a second connection that stands still is done without, while the node says something on the first', async () => {
  const { nodes, reader, member, first, second, connections } = await paired(5);
  for (const side of [0, 1] as const) second.block(side);
  const untilUs = nodes.world.time.nowUs + LONG_US;
  let lapses = 0;
  while (nodes.world.time.nowUs < untilUs) {
    // Something is said at each end, again and again, as where there is load.
    assert.is(await nodes.settle(reader.session.storeMap(nodes.map(1), SERVED)), 0);
    if (!member.mayRead(EPOCH + 1)) lapses += 1;
    await nodes.pause(50 * US);
  }
  assert.is(lapses, 0, 'a lease was not renewed in time');
  assert.ok(connections().includes(first) && connections().length > 2, 'another second one has been asked for');
});

check('what was asked by the second connection of an earlier session grants nothing in the next one', async () => {
  const { nodes, reader, member, first, second } = await paired(6);
  second.block(0);
  await nodes.when(() => second.ways[0].underWay.length > 0);
  first.reset(1);
  await nodes.when(() => !member.mayRead(EPOCH + 1));
  second.unblock(0);
  await nodes.when(() => member.mayRead(EPOCH + 1));
  assert.not(reader.session.failed);
  assert.ok(second.broken, 'the second connection outlives the first');
});

check('the place of a second connection that ends before its PONG is sent is read again', async () => {
  const { nodes, reader, member, first, second } = await paired(8);
  second.block(1);
  await nodes.when(() => second.ways[1].underWay.length > 0);
  // A PING comes, and then the first connection breaks, while the node stands still: it learns of both at once, and before the
  // client connects anew, to the place that has become free last.
  nodes.serving.process.stall(US);
  second.unblock(1);
  await nodes.pause(US - 5);
  first.reset(1);
  await nodes.when(() => !member.mayRead(EPOCH + 1));
  await nodes.pause(LONG_US);
  assert.not(reader.session.failed, reader.session.reason);
  assert.ok(member.mayRead(EPOCH + 1), 'the node reads nothing of the connection that came next');
});

check('both connections end with their session, at both ends', async () => {
  const { nodes, reader, other } = await paired(7);
  for (const client of [reader, other]) client.session.fail('it is over');
  await nodes.pause(100 * US);
  assert.equal(nodes.serving.service.usage(), { connections: 0, requests: 0, buffers: 0 });
  reader.service.close();
  assert.equal(reader.service.usage(), { connections: 0, buffers: 0 });
});

run();
