/**
 * What calls of managers and their answers have, as bytes:
 *
 * ```text
 *   │ bytes of the JSON, 4 │ JSON │ maps ... │
 * ```
 *
 * Maps that a manager has decided are proven by the key of the cluster; those that it is asked for, or gives back, are not. Both
 * are as in frames of `src/wire/maps.ts`.
 */

import { fields, id, oneOf, type Rule, whole } from '../core/arguments.js';
import { StrakeError } from '../core/errors.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { ClusterKey } from '../ports/cluster-key.js';
import type {
  ChangeAnswer,
  ChangeRequest,
  Decided,
  DetachAnswer,
  DetachRequest,
  DevicePlace,
} from '../ports/manager.js';
import { CALL_MAPS_MAX } from './limits.js';
import { decodeMaps, encodeMaps } from './maps.js';
import { STATUS_BAD_FRAME } from './messages.js';
import { WireRefusal } from './refusal.js';

const HEAD_BYTES = 4;

/** JSON, and the maps behind it. */
interface Contents {
  readonly json: unknown;
  readonly maps: readonly ReplicaMap[];
}

/** What a call or an answer has: how it is taken apart, and put together. */
export interface Body<T> {
  /** Whether its maps have to be proven. */
  readonly proven: boolean;
  split(value: T): Contents;
  /** Throws `ERR_STRAKE_INVALID_ARGUMENT`. */
  join(contents: Contents): T;
}

const UNPROVEN = 'unproven';

/** A map as it is before it is decided. */
function unproven({ authentication: _, ...map }: ReplicaMap): ReplicaMap {
  return map;
}

function demandMaps(maps: readonly ReplicaMap[], least: number, most: number): void {
  if (maps.length >= least && maps.length <= most) return;
  throw new StrakeError('INVALID_ARGUMENT', `${maps.length} maps come, where ${least} to ${most} have to`);
}

/** JSON alone. */
export function bodyOf<T>(rule: Rule<T>): Body<T> {
  return {
    proven: true,
    split: (value) => ({ json: rule.take(value, ''), maps: [] }),
    join: ({ json, maps }) => {
      demandMaps(maps, 0, 0);
      return rule.take(json, '');
    },
  };
}

/** JSON, and any number of maps. */
export function behind<T extends object>(
  rule: Rule<T>,
  proof: 'proven' | 'unproven',
): Body<T & { readonly maps: readonly ReplicaMap[] }> {
  return {
    proven: proof !== UNPROVEN,
    split: ({ maps, ...rest }) => ({
      json: rule.take(rest, ''),
      maps: proof === UNPROVEN ? maps.map(unproven) : maps,
    }),
    join: ({ json, maps }) => ({ ...rule.take(json, ''), maps }),
  };
}

const changing = fields<Omit<ChangeRequest<ReplicaMap>, 'map'>>({
  clientId: id,
  volumeId: id,
  group: whole(0, 65_535),
  before: whole(0),
});

export const changeRequest: Body<ChangeRequest<ReplicaMap>> = {
  proven: false,
  split: ({ map, ...rest }) => ({ json: changing.take(rest, ''), maps: [unproven(map)] }),
  join: ({ json, maps }) => {
    demandMaps(maps, 1, 1);
    return { ...changing.take(json, ''), map: maps[0] };
  },
};

const detaching = fields<Omit<DetachRequest<ReplicaMap>, 'maps'>>({ clientId: id, volumeId: id });
export const detachRequest: Body<DetachRequest<ReplicaMap>> = behind(detaching, UNPROVEN);

type Places = Rule<{ readonly devices: readonly DevicePlace[] }>;

/** An answer of one kind or another, of which one is that a newer map counts. */
function kindOf(json: unknown, kinds: readonly string[]): { readonly kind: string; readonly rest: object } {
  const { kind, ...rest } = typeof json === 'object' && json !== null ? (json as { kind?: unknown }) : {};
  return { kind: oneOf(...kinds).take(kind, 'kind'), rest };
}

export function changeAnswer(places: Places): Body<ChangeAnswer<ReplicaMap>> {
  const empty = fields<object>({});
  return {
    proven: true,
    split: (answer) =>
      answer.kind === 'decided' ? { json: { kind: 'decided' }, maps: [answer.map] } : superseded(answer.newest),
    join: ({ json, maps }) => {
      const { kind, rest } = kindOf(json, ['decided', 'superseded']);
      if (kind === 'superseded') return { kind, newest: { maps, ...places.take(rest, '') } };
      demandMaps(maps, 1, 1);
      empty.take(rest, '');
      return { kind: 'decided', map: maps[0] };
    },
  };
}

export function detachAnswer(places: Places): Body<DetachAnswer<ReplicaMap>> {
  return {
    proven: true,
    split: (answer) =>
      answer.kind === 'released'
        ? { json: { kind: 'released', devices: answer.devices }, maps: answer.maps }
        : superseded(answer.newest),
    join: ({ json, maps }) => {
      const { kind, rest } = kindOf(json, ['released', 'superseded']);
      const decided = { maps, ...places.take(rest, '') };
      return kind === 'superseded' ? { kind, newest: decided } : { kind: 'released', ...decided };
    },
  };
}

function superseded({ maps, devices }: Decided<ReplicaMap>): Contents {
  return { json: { kind: 'superseded', devices }, maps };
}

// ---------------------------------------------------------------- bytes

/** Writes a call or an answer. Throws `ERR_STRAKE_INVALID_ARGUMENT` if it is not what it should be. */
export function encodeBody<T>(body: Body<T>, value: T): Uint8Array {
  const { json, maps } = body.split(value);
  const text = new TextEncoder().encode(JSON.stringify(json));
  const rest = encodeMaps(maps);
  const bytes = new Uint8Array(HEAD_BYTES + text.length + rest.length);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, HEAD_BYTES);
  bytes.set(rest, HEAD_BYTES + text.length);
  return bytes;
}

/** Reads what has arrived whole. Throws a `WireRefusal`. */
export function decodeBody<T>(name: string, body: Body<T>, bytes: Uint8Array, key: ClusterKey): T {
  const textBytes = bytes.length < HEAD_BYTES ? -1 : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const end = HEAD_BYTES + textBytes;
  if (textBytes < 0 || end > bytes.length) {
    throw new WireRefusal(STATUS_BAD_FRAME, `${name}: ${bytes.length} bytes have no room for their JSON`);
  }
  const rest = bytes.subarray(end);
  const maps = rest.length === 0 ? [] : decodeMaps(rest, body.proven ? key : null, CALL_MAPS_MAX);
  let json: unknown;
  try {
    json = JSON.parse(
      new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(HEAD_BYTES, end)),
    );
  } catch {
    throw new WireRefusal(STATUS_BAD_FRAME, `${name}: ${textBytes} bytes are no JSON`);
  }
  try {
    return body.join({ json, maps });
  } catch (error) {
    if (!(error instanceof StrakeError)) throw error;
    throw new WireRefusal(STATUS_BAD_FRAME, `${name}: ${error.message}`);
  }
}
