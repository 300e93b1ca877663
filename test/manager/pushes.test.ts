/** A map that is decided reaches clients that look at its volume, however many there are, by the manager telling them. */

import * as assert from 'uvu/assert';
import { CALLING_BYTES } from '#strake/client/manager/call-session.js';
import { ManagerSession } from '#strake/client/manager/manager-session.js';
import { Watch } from '#strake/core/watch.js';
import { foundCluster } from '#strake/manager/found.js';
import { Manager } from '#strake/manager/manager.js';
import { ManagerService, managerSizes } from '#strake/manager/manager-service.js';
import { ConnectionResources } from '#strake/net/connection-resources.js';
import { SimNetwork } from '#strake/sim/net/network.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { SimWorld } from '#strake/sim/world/world.js';
import { SessionServer } from '#strake/wire/session-server.js';
import { check, run } from '../support/check.js';
import { CLUSTER, EPOCH, FakeStorageNode, idOf, MemoryMetaStore } from '../support/manager-world.js';

const CLIENTS = 100;
const LINK_US = 1000;
/** What the cluster is to keep, in simulated time. */
const MOST_US = 100_000;
const sizes = managerSizes(CLIENTS + 8);

check('a hundred clients hear of a map within a hundred milliseconds', async () => {
  const world = new SimWorld({ seed: 1 });
  const network = new SimNetwork(world.time, { latencyUs: [LINK_US, LINK_US] });
  const start = (name: string, bytes: number) => {
    const process = world.addHost(name).start({ seed: 1, arena: new Uint8Array(bytes) });
    const transport = new SimTransport(process, {}, network);
    const key = new SimKey(1, new SimRandom(1));
    return { process, transport, key, ports: { completions: process, memory: process, transport, clock: process } };
  };
  const { process, transport, key, ports } = start('manager', ConnectionResources.regionBytes(sizes));
  const store = new MemoryMetaStore();
  await foundCluster(store, { clusterId: CLUSTER });
  const manager = await Manager.open({
    ...{ store, clock: process, completions: process, key, wallNowMs: () => 1, onStepDown: () => {} },
  });
  const service = new ManagerService({
    ...{ ports, watch: new Watch(process, process), memoryStart: 0, sizes, key, calls: manager },
    ...{ identity: { nodeId: 'd'.repeat(32), clusterId: CLUSTER }, addresses: ['manager'] },
  });
  manager.onDecided((maps) => service.tell(maps));
  new SessionServer(service.desk, ports, transport.listen('manager'));
  for (const name of ['a', 'b']) await world.settle(new FakeStorageNode(name, 1).register(manager));
  await world.settle(
    manager.create({ volumeId: idOf('v'), name: 'v', sizeBytes: 1 << 24, layout: 'mirror', copies: 2, on: [] }),
  );
  let heard = 0;
  const sessions = Array.from({ length: CLIENTS }, (_, at) => {
    const client = start(`client ${at}`, CALLING_BYTES);
    return new ManagerSession({
      ...{ ports: client.ports, memoryStart: 0, key: client.key, clusterId: CLUSTER, principal: 'test' },
      ...{ clientId: idOf(`c${at}`), addresses: [{ path: 'manager' }] },
      hooks: {
        onMaps: ([map]) => {
          assert.is(map.mapVersion, EPOCH + 2);
          heard += 1;
        },
        onState: () => {},
      },
    });
  });
  await world.settle(Promise.all(sessions.map((session) => session.fetch('v'))));
  const beganUs = world.time.nowUs;
  await world.settle(sessions[0].attach({ volume: 'v', clientId: idOf('c0'), takeOver: false, above: 0 }));
  await world.settle(world.until(() => heard === CLIENTS));
  const tookUs = world.time.nowUs - beganUs;
  assert.ok(tookUs <= MOST_US, `${tookUs} µs of simulated time`);
});

run();
