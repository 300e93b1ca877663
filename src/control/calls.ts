/**
 * What a running node can be asked for through its control socket: the calls, what they are given, and what they answer.
 *
 * A call is an HTTP request to `/v1/NAME` on a unix socket: GET for calls that change nothing, POST with a JSON object for
 * the others. The answer is a JSON object with `schema` (`strake.control.NAME`) and `version`, or one of `strake.error`.
 * Sizes are whole bytes.
 */

import {
  fields,
  id,
  list,
  newVolumeName,
  optional,
  path,
  type Rule,
  sizeBytes,
  volumeName,
  whole,
} from '../core/arguments.js';
import { LOST_DEVICES_MAX } from '../core/limits.js';
import { CREATE_VOLUME_FIELDS } from '../embed/node-rules.js';
import type { CreateVolumeOptions, NodeDevice, NodeJob, NodeStatus, NodeVolumeStatus } from '../embed/node-types.js';

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

/** Jobs, and since when the process has run that knows them: ids begin anew with the next one. */
export interface ControlJobs {
  readonly jobs: readonly NodeJob[];
  readonly startedAt: string;
}

/** The devices after one took the place of another, and the jobs that rebuild what was on that. */
export interface ControlReplaced {
  readonly devices: readonly NodeDevice[];
  readonly jobs: readonly NodeJob[];
}

type Nothing = Record<string, never>;

/** Parameters and answers by name. */
export interface ControlCalls {
  status: { params: Nothing; answer: ControlStatus };
  volumes: { params: Nothing; answer: { volumes: readonly ControlVolume[] } };
  devices: { params: Nothing; answer: { devices: readonly NodeDevice[] } };
  create: { params: CreateVolumeOptions; answer: { volume: ControlVolume } };
  /** In this and the calls below, `name` is the name of a volume, its id, or at least eight digits that begin no other id. */
  grow: { params: { name: string; sizeBytes: number }; answer: { volume: ControlVolume } };
  rename: { params: { name: string; newName: string }; answer: { volume: ControlVolume } };
  /** `confirm`: the name or the whole id once more, without which a volume that holds data is not deleted. */
  delete: { params: { name: string; confirm?: string }; answer: { id: string; name: string } };
  start: { params: { name: string; without: readonly string[] }; answer: { volume: ControlVolume } };
  scrub: { params: { name: string; bytesPerSecond?: number }; answer: { volume: ControlVolume; job: NodeJob } };
  jobs: { params: Nothing; answer: ControlJobs };
  'cancel-job': { params: { id: number }; answer: { job: NodeJob } };
  /** The device that somebody names: by id, first digits, label, or a path that leads to it, which is absolute. */
  'find-device': { params: { name: string; path: string }; answer: { deviceId: string } };
  'add-device': { params: { path: string }; answer: { device: NodeDevice } };
  'replace-device': { params: { deviceId: string; path: string }; answer: ControlReplaced };
  'forget-device': { params: { deviceId: string }; answer: { deviceId: string; volumes: number } };
  stop: { params: Nothing; answer: { pid: number } };
}

export type ControlCall = keyof ControlCalls;

const name = volumeName;
const bytes = sizeBytes;
const deviceId = id;
const deviceIds = list(id, 1, LOST_DEVICES_MAX);
const jobId = whole(1);

/** How each call is made. */
export const CONTROL: Readonly<
  Record<ControlCall, { changes: boolean; fields: Readonly<Record<string, Rule<unknown>>> }>
> = {
  status: { changes: false, fields: {} },
  volumes: { changes: false, fields: {} },
  devices: { changes: false, fields: {} },
  create: {
    changes: true,
    fields: CREATE_VOLUME_FIELDS,
  },
  grow: { changes: true, fields: { name, sizeBytes: bytes } },
  rename: { changes: true, fields: { name, newName: newVolumeName } },
  delete: { changes: true, fields: { name, confirm: optional(name) } },
  start: { changes: true, fields: { name, without: deviceIds } },
  scrub: { changes: true, fields: { name, bytesPerSecond: optional(bytes) } },
  jobs: { changes: false, fields: {} },
  'cancel-job': { changes: true, fields: { id: jobId } },
  'find-device': { changes: true, fields: { name: path, path } },
  'add-device': { changes: true, fields: { path } },
  'replace-device': { changes: true, fields: { deviceId, path } },
  'forget-device': { changes: true, fields: { deviceId } },
  stop: { changes: true, fields: {} },
};

/** The parameters of a call out of what somebody sent. Throws `ERR_STRAKE_INVALID_ARGUMENT`, naming call and field. */
export function checkParams<C extends ControlCall>(call: C, sent: unknown): ControlCalls[C]['params'] {
  return fields<ControlCalls[C]['params']>(CONTROL[call].fields as never).take(sent, call);
}
