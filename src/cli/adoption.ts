/** `strake cluster init --node` and `strake cluster leave`: a node that stands alone, and its cluster. */

import { StrakeError } from '../core/errors.js';
import { describeDevice } from '../embed/format.js';
import { clusterIdOf, initCluster, keyFileOf, openManager } from '../embed/manager.js';
import type { Node } from '../embed/node.js';
import { openNode } from '../embed/node.js';
import type { ClusterReach } from './cluster-access.js';
import { nodeIdIn, usualName } from './cluster-node.js';
import { eventLine } from './describe.js';
import { managerSocket } from './manager.js';
import { placeOf, readConfig, socketIn } from './node-config.js';
import { findDevices } from './node-devices.js';
import { note } from './output.js';

/** What has become of a node's volumes. */
export interface AdoptedNode {
  readonly clusterId: string;
  readonly volumes: readonly string[];
  readonly refused: readonly { readonly volume: string; readonly why: string }[];
}

/** Does something with a node that does not run, as a part of its cluster. */
async function withNode<T>(
  dir: string,
  reach: ClusterReach,
  name: string | undefined,
  work: (node: Node) => Promise<T>,
) {
  const place = placeOf(dir);
  const { paths, named } = findDevices(place.dir, readConfig(place).devices);
  const node = await openNode({
    ...reach,
    devices: paths,
    skipUnformatted: !named,
    // One that is missing may hold the newest map of a volume.
    strict: named,
    nodeId: nodeIdIn(place.dir),
    name: name ?? usualName(place.dir),
    segments: { socket: socketIn(place.dir, 'segments.sock') },
    onEvent: (event) => note(eventLine(event), event.kind === 'device-skipped'),
  });
  try {
    return await work(node);
  } finally {
    await node.close();
  }
}

/** The cluster that the devices of a node are formatted for. */
async function clusterOfNode(dir: string): Promise<string> {
  const place = placeOf(dir);
  const { paths } = findDevices(place.dir, readConfig(place).devices);
  for (const path of paths) {
    try {
      return (await describeDevice(path)).clusterId;
    } catch (error) {
      if (!(error instanceof StrakeError) || error.code !== 'ERR_STRAKE_NOT_FORMATTED') throw error;
    }
  }
  throw new StrakeError('NO_DEVICE', `${place.dir} holds no formatted device`);
}

/** Makes a cluster of a node that stands alone, or completes that. The manager does not run meanwhile, nor the node. */
export async function adoptNode(managerDir: string, nodeDir: string, name?: string): Promise<AdoptedNode> {
  const clusterId = await clusterOfNode(nodeDir);
  const there = await clusterIdOf(managerDir);
  if (there === null) await initCluster({ directory: managerDir, clusterId });
  else if (there !== clusterId) {
    throw new StrakeError(
      'WRONG_DEVICE',
      `the devices belong to cluster ${clusterId}, and ${managerDir} is of ${there}`,
    );
  }
  const socket = managerSocket(managerDir);
  const manager = await openManager({ directory: managerDir, listen: { socket } });
  try {
    const reach = { manager: [{ socket }], keyFile: keyFileOf(managerDir), insecureNetwork: false };
    const adopted = await withNode(nodeDir, reach, name, (node) => node.adoptVolumes());
    return { clusterId, ...adopted };
  } finally {
    await manager.close();
  }
}

/** Takes the volumes of a node back that lie on it alone. The node does not run meanwhile; the manager does. */
export function leaveCluster(nodeDir: string, reach: ClusterReach, name?: string): Promise<AdoptedNode> {
  return withNode(nodeDir, reach, name, async (node) => ({
    clusterId: node.clusterId,
    ...(await node.takeBackVolumes()),
  }));
}
