/**
 * The decisions of a manager about one group: from its record, and what is asked for, the record with the next map; or why not.
 * Pure functions. `docs/architecture.md` tells how a decided map becomes effective.
 *
 * | change | may be added to a pending one | because |
 * | --- | --- | --- |
 * | attach, release, header, progress | yes | members stay as they are in the newest map |
 * | removal | yes, if a member stays that every map since `base` calls in-sync | that one refuses what comes late |
 * | take-in, promotion, replacement | no | who becomes in-sync is in no map that may be effective already |
 *
 * The last member in-sync never leaves. Versions come from here alone, and each is used once.
 */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { type FlushId, NO_FLUSH } from '../layout/flush-id.js';
import type { ReplicaMap, ReplicaMember } from '../layout/replica-map.js';
import { NO_CLIENT, type VolumeHeader } from '../layout/volume-map.js';
import type { Generation } from '../ports/ids.js';
import { type GroupRecord, inSyncOf, isPending, sharedMembers, withNewest } from './group-record.js';
import { EPOCH_VERSIONS } from './limits.js';
import type { Step } from './map-steps.js';

/** Who makes a map what it is: authenticates it. */
export type Seal = (map: ReplicaMap) => ReplicaMap;

type Fields = Partial<Omit<ReplicaMap, 'mapVersion' | 'authentication'>>;

/** The next version of the newest map, with changes. */
function next(record: GroupRecord, fields: Fields, seal: Seal): GroupRecord {
  const { authentication: _, ...newest } = record.newest;
  const mapVersion = newest.mapVersion + 1;
  check(mapVersion % EPOCH_VERSIONS !== 0, 'the versions of an epoch have all been used', mapVersion);
  return withNewest(record, seal({ ...newest, ...fields, mapVersion }));
}

/** Another holder. Members stay as they are in the newest map, pending or not. */
export function attachGroup(
  record: GroupRecord,
  right: { readonly holder: string; readonly generation: Generation },
  incarnationOf: (deviceId: string) => number,
  seal: Seal,
): GroupRecord {
  check(
    right.generation > record.newest.generation,
    'a volume is attached under a generation that was',
    right.generation,
  );
  const members = record.newest.members.map((member) => {
    if (member.state !== 'in-sync') return member;
    // An image of the device from before this life is older than the map then.
    return { ...member, incarnation: Math.max(member.incarnation, incarnationOf(member.deviceId)) };
  });
  return next(record, { ...right, lease: 'exclusive', members }, seal);
}

/** What the holder proposes. Throws `ERR_STRAKE_UNAVAILABLE` where no rule allows it now. */
export function changeGroup(record: GroupRecord, step: Step, proposed: ReplicaMap, seal: Seal): GroupRecord {
  const refused = (why: string) => changeRefused(record, step.kind === 'refused' ? 'a change' : step.kind, why);
  if (step.kind === 'refused') throw refused(step.why);
  if (step.kind === 'removal') checkRemoval(record, proposed, refused);
  if (['take-in', 'promotion', 'replacement'].includes(step.kind) && isPending(record)) {
    const { newest, base } = record;
    throw refused(`map ${newest.mapVersion} is pending, and ${base} is the newest that all its members have answered`);
  }
  const joined = record.newest.mapVersion + 1;
  const joins = (member: ReplicaMember) => step.kind !== 'promotion' && step.deviceIds.includes(member.deviceId);
  const members = proposed.members.map((member) => {
    return joins(member) && member.state === 'syncing' ? { ...member, joined } : member;
  });
  return next(record, { members }, seal);
}

function checkRemoval(record: GroupRecord, proposed: ReplicaMap, refused: (why: string) => StrakeError): void {
  const left = inSyncOf(proposed);
  if (left.length === 0) throw refused('the last member in-sync never leaves');
  const shared = sharedMembers(record);
  if (left.some((deviceId) => shared.includes(deviceId))) return;
  const { base } = record;
  throw refused(
    `no member would stay that is in-sync in every map since ${base}; of those, ${shared.join(', ') || 'nobody'} must stay`,
  );
}

function changeRefused({ newest }: GroupRecord, kind: string, why: string): StrakeError {
  const { volume, group } = newest;
  return new StrakeError('UNAVAILABLE', `${kind} in group ${group} of volume ${volume.name} is refused: ${why}`, {
    remedy: 'Bring missing members back. What no rule mends: strake volume start NAME --without ID.',
  });
}

/** Nothing is under way any more, and nobody has leases. */
export function releaseGroup(record: GroupRecord, members: readonly ReplicaMember[], seal: Seal): GroupRecord {
  return next(record, { lease: 'released', members }, seal);
}

/** Another name or size, or that the volume is deleted. */
export function headerGroup(record: GroupRecord, volume: VolumeHeader, seal: Seal): GroupRecord {
  check(volume.id === record.newest.volume.id, 'a group gets the header of another volume', record.newest.group);
  check(volume.headerVersion > record.newest.volume.headerVersion, 'a header is not newer', volume.headerVersion);
  check(volume.sizeBytes >= record.newest.volume.sizeBytes, 'a volume becomes smaller', volume.sizeBytes);
  return next(record, { volume }, seal);
}

/** Of a member in-sync: anything that is all zeroes may still have its slots. */
const ANYTHING: FlushId = { generation: 0, flushNumber: 1 };

/** A group that was forced. */
export interface Forced {
  readonly record: GroupRecord;
  /** Ids of the devices that were out, and are in-sync again. */
  readonly back: readonly string[];
}

/**
 * What no rule mends: members that are lost for good are out; if nobody is left, those are back that the map had which is known
 * to be effective. The version is the first of another epoch, so that no map of this one is newer, and the generation is another,
 * which nobody holds. Undefined if nobody would be in-sync.
 */
export function forceGroup(
  record: GroupRecord,
  lost: ReadonlySet<string>,
  { epoch, generation }: { readonly epoch: number; readonly generation: Generation },
  seal: Seal,
): Forced | undefined {
  const { authentication: _, ...newest } = record.newest;
  const stays = inSyncOf(newest).filter((deviceId) => !lost.has(deviceId));
  // Only if nobody is left: the members of the map that was effective last have everything that was acknowledged under that.
  const before = record.spans[0].members.filter((deviceId) => !lost.has(deviceId));
  const back = stays.length > 0 ? [] : before;
  if (stays.length === 0 && back.length === 0) return undefined;
  const members = newest.members.map((member): ReplicaMember => {
    if (back.includes(member.deviceId)) return { ...member, state: 'in-sync', since: ANYTHING };
    if (lost.has(member.deviceId) && member.state !== 'offline')
      return { ...member, state: 'offline', since: NO_FLUSH };
    return member;
  });
  const mapVersion = epoch * EPOCH_VERSIONS + 1;
  check(mapVersion > newest.mapVersion, 'a group is forced into an epoch that was', epoch);
  // Nothing was given back in order: whoever attaches makes the copies agree.
  const map = seal({ ...newest, members, mapVersion, generation, holder: NO_CLIENT, lease: 'exclusive' });
  const spans = [{ first: mapVersion, last: mapVersion, members: inSyncOf(map) }];
  // Nobody is to be spared: it is handed out at once.
  return { record: { newest: map, base: 0, attached: 0, spans }, back };
}
