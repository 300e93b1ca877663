/**
 * What proves that a client may open a replica: for which volume, with which generation, and as what. A manager, or the node that
 * decides by itself, makes it; every node of the cluster can check it.
 */

import { getId, getUint64, putId, putUint64, viewOf } from '../layout/fields.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { ClusterKey } from '../ports/cluster-key.js';
import { decodeEitherMaps, encodeMaps } from './maps.js';
import { STATUS_BAD_FRAME, STATUS_DENIED } from './messages.js';
import { WireRefusal } from './refusal.js';

/** As what a replica is opened. */
export type Role = 'writer' | 'reader' | 'job';

export interface Ticket {
  readonly volumeId: string;
  readonly clientId: string;
  readonly generation: number;
  readonly role: Role;
}

export const TICKET_BYTES = 64;
const AT_CLIENT = 16;
const AT_GENERATION = 32;
const AT_ROLE = 40;
const AT_PROOF = 48;
const ROLES: readonly Role[] = ['writer', 'reader', 'job'];
const LABEL = new TextEncoder().encode('strake ticket 1\0');

/** A ticket that can be handed on. */
export function sealTicket({ volumeId, clientId, generation, role }: Ticket, key: ClusterKey): Uint8Array {
  const bytes = new Uint8Array(TICKET_BYTES);
  const view = viewOf(bytes);
  putId(view, 0, volumeId);
  putId(view, AT_CLIENT, clientId);
  putUint64(view, AT_GENERATION, generation);
  view.setUint8(AT_ROLE, ROLES.indexOf(role) + 1);
  bytes.set(key.authenticate(authenticated(bytes)).subarray(0, TICKET_BYTES - AT_PROOF), AT_PROOF);
  return bytes;
}

function authenticated(ticket: Uint8Array): Uint8Array {
  const message = new Uint8Array(LABEL.length + AT_PROOF);
  message.set(LABEL);
  message.set(ticket.subarray(0, AT_PROOF), LABEL.length);
  return message;
}

/** Reads a ticket. Throws a `WireRefusal` if the key does not prove it. */
export function openTicket(ticket: Uint8Array, key: ClusterKey): Ticket {
  if (ticket.length !== TICKET_BYTES) throw new WireRefusal(STATUS_BAD_FRAME, `a ticket of ${ticket.length} bytes`);
  if (!key.verify(authenticated(ticket), ticket.slice(AT_PROOF))) {
    throw new WireRefusal(STATUS_DENIED, 'the ticket is not proven by the key of this cluster');
  }
  const view = viewOf(ticket);
  const role = ROLES[view.getUint8(AT_ROLE) - 1];
  if (role === undefined) throw new WireRefusal(STATUS_BAD_FRAME, 'the ticket is for a role that is not known');
  const [volumeId, clientId] = [getId(view, 0), getId(view, AT_CLIENT)];
  return { volumeId, clientId, generation: getUint64(view, AT_GENERATION), role };
}

/** The payload of OPEN: a ticket, and the client's map of the group. */
export function encodeOpen(ticket: Uint8Array, map: ReplicaMap): Uint8Array {
  const maps = encodeMaps([map]);
  const payload = new Uint8Array(TICKET_BYTES + maps.length);
  payload.set(ticket);
  payload.set(maps, TICKET_BYTES);
  return payload;
}

/**
 * Reads the payload of OPEN. A map that a manager has decided has to be proven by the key. Throws a `WireRefusal`; the map is of
 * the ticket's volume.
 */
export function decodeOpen(payload: Uint8Array, key: ClusterKey): { ticket: Ticket; map: ReplicaMap } {
  const ticket = openTicket(payload.slice(0, TICKET_BYTES), key);
  const maps = decodeEitherMaps(payload.slice(TICKET_BYTES), key);
  const [map] = maps;
  if (maps.length !== 1 || map.volume.id !== ticket.volumeId) {
    throw new WireRefusal(
      STATUS_BAD_FRAME,
      `${maps.length} maps, the first of volume ${map.volume.id}, do not fit the ticket`,
    );
  }
  return { ticket, map };
}
