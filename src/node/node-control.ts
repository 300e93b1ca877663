/**
 * What clients ask of a node beside data: to open and close replicas, to store maps, and whether it is there. Each is answered by
 * a frame of its own, or packed if there is nothing to tell but a status.
 */

import { check } from '../core/check.js';
import { EINVAL, EIO, ESTALE } from '../core/errno.js';
import { isManaged, namesDevice, type ReplicaMap } from '../layout/replica-map.js';
import { NO_CLIENT } from '../layout/volume-map.js';
import type { ClusterKey } from '../ports/cluster-key.js';
import type { CompletionPort } from '../ports/completion.js';
import { decodeControl, encodeControl, type OpenedFields } from '../wire/control.js';
import type { Frame } from '../wire/frame.js';
import { decodeEitherMaps, encodeMaps } from '../wire/maps.js';
import {
  HEADER_BYTES,
  KIND_CLOSE,
  KIND_MAP_CHANGED,
  KIND_OPEN,
  KIND_PING,
  KIND_PONG,
  KIND_PROBE,
  KIND_REPLY,
  KIND_STORE_MAP,
  REPLY_JSON,
  REPLY_MAPS,
  STATUS_BAD_FRAME,
  STATUS_BUSY,
  STATUS_DENIED,
  STATUS_NEED_MAP,
  STATUS_NOT_OPEN,
  STATUS_NOT_YET,
  STATUS_OK,
  STATUS_STALE_MAP,
} from '../wire/messages.js';
import { WireRefusal } from '../wire/refusal.js';
import { decodeOpen, type Role, type Ticket } from '../wire/ticket.js';
import { SESSION_REPLICAS_MAX } from './limits.js';
import { type DrivenDevice, healthOf } from './node-device.js';
import { OpenReplica } from './open-replica.js';
import type { PeerRequest } from './peer-request.js';
import type { ReplicaGate } from './replica-gate.js';
import type { ControlHandler, ControlHead, SegmentConnection } from './segment-connection.js';
import { grantLeases } from './session-leases.js';

/** The smallest buffer of a request of this kind: most answers fit it. */
const CONTROL_BUFFER_BYTES = 4096;

export interface NodeControlParts {
  readonly completions: CompletionPort;
  readonly key: ClusterKey;
  /** The devices of the node, by id. */
  readonly devices: ReadonlyMap<string, DrivenDevice>;
  /** All connections that serve. */
  readonly connections: () => Iterable<SegmentConnection>;
  /** A map has been stored that says that its volume is deleted. */
  readonly onDeleted: (device: DrivenDevice, map: ReplicaMap) => void;
}

export class NodeControl implements ControlHandler {
  private readonly parts: NodeControlParts;

  constructor(parts: NodeControlParts) {
    this.parts = parts;
  }

  isCredited(kind: number): boolean {
    return kind !== KIND_PING && kind !== KIND_CLOSE;
  }

  bufferBytes(kind: number): number {
    return kind === KIND_PING || kind === KIND_OPEN || kind === KIND_STORE_MAP ? CONTROL_BUFFER_BYTES : 0;
  }

  /** Begins what a frame asks for, whose payload is `payload`. Throws a `WireRefusal`. */
  begin(connection: SegmentConnection, frame: Frame, payload: Uint8Array, request: PeerRequest): void {
    switch (frame.kind) {
      case KIND_PING:
        this.ping(connection, connection, payload, request);
        break;
      case KIND_PROBE:
        connection.decline(request, this.probe(frame));
        break;
      case KIND_CLOSE:
        connection.replicas.find(frame)?.gate.giveUp(connection.clientId);
        connection.replicas.remove(frame);
        connection.decline(request, STATUS_OK);
        break;
      case KIND_OPEN:
        void this.open(connection, frame.member, decodeOpenOf(connection, frame, payload, this.parts.key), request);
        break;
      case KIND_STORE_MAP:
        void this.storeMap(connection, frame.member, decodeOneMap(payload, this.parts.key), request);
        break;
      default:
        throw new WireRefusal(STATUS_BAD_FRAME, `nobody here takes frames of kind ${frame.kind}`);
    }
  }

  // ---- the node

  /**
   * Answers a PING of a session on the connection on which it has come. What the client has taken is a number of changes of the
   * session, so that it makes no difference which of its two connections is ahead of the other.
   */
  ping(session: SegmentConnection, connection: SegmentConnection, payload: Uint8Array, request: PeerRequest): void {
    const { taken } = decodeControl('ping', payload);
    if (taken > session.changes) {
      throw new WireRefusal(STATUS_BAD_FRAME, `PING: ${taken} changes taken of ${session.changes}`);
    }
    const { leaseMs, unleased } = grantLeases(session, taken);
    const devices = [...this.parts.devices.values()].map((device) => ({
      deviceId: device.deviceId,
      incarnation: device.incarnation,
      depth: device.outstanding,
      segmentBytes: device.slotBytes,
      freeBytes: device.freeSlots * device.slotBytes,
      health: healthOf(device),
    }));
    const pong = { taken, devices, ...(unleased.length > 0 ? { unleased } : {}) };
    this.send(connection, request, { kind: KIND_PONG, flags: 0, leaseMs }, encodeControl('pong', pong));
  }

  /** Whether the holder of a group has a session here. */
  private probe({ volume, group }: Frame): number {
    const volumeId = volume.toString();
    for (const device of this.parts.devices.values()) {
      const map = device.replicasOf(volumeId).find((replica) => replica.group === group);
      if (map === undefined) continue;
      for (const { clientId } of this.parts.connections()) if (clientId === map.holder) return STATUS_BUSY;
      return STATUS_OK;
    }
    return STATUS_NOT_OPEN;
  }

  // ---- replicas

  /** The device of this node that is the member of a map at an index; null if it is not here, or has failed. */
  private deviceOf({ members }: ReplicaMap, index: number): DrivenDevice | null {
    const device = this.parts.devices.get(members[index]?.deviceId ?? '');
    return device === undefined || device.failed ? null : device;
  }

  private async open(
    connection: SegmentConnection,
    index: number,
    { ticket, map }: { readonly ticket: Ticket; readonly map: ReplicaMap },
    request: PeerRequest,
  ): Promise<void> {
    const device = this.deviceOf(map, index);
    if (device === null) {
      connection.decline(request, EIO);
      return;
    }
    const gate = device.gate(map.volume.id, map.group);
    // What it remembers is told to whoever opens it. If it has gone, that is noticed below.
    await device.refresh().catch(() => {});
    await gate.settled();
    if (connection.closing) {
      connection.endRequest(request);
      return;
    }
    if (device.failed) {
      connection.decline(request, EIO);
      return;
    }
    const status = openingError(gate, map, ticket.role);
    if (status === STATUS_OK) this.opened(connection, { device, gate, index, role: ticket.role }, request);
    else {
      request.status = status;
      this.answerMaps(connection, request, gate.map === undefined ? [] : [gate.map]);
    }
  }

  private opened(connection: SegmentConnection, { device, gate, index, role }: Opened, request: PeerRequest): void {
    const { group, map } = gate;
    if (connection.replicas.size >= SESSION_REPLICAS_MAX) {
      connection.decline(request, STATUS_NOT_OPEN);
      return;
    }
    check(gate.answered && map !== undefined, 'a replica is opened under a map that has not been answered', group);
    check(map.members[index]?.deviceId === device.deviceId, 'a replica is opened on another device', index);
    const { completions } = this.parts;
    const replica = new OpenReplica({ completions, session: connection, gate, index, role });
    connection.replicas.add(replica);
    connection.noteChange(replica, map);
    request.replica = replica;
    const { member } = replica;
    const none = { generation: 0, flushNumber: 0 };
    const fields: OpenedFields = {
      deviceId: member.deviceId,
      segmentBytes: member.segmentBytes,
      incarnation: member.incarnation,
      flushed: plain(member.flushed),
      settled: plain(member.settled ?? none),
      servedGeneration: gate.servedGeneration,
      stampMax: { low: member.stampMax.low, high: member.stampMax.high },
      epoch: 1,
      freeBytes: device.freeSlots * device.slotBytes,
      taken: connection.changes,
    };
    this.send(connection, request, { kind: KIND_REPLY, flags: REPLY_JSON }, encodeControl('opened', fields));
  }

  private async storeMap(
    connection: SegmentConnection,
    index: number,
    map: ReplicaMap,
    request: PeerRequest,
  ): Promise<void> {
    const device = this.deviceOf(map, index);
    if (device === null) {
      connection.decline(request, EIO);
      return;
    }
    if (map.volume.segmentBytes !== device.slotBytes) {
      connection.decline(request, EINVAL);
      return;
    }
    const gate = device.gate(map.volume.id, map.group);
    const result = gate.hasOther(map) ? -ESTALE : await gate.storeMap(map, connection.replicas.behind(gate));
    const known = gate.map;
    if (connection.closing) connection.endRequest(request);
    else if (result === -ESTALE && known !== undefined) {
      request.status = STATUS_STALE_MAP;
      this.answerMaps(connection, request, [known]);
    } else if (result < 0) connection.decline(request, -result);
    else {
      const { incarnation } = device;
      const stored = { mapVersion: map.mapVersion, incarnation, servedGeneration: gate.servedGeneration };
      this.send(connection, request, { kind: KIND_REPLY, flags: REPLY_JSON }, encodeControl('stored', stored));
    }
    if (result >= 0 && map.volume.deleted) this.parts.onDeleted(device, map);
  }

  tellMap(connection: SegmentConnection, about: OpenReplica, map: ReplicaMap): void {
    connection.announce((request) => {
      this.send(connection, request, { kind: KIND_MAP_CHANGED, flags: 0, about }, encodeMaps([map]));
    });
  }

  /**
   * All copies are equal, and the member has noted it: that the generation is served is made durable before it is answered, and
   * before a newer map is.
   */
  noteServed(connection: SegmentConnection, request: PeerRequest): void {
    const { replica, record } = request;
    check(replica !== null, 'copies agree of what is not open', request.index);
    void replica.gate.noteServed(record.generation).then((result) => {
      replica.leave();
      if (connection.closing) connection.endRequest(request);
      else connection.decline(request, result < 0 ? -result : STATUS_OK);
    });
  }

  // ---- answers

  answerMaps(connection: SegmentConnection, request: PeerRequest, maps: readonly ReplicaMap[]): void {
    if (maps.length === 0) connection.decline(request, request.status);
    else this.send(connection, request, { kind: KIND_REPLY, flags: REPLY_MAPS }, encodeMaps(maps));
  }

  /** Sends a frame with a payload from the buffer of a request, or from a larger one. */
  private send(connection: SegmentConnection, request: PeerRequest, head: ControlHead, payload: Uint8Array): void {
    const bytes = HEADER_BYTES + payload.length;
    const small = request.buffer === null || request.buffer.capacityBytes < bytes;
    if (small && !connection.changeBuffer(request, bytes)) {
      // It asks again: a client that is not answered with what it needs has lost nothing.
      connection.end('there is no buffer for an answer');
      connection.endRequest(request);
      return;
    }
    const { buffer } = request;
    check(buffer !== null, 'an answer has no buffer', request.index);
    check(buffer.capacityBytes >= bytes, 'an answer is longer than its buffer', bytes);
    connection.sendControl(request, head, payload);
  }
}

function plain({ generation, flushNumber }: { generation: number; flushNumber: number }) {
  return { generation, flushNumber };
}

/** What OPEN says, if it is what the header says, and the client's own. Throws a `WireRefusal`. */
function decodeOpenOf(
  { clientId }: SegmentConnection,
  frame: Frame,
  payload: Uint8Array,
  key: ClusterKey,
): { readonly ticket: Ticket; readonly map: ReplicaMap } {
  const { ticket, map } = decodeOpen(payload, key);
  if (ticket.clientId !== clientId) throw new WireRefusal(STATUS_DENIED, 'the ticket is for another client');
  const same = map.volume.id === frame.volume.toString() && map.group === frame.group;
  if (!same || map.mapVersion !== frame.mapVersion) {
    throw new WireRefusal(STATUS_BAD_FRAME, 'OPEN: its map is not that of its header');
  }
  const writes = ticket.role !== 'reader';
  // A map of a node that decides by itself may have nobody: whoever opens it is that node.
  const held = map.holder !== NO_CLIENT || (isManaged(map) && ticket.role === 'writer');
  if (writes && held && (map.holder !== clientId || map.generation !== ticket.generation)) {
    throw new WireRefusal(STATUS_DENIED, `the right to write is that of ${map.holder}, and not of ${clientId}`);
  }
  return { ticket, map };
}

/** The map that STORE_MAP brings. Throws a `WireRefusal`. */
function decodeOneMap(payload: Uint8Array, key: ClusterKey): ReplicaMap {
  const maps = decodeEitherMaps(payload, key);
  if (maps.length !== 1) throw new WireRefusal(STATUS_BAD_FRAME, `${maps.length} maps come for one member`);
  return maps[0];
}

/** What is opened. */
interface Opened {
  readonly device: DrivenDevice;
  readonly gate: ReplicaGate;
  readonly index: number;
  readonly role: Role;
}

/** Why a replica cannot be opened under a map: `STATUS_OK` if it can. */
function openingError(gate: ReplicaGate, map: ReplicaMap, role: Role): number {
  const known = gate.map;
  if (known === undefined || known.mapVersion < map.mapVersion) return STATUS_NEED_MAP;
  if (gate.hasOther(map)) return STATUS_STALE_MAP;
  if (!namesDevice(known, gate.device.deviceId)) return STATUS_NOT_OPEN;
  // What it had is being given back. Whoever only looks learns that.
  if (known.volume.deleted && role !== 'reader') return STATUS_NOT_OPEN;
  return gate.answered ? STATUS_OK : STATUS_NOT_YET;
}
