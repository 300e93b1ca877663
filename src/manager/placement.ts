/**
 * On which devices a new volume lies: for each of its groups one device on each of as many nodes as it has copies. The nodes are
 * named, until placement chooses by itself. Pure.
 */

import { newVolumeName } from '../core/arguments.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES, COPIES_MAX } from '../core/limits.js';
import { NO_FLUSH } from '../layout/flush-id.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { NO_CLIENT } from '../layout/volume-map.js';
import type { CreateRequest } from '../ports/manager.js';
import { EPOCH_VERSIONS, VOLUME_GROUPS_MAX } from './limits.js';

/** A device that is there, and has room for one more replica. */
export interface Candidate {
  readonly deviceId: string;
  readonly nodeId: string;
  readonly segmentBytes: number;
  readonly freeBytes: number;
  readonly incarnation: number;
}

/** Throws `ERR_STRAKE_INVALID_ARGUMENT` if there can be no such volume. */
export function checkCreate({ name, sizeBytes, layout, copies, on }: CreateRequest): void {
  newVolumeName.take(name, 'the name of a volume');
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % BLOCK_BYTES !== 0) {
    const what = `the size of a volume is a multiple of ${BLOCK_BYTES} bytes, not ${sizeBytes}`;
    throw new StrakeError('INVALID_ARGUMENT', what);
  }
  if (layout === 'single' ? copies !== 1 : copies < 2 || copies > COPIES_MAX) {
    throw new StrakeError('INVALID_ARGUMENT', `${layout} with ${copies} copies: a mirror has 2 or 3, single has 1`);
  }
  if (on.length > 0 && new Set(on).size < copies) {
    const what = `volume ${name} has ${copies} copies, each on a node of its own, and ${new Set(on).size} nodes are named`;
    throw new StrakeError('INVALID_ARGUMENT', what);
  }
}

/**
 * The devices of each group of a volume: those with most room, on nodes that have most of them left. A volume of one copy has one
 * group, a mirror as many as there are devices for. Throws `ERR_STRAKE_NO_SPACE`.
 */
export function placeGroups(candidates: readonly Candidate[], copies: number, name: string): readonly Candidate[][] {
  const alike = largestKind(candidates);
  const byNode = new Map<string, Candidate[]>();
  const sorted = [...alike].sort((one, other) => {
    return other.freeBytes - one.freeBytes || (one.deviceId < other.deviceId ? -1 : 1);
  });
  for (const candidate of sorted) byNode.set(candidate.nodeId, [...(byNode.get(candidate.nodeId) ?? []), candidate]);
  const groups: Candidate[][] = [];
  while (groups.length < (copies === 1 ? 1 : VOLUME_GROUPS_MAX)) {
    const left = [...byNode.values()].filter((devices) => devices.length > 0);
    if (left.length < copies) break;
    // Nodes with most devices left come first, or some of those would find no partner.
    left.sort((one, other) => other.length - one.length || other[0].freeBytes - one[0].freeBytes);
    groups.push(left.slice(0, copies).map((devices) => devices.shift() as Candidate));
  }
  if (groups.length > 0) return groups;
  const what = `volume ${name} needs a device on each of ${copies} nodes, with slots of one size and room, and there are ${byNode.size} such nodes`;
  throw new StrakeError('NO_SPACE', what, { remedy: 'Start more nodes, or add formatted devices to them.' });
}

/** The devices whose chunks have the size that most have. */
function largestKind(candidates: readonly Candidate[]): readonly Candidate[] {
  const sizes = new Map<number, Candidate[]>();
  for (const candidate of candidates) {
    const { segmentBytes } = candidate;
    sizes.set(segmentBytes, [...(sizes.get(segmentBytes) ?? []), candidate]);
  }
  const nodesOf = (devices: readonly Candidate[]) => new Set(devices.map(({ nodeId }) => nodeId)).size;
  const kinds = [...sizes.values()];
  return kinds.sort((one, other) => nodesOf(other) - nodesOf(one) || other.length - one.length)[0] ?? [];
}

/** The first maps of a volume, which nobody has stored yet. */
export function firstMaps(
  { volumeId, name, sizeBytes, layout, copies }: CreateRequest,
  groups: readonly (readonly Candidate[])[],
  { epoch, createdMs }: { readonly epoch: number; readonly createdMs: number },
): readonly ReplicaMap[] {
  const mapVersion = epoch * EPOCH_VERSIONS + 1;
  const [[{ segmentBytes }]] = groups;
  const volume = {
    ...{ id: volumeId, name, headerVersion: 0, createdMs, sizeBytes, layout, copies, segmentBytes },
    deleted: false,
  };
  return groups.map((devices, group) => {
    check(new Set(devices.map(({ nodeId }) => nodeId)).size === copies, 'a group has two members on one node', group);
    const members = devices.map(({ deviceId, incarnation }, place) => ({
      ...({ deviceId, place, state: 'in-sync', since: NO_FLUSH, flushNumber: 0, joined: mapVersion } as const),
      // Whoever has been opened once more is the device, and no older image of it.
      incarnation: incarnation - 1,
    }));
    const right = { generation: 0, holder: NO_CLIENT, lease: 'released' } as const;
    return { volume, group, groups: groups.length, mapVersion, ...right, members };
  });
}
