/**
 * What a running node can be asked for through its control socket: the calls, what they are given, and what they answer.
 *
 * A call is an HTTP request to `/v1/NAME` on a unix socket: GET for calls that change nothing, POST with a JSON object for
 * the others. The answer is a JSON object with `schema` (`strake.control.NAME`) and `version`, or one of `strake.error`.
 * Sizes are whole bytes.
 */

import { StrakeError } from '../core/errors.js';
import type { CreateVolumeOptions, NodeDevice, NodeStatus, NodeVolumeStatus } from '../embed/node-types.js';

/** Bytes of a request's body. */
export const CONTROL_BODY_MAX = 64 << 10;
export const CONTROL_VERSION = 1;

/** A volume, and where clients find it. */
export interface ControlVolume extends NodeVolumeStatus {
  /** Empty while it is not served. */
  readonly uri: string;
}

/** What is known of the process besides its node. */
export interface ControlProcess {
  readonly pid: number;
  /** Absolute path of the node's folder. */
  readonly dir: string;
  /** Where volumes are served: the path of a socket, or host and port. */
  readonly address: string;
  readonly startedAt: string;
}

export interface ControlStatus extends Omit<NodeStatus, 'volumes'> {
  readonly volumes: readonly ControlVolume[];
  readonly process: ControlProcess;
}

type Nothing = Record<string, never>;

/** Parameters and answers by name. */
export interface ControlCalls {
  status: { params: Nothing; answer: ControlStatus };
  volumes: { params: Nothing; answer: { volumes: readonly ControlVolume[] } };
  devices: { params: Nothing; answer: { devices: readonly NodeDevice[] } };
  create: { params: CreateVolumeOptions; answer: { volume: ControlVolume } };
  grow: { params: { name: string; sizeBytes: number }; answer: { volume: ControlVolume } };
  /** `confirm`: the name once more, without which a volume that holds data is not deleted. */
  delete: { params: { name: string; confirm?: string }; answer: { name: string } };
  start: { params: { name: string; without: readonly string[] }; answer: { volume: ControlVolume } };
  scrub: { params: { name: string; bytesPerSecond?: number }; answer: { volume: ControlVolume } };
  'add-device': { params: { path: string }; answer: { device: NodeDevice } };
  'replace-device': { params: { deviceId: string; path: string }; answer: { devices: readonly NodeDevice[] } };
  stop: { params: Nothing; answer: { pid: number } };
}

export type ControlCall = keyof ControlCalls;

/** What a field has to be; `found` says whether it is. */
interface Field {
  readonly expected: string;
  readonly found: (value: unknown) => boolean;
  readonly optional?: boolean;
}

const text = (max: number): Field => ({
  expected: `text of 1 to ${max} characters`,
  found: (value) => typeof value === 'string' && value.length >= 1 && value.length <= max && !value.includes('\0'),
});
const oneOf = (...choices: readonly (string | number)[]): Field => ({
  expected: `one of ${choices.join(', ')}`,
  found: (value) => choices.some((choice) => choice === value),
});
const DEVICE_ID = /^[0-9a-f]{32}$/;

const name = text(255);
const path = text(4095);
const bytes: Field = {
  expected: 'a whole number of bytes above 0',
  found: (value) => Number.isSafeInteger(value) && (value as number) > 0,
};
const deviceId: Field = {
  expected: '32 hexadecimal digits',
  found: (value) => typeof value === 'string' && DEVICE_ID.test(value),
};
const deviceIds: Field = {
  expected: 'a list of 1 to 64 device ids of 32 hexadecimal digits',
  found: (value) => Array.isArray(value) && value.length >= 1 && value.length <= 64 && value.every(deviceId.found),
};
const optional = (field: Field): Field => ({ ...field, optional: true });

/** How each call is made. */
export const CONTROL: Readonly<Record<ControlCall, { changes: boolean; fields: Readonly<Record<string, Field>> }>> = {
  status: { changes: false, fields: {} },
  volumes: { changes: false, fields: {} },
  devices: { changes: false, fields: {} },
  create: {
    changes: true,
    fields: {
      name,
      sizeBytes: bytes,
      layout: optional(oneOf('single', 'mirror')),
      copies: optional(oneOf(1, 2, 3)),
    },
  },
  grow: { changes: true, fields: { name, sizeBytes: bytes } },
  delete: { changes: true, fields: { name, confirm: optional(name) } },
  start: { changes: true, fields: { name, without: deviceIds } },
  scrub: { changes: true, fields: { name, bytesPerSecond: optional(bytes) } },
  'add-device': { changes: true, fields: { path } },
  'replace-device': { changes: true, fields: { deviceId, path } },
  stop: { changes: true, fields: {} },
};

/** The parameters of a call out of what somebody sent. Throws `ERR_STRAKE_INVALID_ARGUMENT`, naming the field. */
export function checkParams<C extends ControlCall>(call: C, sent: unknown): ControlCalls[C]['params'] {
  const wrong = (what: string) => new StrakeError('INVALID_ARGUMENT', `${call}: ${what}`);
  if (typeof sent !== 'object' || sent === null || Array.isArray(sent)) throw wrong('a JSON object is expected');
  const { fields } = CONTROL[call];
  for (const key of Object.keys(sent)) {
    if (!Object.hasOwn(fields, key)) throw wrong(`unknown field ${JSON.stringify(key)}`);
  }
  for (const [key, { expected, found, optional: mayMiss }] of Object.entries(fields)) {
    const value: unknown = Object.hasOwn(sent, key) ? (sent as Record<string, unknown>)[key] : undefined;
    if (value === undefined ? !mayMiss : !found(value)) throw wrong(`${key} has to be ${expected}`);
  }
  return sent as ControlCalls[C]['params'];
}
