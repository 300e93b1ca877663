/** A map that is decided reaches everybody who reads its volume, by the members, in simulated time. */

import * as assert from 'uvu/assert';
import { CLUSTER_MEMORY_BYTES } from '#strake/sim/cluster/cluster-memory.js';
import { clusterNodeBytes } from '#strake/sim/cluster/cluster-node.js';
import { ClusterProgram, clusterProgramBytes } from '#strake/sim/cluster/cluster-program.js';
import { managerProgramBytes } from '#strake/sim/cluster/manager-program.js';
import { check, run } from '../support/check.js';
import { Stage } from '../support/cluster-stage.js';

const READERS = 100;
/** Two for each reader, and some for the writer and connections that have not ended. */
const PEERS = 2 * READERS + 24;
const LINK_US = 1_000;
/** What the cluster is to keep beyond the commit of the map. */
const MOST_US = 100_000;

/** A process that reads the volume, with memory of its own, of which it touches little. */
function readerOf(stage: Stage, number: number): ClusterProgram {
  const { world } = stage;
  const host = world.world.addHost(`reader ${number}`);
  const process = host.start({ seed: number, arena: new Uint8Array(clusterProgramBytes(0)) });
  return new ClusterProgram(process, {
    ...{ network: world.network, inner: world.inner, address: `reader ${number}`, devices: 0, node: null },
    clientId: (number + 1).toString(16).padStart(32, 'f'),
    onEvent: (text) => stage.log(`reader ${number}: ${text}`),
  });
}

check(`a map reaches ${READERS} readers within ${MOST_US / 1000} ms of its commit`, async () => {
  const memoryBytes = CLUSTER_MEMORY_BYTES + 4 * clusterNodeBytes(2, PEERS) + managerProgramBytes(PEERS);
  await Stage.play({ networkLatencyUs: [LINK_US, LINK_US], peers: PEERS, memoryBytes }, async (stage) => {
    const { cluster, world } = stage;
    const [client] = stage.clients;
    const [, dying] = stage.nodes;
    await stage.wrote(client, 0);
    const readers = Array.from({ length: READERS }, (_, number) => readerOf(stage, number));
    const attached = readers.map((reader) => reader.node.attachVolume(cluster.volume.name, { readOnly: true }));
    await world.settle(Promise.all(attached));
    const versionOf = (reader: ClusterProgram) =>
      reader.node.volumes.named(cluster.volume.name)[0].reader?.record.versions[0] ?? 0;
    const before = stage.map().mapVersion;
    assert.ok(readers.every((reader) => versionOf(reader) === before));
    stage.kill(dying);
    // The manager's store is the first to have it.
    await stage.until(() => stage.map().mapVersion > before);
    const committedUs = world.nowUs;
    const { mapVersion } = stage.map();
    await stage.until(() => readers.every((reader) => versionOf(reader) >= mapVersion));
    const tookUs = world.nowUs - committedUs;
    stage.log(`all readers have the map ${tookUs / 1000} ms after its commit`);
    assert.ok(tookUs <= MOST_US, `${tookUs / 1000} ms`);
    for (const reader of readers) reader.process.kill();
  });
});

run();
