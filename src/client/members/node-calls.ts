/** What a session asks of a node beside data, as calls: of which replica, and with which payload. */

import { check } from '../../core/check.js';
import type { ReplicaMap } from '../../layout/replica-map.js';
import type { ClusterKey } from '../../ports/cluster-key.js';
import { decodeControl, encodeControl, type OpenedFields } from '../../wire/control.js';
import { encodeMaps } from '../../wire/maps.js';
import { KIND_CLOSE, KIND_OPEN, KIND_PING, KIND_STORE_MAP } from '../../wire/messages.js';
import { encodeOpen, type Role, sealTicket } from '../../wire/ticket.js';
import type { ControlAddress, ControlCall } from './asked.js';
import type { RemoteMember } from './remote-member.js';

type Call = Omit<ControlCall, 'resolve'>;

/** Who opens replicas. */
export interface Opener {
  readonly key: ClusterKey;
  readonly clientId: string;
}

/** Which member of a group a map means by an index. */
export function addressOf({ volume, group, mapVersion }: ReplicaMap, index: number): ControlAddress {
  check(mapVersion > 0, 'a replica is named by a map that there is not', group);
  return { volumeId: volume.id, group, index, mapVersion };
}

/** Opens a replica: under the map that is known when the call is sent. */
export function openCall({ key, clientId }: Opener, map: () => ReplicaMap, index: number, role: Role): Call {
  return {
    kind: KIND_OPEN,
    address: () => addressOf(map(), index),
    payload: () => {
      const { volume, generation } = map();
      return encodeOpen(sealTicket({ volumeId: volume.id, clientId, generation, role }, key), map());
    },
  };
}

/** What a node has answered to `openCall`, or in words why that is not the replica that was to be opened. */
export function openedAs(payload: Uint8Array, map: ReplicaMap, index: number): OpenedFields | string {
  const opened = decodeControl('opened', payload);
  const { deviceId, segmentBytes, incarnation } = opened;
  const { volume, members } = map;
  check(index >= 0 && index < members.length, 'a replica is opened that is no member of its map', index);
  if (deviceId !== members[index]?.deviceId) {
    return `it opens device ${deviceId} in place of member ${index} of ${volume.name}`;
  }
  if (segmentBytes !== volume.segmentBytes) {
    return `it opens ${volume.name} with chunks of ${segmentBytes} bytes, and they have ${volume.segmentBytes}`;
  }
  return incarnation > 0 ? opened : `it opens ${volume.name} on a device that was never opened`;
}

/** Hands a map on to the member at an index. `onSent`: the call is on its way. */
export function storeMapCall(map: ReplicaMap, index: number, onSent: () => void): Call {
  const payload = encodeMaps([map]);
  return { kind: KIND_STORE_MAP, address: () => addressOf(map, index), payload: () => payload, onSent };
}

export function closeCall(map: ReplicaMap, index: number): Call {
  return { kind: KIND_CLOSE, address: () => addressOf(map, index), payload: () => new Uint8Array(0) };
}

/** What a PING says. `taken`: changes of the session that have been taken. */
export function pingPayload(taken: number): Uint8Array {
  return encodeControl('ping', { taken, stalled: [] });
}

/** Asks whether the node is there, and which devices it has. */
export function pingCall(taken: number): Call {
  const payload = pingPayload(taken);
  return { kind: KIND_PING, once: true, address: () => null, payload: () => payload };
}

/** What came of opening a replica. */
export interface Opening {
  /** Null if it was not opened. */
  readonly member: RemoteMember | null;
  /** `STATUS_*`, or the number of an error. */
  readonly status: number;
  /** What the node has in place of the map under which it was to be opened. */
  readonly maps: readonly ReplicaMap[];
}
