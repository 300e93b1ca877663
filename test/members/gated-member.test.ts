/** What an engine asks of a device of its own process passes the gate of a managed replica, as what comes from elsewhere does. */

import * as assert from 'uvu/assert';
import { Calls } from '#strake/core/calls.js';
import { ESTALE } from '#strake/core/errno.js';
import type { DeviceMember } from '#strake/node/device-member.js';
import { LIST_ALL, SegmentList } from '#strake/ports/segment-list.js';
import {
  REQUEST_AGREED,
  REQUEST_ALLOCATE,
  REQUEST_FLUSH,
  REQUEST_WRITE,
  SegmentRequest,
} from '#strake/ports/segment-request.js';
import { check, run } from '../support/check.js';
import { EPOCH, LeaseClient, LeaseWorld, SERVED } from '../support/lease-world.js';
import { BLOCK } from '../support/sim-store.js';
import { deviceIdOf } from '../support/two-nodes.js';

/** A device whose process has an engine of generation 1, by the map of version 1. */
async function hosted(seed: number) {
  const nodes = await new LeaseWorld(seed).start();
  const device = nodes.serving.host.stores.get(deviceIdOf(SERVED));
  if (device === undefined) throw new Error('the device is not open');
  const page = await nodes.settle(device.putReplica(nodes.map(1)));
  const { process } = nodes.serving;
  const calls = new Calls(process);
  const member = device.member(process, page);
  const ask = (of: DeviceMember, kind: number, chunk = 0) =>
    calls.call((token) => of.submit(new SegmentRequest().begin(kind, chunk, token)));
  return { nodes, device, page, member, calls, ask, other: new LeaseClient(nodes, 'c') };
}

check(
  'an engine asks under the map that whoever decides for it has brought, and not under what others bring',
  async () => {
    const { nodes, device, page, member, ask } = await hosted(1);
    assert.is(await nodes.settle(ask(member, REQUEST_ALLOCATE, 3)), 0);
    assert.ok(member.mayRead(EPOCH + 1));
    assert.is(await nodes.settle(device.bring(nodes.map(2))), page);
    assert.equal([member.mayRead(EPOCH + 1), member.mayRead(EPOCH + 2)], [false, true]);
    assert.is(await nodes.settle(ask(member, REQUEST_FLUSH)), -ESTALE);
    assert.is(await nodes.settle(device.putReplica(nodes.map(2))), page);
    assert.is(await nodes.settle(ask(member, REQUEST_FLUSH)), 0);
  },
);

check('an engine of an earlier generation does nothing any more, whatever map its process brings', async () => {
  const { nodes, device, page, member, ask, other } = await hosted(2);
  const next = nodes.map(2, { generation: 2, holder: other.clientId });
  assert.is(await nodes.settle(other.session.storeMap(next, SERVED)), 0);
  assert.is(await nodes.settle(ask(member, REQUEST_ALLOCATE, 3)), -ESTALE);
  // An engine of the same process attaches after that.
  assert.is(await nodes.settle(device.putReplica(nodes.map(3, { generation: 3 }))), page);
  const newer = device.member(nodes.serving.process, page);
  assert.is(await nodes.settle(ask(member, REQUEST_ALLOCATE, 3)), -ESTALE);
  assert.is(await nodes.settle(ask(newer, REQUEST_ALLOCATE, 3)), 0);
  // And its copies have not agreed by what the earlier one says late.
  assert.is(await nodes.settle(device.putReplica(nodes.map(1), { servedGeneration: 1 })), -ESTALE);
  assert.is(device.gate(nodes.map(1).volume.id, 0).servedGeneration, 0);
});

check(
  'a map is answered when what an engine here had asked before has ended; what it asks meanwhile waits',
  async () => {
    const { nodes, device, page, member, ask, other } = await hosted(3);
    const order: string[] = [];
    const note = (what: string) => (result: number) => order.push(`${what} ${result}`);
    void ask(member, REQUEST_ALLOCATE, 3).then(note('before'));
    void device.bring(nodes.map(2)).then(note('answered'));
    void ask(member, REQUEST_ALLOCATE, 4).then(note('meanwhile'));
    await nodes.when(() => order.length === 3);
    assert.ok(order.indexOf('before 0') < order.indexOf(`answered ${page}`), order.join());
    assert.ok(order.includes(`meanwhile ${-ESTALE}`), order.join());
    // What waits under a map that is being stored goes on when that is answered.
    const stored = nodes.bring(other, nodes.map(3));
    await nodes.when(() => device.gate(nodes.map(1).volume.id, 0).storing);
    const put = device.putReplica(nodes.map(3));
    const asked = ask(member, REQUEST_ALLOCATE, 5);
    assert.is(await nodes.settle(asked), 0);
    assert.is(await nodes.settle(put), page);
    await nodes.when(() => stored.result !== null);
  },
);

check('that the copies agree is durable before an engine here is answered, and lets others read', async () => {
  const { nodes, device, page, member } = await hosted(7);
  const gate = device.gate(nodes.map(1).volume.id, 0);
  assert.equal([gate.servedGeneration, gate.isReadable], [0, false]);
  const request = new SegmentRequest();
  const calls = new Calls(nodes.serving.process);
  const agreed = calls.call((token) => {
    request.begin(REQUEST_AGREED, 0, token);
    request.generation = 1;
    member.submit(request);
  });
  assert.is(await nodes.settle(agreed), 0);
  assert.equal([gate.servedGeneration, gate.isReadable], [1, true]);
  // Nobody has made them equal under the next generation yet.
  assert.is(await nodes.settle(device.putReplica(nodes.map(2, { generation: 2 }))), page);
  assert.is(gate.isReadable, false);
});

check('who only reads asks a member here under the map that it has, while it counts', async () => {
  const { nodes, device, page, ask } = await hosted(8);
  const { process } = nodes.serving;
  const map = nodes.map(1);
  const { member } = await nodes.settle(device.openReader(process, map));
  if (member === null) throw new Error('the replica was not opened');
  assert.is(member.mayRead(map.mapVersion), false);
  let told = 0;
  member.whenLeased({ leased: () => (told += 1) });
  await nodes.settle(device.gate(map.volume.id, 0).noteServedHere(1));
  await nodes.when(() => told === 1);
  assert.is(member.mayRead(map.mapVersion), true);
  assert.is(await nodes.settle(ask(member, REQUEST_FLUSH)), -ESTALE, 'it changes nothing');
  const next = nodes.map(2, { generation: 2 });
  assert.is(await nodes.settle(device.putReplica(next)), page);
  assert.equal([member.mayRead(map.mapVersion), member.mayRead(next.mapVersion)], [false, false]);
  const { maps } = await nodes.settle(device.openReader(process, map));
  assert.equal(maps, [next]);
  await nodes.settle(device.gate(map.volume.id, 0).noteServedHere(2));
  assert.ok(member.follow(next));
  assert.is(member.mayRead(next.mapVersion), true);
});

check('the payload of a write that waits is what it was when it was asked for', async () => {
  const { nodes, device, page, member, calls, ask } = await hosted(4);
  assert.is(await nodes.settle(ask(member, REQUEST_ALLOCATE, 0)), 0);
  const { bytes } = nodes.serving.process;
  // The last pages of the arena: buffers that nobody uses.
  const [memory, source] = [bytes.length - 2 * BLOCK, bytes.length - BLOCK];
  bytes.fill(7, source, source + BLOCK);
  const put = device.putReplica(nodes.map(2));
  const written = calls.call((token) => {
    const request = new SegmentRequest().begin(REQUEST_WRITE, 0, token);
    request.blocks = 1;
    request.memory = memory;
    request.source = source;
    request.sourceBytes = BLOCK;
    request.stampLow = 1;
    request.stampHigh = 1 << 8;
    request.generation = 1;
    member.submit(request);
  });
  // After the batch in which it was asked for, what lies at its source is somebody else's.
  await nodes.when(() => bytes[memory] === 7);
  bytes.fill(8, source, source + BLOCK);
  assert.is(await nodes.settle(written), BLOCK);
  assert.is(await nodes.settle(put), page);
  assert.is(bytes[memory], 7);
});

check('lists pass the gate as well, and a member that is closed leaves nothing', async () => {
  const { nodes, device, member, calls, ask } = await hosted(5);
  assert.is(await nodes.settle(ask(member, REQUEST_ALLOCATE, 6)), 0);
  const list = new SegmentList().begin(LIST_ALL);
  const listed = () =>
    calls.call((token) => {
      list.token = token;
      member.list(list);
    });
  assert.is(await nodes.settle(listed()), 1);
  await nodes.settle(device.bring(nodes.map(2)));
  assert.is(await nodes.settle(listed()), -ESTALE);
  member.close();
  assert.ok(device.gate(nodes.map(1).volume.id, 0).idle);
});

run();
