/** What members in other processes do with payloads that they cannot send. */

import * as assert from 'uvu/assert';
import { NodeSession } from '#strake/client/members/node-session.js';
import { ReadLease } from '#strake/client/members/read-lease.js';
import { RemoteMember } from '#strake/client/members/remote-member.js';
import { SESSION_SIZES, SessionService } from '#strake/client/members/session-service.js';
import { EIO } from '#strake/core/errno.js';
import { ConnectionResources } from '#strake/net/connection-resources.js';
import { REQUEST_WRITE, SegmentRequest } from '#strake/ports/segment-request.js';
import { SimNetwork } from '#strake/sim/net/network.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { SimWorld } from '#strake/sim/world/world.js';
import { check, run } from '../support/check.js';
import { BLOCK, CLUSTER_ID, DEVICE_ID, replicaMap, SLOT } from '../support/sim-store.js';

const SIZES = { ...SESSION_SIZES, connections: 1, classes: [{ bytes: BLOCK, count: 1 }] };
const PAYLOAD = ConnectionResources.regionBytes(SIZES);

check('a payload is in its place though its member has failed, as the next member finds it there', [], async () => {
  const world = new SimWorld({ seed: 1 });
  const process = world.addHost('engine').start({ seed: 1, arena: new Uint8Array(PAYLOAD + 2 * BLOCK) });
  const ports = {
    ...{ completions: process, memory: process, clock: process },
    transport: new SimTransport(process, {}, new SimNetwork(world.time)),
  };
  const about = { clusterId: CLUSTER_ID, clientId: 'e'.repeat(32), principal: 'test' };
  const service = new SessionService({
    ports,
    memoryStart: 0,
    sizes: SIZES,
    key: new SimKey(7, process.random),
    ...about,
  });
  const session = new NodeSession(service, { path: '/nobody' }, { onDevices() {}, onFailed() {}, onMaps() {} });
  const none = { generation: 0, flushNumber: 0 };
  const map = replicaMap();
  const lease = new ReadLease(service.time, {
    volumeId: map.volume.id,
    group: 0,
    index: 0,
    mapVersion: map.mapVersion,
  });
  const member = new RemoteMember(
    { session, life: 'a'.repeat(32), map, index: 0, role: 'writer', lease },
    {
      ...{ deviceId: DEVICE_ID, segmentBytes: SLOT, incarnation: 1, flushed: none, settled: none, servedGeneration: 0 },
      ...{ stampMax: { low: 0, high: 0 }, epoch: 1, freeBytes: 0, taken: 1 },
    },
  );
  await world.run(() => session.failed);
  let result: number | undefined;
  const token = process.register({
    complete: (_tag, value) => {
      result = value;
    },
  });
  const request = new SegmentRequest().begin(REQUEST_WRITE, 0, token);
  Object.assign(request, { blocks: 1, memory: PAYLOAD, source: PAYLOAD + BLOCK, sourceBytes: BLOCK });
  process.bytes.fill(7, PAYLOAD + BLOCK, PAYLOAD + 2 * BLOCK);
  member.submit(request);
  await world.run(() => result !== undefined);
  assert.is(result, -EIO);
  assert.equal([process.bytes[PAYLOAD], request.source], [7, -1]);
});

run();
