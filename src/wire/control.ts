/**
 * Control payloads that are JSON: what each has, and how it is read and written. Keys that are not known are refused, as they are
 * everywhere: a later version that adds one has another number.
 */

import { fields, id, list, oneOf, optional, type Rule, text, whole } from '../core/arguments.js';
import { ERRORS, type ErrorName, StrakeError } from '../core/errors.js';
import type { FrameProblem } from './framing.js';
import { CREDIT_BYTES_MAX, CREDIT_REQUESTS_MAX, LISTED_MAX, MESSAGE_BYTES_MAX, TEXT_BYTES_MAX } from './limits.js';
import { STATUS_BAD_FRAME } from './messages.js';
import { WireRefusal } from './refusal.js';

/** What whoever accepts a connection says of itself before it knows who asks. */
export interface ChallengeFields {
  readonly versionLeast: number;
  readonly versionMost: number;
  readonly features: readonly string[];
  /** The node or manager, and its cluster. */
  readonly nodeId: string;
  readonly clusterId: string;
}

/** Who asks for a session. */
export interface HelloFields {
  readonly version: number;
  /** Those of the challenge that will be used. */
  readonly features: readonly string[];
  /** One shard of a process. */
  readonly clientId: string;
  /** Counts up for each client: a newer session takes the place of an older one. */
  readonly session: number;
  /** In whose name: an operator's word for it. */
  readonly principal: string;
}

/** What a session is granted. */
export interface WelcomeFields {
  /** Requests and bytes of payloads that may be asked for and not answered. */
  readonly creditRequests: number;
  readonly creditBytes: number;
  /** Where the shards of the node listen, in their order. */
  readonly shards: readonly string[];
}

export interface PingFields {
  /** How many replicas opened and maps changed on this session the client has taken. */
  readonly taken: number;
  /** Groups that the client is stalled in. */
  readonly stalled: readonly GroupName[];
}

export interface PongFields {
  /** That of the ping. The lease that the header grants is for replicas whose last change is within it. */
  readonly taken: number;
  readonly devices: readonly DeviceState[];
  /** Replicas within it for which no lease is granted all the same; absent if there are none. */
  readonly unleased?: readonly GroupName[] | undefined;
}

/** A group of a volume. */
export interface GroupName {
  readonly volumeId: string;
  readonly group: number;
}

/** A device, as its node knows it. */
export interface DeviceState {
  readonly deviceId: string;
  readonly incarnation: number;
  /** Data operations in flight. */
  readonly depth: number;
  /** Bytes of a chunk. */
  readonly segmentBytes: number;
  readonly freeBytes: number;
  readonly health: 'healthy' | 'read-only' | 'failed';
}

/** What is known of a replica when it is opened: what a `SegmentMember` has from its beginning. */
export interface OpenedFields {
  readonly deviceId: string;
  readonly segmentBytes: number;
  readonly incarnation: number;
  readonly flushed: FlushFields;
  /** Generation 0 and number 0: not known. */
  readonly settled: FlushFields;
  readonly servedGeneration: number;
  readonly stampMax: { readonly low: number; readonly high: number };
  readonly epoch: number;
  readonly freeBytes: number;
  /** How many replicas opened and maps changed the session has with this. */
  readonly taken: number;
}

export interface FlushFields {
  readonly generation: number;
  readonly flushNumber: number;
}

/** What a member answers when it has answered a map. */
export interface StoredFields {
  readonly mapVersion: number;
  readonly incarnation: number;
  readonly servedGeneration: number;
}

/** Why a manager does not do what it is asked for: a `StrakeError`. */
export interface FailureFields {
  /** Its name, as `ERRORS` has it; of a newer version it may be one that is not known here. */
  readonly name: string;
  readonly message: string;
  readonly remedy: string;
}

/** Why a connection ends. */
export interface RefusedFields {
  readonly status: number;
  readonly message: string;
}

const count = whole(0);
/** Of an error, whose message may name much. */
const words = text(0, MESSAGE_BYTES_MAX);
const word = whole(0, 2 ** 32 - 1);
const features = list(text(1, TEXT_BYTES_MAX), 0, LISTED_MAX);
const flush = fields<FlushFields>({ generation: count, flushNumber: count });
const groups = list(fields<GroupName>({ volumeId: id, group: whole(0, 65_535) }), 0, LISTED_MAX);
const device = fields<DeviceState>({
  deviceId: id,
  incarnation: count,
  depth: count,
  segmentBytes: whole(4096, 1 << 20),
  freeBytes: count,
  health: oneOf('healthy', 'read-only', 'failed'),
});

/** By name of the payload. */
export const CONTROL_RULES = {
  challenge: fields<ChallengeFields>({
    versionLeast: whole(1, 255),
    versionMost: whole(1, 255),
    features,
    nodeId: id,
    clusterId: id,
  }),
  hello: fields<HelloFields>({
    version: whole(1, 255),
    features,
    clientId: id,
    session: word,
    principal: text(1, TEXT_BYTES_MAX),
  }),
  welcome: fields<WelcomeFields>({
    creditRequests: whole(1, CREDIT_REQUESTS_MAX),
    creditBytes: whole(1, CREDIT_BYTES_MAX),
    shards: list(text(1, TEXT_BYTES_MAX), 1, LISTED_MAX),
  }),
  ping: fields<PingFields>({
    taken: count,
    stalled: groups,
  }),
  pong: fields<PongFields>({ taken: count, devices: list(device, 0, LISTED_MAX), unleased: optional(groups) }),
  opened: fields<OpenedFields>({
    deviceId: id,
    segmentBytes: whole(4096, 1 << 20),
    incarnation: count,
    flushed: flush,
    settled: flush,
    servedGeneration: count,
    stampMax: fields<OpenedFields['stampMax']>({ low: word, high: word }),
    epoch: word,
    freeBytes: count,
    taken: count,
  }),
  stored: fields<StoredFields>({ mapVersion: count, incarnation: count, servedGeneration: count }),
  failure: fields<FailureFields>({ name: text(1, TEXT_BYTES_MAX), message: words, remedy: words }),
  refused: fields<RefusedFields>({ status: word, message: text(0, TEXT_BYTES_MAX) }),
} as const;

type Rules = typeof CONTROL_RULES;
/** Name of a control payload that is JSON. */
export type ControlName = keyof Rules;
export type ControlFields<Name extends ControlName> = Rules[Name] extends Rule<infer Fields> ? Fields : never;

/** Writes a payload, which has to be what it should: it is this program's own. */
export function encodeControl<Name extends ControlName>(name: Name, given: ControlFields<Name>): Uint8Array {
  const rule = CONTROL_RULES[name] as unknown as Rule<ControlFields<Name>>;
  return new TextEncoder().encode(JSON.stringify(rule.take(given, name)));
}

/** What a message may not have, as the other end would not read it. */
const UNREADABLE = /[\0\p{Surrogate}]/gu;

/** A message as it can be sent: at most so many bytes, and each character has 4 at most. */
function readable(message: string, bytesMost: number): string {
  const characters = Array.from(message.replace(UNREADABLE, '?'));
  return characters.slice(0, bytesMost / 4).join('');
}

/** The payload of REFUSED, which says why the connection ends. Words that a peer has chosen may be in it: they are cut short. */
export function encodeRefusal({ status, message }: FrameProblem): Uint8Array {
  return encodeControl('refused', { status, message: readable(message, TEXT_BYTES_MAX) });
}

/** The payload of FAILURE, which says why a manager does not do what it is asked for. */
export function encodeFailure(error: StrakeError): Uint8Array {
  const { name, message, remedy } = error.toWire();
  const [why, how] = [readable(message, MESSAGE_BYTES_MAX), readable(remedy ?? '', MESSAGE_BYTES_MAX)];
  return encodeControl('failure', { name, message: why, remedy: how });
}

/** The error that a FAILURE tells. One that is not known here says so. Throws a `WireRefusal`. */
export function decodeFailure(payload: Uint8Array): StrakeError {
  const { name, message, remedy } = decodeControl('failure', payload);
  if (Object.hasOwn(ERRORS, name)) return new StrakeError(name as ErrorName, message, { remedy });
  return new StrakeError('NOT_SUPPORTED', `${message} (ERR_STRAKE_${name}, which is not known here)`, { remedy });
}

/** Reads a payload of the peer. Throws a `WireRefusal` that says what is wrong. */
export function decodeControl<Name extends ControlName>(name: Name, payload: Uint8Array): ControlFields<Name> {
  let given: unknown;
  try {
    given = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(payload));
  } catch {
    throw new WireRefusal(STATUS_BAD_FRAME, `${name}: ${payload.length} bytes are no JSON`);
  }
  try {
    return (CONTROL_RULES[name] as unknown as Rule<ControlFields<Name>>).take(given, name);
  } catch (error) {
    if (!(error instanceof StrakeError)) throw error;
    throw new WireRefusal(STATUS_BAD_FRAME, error.message);
  }
}
