/**
 * Which of the devices that were named become a node's: those of one cluster, each id once, and no more than there is room for.
 *
 * The choice depends on what they say and on the order in which they were named, never on which was read first.
 */

import { StrakeError } from '../core/errors.js';
import type { Superblock } from '../store/format/superblock.js';
import type { DeviceFacts } from './facts.js';

/** A device that is open and has said who it is. */
export interface Examined {
  readonly path: string;
  /** Its number until an engine adopts it. */
  readonly handle: number;
  readonly facts: DeviceFacts;
  readonly superblock: Superblock;
}

type Named = Pick<Examined, 'path' | 'superblock'>;

/** The cluster, and why some devices are not taken. */
export interface Choice<D> {
  readonly clusterId: string;
  readonly refused: ReadonlyMap<D, StrakeError>;
}

/** The cluster of most devices; of several with as many, that of the one named first. Copies of a device count once. */
function clusterOf(devices: readonly Named[]): string {
  const members = new Map<string, Set<string>>();
  for (const { superblock } of devices) {
    const ids = members.get(superblock.clusterId) ?? new Set<string>();
    members.set(superblock.clusterId, ids.add(superblock.deviceId));
  }
  const sizes = [...members].map(([clusterId, ids]) => ({ clusterId, size: ids.size }));
  // Sorting is stable: they are in the order of the devices.
  return sizes.sort((one, other) => other.size - one.size)[0]?.clusterId ?? '';
}

/** `clusterId`: of the node, empty if it is to be found. `room`: how many it takes, of the `most` that it drives. */
export function chooseDevices<D extends Named>(
  devices: readonly D[],
  clusterId: string,
  room: number,
  most = room,
): Choice<D> {
  const cluster = clusterId || clusterOf(devices);
  const refused = new Map<D, StrakeError>();
  const taken: D[] = [];
  for (const device of devices) {
    const { path, superblock } = device;
    const { deviceId } = superblock;
    const twins = devices.filter((one) => one !== device && one.superblock.deviceId === deviceId);
    if (superblock.clusterId !== cluster) {
      const what = `${path} belongs to cluster ${superblock.clusterId}, and this node to ${cluster}`;
      const remedy = `Take it out of the node's devices; if it is the other ones that do not belong here, name the cluster: --cluster ${superblock.clusterId}.`;
      refused.set(device, new StrakeError('WRONG_DEVICE', what, { remedy }));
    } else if (twins.length > 0) {
      const others = twins.map((one) => one.path).join(' and ');
      const what = `${path} and ${others} are the same device (${deviceId}): all but one are copies, and nothing tells which`;
      const remedy = "Take the copies out of the node's devices, or format them anew; then: strake device add PATH";
      refused.set(device, new StrakeError('WRONG_DEVICE', what, { remedy }));
    } else if (taken.length >= room) {
      const remedy = 'Take others out of the node first.';
      refused.set(device, new StrakeError('BUSY', `this node drives at most ${most} devices`, { remedy }));
    } else {
      taken.push(device);
    }
  }
  return { clusterId: cluster, refused };
}
