/**
 * The records of a manager's store, and their names. They are JSON: what they have is small, and read at a start alone.
 *
 * ```text
 *   cluster                   what the cluster is; the form of all records
 *   node/ID  device/ID        who has registered, with what
 *   volume/ID                 a volume, and group/ID/NUMBER, each of its groups
 *   gone/ID                   a volume that was deleted, of which a device that comes back may still have something
 *   job/ID/NUMBER/ID          a job that goes on: volume, group, device
 *   event/NUMBER
 * ```
 */

import { StrakeError } from '../core/errors.js';
import type { ClusterEvent, ClusterTimes } from '../ports/manager.js';
import type { MetaRecord } from '../ports/meta-store.js';
import type { GroupRecord } from './group-record.js';

/** The form of the records: another version, which knows other things, has another number. */
export const RECORDS_FORM = 1;
export const CLUSTER_KEY = 'cluster';

export interface ClusterRecord {
  readonly form: number;
  readonly clusterId: string;
  readonly epoch: number;
  readonly times: ClusterTimes;
}

export interface NodeRecord {
  readonly nodeId: string;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly labels: readonly { readonly name: string; readonly value: string }[];
}

export interface DeviceRecord {
  readonly deviceId: string;
  readonly nodeId: string;
  readonly segmentBytes: number;
  readonly sizeBytes: number;
  /** The highest that has been heard of. */
  readonly incarnation: number;
}

export interface VolumeRecord {
  readonly volumeId: string;
  readonly groups: number;
  /** It is given back to its node: nothing is decided about it any more. */
  readonly givenUp: boolean;
  /** The client that holds it as a janitor, which whoever else attaches it takes over; absent: none does. */
  readonly janitor?: string;
}

/** A job that goes on. Other kinds than these, which a newer version does, are refused by no one: they are told as they are. */
export interface JobRecord {
  readonly volumeId: string;
  readonly group: number;
  /** The device that is brought up to date. */
  readonly deviceId: string;
  readonly kind: string;
  /** Of the member, and of the map under which the job began. */
  readonly joined: number;
  readonly generation: number;
  /** Milliseconds since 1970. */
  readonly startedMs: number;
}

/** Everything that a store has. */
export interface Records {
  readonly cluster: ClusterRecord;
  readonly nodes: readonly NodeRecord[];
  readonly devices: readonly DeviceRecord[];
  readonly volumes: readonly VolumeRecord[];
  /** By `groupKey`. */
  readonly groups: ReadonlyMap<string, GroupRecord>;
  readonly gone: readonly string[];
  readonly jobs: readonly JobRecord[];
  readonly events: readonly ClusterEvent[];
}

const NUMBER_DIGITS = 12;

export const nodeKey = (nodeId: string) => `node/${nodeId}`;
export const deviceKey = (deviceId: string) => `device/${deviceId}`;
export const volumeKey = (volumeId: string) => `volume/${volumeId}`;
export const groupKey = (volumeId: string, group: number) => `group/${volumeId}/${String(group).padStart(5, '0')}`;
export const goneKey = (volumeId: string) => `gone/${volumeId}`;
export const jobKey = ({ volumeId, group, deviceId }: Pick<JobRecord, 'volumeId' | 'group' | 'deviceId'>) =>
  `job/${volumeId}/${String(group).padStart(5, '0')}/${deviceId}`;
export const eventKey = (number: number) => `event/${String(number).padStart(NUMBER_DIGITS, '0')}`;

/**
 * Reads the records of a store. Throws `ERR_STRAKE_NOT_FOUND` if it has no cluster, `ERR_STRAKE_UNKNOWN_FEATURE` if a newer
 * version wrote it, and `ERR_STRAKE_DAMAGED` if a record is not what it has to be.
 */
export function readRecords(records: readonly MetaRecord[]): Records {
  const byKind = new Map<string, MetaRecord[]>();
  for (const record of records) {
    const [kind] = record.key.split('/', 1);
    const alike = byKind.get(kind);
    if (alike === undefined) byKind.set(kind, [record]);
    else alike.push(record);
  }
  const [first] = byKind.get(CLUSTER_KEY) ?? [];
  if (first === undefined) {
    throw new StrakeError('NOT_FOUND', 'the store of the manager has no cluster', {
      remedy: 'Make one with `strake cluster init DIR`, or name the directory of a manager.',
    });
  }
  const cluster = parse<ClusterRecord>(first);
  if (cluster.form !== RECORDS_FORM) {
    throw new StrakeError(
      'UNKNOWN_FEATURE',
      `the store of the manager has form ${cluster.form}, and this version knows form ${RECORDS_FORM}`,
    );
  }
  const all = <T>(kind: string) => (byKind.get(kind) ?? []).map((record) => parse<T>(record));
  const groups = new Map((byKind.get('group') ?? []).map((record) => [record.key, parse<GroupRecord>(record)]));
  const volumes = all<VolumeRecord>('volume');
  for (const { volumeId, groups: count } of volumes) {
    for (let group = 0; group < count; group += 1) {
      if (!groups.has(groupKey(volumeId, group))) throw damaged(`group ${group} of volume ${volumeId} is missing`);
    }
  }
  return {
    ...{ cluster, groups, volumes },
    nodes: all<NodeRecord>('node'),
    devices: all<DeviceRecord>('device'),
    gone: (byKind.get('gone') ?? []).map(({ key }) => key.slice('gone/'.length)),
    jobs: all<JobRecord>('job'),
    events: all<ClusterEvent>('event'),
  };
}

function parse<T>({ key, value }: MetaRecord): T {
  try {
    return JSON.parse(value) as T;
  } catch (cause) {
    throw damaged(`record ${key} is no JSON`, cause);
  }
}

function damaged(what: string, cause?: unknown): StrakeError {
  return new StrakeError('DAMAGED', `the store of the manager is damaged: ${what}`, {
    cause,
    remedy: 'Start the manager on a copy of its directory that is whole, and newer than anything its nodes have seen.',
  });
}
