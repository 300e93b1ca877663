/**
 * Maps of replica groups in frames: the bytes of a replica page (`docs/disk-format.md`) from its beginning to its last member, in
 * which the header but for its magic number, and what a device knows of itself, are zero. And what proves them: anybody may hand
 * on a map that a manager has authenticated.
 */

import { StrakeError } from '../core/errors.js';
import { PageProblem, viewOf } from '../layout/fields.js';
import {
  authenticatedBytes,
  getMap,
  listedMembers,
  mapBytes,
  PAGE_MEMBERS,
  PAGE_OWN,
  putMap,
} from '../layout/map-codec.js';
import { checkReplica, isManaged, type ReplicaMap } from '../layout/replica-map.js';
import type { ClusterKey } from '../ports/cluster-key.js';
import { FRAME_MAPS_MAX } from './limits.js';
import { STATUS_BAD_FRAME, STATUS_DENIED } from './messages.js';
import { WireRefusal } from './refusal.js';

/** "SVL2", as a replica page begins. */
const MAP_MAGIC = 0x32_4c_56_53;
const MAGIC_BYTES = 4;
const HEADER_BYTES = 32;
/** Bytes of an authentication: the first of a proof. */
const AUTHENTICATION_BYTES = 16;

/** The map with what proves it, as a manager decides it. */
export function authenticateMap(map: ReplicaMap, key: ClusterKey): ReplicaMap {
  const proof = key.authenticate(authenticatedBytes(map)).subarray(0, AUTHENTICATION_BYTES);
  return { ...map, authentication: hex(proof) };
}

/** Whether a manager with this key has decided the map. */
export function isAuthentic(map: ReplicaMap, key: ClusterKey): boolean {
  if (map.authentication === undefined) return false;
  return key.verify(authenticatedBytes(map), fromHex(map.authentication));
}

/** The payload of a frame with these maps. */
export function encodeMaps(maps: readonly ReplicaMap[]): Uint8Array {
  const parts = maps.map((map) => mapBytes(map.members.length));
  const payload = new Uint8Array(parts.reduce((sum, bytes) => sum + bytes, 0));
  let at = 0;
  maps.forEach((map, index) => {
    const page = payload.subarray(at, at + parts[index]);
    viewOf(page).setUint32(0, MAP_MAGIC, true);
    putMap(page, map);
    at += parts[index];
  });
  return payload;
}

/**
 * Reads the maps of a payload. With a key each has to be proven by it, without one each has to be of a node that decides by
 * itself. Throws a `WireRefusal`.
 */
export function decodeMaps(
  payload: Uint8Array,
  key: ClusterKey | null,
  most: number = FRAME_MAPS_MAX,
): readonly ReplicaMap[] {
  return readMaps(payload, most, (map) => demandDecided(map, key));
}

/**
 * The same between nodes, where both come: those that managers have decided have to be proven by the key, the others are of a
 * node that decides by itself.
 */
export function decodeEitherMaps(payload: Uint8Array, key: ClusterKey): readonly ReplicaMap[] {
  return readMaps(payload, FRAME_MAPS_MAX, (map) => demandDecided(map, isManaged(map) ? key : null));
}

function readMaps(payload: Uint8Array, most: number, judge: (map: ReplicaMap) => void): readonly ReplicaMap[] {
  const maps: ReplicaMap[] = [];
  for (let at = 0; at < payload.length; ) {
    if (maps.length === most) throw problem(`more than ${most} maps`);
    const rest = payload.subarray(at);
    const bytes = rest.length < mapBytes(0) ? mapBytes(0) : mapBytes(listedMembers(rest));
    if (listedMembers(rest) > PAGE_MEMBERS || bytes > rest.length) throw problem('the last map is cut off');
    const map = decodeMap(rest.subarray(0, bytes));
    judge(map);
    maps.push(map);
    at += bytes;
  }
  if (maps.length === 0) throw problem('there is no map');
  return maps;
}

function decodeMap(bytes: Uint8Array): ReplicaMap {
  if (viewOf(bytes).getUint32(0, true) !== MAP_MAGIC) throw problem('it does not begin with "SVL2"');
  demandZero(bytes, MAGIC_BYTES, HEADER_BYTES);
  for (const [from, length] of PAGE_OWN) demandZero(bytes, from, from + length);
  return read(bytes);
}

/** Whoever decides about a map, that has to be seen: a manager by the key, a node by itself without one. */
function demandDecided(map: ReplicaMap, key: ClusterKey | null): void {
  if (key === null) {
    if (isManaged(map)) throw new WireRefusal(STATUS_DENIED, `${shown(map)} is managed, and there is no key`);
  } else if (!isAuthentic(map, key)) {
    throw new WireRefusal(STATUS_DENIED, `${shown(map)} is not proven by the key of this cluster`);
  }
}

function read(bytes: Uint8Array): ReplicaMap {
  try {
    const map = getMap(bytes);
    // What a device would refuse is no map that anybody decided.
    checkReplica(map);
    if (map.mapVersion === 0) throw problem('it has no version');
    return map;
  } catch (error) {
    const wrong = error instanceof PageProblem || error instanceof RangeError || error instanceof StrakeError;
    throw wrong ? problem(error.message) : error;
  }
}

function demandZero(bytes: Uint8Array, from: number, to: number): void {
  for (let at = from; at < to; at += 1) if (bytes[at] !== 0) throw problem(`its byte ${at} is no part of a map`);
}

function shown({ volume, group, mapVersion }: ReplicaMap): string {
  return `map ${mapVersion} of group ${group} of volume ${volume.id}`;
}

function problem(message: string): WireRefusal {
  return new WireRefusal(STATUS_BAD_FRAME, `map: ${message}`);
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function fromHex(digits: string): Uint8Array {
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) =>
    Number.parseInt(digits.slice(2 * at, 2 * at + 2), 16),
  );
}
